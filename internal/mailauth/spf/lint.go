package spf

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"mxward/internal/mailauth/lint"
)

// The sizes of a record's text, in octets, and the networks that somebody should explain.
const (
	sizeAdvised = 450 // RFC 7208 §3.4: then the answer fits 512 octets
	sizeUDP     = 512 // RFC 1035 §4.2.1: without EDNS the answer is cut
	widestIPv4  = 16  // ours: prefix lengths
	widestIPv6  = 32  // ours
	manyLookups = 8   // ours: of the ten

	maxCompared = 256  // ours: terms before one that are searched for its like
	maxFaults   = 100  // ours: mistakes that are worth telling
	maxMended   = 4096 // ours: octets of a text that Mend tries
)

// almost is how texts begin that were meant to be SPF records, lines of a zone file too.
var almost = regexp.MustCompile(`(?is)^(?:[^"]{0,300}\sTXT\s)?[\s"']*(?:v\s*[=:]?\s*)?spf\s*[-=:]?\s*1(?:\.0)?[\s;,:."']*`)

// LintTexts looks at all TXT records of a domain: is one of them an SPF record, and one only?
// Then as Lint.
func LintTexts(texts []string) []lint.Finding {
	var records, near []string
	for _, text := range texts {
		if IsRecord(text) {
			records = append(records, text)
		} else if almost.MatchString(typed.Replace(text)) {
			near = append(near, text)
		}
	}
	switch {
	case len(records) == 0 && len(near) == 0:
		return []lint.Finding{{ID: "spf.missing", Severity: lint.Warning, Text: "there is no SPF record", Fix: `a domain that sends no mail publishes "v=spf1 -all"`}}
	case len(records) == 0:
		records = near
		near = nil
	}
	var all []lint.Finding
	if len(records) > 1 {
		f := lint.Finding{ID: "spf.multiple", Severity: lint.Error, Text: fmt.Sprintf("there are %d SPF records, and receivers then use none (RFC 7208 §4.5)", len(records))}
		if merged, ok := Mend(strings.Join(records, " ")); ok {
			f.Fix = fmt.Sprintf("put all terms into one: %q", merged)
		}
		all = append(all, f)
	}
	for _, text := range append(records, near...) {
		all = append(all, Lint(text)...)
	}
	return all
}

// Lint looks at the text of one record, as a person may have typed it, and gives what is
// wrong with it in the order of the text. It asks no DNS.
func Lint(text string) []lint.Finding {
	if !IsRecord(text) {
		return []lint.Finding{lintVersion(text)}
	}
	var all []lint.Finding
	if !strings.HasPrefix(text, "v=spf1") {
		all = append(all, lint.Finding{ID: "spf.syntax", Severity: lint.Info, Found: text[:6], Text: "this is right in any case, and usually written v=spf1"})
	}
	record, faults := parse(text, maxFaults)
	for _, e := range faults {
		f := lint.Finding{ID: "spf.syntax", Severity: lint.Error, Pos: e.Pos, Found: e.Found, Text: e.Fault}
		if e.Write != "" {
			f.Fix = "write " + e.Write
		}
		all = append(all, f)
	}
	end := record.all()
	for i := range record.Terms {
		all = append(all, lintTerm(record, i, end)...)
	}
	slices.SortStableFunc(all, func(a, b lint.Finding) int { return a.Pos - b.Pos })
	if len(faults) == 0 {
		all = append(all, lintWhole(record)...)
	}
	return append(all, lintSize(text)...)
}

// lintVersion says why a text is no SPF record, if it was meant to be one.
func lintVersion(text string) lint.Finding {
	f := lint.Finding{ID: "spf.missing", Severity: lint.Warning, Text: "this is no SPF record", Fix: `it begins with "v=spf1" and a space`}
	begin := almost.FindString(typed.Replace(text))
	if begin == "" {
		return f
	}
	f = lint.Finding{ID: "spf.syntax", Severity: lint.Error, Found: clip(text), Text: `a record begins with "v=spf1" and a space, with nothing before or between; this is none, so the domain has no policy`}
	if mended, ok := Mend(text); ok {
		f.Fix = fmt.Sprintf("write %q", mended)
	}
	return f
}

