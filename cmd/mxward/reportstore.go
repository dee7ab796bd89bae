package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dmarcrpt"
	"mxward/internal/mailauth/tlsrpt"
	"mxward/internal/report"
)

const (
	pendingSchema = "mxward.report-pending/1"
	maxPending    = 1000 // days of domains that are listed; the newest
	maxFailures   = 1000 // failure reports that are listed; the newest
	usualDays     = 30
	maxDays       = 10_000 // more than are kept
)

// storedFlags say what of the store is wanted.
type storedFlags struct {
	plan, domain             string
	days                     int
	unauthenticated, pending bool
}

func (f *storedFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.plan, "plan", "", "read the store of this site plan, a TOML `file`, instead of files")
	cmd.Flags().StringVar(&f.domain, "domain", "", "with --plan: only what is about this `domain`, and those below it")
	cmd.Flags().IntVar(&f.days, "days", usualDays, "with --plan: reports whose period ended in so many days")
	cmd.Flags().BoolVar(&f.unauthenticated, "unauthenticated", false, "with --plan: sum up what may be forged, too")
	cmd.Flags().BoolVar(&f.pending, "pending", false, "with --plan: list what is counted for reports to others (JSON schema "+pendingSchema+")")
}

// check wants files or a plan, and no flag without its plan.
func (f *storedFlags) check(cmd *cobra.Command, args []string) error {
	if f.plan == "" {
		for _, flag := range []string{"domain", "days", "unauthenticated", "pending"} {
			if cmd.Flags().Changed(flag) {
				return fmt.Errorf("report: --%s is about what is stored: name the plan with --plan", flag)
			}
		}
		if len(args) == 0 {
			return errors.New("report: expected files, or the store of a plan with --plan")
		}
		return nil
	}
	if len(args) > 0 {
		return errors.New("report: expected files or --plan, got both")
	}
	if f.days < 1 || f.days > maxDays {
		return fmt.Errorf("report: --days: expected a number from 1 to %d, got %d", maxDays, f.days)
	}
	if f.domain != "" {
		name, err := dns.ParseName(f.domain)
		if err != nil {
			return fmt.Errorf("report: --domain: expected a domain name, got %q", f.domain)
		}
		f.domain = name.String()
	}
	return nil
}

func (f *storedFlags) run(cmd *cobra.Command, asJSON bool) error {
	engine, err := (&queueFlags{plan: f.plan}).open(cmd.Context())
	if err != nil {
		return err
	}
	defer engine.Close()
	if f.pending {
		return f.listPending(cmd, engine, asJSON)
	}
	s, err := f.sum(cmd.Context(), engine)
	if err != nil {
		return undetermined(fmt.Errorf("report: %w", err))
	}
	for _, n := range s.notes {
		fmt.Fprintln(cmd.ErrOrStderr(), shown("note: "+n.Text))
	}
	if asJSON {
		return writeJSON(cmd.OutOrStdout(), s.document())
	}
	return f.printStored(cmd.OutOrStdout(), s)
}

func (f *storedFlags) printStored(w io.Writer, s sums) error {
	if s.aggregate.Reports+len(s.failures)+s.tls.Reports == 0 {
		fmt.Fprintf(w, "no reports of the last %s\n", plural(f.days, "day"))
	}
	if err := s.print(w); err != nil {
		return err
	}
	if by := reporters(s.aggregate); len(by) > 0 {
		fmt.Fprintf(w, "reported by %s\n", shown(few(by)))
	}
	if s.unauthenticated > 0 {
		fmt.Fprintf(w, "not summed up: %s that may be forged, since the message did not pass DMARC; --unauthenticated adds them\n", plural(s.unauthenticated, "report"))
	}
	return nil
}

