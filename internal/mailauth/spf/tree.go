package spf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxward/internal/dns"
)

// The limits of a survey, which goes on behind the point where a receiver stops.
const (
	maxSurveyed   = 100              // ours: terms that ask the DNS
	maxSurveyTime = 60 * time.Second // ours
)

// What Findings tells apart.
var (
	errNoName = errors.New("there is no such name")
	errLoop   = errors.New("a loop: it includes itself")
)

// Tree is a domain's policy with all that it includes, whoever the client may be: the worst
// that it can cost a receiver.
type Tree struct {
	Domain string
	Record string // as published; "" where there is none
	// Err wraps ErrNotSPF where there is no policy, ErrTemporary or ErrPermanent.
	Err      error
	Branches []Branch // one for each term
	Lookups  int      // of this record and all below
	Voids    int
}

// Branch is one term of a Tree.
type Branch struct {
	Term    Term
	Number  int // which look-up of the whole tree it is, from 1; 0 where it asks nothing
	Lookups int // it and all below
	Voids   int // it and all below

	Hosts []dns.Name   // of mx
	Addrs []netip.Addr // of a and exists, both families
	Note  string       // what a reader should know: that it is never reached, or needs a client
	Err   error        // as Tree's
	Tree  *Tree        // of include and redirect; nil where it was not followed

	half error // of a: why Addrs has one family alone; a receiver wants the client's, and that may be the other
}

// Over reports whether a receiver may stop here with PermError (RFC 7208 §4.6.4).
func (b Branch) Over() bool { return b.Number > MaxLookups }

// Survey walks the tree of a domain. What depends on the client, by a macro, is counted and
// not followed. It goes on behind the limits of a receiver, to 100 look-ups in a minute.
func Survey(ctx context.Context, r dns.Resolver, domain string) *Tree {
	ctx, cancel := context.WithTimeout(ctx, maxSurveyTime)
	defer cancel()
	s := survey{ctx: ctx, resolver: r}
	return s.tree(domain, nil)
}

type survey struct {
	ctx      context.Context
	resolver dns.Resolver
	lookups  int
}

// tree reads one domain's record and follows its terms; above are the domains on the way
// down to it.
func (s *survey) tree(domain string, above []dns.Name) *Tree {
	t := &Tree{Domain: domain}
	name, ok := policyName(domain)
	if !ok {
		t.Err = fmt.Errorf("%w: %q is no domain that could publish a policy", ErrNotSPF, clip(domain))
		return t
	}
	if slices.Contains(above, name) {
		t.Err = fmt.Errorf("%w: %s: %w", ErrPermanent, name, errLoop)
		return t
	}
	var record Record
	if t.Record, record, t.Err = fetch(s.ctx, s.resolver, name); t.Err != nil {
		return t
	}
	above = append(slices.Clip(above), name)
	all := record.all()
	for i, term := range record.Terms {
		b := Branch{Term: term}
		switch {
		case all >= 0 && i > all && !term.Modifier:
			b.Note = "never reached, as it stands after all"
		case all >= 0 && term.is(nameRedirect):
			b.Note = "ignored, as there is an all"
		case term.asksDNS():
			s.follow(&b, name, above)
		}
		t.Lookups += b.Lookups
		t.Voids += b.Voids
		t.Branches = append(t.Branches, b)
	}
	return t
}

// follow counts a term that asks the DNS, and asks.
func (s *survey) follow(b *Branch, own dns.Name, above []dns.Name) {
	if s.lookups == maxSurveyed {
		b.Err = fmt.Errorf("%w: there are more than %d look-ups, and what is behind these was not looked at", ErrPermanent, maxSurveyed)
		return
	}
	s.lookups++
	b.Number, b.Lookups = s.lookups, 1
	if !b.Term.Domain.Plain() {
		b.Note = noteClient
		return
	}
	if b.Term.Name == nameInclude || b.Term.Name == nameRedirect {
		s.descend(b, above)
		return
	}
	name, ok := own, true
	if b.Term.Domain != "" {
		name, ok = targetName(string(b.Term.Domain))
	}
	if !ok {
		b.Note = "no name, so it never matches"
		return
	}
	s.ask(b, name)
}

func (s *survey) descend(b *Branch, above []dns.Name) {
	b.Tree = s.tree(string(b.Term.Domain), above)
	b.Lookups += b.Tree.Lookups
	b.Voids += b.Tree.Voids
	if b.Err = b.Tree.Err; errors.Is(b.Err, ErrNotSPF) {
		b.Err = fmt.Errorf("%w: %s: %w", ErrPermanent, b.Term, b.Err)
		b.Voids++
	}
}