// Mend gives the record that a person may have meant by a text with mistakes: quotation
// marks, wrong dashes and line breaks gone, names and delimiters put right, several records
// made one, all at the end. It is false where a term cannot be guessed. What it gives can
// be parsed; whether it is what was meant, only its writer knows.
func Mend(text string) (string, bool) {
	if len(text) > maxMended {
		return "", false
	}
	text = strings.ReplaceAll(text, `" "`, "") // the strings of a zone file are joined
	text = strings.TrimSpace(typed.Replace(text))
	begin := almost.FindString(text)
	if begin == "" {
		return "", false
	}
	var terms, last []Term
	words := strings.Fields(text[len(begin):])
	for i := 0; i < len(words); i++ {
		word := words[i]
		if strings.EqualFold(strings.TrimRight(word, ";,."), "v=spf1") {
			continue
		}
		meant := meantBy(word)
		if meant == "" && unfinished(word) && i+1 < len(words) {
			i++
			meant = meantBy(word + words[i])
		}
		if meant == "" {
			return "", false
		}
		r, faults := parse("v=spf1 "+meant, 1)
		if len(faults) > 0 {
			return "", false
		}
		for _, t := range r.Terms {
			switch {
			case t.Name == nameAll && !t.Modifier:
				last = []Term{t}
			case !slices.ContainsFunc(terms, t.same):
				terms = append(terms, t)
			}
		}
	}
	mended, err := Parse(Record{append(terms, last...)}.String())
	if err != nil {
		return "", false
	}
	return mended.String(), true
}

// meantBy gives the terms that a word is or may have been meant to be; "" if none.
func meantBy(word string) string {
	if !reads(word) {
		return guess(word)
	}
	t, _ := parseTerm(word)
	if right := misused(t); right != "" {
		return right
	}
	return word
}

// misused gives what was meant by a term that can be read and does nothing of what its
// writer wants: ip4=192.0.2.1 is an unknown modifier, include:user@example.com names a host
// with an @ in it, a:https://example.com one with slashes. It is "" for any other.
func misused(t Term) string {
	meant := ""
	switch t.Name = strings.ToLower(t.Name); {
	case t.Modifier && t.Name != nameRedirect && t.Name != nameExp:
		for _, k := range known {
			if k.name == t.Name && k.delimiter == ":" {
				meant = family(t.Name + ":" + string(t.Domain))
			}
		}
	case !t.Modifier && t.Domain.Plain() && strings.Contains(string(t.Domain), "@"):
		_, domain, _ := strings.Cut(string(t.Domain), "@")
		t.Domain = Macro(domain)
		meant = t.String()
	case !t.Modifier && t.Domain.Plain() && strings.Contains(string(t.Domain), "://"):
		_, host, _ := strings.Cut(string(t.Domain), "://")
		host, _, _ = strings.Cut(host, "/")
		t.Domain = Macro(host)
		meant = t.String()
	}
	if !reads(meant) {
		return ""
	}
	return meant
}

