package render

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"mxward/internal/audit"
)

// SARIF writes one log for all reports, by the Static Analysis Results Interchange Format 2.1.0.
// A result is what failed; what could not be determined is one of the kind "open".
func SARIF(w io.Writer, reports []Report, a Audit) error {
	run := sarifRun{Tool: sarifTool{sarifDriver{Name: "mxward", Version: a.Version, Rules: sarifRules(a.Checks)}}, Results: []sarifResult{}, ColumnKind: "unicodeCodePoints"}
	index := map[string]int{}
	for i, rule := range run.Tool.Driver.Rules {
		index[rule.ID] = i
	}
	for _, r := range reports {
		for _, f := range r.Findings {
			if result, ok := newSARIFResult(r, f); ok {
				if i, known := index[f.ID]; known {
					result.RuleIndex = &i
				}
				run.Results = append(run.Results, result)
			}
		}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}})
}

// The types have the standard's names, as far as they are used.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		Results    []sarifResult `json:"results"`
		ColumnKind string        `json:"columnKind"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID            string          `json:"id"`
		Short         sarifText       `json:"shortDescription"`
		Help          sarifHelp       `json:"help"`
		Configuration sarifConfig     `json:"defaultConfiguration"`
		Properties    sarifProperties `json:"properties"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifHelp struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown"`
	}
	sarifConfig struct {
		Level string `json:"level"`
	}
	sarifProperties struct {
		Tags []string `json:"tags"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    *int               `json:"ruleIndex,omitempty"`
		Kind         string             `json:"kind"`
		Level        string             `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
		Baseline     string             `json:"baselineState,omitempty"`
		Properties   sarifFinding       `json:"properties"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification"`
	}
	sarifFinding struct {
		Domain     string `json:"domain"`
		Target     string `json:"target"`
		Severity   string `json:"severity"`
		Confidence string `json:"confidence"`
		Blame      string `json:"blame"`
	}
)

func sarifRules(checks []audit.Check) []sarifRule {
	rules := []sarifRule{}
	for _, c := range checks {
		by := ""
		if len(c.Refs) > 0 {
			by = " By " + strings.Join(c.Refs, ", ") + "."
		}
		rules = append(rules, sarifRule{
			ID: c.ID, Short: sarifText{c.Title}, Configuration: sarifConfig{sarifLevel(c.Severity)}, Properties: sarifProperties{[]string{"dns", "mail", c.Area()}},
			Help: sarifHelp{
				Text:     fmt.Sprintf("Where it fails, %s.%s See docs/checks/%s.md.", c.Title, by, c.ID),
				Markdown: fmt.Sprintf("Where `%s` fails, %s.%s See `docs/checks/%s.md`.", c.ID, c.Title, by, c.ID),
			},
		})
	}
	return rules
}

func sarifLevel(s audit.Severity) string {
	switch s {
	case audit.Critical, audit.Error:
		return "error"
	case audit.Warning:
		return "warning"
	}
	return "note"
}

// newSARIFResult has none for what is fine, or about nothing. The domain stands for its zone as
// if that were a file: readers such as GitHub's want a place in one.
func newSARIFResult(r Report, f audit.Finding) (sarifResult, bool) {
	result := sarifResult{RuleID: f.ID, Message: sarifText{message(r, f)}}
	switch {
	case f.Status == audit.Fail && !f.Blame.Ours():
		result.Kind, result.Level = "fail", sarifLevel(f.Severity)
	case f.Status == audit.Unknown || f.Status == audit.Fail: // what fails on our own side says nothing of the domain
		result.Kind, result.Level = "open", "none"
	default:
		return sarifResult{}, false
	}
	domain, target := r.Domain.String(), clip(f.Target, maxShown)
	result.Locations = []sarifLocation{{
		Physical: sarifPhysical{sarifArtifact{domain}, sarifRegion{1}},
		Logical:  []sarifLogical{{target, "resource"}},
	}}
	result.Fingerprints = map[string]string{"mxward/1": domain + "/" + f.ID + "/" + target}
	if f.Ignored != "" {
		result.Suppressions = []sarifSuppression{{"external", clip(f.Ignored, maxShown)}}
	}
	result.Baseline = map[audit.Turn]string{audit.New: "new", audit.Same: "unchanged", audit.Changed: "updated"}[f.Turn]
	result.Properties = sarifFinding{domain, target, string(f.Severity), string(f.Confidence), string(f.Blame)}
	return result, true
}
