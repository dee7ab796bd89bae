package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"mxward/internal/mailauth/attach"
	"mxward/internal/mailauth/dmarcrpt"
	"mxward/internal/mailauth/tlsrpt"
	"mxward/internal/report"
)

const reportSchema = "mxward.report/1"

func newReport() *cobra.Command {
	var asJSON bool
	var f storedFlags
	cmd := &cobra.Command{
		Use:   "report FILE... | --plan FILE",
		Short: "what the DMARC and TLS reports that others sent say, summed up by source",
		Long: `Report reads DMARC aggregate reports (RFC 9990, and as RFC 7489 had them), DMARC failure
reports (RFC 9991) and TLS reports (RFC 8460), and sums them up: who sends as the domain, and
how much of it passes; whose TLS fails, and why. A file is a message with the report attached,
or the bare report, compressed or not; - is standard input. A report that comes twice counts
once.

With --plan it reads what the gate has stored of the mail for the plan's [reports] receive,
while serve runs or without it. Who sent a report is then the domain that its message passed
DMARC for. Reports in messages that passed for nobody may be forged: they are told of, and
summed up only with --unauthenticated. --pending lists instead what the gate has counted for
its own reports to others, when each goes out, and what became of it.

Exit status: 0 all were read; 1 something is no report, or a broken one: the others are summed
up all the same; 2 usage, or a file that cannot be opened; 3 a file or the store could not be
read.`,
		Example: "  mxward report reports/*.eml\n  mxward report --json 'example.net!example.com!1779148800!1779235199.xml.gz'\n  mxward report --plan mxward.toml --domain example.com --days 7",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd, args); err != nil {
				return usage(err)
			}
			if f.plan != "" {
				return f.run(cmd, asJSON)
			}
			var all reports
			failed := all.readAll(args, cmd.InOrStdin())
			sums := all.sums()
			doc := sums.document()
			for _, err := range failed {
				doc.Errors = append(doc.Errors, fileErrorJSON{err.file, err.err.Error()})
			}
			err := error(nil)
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), doc)
			} else {
				err = sums.print(cmd.OutOrStdout())
			}
			for _, f := range all.faults {
				fmt.Fprintln(cmd.ErrOrStderr(), shown("note: "+f.File+": "+f.Text))
			}
			if err != nil {
				return err
			}
			return reportExit(cmd.ErrOrStderr(), failed)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON document on stdout (schema "+reportSchema+")")
	f.add(cmd)
	return cmd
}

// reports is all that was read.
type reports struct {
	found  report.Found
	faults []faultJSON
}

// sums is what all reports say together.
type sums struct {
	aggregate       dmarcrpt.Summary
	failures        []failureSum
	tls             tlsrpt.Summary
	unauthenticated int // reports that were left out
	notes           []faultJSON
}

// failureSum is a failure report, and the From of the message that it is about.
type failureSum struct {
	dmarcrpt.Failure
	from string
}

func (all *reports) sums() sums {
	s := sums{
		aggregate: dmarcrpt.Summarize(slices.Values(all.found.Aggregate), nil),
		tls:       tlsrpt.Summarize(slices.Values(all.found.TLS)), notes: all.faults,
	}
	for _, f := range all.found.Failures {
		s.failures = append(s.failures, failureSum{f, originalFrom(f)})
	}
	return s
}

// fileError is why a file was not read.
type fileError struct {
	file string
	err  error
	code int
}

// reportExit prints the errors, each in its line; the worst says the code.
func reportExit(w io.Writer, failed []fileError) error {
	if len(failed) == 0 {
		return nil
	}
	code := exitUndetermined
	for _, f := range failed {
		fmt.Fprintln(w, shown(fmt.Sprintf("mxward: report %s: %v", f.file, f.err)))
		if f.code == exitUsage || f.code == exitProblems && code == exitUndetermined {
			code = f.code
		}
	}
	return &exitError{code: code}
}

func (all *reports) readAll(files []string, stdin io.Reader) []fileError {
	var failed []fileError
	for _, file := range files {
		if err := all.readFile(file, stdin); err != nil {
			failed = append(failed, *err)
		}
	}
	return failed
}