// ask finds what a, mx and exists name. An address of either family counts.
func (s *survey) ask(b *Branch, name dns.Name) {
	var err error
	switch b.Term.Name {
	case nameA:
		var set dns.Set[netip.Addr]
		set, err = dns.LookupAllAddrs(s.ctx, s.resolver, name)
		b.Addrs = set.Records
		if err != nil && len(b.Addrs) > 0 {
			b.half, err = fmt.Errorf("%w: %s: %w", ErrTemporary, b.Term, err), nil
		}
	case nameExists:
		var set dns.Set[netip.Addr]
		set, err = dns.LookupAddrsOf(s.ctx, s.resolver, name, dns.TypeA)
		b.Addrs = set.Records
	case nameMX:
		var set dns.Set[dns.MX]
		set, err = dns.LookupMX(s.ctx, s.resolver, name)
		for _, mx := range set.Records {
			b.Hosts = append(b.Hosts, mx.Host)
		}
	default:
		b.Note = noteClient
		return
	}
	switch {
	case err != nil:
		b.Err = fmt.Errorf("%w: %s: %w", ErrTemporary, b.Term, err)
	case len(b.Hosts) > maxMXHosts:
		b.Err = fmt.Errorf("%w: %s: %s has %d MX hosts, and %d are allowed (RFC 7208 §4.6.4)", ErrPermanent, b.Term, name, len(b.Hosts), maxMXHosts)
	case len(b.Hosts) == 0 && len(b.Addrs) == 0:
		b.Voids = 1
	}
}

// Undetermined gives the first error in the tree that is the DNS's and not the policy's.
func (t *Tree) Undetermined() error {
	if errors.Is(t.Err, ErrTemporary) {
		return t.Err
	}
	for _, b := range t.Branches {
		if b.Tree != nil {
			if err := b.Tree.Undetermined(); err != nil {
				return err
			}
		}
		if errors.Is(b.Err, ErrTemporary) {
			return b.Err
		}
	}
	return nil
}

// Gone gives the domains that the tree includes, or is redirected to, and that do not exist.
func (t *Tree) Gone() []dns.Name {
	var all []dns.Name
	for _, b := range t.Branches {
		if b.Tree == nil {
			continue
		}
		if name, ok := policyName(b.Tree.Domain); ok && errors.Is(b.Tree.Err, errNoName) {
			all = append(all, name)
		}
		all = append(all, b.Tree.Gone()...)
	}
	return all
}

// String draws the tree as text, with what each branch costs.
func (t *Tree) String() string {
	var b strings.Builder
	t.write(&b, "")
	fmt.Fprintf(&b, "total: %d of %d look-ups, %d of %d void", t.Lookups, MaxLookups, t.Voids, MaxVoids)
	if t.Lookups > MaxLookups || t.Voids > MaxVoids {
		b.WriteString(": too many, receivers stop with permerror")
	}
	b.WriteByte('\n')
	return b.String()
}

func (t *Tree) write(b *strings.Builder, indent string) {
	record := t.Record
	if record == "" {
		record = "nothing to follow"
	}
	fmt.Fprintf(b, "%s%s: %s\n", indent, printable(t.Domain), printable(record))
	if t.Err != nil {
		fmt.Fprintf(b, "%s  ! %s\n", indent, wording(t.Err))
	}
	for _, branch := range t.Branches {
		fmt.Fprintf(b, "%s  %s%s\n", indent, branch.Term, branch.words())
		if branch.Tree != nil {
			branch.Tree.write(b, indent+"    ")
		}
	}
}

// words says what a branch found and costs; "" for a term that does neither.
func (b Branch) words() string {
	var said []string
	if b.Number > 0 {
		said = append(said, plural(b.Lookups, "look-up"))
	}
	if b.Voids > 0 {
		said = append(said, fmt.Sprintf("%d void", b.Voids))
	}
	if len(b.Hosts) > 0 {
		said = append(said, "hosts "+list(b.Hosts))
	}
	if len(b.Addrs) > 0 {
		said = append(said, "addresses "+list(b.Addrs))
	}
	if b.Note != "" {
		said = append(said, b.Note)
	}
	if b.Over() {
		said = append(said, fmt.Sprintf("number %d, where a receiver stops", b.Number))
	}
	if b.Err != nil && (b.Tree == nil || b.Tree.Err == nil) {
		said = append(said, "! "+wording(b.Err))
	}
	if len(said) == 0 {
		return ""
	}
	return "  (" + strings.Join(said, "; ") + ")"
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
