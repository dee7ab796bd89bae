package dmarc

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/mailauth/lint"
)

// maxFindings is the number of mistakes in one record that are worth telling.
const maxFindings = 100

// LintTexts looks at all TXT records at _dmarc.DOMAIN: is one of them a DMARC record, and one
// only? Then as Lint.
func LintTexts(texts []string) []lint.Finding {
	var records, near []string
	for _, text := range texts {
		switch {
		case IsRecord(text):
			records = append(records, text)
		case meant(text):
			near = append(near, text)
		}
	}
	if len(records) == 0 && len(near) == 0 {
		return []lint.Finding{{ID: "dmarc.missing", Severity: lint.Warning, Text: "there is no DMARC record", Fix: `publish one at _dmarc below the domain, to begin with "v=DMARC1; p=none; rua=mailto:..."`}}
	}
	var all []lint.Finding
	if len(records) > 1 {
		all = append(all, lint.Finding{ID: "dmarc.multiple-records", Severity: lint.Error, Text: fmt.Sprintf("there are %d DMARC records, and receivers then use none of them (RFC 9989 §4.10)", len(records)), Fix: "keep one"})
	}
	for _, text := range append(records, near...) {
		all = append(all, Lint(text)...)
	}
	return all
}

// Lint looks at the text of one record, as a person may have typed it, and gives what is
// wrong with it in the order of the text. It asks no DNS.
func Lint(text string) []lint.Finding {
	r, tags, err := read(text)
	if errors.Is(err, ErrNotDMARC) {
		return []lint.Finding{lintVersion(text)}
	}
	var all []lint.Finding
	for i := range tags[1:] {
		if len(all) < maxFindings {
			all = append(all, lintTag(tags[1+i])...)
		}
	}
	all = append(all, lintPolicy(r, tags, err)...)
	all = append(all, lintReports(r, tags)...)
	worst := slices.IndexFunc(all, func(f lint.Finding) bool { return f.Severity == lint.Error })
	if mended, ok := Mend(text); ok && worst >= 0 && mended != r.String() {
		all[worst].Fix = fmt.Sprintf("write %q", mended)
	}
	return all
}

// lintVersion says why a text is no DMARC record, if it was meant to be one.
func lintVersion(text string) lint.Finding {
	f := lint.Finding{ID: "dmarc.missing", Severity: lint.Warning, Text: "this is no DMARC record", Fix: `it begins with "v=DMARC1;"`}
	if !meant(text) {
		return f
	}
	f = lint.Finding{ID: "dmarc.version-first", Severity: lint.Error, Found: clip(text), Text: `a record begins with "v=DMARC1;", written so and with nothing before it (RFC 9989 §4.7); this is none, so the domain has no policy`, Fix: `begin with "v=DMARC1;"`}
	if mended, ok := Mend(text); ok {
		f.Fix = fmt.Sprintf("write %q", mended)
	}
	return f
}

// removed are the tags of RFC 7489 that RFC 9989 has taken away.
func removed(name string) bool { return name == "pct" || name == "rf" || name == "ri" }

// known are the tags of RFC 9989 §4.7 but for v.
func isKnown(name string) bool {
	return slices.Contains([]string{"p", "sp", "np", "psd", "t", "adkim", "aspf", "fo", "rua", "ruf"}, name)
}