func (all *reports) readFile(file string, in io.Reader) *fileError {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return &fileError{file, errors.Unwrap(err), exitUsage}
		}
		defer f.Close()
		in = f
	}
	err := all.read(file, in)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, attach.ErrNotReport), errors.Is(err, attach.ErrMalformed), errors.Is(err, attach.ErrTooLarge):
		return &fileError{file, err, exitProblems}
	}
	return &fileError{file, err, exitUndetermined}
}

// read takes what one file has; where it has an error, nothing.
func (all *reports) read(file string, in io.Reader) error {
	got, err := report.Parse(in)
	if err != nil {
		return err
	}
	all.found.Aggregate = append(all.found.Aggregate, got.Aggregate...)
	all.found.Failures = append(all.found.Failures, got.Failures...)
	all.found.TLS = append(all.found.TLS, got.TLS...)
	for _, f := range got.Faults {
		all.faults = append(all.faults, faultJSON{file, f})
	}
	return nil
}

// shown makes what strangers wrote fit for a terminal: no control characters, one line each.
func shown(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// print writes what people read.
func (s sums) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if s.aggregate.Reports > 0 {
		printAggregate(t, s.aggregate)
	}
	if len(s.failures) > 0 {
		fmt.Fprintf(t, "DMARC failures: %s\n", plural(len(s.failures), "report"))
		fmt.Fprintln(t, "SOURCE\tMESSAGES\tDOMAIN\tFAILED\tBECAME\tARRIVED\tFROM")
		for _, f := range s.failures {
			row(t, addrText(f.Source), fmt.Sprint(f.Incidents), f.Domain, strings.Join(f.AuthFailure, ","), f.Delivery, dateText(f.Arrival), cmp.Or(f.from, f.MailFrom))
		}
	}
	if s.tls.Reports > 0 {
		printTLS(t, s.tls)
	}
	return t.Flush()
}

func printAggregate(w io.Writer, s dmarcrpt.Summary) {
	fmt.Fprintf(w, "DMARC: %s of %s; %s to %s; %s\n", plural(s.Reports, "report"), shown(few(s.Domains)),
		dateText(s.Begin), dateText(s.End), plural(int(s.Messages), "message"))
	fmt.Fprintln(w, "SOURCE\tMESSAGES\tPASS\tDKIM\tSPF\tQUARANTINED\tREJECTED\tFROM")
	for _, from := range s.Sources {
		name := from.Name
		if name == "" {
			name = "unreadable"
		}
		row(w, name, fmt.Sprint(from.Messages), fmt.Sprint(from.Pass), fmt.Sprint(from.DKIM), fmt.Sprint(from.SPF), fmt.Sprint(from.Quarantined), fmt.Sprint(from.Rejected), few(from.HeaderFrom))
	}
}

func printTLS(w io.Writer, s tlsrpt.Summary) {
	fmt.Fprintf(w, "TLS: %s; %s to %s\n", plural(s.Reports, "report"), dateText(s.Begin), dateText(s.End))
	fmt.Fprintln(w, "DOMAIN\tPOLICY\tSUCCESSFUL\tFAILED")
	for _, d := range s.Domains {
		row(w, d.Name, d.Type, fmt.Sprint(d.Successful), fmt.Sprint(d.Failed))
	}
	if len(s.Failures) > 0 {
		fmt.Fprintln(w, "DOMAIN\tMX\tFAILURE\tSESSIONS")
	}
	for _, f := range s.Failures {
		row(w, f.Domain, f.MXHost, f.Result, fmt.Sprint(f.Sessions))
	}
}