// lintTerm looks at term i among the others; end is where the first all stands, or -1.
func lintTerm(r Record, i, end int) []lint.Finding {
	t := r.Terms[i]
	var all []lint.Finding
	add := func(id string, s lint.Severity, text, fix string) {
		all = append(all, lint.Finding{ID: id, Severity: s, Pos: t.Pos, Found: clip(t.String()), Text: text, Fix: fix})
	}
	switch {
	case t.Modifier && t.Name == nameRedirect && end >= 0:
		add("spf.redirect-ignored", lint.Notice, "redirect does nothing where there is an all (RFC 7208 §6.1)", "drop one of the two")
	case t.Modifier && strings.EqualFold(t.Name, "v"):
		add("spf.multiple", lint.Error, "a second record begins within the first", "put all terms into one, with one all at its end")
	case misused(t) != "":
		add("spf.syntax", lint.Warning, "this can be read, and does not do what it seems to", "write "+misused(t))
	case t.Modifier && t.Name != nameRedirect && t.Name != nameExp:
		add("spf.syntax", lint.Notice, "receivers know no such modifier and ignore it", "")
	case !t.Modifier && end >= 0 && i > end:
		add("spf.after-all", lint.Warning, "nothing behind all is ever looked at (RFC 7208 §5.1)", fmt.Sprintf("put %s at the end", r.Terms[end]))
	}
	if t.Modifier {
		return all
	}
	switch t.Name {
	case nameAll:
		switch t.Qualifier {
		case Pass:
			add("spf.plus-all", lint.Error, "this lets the whole world send for the domain", "write -all or ~all")
		case Neutral:
			add("spf.neutral-all", lint.Warning, "this says nothing about the rest of the world", "write -all or ~all")
		}
	case namePTR:
		add("spf.ptr", lint.Warning, "ptr is slow and unreliable, and should not be used (RFC 7208 §5.5)", "name the networks with ip4: and ip6:")
	}
	if earlier := covering(r.Terms[max(0, i-maxCompared):i], t); earlier != "" {
		add("spf.duplicate-term", lint.Notice, earlier+" says so already", "drop it")
	}
	if strings.HasSuffix(string(t.Domain), ".") {
		add("spf.syntax", lint.Info, "the dot at the end is allowed and means nothing", "")
	}
	if text := broad(t); text != "" {
		add("spf.too-broad", lint.Warning, text, "name the networks that send")
	}
	if t.Prefix.IsValid() && unroutable(t.Prefix.Addr()) {
		add("spf.private-range", lint.Warning, "no mail comes from these addresses on the public internet", "name the addresses that the world sees")
	}
	return all
}

// covering gives the term among those before t that says the same or more.
func covering(before []Term, t Term) string {
	for _, o := range before {
		if o.same(t) {
			return "an earlier " + o.String()
		}
		if o.Prefix.IsValid() && t.Prefix.IsValid() && o.Qualifier == t.Qualifier &&
			o.Prefix.Bits() <= t.Prefix.Bits() && o.Prefix.Contains(t.Prefix.Addr()) {
			return o.String()
		}
	}
	return ""
}

// broad says that a term lets in very many addresses.
func broad(t Term) string {
	bits, widest := t.Prefix.Bits(), widestIPv4
	switch {
	case t.Qualifier != Pass:
		return ""
	case t.Prefix.IsValid() && t.Prefix.Addr().Is6():
		widest = widestIPv6
	case t.Prefix.IsValid():
	case t.HostBits4 > 32-widestIPv4:
		bits = 32 - t.HostBits4
	case t.HostBits6 > 128-widestIPv6:
		bits, widest = 128-t.HostBits6, widestIPv6
	default:
		return ""
	}
	if bits >= widest {
		return ""
	}
	return fmt.Sprintf("a /%d lets very many strangers send for the domain", bits)
}

// documentation: RFC 5737 and RFC 3849.
var documentation = []netip.Prefix{
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32"),
}

func unroutable(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() ||
		slices.ContainsFunc(documentation, func(p netip.Prefix) bool { return p.Contains(a) })
}

// lintWhole looks at what a record lacks, and at its look-ups without those below.
func lintWhole(r Record) []lint.Finding {
	var all []lint.Finding
	if r.all() < 0 && r.modifier(nameRedirect) < 0 {
		all = append(all, lint.Finding{ID: "spf.no-all", Severity: lint.Warning, Text: "the record does not say what of everybody else", Fix: "end it with -all or ~all"})
	}
	if n := r.lookups(); n > MaxLookups {
		all = append(all, exceeded(n))
	}
	return all
}

func exceeded(n int) lint.Finding {
	return lint.Finding{
		ID: "spf.lookups-exceeded", Severity: lint.Error,
		Text: fmt.Sprintf("%d look-ups, and receivers stop after %d with permerror (RFC 7208 §4.6.4)", n, MaxLookups),
		Fix:  "drop includes that are not needed, or name networks with ip4: and ip6:",
	}
}

func lintSize(text string) []lint.Finding {
	f := lint.Finding{ID: "spf.oversize", Severity: lint.Info, Pos: len(text)}
	switch n := len(text); {
	case n > sizeUDP:
		f.Severity = lint.Warning
		f.Text = fmt.Sprintf("the record has %d octets, so that its answer does not fit %d (RFC 7208 §3.4)", n, sizeUDP)
	case n > sizeAdvised:
		f.Severity = lint.Notice
		f.Text = fmt.Sprintf("the record has %d octets, and should have %d at most, so that its answer fits %d (RFC 7208 §3.4)", n, sizeAdvised, sizeUDP)
	case n > maxString:
		f.Text = fmt.Sprintf("the record has %d octets", n)
	default:
		return nil
	}
	f.Fix = fmt.Sprintf("publish it as %d strings of one TXT record", len(Split(text)))
	return []lint.Finding{f}
}