// lintTag looks at one tag.
func lintTag(t tag) []lint.Finding {
	f := lint.Finding{Pos: t.pos, Found: clip(t.text)}
	with := func(id string, s lint.Severity, text, fix string) []lint.Finding {
		f.ID, f.Severity, f.Text, f.Fix = "dmarc."+id, s, text, fix
		return []lint.Finding{f}
	}
	switch {
	case t.twice:
		return with("syntax", lint.Error, t.fault, "keep one of them")
	case isDestination(t.text):
		return with("rua-invalid", lint.Error, "several destinations stand in one list, with commas between", "write a comma in place of the semicolon, and mailto: before each address")
	case t.fault != "" && isPolicyTag(t.name):
		id := "sp-invalid"
		if t.name == "p" {
			id = "p-invalid"
		}
		return with(id, lint.Error, t.fault+"; with this, receivers act as with p=none, or not at all (RFC 9989 §4.10.1)", "")
	case t.fault != "" && (t.name == "rua" || t.name == "ruf"):
		return with("rua-invalid", lint.Error, t.fault, "write mailto: before each address, and commas between them")
	case t.fault != "" && isKnown(t.name):
		return with("syntax", lint.Warning, t.fault+"; receivers take the default", "")
	case t.fault != "":
		return with("syntax", lint.Error, t.fault+"; receivers ignore it", "write NAME=VALUE, with semicolons between")
	case t.name == "pct" && t.value != "100":
		return with("pct-ignored", lint.Warning, "this tag is gone (RFC 9989 §A.6), and receivers apply the policy to all mail", "drop it; t=y asks for a policy one level lower")
	case removed(t.name):
		return with("obsolete-tag", lint.Notice, "this tag is gone (RFC 9989 §A.6), and receivers ignore it", "drop it")
	case !isKnown(t.name):
		return with("unknown-tag", lint.Notice, "receivers know no such tag and ignore it", "")
	case t.name == "rua" || t.name == "ruf":
		return lintURIs(t)
	}
	return nil
}

// lintURIs looks at a list that can be read.
func lintURIs(t tag) []lint.Finding {
	var all []lint.Finding
	for text := range strings.SplitSeq(t.value, ",") {
		text = strings.Trim(text, wsp)
		u, sized, _ := parseURI(text)
		if sized {
			all = append(all, lint.Finding{ID: "dmarc.obsolete-tag", Severity: lint.Notice, Pos: t.pos, Found: clip(text), Text: "the size behind ! is gone, and receivers ignore it (RFC 9989 §4.8)", Fix: "drop it"})
		}
		if !strings.HasPrefix(string(u), mailto) {
			all = append(all, lint.Finding{ID: "dmarc.rua-invalid", Severity: lint.Notice, Pos: t.pos, Found: clip(text), Text: "receivers need to know mailto only, and ignore what they do not know", Fix: "add a mailto: destination"})
		}
	}
	return all[:min(len(all), maxFindings)]
}

// lintPolicy looks at the policies together. A finding is about the first tag of a name.
func lintPolicy(r Record, tags []tag, err error) []lint.Finding {
	var all []lint.Finding
	add := func(id string, s lint.Severity, name, text, fix string) {
		f := lint.Finding{ID: "dmarc." + id, Severity: s, Text: text, Fix: fix}
		if at := find(tags, name); at >= 0 {
			f.Pos, f.Found = tags[at].pos, clip(tags[at].text)
		}
		all = append(all, f)
	}
	p := find(tags, "p")
	switch {
	case p < 0 && err != nil:
		add("p-missing", lint.Error, "", "there is no p, and nobody for reports either: receivers ignore the record (RFC 9989 §4.10.1)", "write p=none, p=quarantine or p=reject")
	case p < 0:
		add("p-missing", lint.Warning, "", "there is no p: receivers act as with p=none (RFC 9989 §4.10.1)", "write p=none, p=quarantine or p=reject")
	case p != 1:
		add("syntax", lint.Notice, "p", "receivers that go by RFC 7489 want p right behind v=DMARC1", "move it there")
	}
	if slices.ContainsFunc(tags, func(t tag) bool { return isPolicyTag(t.name) && t.fault != "" }) || p < 0 {
		return all
	}
	sub := r.SP
	if sub == "" {
		sub = r.P
	}
	switch {
	case r.P == None:
		add("weak-none", lint.Notice, "p", "the policy asks for nothing: good for a start, to see reports", "go on to quarantine and then to reject")
	case r.Testing:
		add("testing", lint.Notice, "t", "the policy is applied one level lower", "drop it in the end")
	}
	if r.SP != "" && r.SP.strength() < r.P.strength() {
		add("sp-weaker", lint.Warning, "sp", "subdomains are protected less than the domain", "use a subdomain's own record for the exception")
	}
	if r.NP != "" && r.NP.strength() < sub.strength() {
		add("np-weaker", lint.Warning, "np", "names that do not exist are protected less than those that do", "write np=reject: no mail can come from there")
	}
	return all
}

