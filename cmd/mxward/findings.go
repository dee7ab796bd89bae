package main

import (
	"fmt"
	"io"

	"mxward/internal/mailauth/lint"
)

// broken reports whether one of the findings is an error.
func broken(findings []lint.Finding) bool {
	for _, f := range findings {
		if f.Severity == lint.Error {
			return true
		}
	}
	return false
}

func printFindings(w io.Writer, findings []lint.Finding) {
	for _, f := range findings {
		fmt.Fprintln(w, f)
	}
}

// findingJSON is a finding as every document has it; fields are only ever added.
type findingJSON struct {
	ID       string `json:"id"`
	Severity string `json:"severity"`
	Domain   string `json:"domain"`
	Position int    `json:"position"`
	Found    string `json:"found"`
	Text     string `json:"text"`
	Fix      string `json:"fix"`
}

func findingsJSON(findings []lint.Finding) []findingJSON {
	out := make([]findingJSON, len(findings))
	for i, f := range findings {
		out[i] = findingJSON{f.ID, string(f.Severity), f.Domain, f.Pos, f.Found, f.Text, f.Fix}
	}
	return out
}
