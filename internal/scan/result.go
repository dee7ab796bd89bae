package scan

import (
	"encoding/json"
	"io"
	"slices"
	"strings"

	"mxward/internal/audit"
)

// Schema is that of mxward check, to whose documents a line adds fields.
const Schema = "mxward.check/1"

// maxInput is how much of a line is shown; ours.
const maxInput = 200

// Status is what became of a line.
type Status string

// What becomes of a line.
const (
	Checked   Status = "checked"
	Invalid   Status = "invalid"   // it is no domain
	Duplicate Status = "duplicate" // the domain stood in a line before
	Failed    Status = "failed"    // by a fault of ours
)

// Result is one line of the output. Its fields are only ever added to.
type Result struct {
	Schema    string               `json:"schema"`
	Line      int                  `json:"line"`
	Input     string               `json:"input"`
	Status    Status               `json:"status"`
	Domain    string               `json:"domain"` // "" where the line is none
	Error     string               `json:"error"`
	First     int                  `json:"first_line"` // of a duplicate
	Provider  string               `json:"provider"`
	Questions int                  `json:"questions"`
	Again     bool                 `json:"asked_again"`
	Ours      bool                 `json:"ours"`   // it was the resolver or the network here that failed
	Counts    map[audit.Status]int `json:"counts"` // of all findings, also of those that are left out
	Findings  []audit.Finding      `json:"findings"`
}

// Write writes the line. Unless full, only what fails or is unknown is in it.
func (r Result) Write(w io.Writer, full bool) error {
	r.Schema, r.Input, r.Error = Schema, clip(r.Input), clip(r.Error)
	r.Ours = audit.Ours(r.Findings)
	if r.Counts == nil {
		r.Counts = count(r.Findings)
	}
	fine := func(f audit.Finding) bool { return f.Status != audit.Fail && f.Status != audit.Unknown }
	if !full && slices.ContainsFunc(r.Findings, fine) {
		r.Findings = slices.DeleteFunc(slices.Clone(r.Findings), fine)
	}
	if r.Findings == nil {
		r.Findings = []audit.Finding{} // [] in JSON
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

func count(findings []audit.Finding) map[audit.Status]int {
	counts := map[audit.Status]int{audit.Pass: 0, audit.Fail: 0, audit.Unknown: 0, audit.Skipped: 0, audit.NotApplicable: 0}
	for _, f := range findings {
		counts[f.Status]++
	}
	return counts
}

func clip(s string) string {
	if len(s) > maxInput {
		s = s[:maxInput] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// brief is a result as it is counted, and as it is read again from a journal.
type brief struct {
	Schema    string `json:"schema"`
	Line      int    `json:"line"`
	Status    Status `json:"status"`
	Provider  string `json:"provider"`
	Questions int    `json:"questions"`
	Again     bool   `json:"asked_again"`
	Ours      bool   `json:"ours"`
	Findings  []said `json:"findings"`
}

type said struct {
	ID       string         `json:"id"`
	Status   audit.Status   `json:"status"`
	Severity audit.Severity `json:"severity"`
	Blame    audit.Blame    `json:"blame"`
}

func (r Result) brief() brief {
	b := brief{Line: r.Line, Status: r.Status, Provider: r.Provider, Questions: r.Questions, Again: r.Again, Ours: audit.Ours(r.Findings)}
	for _, f := range r.Findings {
		if f.Status == audit.Fail || f.Status == audit.Unknown {
			b.Findings = append(b.Findings, said{f.ID, f.Status, f.Severity, f.Blame})
		}
	}
	return b
}