// row writes one of a table; an empty cell is a dash.
func row(w io.Writer, cells ...string) {
	for i, c := range cells {
		if cells[i] = shown(c); c == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

// few names the first of a list.
func few(list []string) string {
	const most = 3
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func dateText(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.Format(time.DateTime)
}

// timeText is for JSON: "" for what is not known.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func originalFrom(f dmarcrpt.Failure) string {
	for _, field := range f.Original.All("From") {
		return field.Value()
	}
	return ""
}

// reportDocument is what --json prints; fields are only ever added to it.
type reportDocument struct {
	Schema          string              `json:"schema"`
	Aggregate       aggregateJSON       `json:"aggregate"`
	Failures        []failureReportJSON `json:"failures"`
	TLS             tlsJSON             `json:"tls"`
	Unauthenticated int                 `json:"unauthenticated"`
	Notes           []faultJSON         `json:"notes"`
	Errors          []fileErrorJSON     `json:"errors"`
}

type aggregateJSON struct {
	Reports  int          `json:"reports"`
	Begin    string       `json:"begin"`
	End      string       `json:"end"`
	Domains  []string     `json:"domains"`
	Messages int64        `json:"messages"`
	Sources  []sourceJSON `json:"sources"`
}

type sourceJSON struct {
	Source      string   `json:"source"`
	Messages    int64    `json:"messages"`
	Pass        int64    `json:"pass"`
	DKIM        int64    `json:"dkim"`
	SPF         int64    `json:"spf"`
	Quarantined int64    `json:"quarantined"`
	Rejected    int64    `json:"rejected"`
	Overridden  int64    `json:"overridden"`
	HeaderFrom  []string `json:"header_from"`
	Reporters   []string `json:"reporters"`
}

type failureReportJSON struct {
	Type       string   `json:"type"`
	Failed     []string `json:"failed"`
	Domain     string   `json:"domain"`
	Source     string   `json:"source"`
	Messages   int64    `json:"messages"`
	Arrived    string   `json:"arrived"`
	MailFrom   string   `json:"mail_from"`
	Recipients []string `json:"recipients"`
	HeaderFrom string   `json:"header_from"`
	Became     string   `json:"became"`
	Results    []string `json:"authentication_results"`
}

type tlsJSON struct {
	Reports  int              `json:"reports"`
	Begin    string           `json:"begin"`
	End      string           `json:"end"`
	Domains  []tlsDomainJSON  `json:"domains"`
	Failures []tlsFailureJSON `json:"failures"`
}

type tlsDomainJSON struct {
	Domain     string `json:"domain"`
	Policy     string `json:"policy"`
	Successful int64  `json:"successful"`
	Failed     int64  `json:"failed"`
}

type tlsFailureJSON struct {
	Domain   string `json:"domain"`
	MX       string `json:"mx"`
	Result   string `json:"result"`
	Sessions int64  `json:"sessions"`
}

type faultJSON struct {
	File string `json:"file"`
	Text string `json:"text"`
}

type fileErrorJSON struct {
	File  string `json:"file"`
	Error string `json:"error"`
}

func (s sums) document() reportDocument {
	return reportDocument{
		Schema: reportSchema, Aggregate: newAggregateJSON(s.aggregate), Failures: newFailuresJSON(s.failures),
		TLS: newTLSJSON(s.tls), Unauthenticated: s.unauthenticated, Notes: notNil(s.notes), Errors: []fileErrorJSON{},
	}
}

func newAggregateJSON(s dmarcrpt.Summary) aggregateJSON {
	out := aggregateJSON{s.Reports, timeText(s.Begin), timeText(s.End), notNil(s.Domains), s.Messages, make([]sourceJSON, len(s.Sources))}
	for i, from := range s.Sources {
		out.Sources[i] = sourceJSON{
			from.Name, from.Messages, from.Pass, from.DKIM, from.SPF, from.Quarantined, from.Rejected, from.Overridden,
			notNil(from.HeaderFrom), notNil(from.Reporters),
		}
	}
	return out
}

func newFailuresJSON(failures []failureSum) []failureReportJSON {
	out := make([]failureReportJSON, len(failures))
	for i, f := range failures {
		out[i] = failureReportJSON{
			f.Type, notNil(f.AuthFailure), f.Domain, addrText(f.Source), f.Incidents, timeText(f.Arrival),
			f.MailFrom, notNil(f.RcptTo), f.from, f.Delivery, notNil(f.Results),
		}
	}
	return out
}

func newTLSJSON(s tlsrpt.Summary) tlsJSON {
	out := tlsJSON{s.Reports, timeText(s.Begin), timeText(s.End), make([]tlsDomainJSON, len(s.Domains)), make([]tlsFailureJSON, len(s.Failures))}
	for i, d := range s.Domains {
		out.Domains[i] = tlsDomainJSON{d.Name, d.Type, d.Successful, d.Failed}
	}
	for i, f := range s.Failures {
		out.Failures[i] = tlsFailureJSON{f.Domain, f.MXHost, f.Result, f.Sessions}
	}
	return out
}
