package dmarc

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/net/publicsuffix"

	"mxward/internal/dns"
)

// Step is one question of a tree walk: what stands at _dmarc.DOMAIN.
type Step struct {
	Domain  dns.Name
	Records []string // the DMARC records there; of several none counts (RFC 9989 §4.10)
	Others  []string // the other texts there
	Exists  bool     // there is such a name
	Stale   bool     // the answer had expired, and nothing newer could be had (RFC 8767)
	// Err wraps ErrTemporary where the DNS could not be asked, ErrPermanent where there are
	// several records or a useless one, ErrNotDMARC where there is none.
	Err error
	// Record is the one that counts, where Found; of a useless one, only PSD means anything.
	Record Record
}

// Found reports whether there is a record that counts for the walk.
func (s Step) Found() bool { return len(s.Records) == 1 }

// Walk is a DNS tree walk (RFC 9989 §4.10) from a name towards the root.
type Walk struct {
	Start dns.Name
	Steps []Step // at most MaxQuestions, in order; with Err, the last one is where it ended
	// Org is the organizational domain of Start (RFC 9989 §4.10.2); zero with Err.
	Org dns.Name
	Err error // wraps ErrTemporary
}

// Discovery is the policy that applies to a domain (RFC 9989 §4.10.1), and how it was found.
type Discovery struct {
	Walk // from the domain. Evaluate asks no more than it needs: then Org may be zero

	// Err is nil where a policy applies. It wraps ErrNotDMARC where there is none,
	// ErrPermanent where there is one that nobody can use, and ErrTemporary.
	Err    error
	Domain dns.Name // where the record is; zero where there is none
	Text   string   // the record as published
	Record Record   // of no meaning with Err
	Policy Policy   // what applies to messages from Walk.Start, before t=y is looked at
	Tag    string   // which tag says so: p, sp or np
	// Existence is whether Walk.Start itself exists, asked only where np needs it: nil, or
	// what the DNS said.
	Existence *bool
	// Old is the organizational domain of Walk.Start by the public-suffix list, which a
	// receiver that knows only RFC 7489 §3.2 goes by. It is for people and for the finding
	// dmarc.walk-differs-psl: no policy is ever looked for at it, since the walk has asked
	// there already.
	Old dns.Name

	stale bool // something of it is
}

// Discover finds the policy and the organizational domain of a domain. It asks at most
// MaxQuestions names for records, and one for its existence.
func Discover(ctx context.Context, r dns.Resolver, domain dns.Name) Discovery {
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	return newWalker(ctx, r).discoverAll(domain)
}

// discoverAll is discover with the whole walk.
func (w *walker) discoverAll(domain dns.Name) Discovery {
	d := w.discover(domain)
	d.Walk = w.walk(domain)
	if d.Walk.Err != nil {
		d.Err = d.Walk.Err
	}
	return d
}

// walker asks each name once for all walks of one evaluation.
type walker struct {
	ctx      context.Context
	resolver dns.Resolver
	asked    map[dns.Name]Step
}

func newWalker(ctx context.Context, r dns.Resolver) *walker {
	return &walker{ctx: ctx, resolver: r, asked: map[dns.Name]Step{}}
}

// ask gives what stands at _dmarc.DOMAIN.
func (w *walker) ask(domain dns.Name) Step {
	s, ok := w.asked[domain]
	if !ok {
		s = w.lookup(domain)
		w.asked[domain] = s
	}
	return s
}

func (w *walker) lookup(domain dns.Name) Step {
	s := Step{Domain: domain}
	name, err := domain.Child("_dmarc")
	if err != nil {
		s.Err = fmt.Errorf("%w: there can be none: %w", ErrNotDMARC, err) // the name is too long to exist
		return s
	}
	set, err := dns.LookupTXT(w.ctx, w.resolver, name)
	if err != nil {
		s.Err = fmt.Errorf("%w: %w", ErrTemporary, err)
		return s
	}
	s.Exists, s.Stale = set.Exists, set.Stale
	for _, text := range set.Records {
		if IsRecord(text) {
			s.Records = append(s.Records, text)
		} else {
			s.Others = append(s.Others, text)
		}
	}
	switch len(s.Records) {
	case 0:
		s.Err = ErrNotDMARC
	case 1:
		s.Record, _, s.Err = read(s.Records[0])
	default:
		s.Err = fmt.Errorf("%w: there are %d at %s, and none of them counts (RFC 9989 §4.10)", ErrPermanent, len(s.Records), name)
	}
	return s
}

// walk is the tree walk of RFC 9989 §4.10.
func (w *walker) walk(start dns.Name) Walk {
	walk := Walk{Start: start}
	for _, domain := range path(start) {
		s := w.ask(domain)
		walk.Steps = append(walk.Steps, s)
		if isTemporary(s.Err) {
			walk.Err = s.Err
			return walk
		}
		if s.Found() && s.Record.PSD != PSDUnknown {
			break
		}
	}
	walk.Org = walk.choose()
	return walk
}