// lintReports looks at who gets reports.
func lintReports(r Record, tags []tag) []lint.Finding {
	var all []lint.Finding
	if find(tags, "rua") < 0 {
		all = append(all, lint.Finding{ID: "dmarc.rua-missing", Severity: lint.Warning, Text: "nobody gets aggregate reports, so that nobody sees what fails", Fix: "write rua=mailto: and an address"})
	}
	if fo := find(tags, "fo"); fo >= 0 && len(r.RUF) == 0 {
		all = append(all, lint.Finding{ID: "dmarc.fo-without-ruf", Severity: lint.Notice, Pos: tags[fo].pos, Found: clip(tags[fo].text), Text: "fo says nothing where there is no ruf (RFC 9989 §4.7)", Fix: "drop it"})
	}
	return all
}

// find gives the first tag of a name, or -1.
func find(tags []tag, name string) int {
	return slices.IndexFunc(tags, func(t tag) bool { return t.name == name && name != "" })
}

// typed gives what people meant by what they typed.
func typed(text string) string { return plainTyped.Replace(text) }

const maxMended = 4096 // ours: octets of a text that Mend and Lint try to understand

var (
	// plainTyped says what people write where they mean something else.
	plainTyped = strings.NewReplacer(
		"“", "", "”", "", "„", "", "‟", "", "«", "", "»", "", "‘", "", "’", "", "‚", "", `"`, "", "'", "",
		"‐", "-", "‑", "-", "‒", "-", "–", "-", "—", "-", "−", "-", "；", ";", "＝", "=", "：", ":", "，", ",",
		"\u00a0", " ", "\u202f", " ", "\t", " ", "\r", " ", "\n", " ", `\;`, ";", "&nbsp;", " ",
		"\u200b", "", "\u200c", "", "\u200d", "", "\u200e", "", "\u200f", "", "\u2060", "", "\ufeff", "",
	)
	// almost is how texts begin that were meant to be DMARC records, lines of a zone file too.
	almost = regexp.MustCompile(`(?is)^(?:[^=]{0,300}\sTXT\s)?[\s(]*(?:v(?:ersion)?\s*[=:]?\s*dmarc\s*[-=:]?\s*1?|dmarc\s*[-=:]?\s*1)(?:\.0)?\s*[;,:.]*\s*`)
	// later is a version that stands behind other tags.
	later = regexp.MustCompile(`(?is)[;,\s]v\s*[=:]\s*dmarc1\s*(?:[;,]|$)`)
	// tagStart is where a tag begins that has no semicolon before it.
	tagStart = regexp.MustCompile(`(?i)[,\s]\s*((?:p|sp|np|psd|t|adkim|aspf|fo|rua|ruf|pct|rf|ri)\s*[=:])`)
)

// meant reports whether a text that is no DMARC record was meant to be one.
func meant(text string) bool {
	if len(text) > maxMended {
		return false
	}
	text = typed(text)
	return almost.MatchString(text) || later.MatchString(" "+text)
}

