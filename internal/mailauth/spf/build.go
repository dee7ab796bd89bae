package spf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"mxward/internal/dns"
)

// maxString is what one string of a TXT record holds (RFC 1035 §3.3.14), in octets.
const maxString = 255

// Split cuts a record's text into the strings of one TXT record. Readers join them with
// nothing in between (RFC 7208 §3.3), so a cut may fall anywhere.
func Split(text string) []string {
	parts := make([]string, 0, 1+len(text)/maxString)
	for len(text) > maxString {
		parts, text = append(parts, text[:maxString]), text[maxString:]
	}
	return append(parts, text)
}

// Senders is who may send for a domain. Nobody, the zero Senders, is a policy too:
// "v=spf1 -all".
type Senders struct {
	Networks []netip.Prefix // by address: these cost no look-up, and come first
	Own      bool           // the domain's own addresses: a
	MX       bool           // its MX hosts: mx
	Hosts    []dns.Name     // the addresses of these names: a:
	Includes []dns.Name     // whoever the policies of these names pass: include:
	Rest     Result         // what of everybody else: Fail (also ""), SoftFail or Neutral
}

// Build writes the record. The error names what cannot be a part of one; more than ten
// look-ups are one too (RFC 7208 §4.6.4), those below the includes not counted.
func Build(s Senders) (Record, error) {
	var r Record
	for _, p := range s.Networks {
		if !p.IsValid() {
			return Record{}, errors.New("a network is empty")
		}
		t := Term{Qualifier: Pass, Name: nameIP4, Prefix: p.Masked()}
		if p.Addr().Is6() {
			t.Name = nameIP6
		}
		r.add(t)
	}
	slices.SortStableFunc(r.Terms, func(a, b Term) int { return a.Prefix.Addr().BitLen() - b.Prefix.Addr().BitLen() })
	if s.Own {
		r.add(Term{Qualifier: Pass, Name: nameA})
	}
	if s.MX {
		r.add(Term{Qualifier: Pass, Name: nameMX})
	}
	for _, list := range []struct {
		mechanism string
		names     []dns.Name
	}{{nameA, s.Hosts}, {nameInclude, s.Includes}} {
		for _, name := range list.names {
			if fault := checkDomain(name.String()); fault != "" {
				return Record{}, fmt.Errorf("%s:%s: %s", list.mechanism, name, fault)
			}
			r.add(Term{Qualifier: Pass, Name: list.mechanism, Domain: Macro(name.String())})
		}
	}
	rest := s.Rest
	switch rest {
	case "":
		rest = Fail
	case Fail, SoftFail, Neutral:
	default:
		return Record{}, fmt.Errorf("everybody else cannot be %q: expected fail, softfail or neutral", rest)
	}
	r.add(Term{Qualifier: rest, Name: nameAll})
	if n := r.lookups(); n > MaxLookups {
		return Record{}, fmt.Errorf("that takes %d look-ups, and %d are allowed (RFC 7208 §4.6.4): name networks instead of hosts", n, MaxLookups)
	}
	return Parse(r.String())
}

// add appends a term that is not there yet.
func (r *Record) add(t Term) {
	if !slices.ContainsFunc(r.Terms, t.same) {
		r.Terms = append(r.Terms, t)
	}
}

// lookups counts the terms that ask the DNS, without what is below them.
func (r Record) lookups() int {
	n := 0
	for _, t := range r.Terms {
		if t.asksDNS() {
			n++
		}
	}
	return n
}
