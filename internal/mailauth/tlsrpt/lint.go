package tlsrpt

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"mxward/internal/mail"
	"mxward/internal/mailauth/lint"
)

// almost is how texts begin that were meant to be records.
var almost = regexp.MustCompile(`(?is)^[\s"'“”]*(?:v\s*[=:]?\s*)?tls-?rpt\s*v?\s*1?`)

// typed puts right what keyboards and word processors do.
var typed = strings.NewReplacer("“", "", "”", "", `"`, "", "‘", "", "’", "", "\r", "", "\n", "", "\u00a0", " ", "，", ",", "；", ";")

// LintTexts looks at all TXT records of _smtp._tls: is one of them a record, and one only?
// Then as Lint.
func LintTexts(texts []string) []lint.Finding {
	var records []string
	for _, t := range texts {
		if IsRecord(t) || almost.MatchString(t) {
			records = append(records, t)
		}
	}
	if len(records) == 0 {
		return []lint.Finding{{ID: "tlsrpt.missing", Severity: lint.Notice, Text: "nobody is asked for TLS reports",
			Fix: `publish "v=TLSRPTv1; rua=mailto:…" at _smtp._tls below the domain`}}
	}
	var all []lint.Finding
	if n := len(Select(texts)); n > 1 {
		all = append(all, lint.Finding{ID: "tlsrpt.multiple", Severity: lint.Error,
			Text: fmt.Sprintf("there are %d records, and senders then use none (RFC 8460 §3)", n), Fix: "put all URIs into one"})
	}
	for _, t := range records {
		all = append(all, Lint(t)...)
	}
	return all
}

// Lint looks at the text of one record, as a person may have typed it. It asks no DNS.
func Lint(text string) []lint.Finding {
	r, err := Parse(text)
	if err != nil {
		f := lint.Finding{ID: "tlsrpt.syntax", Severity: lint.Error, Found: clip(text), Text: err.Error()}
		if mended := Mend(text); mended != "" {
			f.Fix = fmt.Sprintf("write %q", mended)
		} else if errors.Is(err, ErrNoRecord) {
			f.Fix = `write "v=TLSRPTv1; rua=mailto:…"`
		}
		return []lint.Finding{f}
	}
	var all []lint.Finding
	usable := 0
	for _, uri := range r.RUA {
		_, _, err := destination(uri)
		if err == nil {
			usable++
			continue
		}
		f := lint.Finding{ID: "tlsrpt.rua-invalid", Severity: lint.Warning, Found: clip(uri), Text: "senders pass it over: " + err.Error()}
		if right := mendURI(uri); right != uri {
			f.Fix = "write " + right
		} else if strings.Contains(uri, "!") {
			f.Fix = "drop the exclamation mark and what stands behind it: there are no size limits as in old DMARC records"
		}
		all = append(all, f)
	}
	if usable == 0 {
		for i := range all {
			all[i].Severity = lint.Error
		}
	}
	for _, e := range r.Extensions {
		all = append(all, lint.Finding{ID: "tlsrpt.syntax", Severity: lint.Notice, Found: e.Name, Text: "senders know no such field and ignore it"})
	}
	return all
}

// Mend gives the record that a person may have meant by a text with mistakes, "" where
// nobody can tell.
func Mend(text string) string {
	text = strings.ReplaceAll(text, `" "`, "")
	text = strings.TrimSpace(typed.Replace(text))
	if len(text) > maxRecord || !almost.MatchString(text) {
		return ""
	}
	rest := strings.TrimLeft(text[len(almost.FindString(text)):], " \t;,:")
	var r Record
	for field := range strings.SplitSeq(rest, ";") {
		name, value, ok := strings.Cut(strings.TrimSpace(field), "=")
		switch name = strings.TrimSpace(name); {
		case field == "":
		case ok && strings.EqualFold(name, "rua"):
			for _, uri := range strings.FieldsFunc(value, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' }) {
				r.RUA = append(r.RUA, mendURI(uri))
			}
		case ok && strings.TrimSpace(name) != "":
			r.Extensions = append(r.Extensions, Extension{name, strings.TrimSpace(value)})
		}
	}
	if _, err := Parse(r.String()); err != nil {
		return ""
	}
	return r.String()
}

// mendURI puts the scheme where it was forgotten.
func mendURI(uri string) string {
	rest := strings.TrimPrefix(strings.TrimPrefix(uri, "mailto:"), "//")
	switch {
	case strings.HasPrefix(strings.ToLower(uri), "http://"):
		return "https://" + uri[len("http://"):]
	case strings.HasPrefix(uri, "https:") || strings.ContainsAny(rest, ":"):
		return uri
	}
	if _, err := mail.ParseAddress(rest); err == nil {
		return "mailto:" + rest
	}
	return uri
}