// Mend gives the record that a person may have meant by a text with mistakes: quotation
// marks and line breaks gone, semicolons, equals signs and mailto: put in, names and
// policies spelt right, removed tags dropped. It is false where a tag cannot be guessed.
// What it gives can be parsed; whether it is what was meant, only its writer knows.
func Mend(text string) (string, bool) {
	if len(text) > maxMended || !IsRecord(text) && !meant(text) {
		return "", false
	}
	text = strings.ReplaceAll(text, `" "`, "") // the strings of a zone file are joined
	text = strings.TrimSpace(strings.TrimRight(strings.TrimSpace(typed(text)), ")"))
	text = strings.TrimPrefix(text, almost.FindString(text))
	text = tagStart.ReplaceAllString(later.ReplaceAllString(" "+text, ";"), ";$1")
	r := Record{}
	last := ""
	for part := range strings.SplitSeq(text, ";") {
		part = strings.Trim(part, " ,.")
		if part == "" {
			continue
		}
		if name := r.mend(part, last); name == "" {
			return "", false
		} else {
			last = name
		}
	}
	if r.P == "" {
		if r.SP != "" || r.NP != "" || len(r.RUA) == 0 {
			return "", false
		}
		r.P = None
	}
	mended := r.String()
	_, err := Parse(mended)
	return mended, err == nil
}

// misnamed are names that are no tag's, and what they stand for.
func misnamed(name string) string {
	switch name {
	case "policy", "p_", "polic":
		return "p"
	case "rau", "aru", "ura", "report", "reports":
		return "rua"
	case "rfu", "fru":
		return "ruf"
	case "dkim", "akdim":
		return "adkim"
	case "spf", "asfp":
		return "aspf"
	case "subdomain", "subpolicy":
		return "sp"
	}
	return name
}

// mend takes one part of a text for the tag that it may be, and gives the tag's name; "" if
// none comes to mind.
func (r *Record) mend(part, last string) string {
	if isDestination(part) && (last == "rua" || last == "ruf") {
		part = last + "=" + part
	}
	at := strings.IndexAny(part, "=: ")
	if at < 0 {
		return ""
	}
	name := misnamed(strings.ToLower(strings.TrimSpace(part[:at])))
	value := strings.Trim(part[at:], "=: ")
	if removed(name) {
		return name
	}
	if !isKnown(name) {
		return ""
	}
	value = strings.ReplaceAll(value, " ", "")
	switch name {
	case "p", "sp", "np":
		value = spelt(strings.ToLower(value))
	case "rua", "ruf":
		value = addressed(value)
	case "fo":
		value = strings.ReplaceAll(value, ",", ":")
	case "adkim", "aspf", "t", "psd":
		value = value[:min(len(value), 1)] // "strict", "yes"
	}
	if r.set(name, value) != "" {
		return ""
	}
	return name
}

// isDestination reports whether a part of a record is one more address for reports, behind
// a semicolon by mistake.
func isDestination(part string) bool {
	return strings.HasPrefix(strings.ToLower(part), mailto) || strings.Contains(part, "@") && !strings.Contains(part, "=")
}

// spelt gives the policy that a word may be meant for.
func spelt(word string) string {
	for begin, p := range map[string]Policy{"no": None, "mon": None, "qu": Quarantine, "rej": Reject, "regec": Reject, "rjec": Reject, "rec": Reject} {
		if strings.HasPrefix(word, begin) {
			return string(p)
		}
	}
	return word
}

// addressed gives a list of URIs for one of addresses.
func addressed(list string) string {
	uris := strings.FieldsFunc(list, func(c rune) bool { return c == ',' })
	for i, u := range uris {
		if at := strings.LastIndexAny(u[:max(0, strings.IndexByte(u, '@'))], ":=/"); at >= 0 {
			u = u[at+1:]
		}
		if strings.Contains(u, "@") {
			u = mailto + strings.Trim(u, "<>[]")
		}
		uris[i] = u
	}
	return strings.Join(uris, ",")
}

// lintPlace says that a record stands where nobody looks for it.
func lintPlace(at, right dns.Name, text string) lint.Finding {
	return lint.Finding{
		ID: "dmarc.misplaced", Severity: lint.Error, Domain: at.String(), Found: clip(text),
		Text: "a DMARC record stands here, where no receiver looks for it", Fix: "publish it at " + right.String(),
	}
}