// path gives the names that a walk may ask, at most MaxQuestions: the start, then its
// parents from seven labels down to one (RFC 9989 §4.10).
func path(start dns.Name) []dns.Name {
	names := []dns.Name{start}
	name, ok := start.Parent()
	for left := len(start.Labels()) - 1; ok && left > 0; left-- {
		if left <= maxKept {
			names = append(names, name)
		}
		name, ok = name.Parent()
	}
	return names
}

// choose selects the organizational domain (RFC 9989 §4.10.2). A psd tag ends a walk, so
// that only the last record can have one.
func (w Walk) choose() dns.Name {
	org := w.Start
	for _, s := range w.Steps {
		switch {
		case !s.Found():
		case s.Record.PSD == PSDYes && s.Domain != w.Start:
			return below(s.Domain, w.Start)
		default:
			org = s.Domain
		}
	}
	return org
}

// below gives the domain one label below an ancestor, on the way to name.
func below(ancestor, name dns.Name) dns.Name {
	for {
		parent, ok := name.Parent()
		if !ok || parent == ancestor {
			return name
		}
		name = parent
	}
}

// discover finds the policy of an author's domain (RFC 9989 §4.10.1). Where the domain has
// its own record, no other name is asked.
func (w *walker) discover(author dns.Name) Discovery {
	d := Discovery{Walk: Walk{Start: author, Steps: []Step{w.ask(author)}}, Err: ErrNotDMARC, Old: ListOrg(author)}
	found := d.Steps[0]
	if isTemporary(found.Err) {
		d.Walk.Err, d.Err = found.Err, found.Err
		return d
	}
	if !found.Found() {
		d.Walk = w.walk(author)
		if d.Walk.Err != nil {
			d.Err = d.Walk.Err
			return d
		}
		found = d.applicable()
	}
	d.stale = d.Walk.stale()
	if !found.Found() {
		if several := d.discarded(); several != nil {
			d.Err = fmt.Errorf("%w: %v", ErrNotDMARC, several)
		}
		return d
	}
	d.Domain, d.Text, d.Err = found.Domain, found.Records[0], found.Err
	if d.Err != nil {
		return d
	}
	d.Record = found.Record
	d.apply(w)
	return d
}

// applicable gives the step whose record applies where the start has none: that of the
// organizational domain, else that of the public suffix above it (RFC 9989 §4.10.1).
func (w Walk) applicable() Step {
	var last Step
	for _, s := range w.Steps {
		if s.Found() && s.Domain == w.Org {
			return s
		}
		if s.Found() {
			last = s
		}
	}
	if last.Record.PSD == PSDYes {
		return last
	}
	return Step{}
}

// discarded tells of a name with several records.
func (w Walk) discarded() error {
	for _, s := range w.Steps {
		if len(s.Records) > 1 {
			return s.Err
		}
	}
	return nil
}

// hasPSD reports that somebody on the way has a psd tag.
func (w Walk) hasPSD() bool {
	last := len(w.Steps) - 1
	return last >= 0 && w.Steps[last].Found() && w.Steps[last].Record.PSD != PSDUnknown
}

func (w Walk) stale() bool {
	for _, s := range w.Steps {
		if s.Stale {
			return true
		}
	}
	return false
}

// apply takes the policy out of the record: p on the domain itself, and below it np where
// the author's domain does not exist, sp where it does, each falling back to the next.
func (d *Discovery) apply(w *walker) {
	d.Policy, d.Tag = d.Record.P, "p"
	if d.Domain == d.Start {
		return
	}
	if d.Record.NP != "" {
		exists, stale, err := w.exists(d.Start)
		if err != nil {
			d.Err = err
			return
		}
		d.Existence = &exists
		d.stale = d.stale || stale
		if !exists {
			d.Policy, d.Tag = d.Record.NP, "np"
			return
		}
	}
	if d.Record.SP != "" {
		d.Policy, d.Tag = d.Record.SP, "sp"
	}
}

// exists asks whether there is such a name, with whatever records or none (RFC 9989 §A.4,
// RFC 8020). An alias exists, wherever it leads.
func (w *walker) exists(domain dns.Name) (exists, stale bool, err error) {
	if w.ask(domain).Exists {
		return true, w.ask(domain).Stale, nil // something is below it
	}
	set, err := dns.LookupAddrsOf(w.ctx, w.resolver, domain, dns.TypeA)
	if err != nil {
		return false, false, fmt.Errorf("%w: does %s exist, which np= is about? %w", ErrTemporary, domain, err)
	}
	return set.Exists || len(set.Aliases) > 0, set.Stale, nil
}

// ListOrg gives the organizational domain by the public-suffix list (RFC 7489 §3.2), which asks
// nobody; a name that is itself a suffix stands for itself.
func ListOrg(domain dns.Name) dns.Name {
	text, err := publicsuffix.EffectiveTLDPlusOne(domain.String())
	if err != nil {
		return domain
	}
	name, err := dns.ParseName(text)
	if err != nil {
		return domain
	}
	return name
}

// isSuffix reports whether the registries' part of the public-suffix list has a name.
func isSuffix(domain dns.Name) bool {
	suffix, official := publicsuffix.PublicSuffix(domain.String())
	return official && strings.EqualFold(suffix, domain.String())
}