func reporters(s dmarcrpt.Summary) []string {
	var all []string
	for _, source := range s.Sources {
		all = append(all, source.Reporters...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// storedReports walks through the store, one kind after the other.
type storedReports struct {
	ctx   context.Context // of the one command
	flags *storedFlags
	from  report.Reports
	sums
	err error
}

// sum sums up what is stored, report by report.
func (f *storedFlags) sum(ctx context.Context, from report.Reports) (sums, error) {
	s := &storedReports{ctx: ctx, flags: f, from: from}
	s.aggregate = dmarcrpt.Summarize(func(yield func(dmarcrpt.Report) bool) {
		each(s, report.Aggregate, report.Received.Aggregate, yield)
	}, nil)
	s.tls = tlsrpt.Summarize(func(yield func(tlsrpt.Report) bool) {
		each(s, report.TLS, report.Received.TLS, yield)
	})
	each(s, report.Failure, openFailure, func(one failureSum) bool {
		if s.failures = append(s.failures, one); len(s.failures) > 2*maxFailures {
			s.trim()
		}
		return true
	})
	s.trim()
	return s.sums, s.err
}

// trim leaves the newest failure reports.
func (s *storedReports) trim() {
	s.failures = slices.Clone(s.failures[max(0, len(s.failures)-maxFailures):])
}

func openFailure(r report.Received) (failureSum, error) {
	f, from, err := r.FailureReport()
	return failureSum{f, from}, err
}

// each gives the reports of a kind that are wanted. One that cannot be read is a note.
func each[T any](s *storedReports, kind report.Kind, open func(report.Received) (T, error), yield func(T) bool) {
	since := time.Now().Add(-time.Duration(s.flags.days) * 24 * time.Hour)
	for r, err := range report.All(s.ctx, s.from, kind, since) {
		switch {
		case err != nil:
			s.err = err
			return
		case !r.Below(s.flags.domain):
			continue
		case !r.Authentic && !s.flags.unauthenticated:
			s.unauthenticated++
			continue
		}
		one, err := open(r)
		if err != nil {
			s.notes = append(s.notes, faultJSON{"", err.Error()})
			continue
		}
		if !yield(one) {
			return
		}
	}
}

// pendingDocument is what --pending --json prints; fields are only ever added to it.
type pendingDocument struct {
	Schema string        `json:"schema"`
	Days   []pendingJSON `json:"days"`
}

type pendingJSON struct {
	Day      string   `json:"day"`
	Domain   string   `json:"domain"`
	Rows     int64    `json:"rows"`
	Overflow int64    `json:"overflow"`
	Due      string   `json:"due"`
	Attempts int      `json:"attempts"`
	Sent     []string `json:"sent"`
	Outcome  string   `json:"outcome"`
}

func (f *storedFlags) listPending(cmd *cobra.Command, from report.Days, asJSON bool) error {
	days, err := from.PendingDays(cmd.Context(), maxPending)
	if err != nil {
		return undetermined(fmt.Errorf("report: %w", err))
	}
	days = slices.DeleteFunc(days, func(p report.Pending) bool { return !report.Received{Domain: p.Domain}.Below(f.domain) })
	if asJSON {
		doc := pendingDocument{pendingSchema, make([]pendingJSON, len(days))}
		for i, p := range days {
			doc.Days[i] = pendingJSON{p.Day.Format(time.DateOnly), p.Domain, p.Rows, p.Overflow, timeText(p.Due), p.Attempts, notNil(p.Sent), p.Outcome}
		}
		return writeJSON(cmd.OutOrStdout(), doc)
	}
	if len(days) == 0 {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "nothing is counted for reports to others")
		return err
	}
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DAY\tDOMAIN\tROWS\tOVERFLOW\tDUE\tATTEMPTS\tSENT TO\tOUTCOME")
	for _, p := range days {
		due := "done"
		if !p.Due.IsZero() {
			due = dateText(p.Due)
		}
		row(t, p.Day.Format(time.DateOnly), p.Domain, fmt.Sprint(p.Rows), fmt.Sprint(p.Overflow), due, fmt.Sprint(p.Attempts), strings.Join(p.Sent, ","), p.Outcome)
	}
	return t.Flush()
}
