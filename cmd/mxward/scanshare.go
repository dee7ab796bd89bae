package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mxward/internal/audit"
	"mxward/internal/scan"
	"mxward/internal/scan/columns"
	"mxward/internal/store"
)

const (
	scanStatusSchema = "mxward.scan-status/1"
	defaultWorkers   = 4
	maxWorkers       = 64
	maxLease         = time.Hour
)

// shareFlags are those of a scan that many machines share.
type shareFlags struct {
	store, job   string
	workers      int
	lease        time.Duration
	export       string
	status, drop bool
	statusJSON   bool
}

func (f *shareFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.store, "store", "", "share the work with other machines by the PostgreSQL database at this `url`, postgres://…")
	flags.StringVar(&f.job, "job", "", "with --store: the `name` of the job; without it, that of FILE")
	flags.IntVar(&f.workers, "workers", defaultWorkers, "with --store: work on so many `shards` at once, which share --concurrency")
	flags.DurationVar(&f.lease, "lease", scan.DefaultLease, "with --store: others take over what this machine holds when nothing was heard of it for this `time`")
	flags.StringVar(&f.export, "export", "", "with --store: write the results of the job to this new `file`, .ndjson or .parquet; - is standard output, as NDJSON")
	flags.BoolVar(&f.status, "status", false, "with --store: show how far the job is, or without --job all jobs")
	flags.BoolVar(&f.statusJSON, "json", false, "with --status: as JSON (schema "+scanStatusSchema+")")
	flags.BoolVar(&f.drop, "drop", false, "with --store: remove the job and its results")
}

// sharing looks at which flags go together, before anything is opened.
func (f *scanFlags) sharing(cmd *cobra.Command, args []string) error {
	given := func(names ...string) string {
		i := slices.IndexFunc(names, func(name string) bool { return cmd.Flags().Changed(name) })
		if i < 0 {
			return ""
		}
		return "--" + names[i]
	}
	if f.store == "" {
		switch flag := given("store", "job", "workers", "lease", "export", "status", "json", "drop"); {
		case flag != "":
			return fmt.Errorf("%s is about a job that machines share: name its database with --store postgres://…", flag)
		case len(args) == 0:
			return errors.New("scan: expected a file of domains, or - for standard input")
		}
		return nil
	}
	if flag := given("output", "resume", "ordered", "summary-line"); flag != "" {
		return fmt.Errorf("%s: with --store, results go there, and --export writes them", flag)
	}
	doing := []string{}
	for _, flag := range []string{"export", "status", "drop"} {
		if given(flag) != "" {
			doing = append(doing, "--"+flag)
		}
	}
	if len(args) == 1 {
		doing = append([]string{"FILE"}, doing...)
		if f.job == "" && args[0] != "-" {
			f.job = filepath.Base(args[0])
		}
	}
	switch {
	case len(doing) > 1:
		return fmt.Errorf("expected one of FILE, --export, --status and --drop, got %s", strings.Join(doing, " and "))
	case f.job == "" && !f.status:
		return errors.New("--job: expected the name of a job")
	case strings.ContainsFunc(f.job, func(r rune) bool { return r < ' ' || r == '\ufffd' }):
		return fmt.Errorf("--job: expected a name without control characters, got %q", f.job)
	case f.summary != "" && f.export == "":
		return errors.New("--summary: with --store, it goes with --export: a worker knows only what it has done itself")
	case f.statusJSON && !f.status:
		return errors.New("--json goes with --status: results are JSON anyway")
	case f.workers < 1 || f.workers > maxWorkers:
		return fmt.Errorf("--workers: expected 1 to %d, got %d", maxWorkers, f.workers)
	case f.lease < scan.MinLease || f.lease > maxLease:
		return fmt.Errorf("--lease: expected %s to %s, got %s", scan.MinLease, maxLease, f.lease)
	case f.export != "" && f.export != "-" && !slices.Contains([]string{".ndjson", ".parquet"}, filepath.Ext(f.export)):
		return fmt.Errorf("--export: expected the name of an .ndjson or .parquet file, or -, got %q", f.export)
	}
	return nil
}

