package main

import (
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

	"mxward/internal/audit"
	"mxward/internal/dns/resolver"
	"mxward/internal/scan"
)

func newScan() *cobra.Command {
	f := scanFlags{checkFlags: checkFlags{profile: string(audit.Mail), noSMTP: true, skip: []string{"autoconf", "acme", "zone", "deleg.axfr-open", "deleg.ns-inconsistent", "deleg.inconsistent-rrset", "mx.inconsistent", "resolver.disagrees", "spf.type99"}}, output: "-", concurrency: scan.DefaultConcurrency, serverRate: scan.DefaultServerRate}
	cmd := &cobra.Command{
		Use:   "scan FILE",
		Short: "check for thousands or millions of domains",
		Long: `Scan does for each line of a file, or of standard input (-), what check does for a domain, and
writes exactly one line of JSON for each line of the input, whatever stands there: what was
found, or that it is no domain, or the same as one before. No mail host is visited, and no block
list is asked unless --lists names it. A line is a document of check
(schema ` + scan.Schema + `) with a few fields more, and shows what fails or is unknown; --full
shows all, with the evidence. DKIM keys are looked at where --selector names them.

Answers are shared, and servers of many zones are asked politely. A domain with something
unknown is asked about again at the end, or with --ordered a little later; its line comes then.

With --output, the file is also the journal: after Ctrl-C or a crash, the same command with
--resume goes on where it stopped, and lines that are there are not asked for again. Beside it
lies FILE.journal, which says of which input it is.

With --store postgres://…, many machines share the work. With FILE its lines are put there as a
job, and this machine takes part; others do so by --store and --job alone, with the options that
the job was made with. Each holds shards of lines for as long as it lives: one that dies loses
nothing, for others take them over. --status shows how far the job is, --export writes its
results, in the order of the lines, as NDJSON or Parquet, and --drop removes it. Let the
password be in ~/.pgpass or PGPASSWORD rather than in the URL, which others on this machine may
see.

Exit status: 0 done; 1 something as bad as --fail-on was found; 2 usage; 3 for most domains it
was the resolver or the network here that failed; 4 an internal fault, or no room for the
output; 5 interrupted, what was written is whole.`,
		Example: `  mxward scan domains.txt --output results.ndjson --summary summary.json
  mxward scan domains.txt --output results.ndjson --resume
  mxward scan domains.txt --store postgres://mxward@db.example.net/scans
  mxward scan --store postgres://mxward@db.example.net/scans --job domains.txt
  mxward scan --store postgres://mxward@db.example.net/scans --job domains.txt --export results.parquet
  zcat domains.gz | mxward scan - --only mx,spf,dmarc --ordered | jq -c '[.domain, .counts.fail]'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.sharing(cmd, args); err != nil {
				return usage(err)
			}
			if f.store != "" {
				return f.share(cmd, strings.Join(args, ""))
			}
			return f.scan(cmd, args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.output, "output", "o", f.output, "write to this new `file`; - is standard output")
	flags.BoolVar(&f.resume, "resume", false, "go on with what --output has of an earlier run")
	flags.BoolVar(&f.ordered, "ordered", false, "write lines in the order of the input")
	flags.BoolVar(&f.full, "full", false, "write also what is fine, and the evidence")
	flags.StringVar(&f.summary, "summary", "", "write a summary to this `file`, as JSON (schema "+scan.SummarySchema+")")
	flags.BoolVar(&f.summaryLine, "summary-line", false, "write the summary as the last line of the output, too")
	flags.IntVar(&f.concurrency, "concurrency", f.concurrency, "look at so many `domains` at once")
	flags.IntVar(&f.serverRate, "per-server-rate", f.serverRate, "put so many direct `questions` a second at most to one server's address, and through the resolver about as many; 0: no bound")
	flags.StringArrayVar(&f.selectors, "selector", nil, "look at the DKIM key of this `selector`; may be given again")
	flags.StringSliceVar(&f.only, "only", nil, "check these `ids` or areas and nothing else")
	flags.StringSliceVar(&f.skip, "skip", f.skip, "leave out these `ids` or areas")
	flags.StringVar(&f.failOn, "fail-on", "", "exit status 1 where something of this `severity` or worse is found: critical, error, warning, notice or info")
	flags.StringVar(&f.profile, "profile", f.profile, "what the domains are for, by `name`: mail, receive, send, parked, bulk or strict")
	flags.StringSliceVar(&f.lists, "lists", nil, "ask the block lists with these `zones`; without it none is asked")
	flags.StringVar(&f.rootHints, "root-hints", "", "ask from the root servers in this `file`, written like named.root")
	f.shareFlags.add(flags)
	flags.StringVar(&f.server, "server", "", "judge by what the resolver at this `address`[:port] says")
	return cmd
}

// scanFlags are those of check that make sense for many domains, and more.
type scanFlags struct {
	checkFlags
	shareFlags
	output, summary         string
	resume, ordered, full   bool
	summaryLine             bool
	concurrency, serverRate int
}

func (f *scanFlags) scan(cmd *cobra.Command, file string) error {
	collectLess()
	wanted := f.failOn
	if err := errors.Join(f.settle(), f.summaryApart(file)); err != nil {
		return usage(err)
	}
	in, err := openInput(file)
	if err != nil {
		return usage(err)
	}
	defer in.Close()
	source, err := scan.NewInput(cmd.Context(), in)
	if err != nil {
		return usage(fmt.Errorf("read %s: %w", file, err))
	}
	var tally scan.Tally
	s, err := f.scanner(&tally)
	if err != nil {
		return usage(err)
	}
	out, err := f.open(source, &tally, s)
	if errors.Is(err, context.Canceled) {
		return interrupted(errors.New("scan: interrupted; nothing was written"))
	}
	if err != nil {
		return usage(err)
	}
	sink := scan.NewOutput(out, f.full, f.output != "-")
	show := startProgress(cmd.ErrOrStderr(), progressEvery, func(took time.Duration, bar bool) string {
		return progressLine(tally.Progress(), source.Read(), source.Size(), took, bar)
	})
	err = s.Run(cmd.Context(), source, sink)
	show.stop()
	return f.end(cmd.ErrOrStderr(), out, sink, &tally, wanted, err)
}

// settle looks at the flags before anything is opened.
func (f *scanFlags) settle() error {
	if f.failOn == "" {
		f.failOn = string(audit.Error)
	}
	switch {
	case f.concurrency < 1 || f.concurrency > scan.MaxConcurrency:
		return fmt.Errorf("--concurrency: expected 1 to %d, got %d", scan.MaxConcurrency, f.concurrency)
	case f.serverRate < 0:
		return fmt.Errorf("--per-server-rate: expected 0 or more, got %d", f.serverRate)
	case f.resume && f.output == "-":
		return errors.New("--resume: there is nothing to go on with on standard output; give --output")
	}
	for _, to := range []struct{ flag, file string }{{"output", f.output}, {"summary", f.summary}, {"export", f.export}} { // not found out at the end
		if to.file == "" || to.file == "-" {
			continue
		}
		if err := hasFolder(to.file); err != nil {
			return fmt.Errorf("--%s: %w", to.flag, err)
		}
	}
	if err := f.choose(); err != nil {
		return err
	}
	slices.SortFunc(f.checks, func(a, b audit.Check) int { return strings.Compare(a.ID, b.ID) }) // once, and not for each domain
	if len(f.selectors) == 0 && len(f.only) == 0 {                                               // it would stand in every line, and says nothing of any
		f.checks = slices.DeleteFunc(f.checks, func(c audit.Check) bool { return c.ID == "dkim.no-selector-known" })
	}
	return nil
}

func openInput(file string) (*os.File, error) {
	if file == "-" {
		return os.Stdin, nil
	}
	return os.Open(file)
}

// mode is what decides what a line says: an output is of one mode.
func (f *scanFlags) mode() string {
	return fmt.Sprintf("only=%s skip=%s selector=%s server=%s full=%t profile=%s lists=%s ordered=%t",
		strings.Join(f.only, ","), strings.Join(f.skip, ","), strings.Join(f.selectors, ","), f.server, f.full, f.profile, strings.Join(f.lists, ","), f.ordered)
}

func (f *scanFlags) open(source *scan.Input, tally *scan.Tally, s *scan.Scanner) (scan.File, error) {
	if f.output == "-" {
		return os.Stdout, nil
	}
	open := scan.Create
	if f.resume {
		open = func(path string, id scan.Identity, mode string) (*scan.Journal, error) {
			return scan.Resume(path, id, mode, tally)
		}
	}
	id, err := source.Identity()
	if err != nil {
		return nil, fmt.Errorf("read the input: %w", err)
	}
	j, err := open(f.output, id, f.mode())
	if err != nil {
		return nil, fmt.Errorf("--output: %w", err)
	}
	s.Done = j.Done
	return j, nil
}

// scanner makes what looks at the domains. The second look begins without what the first has
// found out about servers.
func (f *scanFlags) scanner(tally *scan.Tally) (*scan.Scanner, error) {
	a, err := f.auditor()
	if err != nil {
		return nil, err
	}
	a.Certs, a.Web = nil, nil
	if len(f.lists) == 0 {
		a.Lists = nil // lists count questions, and refuse who asks too many
	}
	if own, ok := a.Asker.(*resolver.Resolver); ok {
		own.KeepReferrals = true
		own.CacheBytes = scanCache
		own.NoMinimisation = true // it costs questions, and among so many domains nobody's look-up can be made out
		own.MaxInFlight = perDomain * scan.MostAtOnce(f.concurrency)
		own.MaxWaiters = own.MaxInFlight // what a large provider has is asked for all at once
	}
	a.Asker = &scan.Pace{Asker: a.Asker, Rate: f.serverRate}
	again := *a
	a.Hasty = true
	a.Common, again.Common = &audit.Common{}, &audit.Common{}
	return &scan.Scanner{
		Check: scan.Check(a, f.checks, f.full), Again: scan.Check(&again, f.checks, f.full), Parse: parseLine,
		Concurrency: f.concurrency, Ordered: f.ordered, Tally: tally,
	}, nil
}

// scanCache is what the resolver may keep, in octets: most of what is asked about one of many domains
// is asked for no other, and what many have in common stays.
const scanCache = 16 << 20

// perDomain is about how many questions to the resolver are under way at once for one domain, where
// something could not be had: otherwise it is one.
const perDomain = 20

// end writes the summary, and says what came of it all.
func (f *scanFlags) end(stderr io.Writer, out scan.File, sink *scan.Output, tally *scan.Tally, failOn string, err error) error {
	for _, fault := range tally.Faults() {
		fmt.Fprintf(stderr, "mxward: an internal fault; please report it: %s\n", fault)
	}
	if lost := sink.Close(); lost != nil {
		return f.endTorn(tally.Progress(), sink.Stored(), err, lost)
	}
	sum := tally.Summary(err == nil)
	printSummary(stderr, sum)
	failed := f.summarize(out, sum)
	stopped := errors.Is(err, context.Canceled)
	if stopped {
		err = errors.New("interrupted; " + f.howToGoOn())
	}
	switch {
	case failed != nil:
		return internal(fmt.Errorf("scan: %w", errors.Join(err, failed)))
	case stopped:
		return interrupted(fmt.Errorf("scan: %w", err))
	case err != nil:
		return internal(fmt.Errorf("scan: %w", err))
	}
	return f.judge(sum, failOn)
}

// summarize writes the summary where it is wanted, and closes the output.
func (f *scanFlags) summarize(out scan.File, sum scan.Summary) error {
	var failed error
	if f.summaryLine {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		failed = enc.Encode(sum)
	}
	if f.summary != "" {
		failed = errors.Join(failed, writeSummary(f.summary, sum))
	}
	if c, ok := out.(io.Closer); ok && f.output != "-" {
		failed = errors.Join(failed, c.Close())
	}
	if failed != nil {
		return fmt.Errorf("all results are there, and not the summary: %w", failed)
	}
	return nil
}

// endTorn is the end of a scan whose output could not be written, whatever else has ended it. No
// summary is made: it would have lines that are not there, and as a line come after a torn one.
func (f *scanFlags) endTorn(counted scan.Progress, stored int, err, lost error) error {
	if err != nil && !errors.Is(err, lost) && !errors.Is(err, context.Canceled) {
		lost = errors.Join(lost, err)
	}
	goOn := "the last may be torn"
	if f.output != "-" {
		goOn = "mend that, and the same command with --resume goes on"
	}
	if f.summary != "" {
		goOn += "; no summary was written"
	}
	return internal(fmt.Errorf("scan: %w: %d of %d lines that were looked at are stored; %s", lost, counted.Resumed+stored, counted.Lines, goOn))
}

func (f *scanFlags) howToGoOn() string {
	if f.output == "-" {
		return "what was written is whole"
	}
	return "the same command with --resume goes on"
}

// summaryApart refuses a summary that would be written over what the scan reads or writes.
func (f *scanFlags) summaryApart(input string) error {
	for _, other := range []string{input, f.output, f.output + ".journal", f.export} {
		if f.summary != "" && other != "-" && other != "" && sameFile(f.summary, other) {
			return fmt.Errorf("--summary: %s is the scan's own; give another name", f.summary)
		}
	}
	return nil
}

func sameFile(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	return filepath.Clean(a) == filepath.Clean(b) || errA == nil && errB == nil && os.SameFile(x, y)
}

func writeSummary(file string, sum scan.Summary) error {
	out, err := createNew(file)
	if err != nil {
		return err
	}
	defer out.drop()
	if err := writeJSON(out, sum); err != nil {
		return err
	}
	return out.commit()
}
