package site

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"mxward/internal/dns"
)

// maxText is the largest plan, in octets: some hundred thousand domains.
const maxText = 32 << 20

// Parse reads a plan. Relative paths in it stay as they are, and no other file is opened.
// The error is Errors: all mistakes at once.
func Parse(text []byte, file string) (*Plan, error) {
	return parseDraft(text, file).finish()
}

// parseDraft reads a plan and runs the checks that the text alone allows. Where the text is
// no TOML, there is no telling what is missing, so the checks have to wait.
func parseDraft(text []byte, file string) *draft {
	d := newDraft(file)
	if len(text) > maxText {
		d.add(&Error{Kind: TooLarge, Expected: fmt.Sprintf("at most %d MiB", maxText>>20), Got: "more"})
		d.broken = true
		return d
	}
	if line, ok := notUTF8(text); ok {
		d.add(&Error{Kind: NotUTF8, Line: line, Expected: "UTF-8 text", Got: "octets that are not", Hint: "save the file as UTF-8"})
		d.broken = true
		return d
	}
	d.read([]byte(defaults()))
	d.forget()
	d.read(bytes.TrimPrefix(text, []byte("\ufeff"))) // what some editors put in front of UTF-8
	d.Watch.On = d.given(atKey("watch", ""))
	if !d.broken {
		d.run(checks)
	}
	return d
}

// notUTF8 gives the first line that is not UTF-8 text.
func notUTF8(text []byte) (line int, ok bool) {
	if utf8.Valid(text) {
		return 0, false
	}
	for l := range bytes.Lines(text) {
		line++
		if !utf8.Valid(l) {
			break
		}
	}
	return line, true
}

// defaults gives a plan that has the defaults of the single tables.
func defaults() string {
	var b strings.Builder
	for _, t := range tables {
		if t.repeated {
			continue
		}
		fmt.Fprintf(&b, "[%s]\n", t.name)
		for _, f := range fields {
			if f.table == t.name && f.byDefault != "" {
				fmt.Fprintf(&b, "%s = %s\n", f.key, f.byDefault)
			}
		}
	}
	return b.String()
}

// forget keeps the values of what was read, and nothing else.
func (d *draft) forget() {
	*d = draft{Plan: d.Plan, lines: map[place]int{}, bad: map[place]bool{}}
}

// finish gives the plan, or the mistakes.
func (d *draft) finish() (*Plan, error) {
	if len(d.errs) > 0 {
		return nil, d.errs.sorted(d.File)
	}
	p := d.Plan
	p.SMTP.MaxPerClient = min(p.SMTP.MaxPerClient, p.SMTP.MaxSessions)
	silent := p.silent()
	for i := range p.Hosts {
		if h := &p.Hosts[i]; h.Listen == nil {
			h.Listen = h.defaultListen(silent)
		}
	}
	p.setPorts()
	p.hosts, p.domains = map[dns.Name]int{}, map[dns.Name]int{}
	for i, h := range p.Hosts {
		p.hosts[h.Name] = i
	}
	for i := range p.Domains {
		dom := &p.Domains[i]
		p.domains[dom.Name] = i
		slices.SortStableFunc(dom.Ladder, func(a, b Rung) int { return cmp.Compare(a.Preference, b.Preference) })
		if dom.Deliver == (Target{}) {
			dom.Deliver = Target{Scheme: ToMX}
		}
	}
	return p, nil
}

// Host gives the [[host]] of that name.
func (p *Plan) Host(name dns.Name) (Host, bool) {
	i := find(p.hosts, p.Hosts, name, func(h Host) dns.Name { return h.Name })
	if i < 0 {
		return Host{}, false
	}
	return p.Hosts[i], true
}

// Domain gives the [[domain]] of that name.
func (p *Plan) Domain(name dns.Name) (Domain, bool) {
	i := find(p.domains, p.Domains, name, func(d Domain) dns.Name { return d.Name })
	if i < 0 {
		return Domain{}, false
	}
	return p.Domains[i], true
}

// find looks into the index that Parse made, or where there is none (a Plan written as a
// literal) at each.
func find[T any](index map[dns.Name]int, list []T, name dns.Name, nameOf func(T) dns.Name) int {
	if len(index) != len(list) {
		return slices.IndexFunc(list, func(v T) bool { return nameOf(v) == name })
	}
	if i, ok := index[name]; ok {
		return i
	}
	return -1
}

// Rung gives the host's rung on the domain's ladder.
func (d Domain) Rung(host dns.Name) (Rung, bool) {
	i := slices.IndexFunc(d.Ladder, func(r Rung) bool { return r.Host == host })
	if i < 0 {
		return Rung{}, false
	}
	return d.Ladder[i], true
}