// share does what is to be done with a store.
func (f *scanFlags) share(cmd *cobra.Command, file string) error {
	wanted := f.failOn
	if err := errors.Join(f.settle(), f.summaryApart("")); err != nil { // before the store is made, and again with the options of the job
		return usage(err)
	}
	s, err := store.OpenScans(cmd.Context(), f.store)
	if errors.Is(err, store.ErrURL) {
		return usage(fmt.Errorf("--store: %w", err))
	}
	if err != nil {
		return undetermined(fmt.Errorf("scan: %w", err))
	}
	defer s.Close()
	switch {
	case f.status:
		err = f.showStatus(cmd, s)
	case f.drop:
		err = s.Drop(cmd.Context(), f.job)
	case f.export != "":
		err = f.writeResults(cmd, s, wanted)
	default:
		err = f.work(cmd, s, file, wanted)
	}
	var known *exitError
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.Is(err, scan.ErrNoJob) || errors.Is(err, scan.ErrOtherJob):
		return usage(fmt.Errorf("scan: %w", err))
	case cmd.Context().Err() != nil:
		return interrupted(errors.New("scan: interrupted"))
	}
	return undetermined(fmt.Errorf("scan: %w", err))
}

// scanOptions are what decides what a document says: a job has them as its mode.
type scanOptions struct {
	Only      []string `json:"only,omitempty"`
	Skip      []string `json:"skip,omitempty"`
	Selectors []string `json:"selector,omitempty"`
	Lists     []string `json:"lists,omitempty"`
	Server    string   `json:"server,omitempty"`
	Profile   string   `json:"profile"`
	Full      bool     `json:"full,omitempty"`
}

func (f *scanFlags) options() (string, error) {
	text, err := json.Marshal(scanOptions{f.only, f.skip, f.selectors, f.lists, f.server, f.profile, f.full})
	return string(text), err
}

// adopt takes the options of a job, where none is given here, and otherwise wants the same.
func (f *scanFlags) adopt(cmd *cobra.Command, job scan.Job) error {
	if slices.ContainsFunc([]string{"only", "skip", "selector", "lists", "server", "profile", "full"}, cmd.Flags().Changed) {
		same := job
		var err error
		if same.Mode, err = f.options(); err != nil {
			return err
		}
		return job.Fits(same)
	}
	var o scanOptions
	if err := json.Unmarshal([]byte(job.Mode), &o); err != nil {
		return fmt.Errorf("job %q: its options cannot be read, perhaps for they are of a newer mxward", job.Name)
	}
	f.only, f.skip, f.selectors, f.lists, f.server, f.profile, f.full = o.Only, o.Skip, o.Selectors, o.Lists, o.Server, o.Profile, o.Full
	f.checks = nil // which were chosen by the options here
	return f.settle()
}

// load puts the lines of a file into the store, unless they are there.
func (f *scanFlags) load(ctx context.Context, jobs scan.Jobs, file string) error {
	in, err := openInput(file)
	if err != nil {
		return usage(err)
	}
	defer in.Close()
	source, err := scan.NewInput(ctx, in)
	if err != nil {
		return usage(fmt.Errorf("read %s: %w", file, err))
	}
	job := scan.Job{Name: f.job, Shard: scan.ShardLines}
	if job.Input, err = source.Identity(); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	if job.Mode, err = f.options(); err != nil {
		return err
	}
	if f.full {
		job.Shard = scan.ShardLinesFull
	}
	return jobs.Load(ctx, time.Now(), job, &scan.Marked{Source: source, Parse: parseLine})
}

// work takes part in a job, until all of it is done.
func (f *scanFlags) work(cmd *cobra.Command, s store.Scans, file, failOn string) error {
	ctx, stderr := cmd.Context(), cmd.ErrOrStderr()
	if file != "" {
		if err := f.load(ctx, s, file); err != nil {
			return err
		}
	}
	job, err := standing(ctx, s, f.job)
	if err != nil {
		return err
	}
	if file == "" {
		if err := f.adopt(cmd, job.Job); err != nil {
			return usage(err)
		}
	}
	var tally scan.Tally
	scanner, err := f.scanner(&tally)
	if err != nil {
		return usage(err)
	}
	scanner.Concurrency = max(1, f.concurrency/f.workers)
	w := scan.Worker{
		Shards: s, Job: job.ID, Owner: ownName(), Scanner: *scanner, Full: f.full, Lease: f.lease, Tally: &tally,
		Note: func(text string) { fmt.Fprintf(stderr, "mxward: scan: %s\n", text) },
	}
	show := showJob(ctx, stderr, s, f.job)
	err = w.Run(ctx, f.workers)
	show.stop()
	return f.endWork(stderr, &tally, failOn, err)
}

