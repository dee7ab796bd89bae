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
}

// JSON writes one document, on one line where it is one of several.
func JSON(w io.Writer, r Report, oneLine bool) error {
	doc := Document{Schema: Schema, Domain: r.Domain, Findings: r.Findings}
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
