package render

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"mxward/internal/audit"
)

// Text writes for people: the worst first, one line each, then what could not be asked. Verbose
// adds what was asked and what is fine.
func Text(w io.Writer, r Report, verbose bool) error {
	t := text{domain: r.Domain.String(), verbose: verbose}
	if r.Since && !verbose {
		t.moves(r)
		_, err := io.WriteString(w, t.String())
		return err
	}
	t.printf("%s: %d found, %d unknown, %d fine\n", Clean(r.Domain.Unicode()), r.count(audit.Fail), r.count(audit.Unknown), r.count(audit.Pass))
	for _, severity := range audit.Severities() {
		for _, f := range r.fails(severity) {
			t.finding(string(severity), f)
		}
	}
	for _, why := range r.unknown() {
		t.unknown(why)
	}
	if verbose {
		for _, f := range r.Findings {
			if f.Status == audit.Pass {
				t.pass(f)
			}
		}
	}
	for _, f := range r.ignored() {
		t.printf("ignored %s: %s%s: %s\n", f.ID, t.at(f.Target), f.Title, Clean(f.Ignored))
	}
	if r.Since {
		t.moves(r)
	}
	_, err := io.WriteString(w, t.String())
	return err
}

type text struct {
	strings.Builder
	domain  string
	verbose bool
}

func (t *text) printf(format string, args ...any) { fmt.Fprintf(t, format, args...) }

func (t *text) finding(word string, f audit.Finding) {
	t.printf("%s %s: ", word, f.ID)
	t.WriteString(t.at(f.Target) + f.Title)
	if f.Detail != "" && f.Detail != f.Title {
		t.printf(": %s", Clean(f.Detail))
	}
	t.printf(" [%s]\n", f.Blame)
	if f.Fix.Text != "" && f.Status == audit.Fail {
		t.printf("    %s\n", Clean(f.Fix.Text))
	}
	for _, c := range f.Fix.Records {
		t.printf("    %s: %s\n", c.Do, Clean(c.Record))
	}
	if t.verbose {
		t.evidence(f)
	}
}

// pass says what was found where nothing is wrong.
func (t *text) pass(f audit.Finding) {
	t.printf("pass %s", f.ID)
	if f.Target != t.domain {
		t.printf(": %s", Clean(f.Target))
	}
	if f.Detail != "" {
		t.printf(": %s", Clean(f.Detail))
	}
	t.printf("\n")
}

// at names a target that is not the domain itself.
func (t *text) at(target string) string {
	if target == t.domain {
		return ""
	}
	return Clean(target) + ": "
}

// moves writes what has changed: what is new and what is worse or milder with all that there is
// to say, and the rest in one line each.
func (t *text) moves(r Report) {
	count := map[audit.Turn]int{}
	for _, m := range r.Moves {
		count[m.Turn]++
	}
	t.printf("%s: %d new, %d changed, %d gone, %d could not be asked, %d the same\n", Clean(r.Domain.Unicode()),
		count[audit.New], count[audit.Changed], count[audit.Gone], count[audit.Unsure], count[audit.Same])
	brief := text{domain: t.domain}
	for _, severity := range audit.Severities() {
		for _, m := range r.Moves {
			if m.After != nil && m.Turn != audit.Same && m.After.Severity == severity {
				word := string(m.Turn) + " " + string(severity)
				if m.After.Ignored != "" {
					word = "ignored " + word
				}
				brief.finding(word, *m.After)
			}
		}
	}
	t.WriteString(brief.String())
	for _, m := range r.Moves {
		if m.After == nil {
			t.printf("%s %s %s: %s%s\n", m.Turn, m.Before.Severity, m.Before.ID, t.at(m.Before.Target), Clean(m.Before.Title))
		}
	}
}

func (t *text) evidence(f audit.Finding) {
	if len(f.Refs) > 0 {
		t.printf("    by %s; %s\n", strings.Join(f.Refs, ", "), f.Confidence)
	}
	for _, x := range f.Evidence {
		t.printf("    %s  # %s in %s ms\n", Clean(x.Again), said(x), milliseconds(x.RTT))
		if session(x) {
			for _, line := range x.Records {
				t.printf("        %s\n", Clean(line))
			}
		}
	}
}

// session: the records are the lines of a dialogue with a mail host.
func session(x audit.Exchange) bool { return x.Type == "SMTP" }

// said is what came of a question, in few words.
func said(x audit.Exchange) string {
	switch {
	case x.Error != "":
		return Clean(x.Error)
	case len(x.Records) > 0 && !session(x):
		return fmt.Sprintf("%s, %d records", x.Rcode, len(x.Records))
	}
	return x.Rcode
}

func milliseconds(ms float64) string {
	if ms < 10 {
		return strconv.FormatFloat(ms, 'f', 1, 64)
	}
	return strconv.FormatFloat(ms, 'f', 0, 64)
}

// unknown writes one line for a reason: whoever wants each id asks for more.
func (t *text) unknown(why reason) {
	if len(why.Findings) == 1 {
		t.finding("unknown", why.Findings[0])
		return
	}
	t.printf("unknown %d checks: %s (%s) [%s]\n", len(why.Findings), Clean(why.Detail), areas(why.Findings), why.Blame)
	if !t.verbose {
		return
	}
	var ids []string
	for _, f := range why.Findings {
		ids = append(ids, f.ID)
	}
	t.printf("    %s\n", strings.Join(slices.Compact(ids), " "))
	t.evidence(why.Findings[0])
}

// areas gives the areas of findings in their order, with how many there are of each.
func areas(findings []audit.Finding) string {
	var order []string
	count := map[string]int{}
	for _, f := range findings {
		area, _, _ := strings.Cut(f.ID, ".")
		if count[area] == 0 {
			order = append(order, area)
		}
		count[area]++
	}
	for i, area := range order {
		if count[area] > 1 {
			order[i] = fmt.Sprintf("%s %d", area, count[area])
		}
	}
	return strings.Join(order, ", ")
}