// showJob shows how far a job is.
func showJob(ctx context.Context, stderr io.Writer, jobs scan.Jobs, name string) *progress {
	return startProgress(stderr, standingEvery, func(_ time.Duration, bar bool) string {
		now, err := standing(ctx, jobs, name)
		if err != nil {
			return "" // the worker says so itself
		}
		return jobLine(now, time.Now(), bar)
	})
}

// ownName tells which process of which machine this is.
func ownName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s:%d", host, os.Getpid())
}

func standing(ctx context.Context, jobs scan.Jobs, name string) (scan.Standing, error) {
	all, err := jobs.Standings(ctx, time.Now(), name)
	if err != nil {
		return scan.Standing{}, err
	}
	return all[0], nil
}

// endWork says what this machine has done.
func (f *scanFlags) endWork(stderr io.Writer, tally *scan.Tally, failOn string, err error) error {
	for _, fault := range tally.Faults() {
		fmt.Fprintf(stderr, "mxward: an internal fault; please report it: %s\n", fault)
	}
	sum := tally.Summary(err == nil)
	fmt.Fprintf(stderr, "done by this machine:\n")
	printSummary(stderr, sum)
	switch {
	case errors.Is(err, context.Canceled):
		return interrupted(errors.New("scan: interrupted; the same command goes on, and others may"))
	case errors.Is(err, scan.ErrNoJob):
		return undetermined(fmt.Errorf("scan: job %q was dropped meanwhile", f.job))
	case errors.Is(err, scan.ErrOurs) || errors.Is(err, scan.ErrStore):
		return undetermined(fmt.Errorf("scan: %w", err))
	case err != nil:
		return internal(fmt.Errorf("scan: %w", err))
	}
	return f.judge(sum, failOn)
}

// judge gives the exit status of a scan that came to its end.
func (f *scanFlags) judge(sum scan.Summary, failOn string) error {
	switch {
	case sum.Status[scan.Failed] > 0:
		return internal(fmt.Errorf("scan: %d lines failed by a fault of mxward's own", sum.Status[scan.Failed]))
	case sum.MostlyOurs():
		return undetermined(errors.New("scan: for most domains it was the resolver or the network here that failed; this says nothing about them"))
	case failOn != "" && sum.Failed(audit.Severity(failOn)) > 0:
		return problem(fmt.Errorf("scan: %d domains have something wrong", sum.Failed(audit.Severity(failOn))))
	}
	return nil
}

// results is a format of an export.
type results interface {
	Write(scan.Document) error
	Close() error
}

// ndjson writes documents as they are.
type ndjson struct{ *bufio.Writer }

func (n ndjson) Write(d scan.Document) error {
	_, err := n.Writer.Write(d.Text)
	return err
}

func (n ndjson) Close() error { return n.Flush() }

// writeResults exports a job. A file is there when it is whole: people drop the job then.
func (f *scanFlags) writeResults(cmd *cobra.Command, s scan.Jobs, failOn string) error {
	job, err := standing(cmd.Context(), s, f.job)
	if err != nil {
		return err
	}
	out, commit, drop, err := f.createExport(cmd.OutOrStdout())
	if err != nil {
		return usage(fmt.Errorf("--export: %w", err))
	}
	defer drop()
	var tally scan.Tally
	if err := f.copyResults(cmd.Context(), s, job, out, &tally); err != nil {
		return err
	}
	if err := commit(); err != nil {
		return internal(fmt.Errorf("scan: --export: %w", err))
	}
	sum := tally.Summary(job.Complete())
	sum.Ours = job.Ours
	if f.summary != "" {
		if err := writeSummary(f.summary, sum); err != nil {
			return internal(fmt.Errorf("scan: %w", err))
		}
	}
	if sum.Lines < job.Lines {
		return undetermined(fmt.Errorf("scan: %d of %d lines are there yet, and were written", sum.Lines, job.Lines))
	}
	return f.judge(sum, failOn)
}

