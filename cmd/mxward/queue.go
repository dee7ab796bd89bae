package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mxward/internal/mail"
	"mxward/internal/queue"
	"mxward/internal/site"
	"mxward/internal/store"
)

// queueFlags are common to all verbs of the queue.
type queueFlags struct {
	plan, store string
	json        bool
}

func newQueue() *cobra.Command {
	var f queueFlags
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "where is my message? list, show, retry, hold, release, drop",
		Long: `Queue looks into the store of the plan while serve runs, or without it. A job is one
message for one destination; its states are ready, leased (a worker has it) and held.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&f.plan, "plan", defaultPlan, "the site plan, a TOML `file`")
	cmd.PersistentFlags().StringVar(&f.store, "store", "", "the store's `URL`, instead of the plan's")
	cmd.PersistentFlags().BoolVar(&f.json, "json", false, "one JSON document on stdout (schema mxward.queue/1)")
	cmd.AddCommand(newQueueList(&f), newQueueShow(&f),
		newQueueAction(&f, queue.ActRetry, "retry", "make jobs due now", "made due"),
		newQueueAction(&f, queue.ActHold, "hold", "keep jobs from being tried until released", "held"),
		newQueueAction(&f, queue.ActRelease, "release", "let held jobs go", "released"),
		newQueueAction(&f, queue.ActDrop, "drop", "remove jobs for good, without telling the sender", "dropped"))
	return cmd
}

// open opens the store that the flags name.
func (f *queueFlags) open(ctx context.Context) (store.Engine, error) {
	url := f.store
	if url == "" {
		var err error
		if url, err = site.LoadStore(f.plan); err != nil {
			return nil, planError(err)
		}
	}
	if err := checkStore(url); err != nil {
		return nil, err
	}
	engine, err := store.Open(ctx, url)
	if err != nil {
		return nil, undetermined(err)
	}
	return engine, nil
}

// checkStore wants a store that somebody has made: opening one makes it where it is not
// there, and a queue that is empty because its name is mistyped answers the wrong question.
func checkStore(url string) error {
	scheme, path, _ := strings.Cut(url, ":")
	switch scheme {
	case "postgres", "postgresql":
		return nil
	case "sqlite":
		if _, err := os.Stat(path); err != nil {
			return undetermined(fmt.Errorf("open the store: %w; serve makes it when it first runs", err))
		}
		return nil
	}
	return usage(fmt.Errorf("--store: expected sqlite:PATH or postgres://…, got %q", url))
}

func newQueueList(f *queueFlags) *cobra.Command {
	var (
		filter queue.Filter
		state  string
	)
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "list the jobs, oldest message first",
		Example: "  mxward queue list --destination example.com --state ready",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if filter.State, err = parseState(state); err != nil {
				return usage(err)
			}
			if filter.Destination, err = parseQueueDestination(filter.Destination); err != nil {
				return usage(err)
			}
			return f.show(cmd, filter, func(w io.Writer, entries []queue.Entry) error {
				if len(entries) == 0 && (filter.Destination != "" || filter.State != "") {
					_, err := fmt.Fprintln(w, "the queue has no such job")
					return err
				}
				return printList(w, entries)
			})
		},
	}
	cmd.Flags().StringVar(&filter.Destination, "destination", "", "only jobs for this `domain`")
	cmd.Flags().StringVar(&state, "state", "", "only jobs in this `state`: ready, leased or held")
	cmd.Flags().IntVar(&filter.Limit, "limit", 0, "at most so many; 0: all")
	return cmd
}

func newQueueShow(f *queueFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "show a message: who sent it, where it goes, and what the last attempt met",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.show(cmd, queue.Filter{Message: queue.ID(args[0])}, printEntries)
		},
	}
}

// show prints the filter's entries; a message that was asked for and is not there is a
// problem, an empty list is not.
func (f *queueFlags) show(cmd *cobra.Command, filter queue.Filter, print func(io.Writer, []queue.Entry) error) error {
	engine, err := f.open(cmd.Context())
	if err != nil {
		return err
	}
	defer engine.Close()
	entries, err := engine.List(cmd.Context(), filter)
	if err != nil && !errors.Is(err, queue.ErrNotFound) {
		return undetermined(fmt.Errorf("read the queue: %w", err))
	}
	missing := filter.Message != "" && len(entries) == 0
	switch {
	case f.json:
		err = writeJSON(cmd.OutOrStdout(), newQueueDocument(entries))
	case !missing:
		err = print(cmd.OutOrStdout(), entries)
	}
	if missing {
		return problem(fmt.Errorf("%w: %s; it is delivered, dropped, or was never here", queue.ErrNotFound, filter.Message))
	}
	return err
}

func newQueueAction(f *queueFlags, action queue.Action, verb, short, done string) *cobra.Command {
	var (
		all         bool
		destination string
	)
	cmd := &cobra.Command{
		Use:     verb + " [ID...]",
		Short:   short,
		Example: fmt.Sprintf("  mxward queue %s 1m7yh6hzv8jerr3g9d3v\n  mxward queue %s --destination example.com", verb, verb),
		RunE: func(cmd *cobra.Command, ids []string) error {
			if len(ids) == 0 && destination == "" && !all {
				return usage(fmt.Errorf("%s: name messages, --destination or --all", verb))
			}
			if all && (len(ids) > 0 || destination != "") {
				return usage(fmt.Errorf("%s: --all goes with nothing else", verb))
			}
			destination, err := parseQueueDestination(destination)
			if err != nil {
				return usage(err)
			}
			return f.act(cmd, action, ids, destination, done)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every job of the queue")
	cmd.Flags().StringVar(&destination, "destination", "", "the jobs for this `domain`")
	return cmd
}

func (f *queueFlags) act(cmd *cobra.Command, action queue.Action, ids []string, destination, done string) error {
	engine, err := f.open(cmd.Context())
	if err != nil {
		return err
	}
	defer engine.Close()
	if len(ids) == 0 {
		ids = []string{""}
	}
	total, missing := 0, []string(nil)
	for _, id := range ids {
		n, err := engine.Change(cmd.Context(), time.Now(), queue.Filter{Message: queue.ID(id), Destination: destination}, action)
		if err != nil && !errors.Is(err, queue.ErrNotFound) {
			return undetermined(fmt.Errorf("change the queue: %w", err))
		}
		total += n
		if n == 0 && id != "" {
			missing = append(missing, id)
		}
	}
	if f.json {
		err = writeJSON(cmd.OutOrStdout(), map[string]any{"schema": queueSchema, "action": action, "jobs": total, "not_found": append([]string{}, missing...)})
	} else {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", count(total, "job"), done)
	}
	if err == nil && len(missing) > 0 {
		err = problem(fmt.Errorf("nothing to %s for %s", action, strings.Join(missing, ", ")))
	}
	return err
}

// parseQueueDestination gives a domain as the queue spells it; none is none.
func parseQueueDestination(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	a, err := parseDestination(s)
	if err != nil {
		return "", fmt.Errorf("--destination: %w", err)
	}
	return a.Host(), nil
}

func parseState(s string) (queue.State, error) {
	switch state := queue.State(s); state {
	case "", queue.Ready, queue.Leased, queue.Held:
		return state, nil
	}
	return "", fmt.Errorf("--state: expected ready, leased or held, got %q", s)
}

const queueSchema = "mxward.queue/1"

// queueDocument is what --json prints; fields are only ever added to it.
type queueDocument struct {
	Schema string     `json:"schema"`
	Jobs   []queueJob `json:"jobs"`
}

type queueJob struct {
	ID          queue.ID       `json:"id"`
	Destination string         `json:"destination"`
	State       queue.State    `json:"state"`
	From        mail.Path      `json:"from"`
	Recipients  []mail.Address `json:"recipients"`
	Client      string         `json:"client"`
	Size        int64          `json:"size"`
	Received    time.Time      `json:"received"`
	Expires     time.Time      `json:"expires"`
	Next        time.Time      `json:"next"`
	Attempts    int            `json:"attempts"`
	Backup      bool           `json:"backup"`
	Notice      bool           `json:"notice"`
	Last        []queueOutcome `json:"last"`
	Fault       string         `json:"fault"`
}

type queueOutcome struct {
	Recipient mail.Address `json:"recipient"`
	Status    mail.Status  `json:"status"`
	Stage     mail.Stage   `json:"stage"`
	Host      string       `json:"host"`
	Reply     string       `json:"reply"`
	When      time.Time    `json:"when"`
}

func newQueueDocument(entries []queue.Entry) queueDocument {
	doc := queueDocument{Schema: queueSchema, Jobs: []queueJob{}}
	for _, e := range entries {
		m := e.Message
		j := queueJob{
			ID: m.ID, Destination: e.Destination, State: e.State, From: m.Envelope.From, Recipients: addresses(m),
			Client: m.Client, Size: m.Size, Received: m.Received.UTC(), Expires: m.Expires.UTC(), Next: e.Next.UTC(),
			Attempts: e.Attempts, Backup: m.Backup, Notice: m.Notice, Last: []queueOutcome{}, Fault: e.Fault,
		}
		for _, o := range e.Last {
			j.Last = append(j.Last, queueOutcome{o.Recipient, o.Status, o.Stage, o.Host, o.Reply.String(), o.When.UTC()})
		}
		doc.Jobs = append(doc.Jobs, j)
	}
	return doc
}

func addresses(m queue.Message) []mail.Address {
	list := []mail.Address{}
	for _, r := range m.Envelope.Recipients {
		list = append(list, r.Address)
	}
	return list
}

// printList gives one line a job.
func printList(w io.Writer, entries []queue.Entry) error {
	if len(entries) == 0 {
		_, err := fmt.Fprintln(w, "the queue is empty")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tDESTINATION\tTRIES\tDUE\tSIZE\tFROM\tLAST REPLY")
	now := time.Now()
	for _, e := range entries {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s\n", e.Message.ID, e.State, e.Destination, e.Attempts,
			due(e, now), e.Message.Size, e.Message.Envelope.From.Wire(), lastReply(e))
	}
	fmt.Fprintf(t, "%s\n", count(len(entries), "job"))
	return t.Flush()
}

func due(e queue.Entry, now time.Time) string {
	switch {
	case e.State == queue.Held:
		return "never"
	case !e.Next.After(now):
		return "now"
	}
	return "in " + e.Next.Sub(now).Round(time.Second).String()
}

func lastReply(e queue.Entry) string {
	switch {
	case e.Fault != "":
		return "cannot be read: " + e.Fault
	case len(e.Last) == 0:
		return "-"
	}
	o := e.Last[0]
	if o.Host != "" {
		return o.Host + ": " + o.Reply.String()
	}
	return o.Reply.String()
}

// printEntries gives everything that is known of a message.
func printEntries(w io.Writer, entries []queue.Entry) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	m := entries[0].Message
	fmt.Fprintf(t, "message\t%s\n", m.ID)
	fmt.Fprintf(t, "from\t%s\n", m.Envelope.From.Wire())
	fmt.Fprintf(t, "client\t%s\n", m.Client)
	fmt.Fprintf(t, "size\t%d octets\n", m.Size)
	fmt.Fprintf(t, "received\t%s\n", m.Received.Format(time.RFC3339))
	fmt.Fprintf(t, "gives up\t%s\n", m.Expires.Format(time.RFC3339))
	for _, e := range entries {
		fmt.Fprintf(t, "\t\ndestination\t%s\n", e.Destination)
		fmt.Fprintf(t, "state\t%s, due %s, tried %d times\n", e.State, due(e, time.Now()), e.Attempts)
		if e.Fault != "" {
			fmt.Fprintf(t, "fault\tcannot be read: %s\n", e.Fault)
		}
		for _, r := range e.Message.Envelope.Recipients {
			fmt.Fprintf(t, "recipient\t<%s>\n", r.Address)
		}
		for _, o := range e.Last {
			fmt.Fprintf(t, "last attempt\t%s <%s> %s at %s by %s: %s\n",
				o.When.Format(time.RFC3339), o.Recipient, o.Status, o.Stage, orDash(o.Host), o.Reply)
		}
	}
	return t.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func writeJSON(w io.Writer, doc any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(doc)
}
