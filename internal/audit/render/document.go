package render

import (
	"encoding/json"
	"io"

	"mxward/internal/audit"
	"mxward/internal/dns"
)

// Schema names the document of JSON; within a number, fields are only ever added.
const Schema = "mxward.check/1"

// Document is what is found out about one domain, for programs.
type Document struct {
	Schema   string          `json:"schema"`
	Domain   dns.Name        `json:"domain"`
	Findings []audit.Finding `json:"findings"`
	Profile  string          `json:"profile"`
	Gone     []Gone          `json:"gone"` // with --since
}

// Gone is a problem of an earlier run that is not among the findings any more; fields are only
// ever added.
type Gone struct {
	ID       string         `json:"id"`
	Target   string         `json:"target"`
	Change   audit.Turn     `json:"change"` // gone or unsure
	Severity audit.Severity `json:"severity"`
	Title    string         `json:"title"`
	Detail   string         `json:"detail"`
}

func newGone(moves []audit.Move) []Gone {
	out := []Gone{}
	for _, m := range moves {
		if m.After == nil {
			was := m.Before
			out = append(out, Gone{was.ID, was.Target, m.Turn, was.Severity, was.Title, was.Detail})
		}
	}
	return out
}

// JSON writes one document, on one line where it is one of several.
func JSON(w io.Writer, r Report, oneLine bool) error {
	doc := Document{Schema: Schema, Domain: r.Domain, Profile: r.Profile, Findings: r.Findings, Gone: newGone(r.Moves)}
	if doc.Findings == nil {
		doc.Findings = []audit.Finding{}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if !oneLine {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(doc)
}