// createExport gives what to write to, how it comes to its place, and how it is left off.
func (f *scanFlags) createExport(stdout io.Writer) (out io.Writer, commit func() error, drop func(), err error) {
	if f.export == "-" {
		return stdout, func() error { return nil }, func() {}, nil
	}
	if _, err := os.Lstat(f.export); err == nil {
		return nil, nil, nil, fmt.Errorf("%s exists: give another name", f.export)
	}
	file, err := createNew(f.export)
	if err != nil {
		return nil, nil, nil, err
	}
	return file, file.commit, file.drop, nil
}

func (f *scanFlags) copyResults(ctx context.Context, s scan.Jobs, job scan.Standing, out io.Writer, tally *scan.Tally) error {
	var to results = ndjson{bufio.NewWriterSize(out, 1<<20)}
	if filepath.Ext(f.export) == ".parquet" {
		to = columns.NewWriter(out)
	}
	for d, err := range s.Documents(ctx, job.ID) {
		if err != nil {
			return err
		}
		if err := errors.Join(to.Write(d), tally.Recount(d.Text)); err != nil {
			return internal(fmt.Errorf("scan: --export: line %d: %w", d.Line, err))
		}
	}
	if err := to.Close(); err != nil {
		return internal(fmt.Errorf("scan: --export: %w", err))
	}
	return nil
}

// scanStatus is what --status --json prints; fields are only ever added to it.
type scanStatus struct {
	Schema string      `json:"schema"`
	Jobs   []jobStatus `json:"jobs"`
}

type jobStatus struct {
	Name      string          `json:"name"`
	Created   string          `json:"created"`
	Options   json.RawMessage `json:"options"`
	Complete  bool            `json:"complete"`
	Shards    int             `json:"shards"`
	Done      int             `json:"shards_done"`
	Lines     int             `json:"lines"`
	LinesDone int             `json:"lines_done"`
	Unknown   int             `json:"unknown"`
	Ours      int             `json:"ours"`
	Rate      float64         `json:"lines_per_second"`
	Workers   []workerStatus  `json:"workers"`
}

type workerStatus struct {
	Name  string `json:"name"`
	Holds int    `json:"shards_held"`
	Done  int    `json:"shards_done"`
	Lines int    `json:"lines_done"`
}

func (f *scanFlags) showStatus(cmd *cobra.Command, s scan.Jobs) error {
	now := time.Now()
	all, err := s.Standings(cmd.Context(), now, f.job)
	if err != nil {
		return err
	}
	if f.statusJSON {
		return writeJSON(cmd.OutOrStdout(), statusDocument(all, now))
	}
	w := cmd.OutOrStdout()
	if len(all) == 0 {
		fmt.Fprintln(w, "there are no jobs")
	}
	for _, job := range all {
		fmt.Fprintf(w, "%s: %s\n", shown(job.Name), strings.TrimSpace(jobLine(job, now, false)))
		for _, one := range job.Workers {
			fmt.Fprintf(w, "  %s: %s now, %s done with %s\n", shown(one.Owner), plural(one.Holds, "shard"), plural(one.Done, "shard"), plural(one.Lines, "line"))
		}
	}
	return nil
}

func statusDocument(all []scan.Standing, now time.Time) scanStatus {
	doc := scanStatus{scanStatusSchema, []jobStatus{}}
	for _, s := range all {
		job := jobStatus{
			Name: s.Name, Created: timeText(s.Created), Options: json.RawMessage(s.Mode), Complete: s.Complete(),
			Shards: s.Shards, Done: s.Done, Lines: s.Lines, LinesDone: s.Ready, Unknown: s.Unknown, Ours: s.Ours,
			Rate: s.Rate(now), Workers: []workerStatus{},
		}
		for _, w := range s.Workers {
			job.Workers = append(job.Workers, workerStatus{w.Owner, w.Holds, w.Done, w.Lines})
		}
		doc.Jobs = append(doc.Jobs, job)
	}
	return doc
}
