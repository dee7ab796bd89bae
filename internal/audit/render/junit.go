package render

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"mxward/internal/audit"
)

// JUnit writes one document for all reports, as JUnit's readers take it: a suite for each domain,
// a test case for each id. What is as bad as FailOn is a failure, what could not be determined
// and might be is an error, what was not looked at is skipped; what is milder stands in the case's
// output.
func JUnit(w io.Writer, reports []Report, a Audit) error {
	doc := junitSuites{Name: "mxward check"}
	for _, r := range reports {
		s := newJUnitSuite(r, a)
		doc.Suites = append(doc.Suites, s)
		doc.Tests += s.Tests
		doc.Failures += s.Failures
		doc.Errors += s.Errors
		doc.Skipped += s.Skipped
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Timestamp string      `xml:"timestamp,attr"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Failure *junitOutcome `xml:"failure"`
		Error   *junitOutcome `xml:"error"`
		Skipped *junitOutcome `xml:"skipped"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitOutcome struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

func newJUnitSuite(r Report, a Audit) junitSuite {
	s := junitSuite{Name: r.Domain.String(), Timestamp: r.When.UTC().Format(time.RFC3339)}
	for rest := r.Findings; len(rest) > 0; { // which are in the order of id
		n := slices.IndexFunc(rest, func(f audit.Finding) bool { return f.ID != rest[0].ID })
		if n < 0 {
			n = len(rest)
		}
		c := newJUnitCase(r, rest[:n], a)
		s.Cases = append(s.Cases, c)
		s.Tests++
		s.Failures += count(c.Failure)
		s.Errors += count(c.Error)
		s.Skipped += count(c.Skipped)
		rest = rest[n:]
	}
	return s
}

func count(o *junitOutcome) int {
	if o == nil {
		return 0
	}
	return 1
}

// newJUnitCase takes the findings of one id. The worst of them is the case's outcome.
func newJUnitCase(r Report, same []audit.Finding, a Audit) junitCase {
	c := junitCase{Class: r.Domain.String(), Name: same[0].ID}
	var bad, open, mild, quiet []audit.Finding
	for _, f := range same {
		switch {
		case f.Ignored != "": // the baseline says why
			f.Detail, f.Status = f.Ignored, "ignored"
			quiet = append(quiet, f)
		case audit.Failed([]audit.Finding{f}, a.FailOn):
			bad = append(bad, f)
		case audit.Inconclusive([]audit.Finding{f}, a.Checks, a.FailOn): // unknown, or our own trouble
			open = append(open, f)
		case f.Status == audit.Fail:
			mild = append(mild, f)
		case f.Status != audit.Pass:
			quiet = append(quiet, f)
		}
	}
	switch {
	case len(bad) > 0:
		c.Failure = newJUnitOutcome(r, bad, string(bad[0].Severity))
	case len(open) > 0:
		c.Error = newJUnitOutcome(r, open, string(open[0].Blame))
	case len(mild) == 0 && len(quiet) == len(same):
		c.Skipped = &junitOutcome{Message: clip(fmt.Sprintf("%s: %s", quiet[0].Status, quiet[0].Detail), maxShown)}
	}
	c.Output = junitText(r, mild)
	return c
}

func newJUnitOutcome(r Report, findings []audit.Finding, kind string) *junitOutcome {
	first, _, _ := strings.Cut(message(r, findings[0]), "\n")
	if more := len(findings) - 1; more > 0 {
		first += fmt.Sprintf(" (and %d more)", more)
	}
	return &junitOutcome{Message: first, Type: kind, Text: junitText(r, findings)}
}

// junitText gives a paragraph for each finding, with the commands that ask again.
func junitText(r Report, findings []audit.Finding) string {
	var paragraphs []string
	for _, f := range findings {
		text := strings.Trim(string(f.Severity)+" "+message(r, f), " ") + " [" + string(f.Blame) + "]"
		for _, x := range f.Evidence[:min(maxExchanges, len(f.Evidence))] {
			text += "\n" + clip(x.Again, maxShown) + "  # " + clip(said(x), maxShown)
		}
		paragraphs = append(paragraphs, text)
	}
	return strings.Join(paragraphs, "\n\n")
}