// Findings gives what is wrong with a tree: the domain's own record, what it costs with all
// its includes, and those that break it. What could not be determined is no finding.
func (t *Tree) Findings() []lint.Finding {
	var all []lint.Finding
	switch {
	case errors.Is(t.Err, ErrNotSPF):
		all = append(all, lint.Finding{ID: "spf.missing", Severity: lint.Warning, Domain: t.Domain, Text: t.Err.Error(), Fix: `a domain that sends no mail publishes "v=spf1 -all"`})
	case t.Record != "":
		for _, f := range Lint(t.Record) {
			f.Domain = t.Domain
			all = append(all, f)
		}
	case errors.Is(t.Err, ErrPermanent):
		all = append(all, lint.Finding{ID: "spf.multiple", Severity: lint.Error, Domain: t.Domain, Text: t.Err.Error(), Fix: "put all terms into one record"})
	}
	all = append(all, t.broken()...)
	cost := lint.Finding{Domain: t.Domain}
	switch {
	case t.Lookups > MaxLookups:
		all = slices.DeleteFunc(all, func(f lint.Finding) bool { return f.ID == "spf.lookups-exceeded" })
		cost = exceeded(t.Lookups)
		cost.Domain = t.Domain
		cost.Text += ": " + t.costs()
		all = append(all, cost)
	case t.Lookups >= manyLookups:
		cost.ID, cost.Severity = "spf.lookups-near", lint.Notice
		cost.Text = fmt.Sprintf("%d of %d look-ups: %s", t.Lookups, MaxLookups, t.costs())
		all = append(all, cost)
	}
	if t.Voids > MaxVoids {
		all = append(all, lint.Finding{ID: "spf.void-exceeded", Severity: lint.Error, Domain: t.Domain,
			Text: fmt.Sprintf("%d look-ups find nothing, and receivers stop after %d with permerror (RFC 7208 §4.6.4)", t.Voids, MaxVoids),
			Fix:  "drop the terms whose names are gone"})
	}
	return all
}

// costs names the branches of a record that ask the DNS, the dearest first.
func (t *Tree) costs() string {
	asking := slices.DeleteFunc(slices.Clone(t.Branches), func(b Branch) bool { return b.Lookups == 0 })
	slices.SortStableFunc(asking, func(a, b Branch) int { return b.Lookups - a.Lookups })
	words := make([]string, len(asking))
	for i, b := range asking {
		words[i] = fmt.Sprintf("%s %d", b.Term, b.Lookups)
	}
	return clip(strings.Join(words, ", "))
}

// broken gives the branches, at any depth, that make the whole tree an error.
func (t *Tree) broken() []lint.Finding {
	var all []lint.Finding
	for _, b := range t.Branches {
		if errors.Is(b.Err, ErrPermanent) && (b.Tree == nil || b.Tree.Err != nil) {
			f := lint.Finding{ID: "spf.syntax", Severity: lint.Error, Domain: t.Domain, Pos: b.Term.Pos, Found: clip(b.Term.String()), Text: b.Err.Error(), Fix: "drop it, or have its owner mend it"}
			switch {
			case b.Term.Name == nameMX:
				f.ID, f.Fix = "spf.mx-too-many", "name the hosts' networks with ip4: and ip6:"
			case b.Tree == nil:
				f.ID = "spf.lookups-exceeded"
			case errors.Is(b.Err, errNoName):
				f.ID = "spf.include-nxdomain"
			case errors.Is(b.Tree.Err, ErrNotSPF):
				f.ID = "spf.include-none"
			case errors.Is(b.Err, errLoop):
				f.ID = "spf.loop"
			case b.Tree.Record == "":
				f.ID = "spf.multiple"
			}
			all = append(all, f)
		}
		if b.Tree != nil {
			all = append(all, b.Tree.broken()...)
		}
	}
	return all
}
