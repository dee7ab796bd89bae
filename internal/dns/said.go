package dns

import (
	"context"
	"net/netip"
	"slices"
	"time"

	wire "github.com/miekg/dns"
)

// Said is what one server says to one question: nothing is followed, judged or believed.
type Said struct {
	Answer

	Recursion bool // RA: it offers to ask others
	Truncated bool // TC: it did not fit
	EDNS      bool // it knows EDNS (RFC 6891)
	Size      int  // octets of the message
	Took      time.Duration
}

// Given is a Resolver that has one answer for whatever it is asked: so the typed lookups
// read what one server has said.
func Given(a Answer) Resolver {
	return ResolverFunc(func(context.Context, Question) (Answer, error) { return a, nil })
}

// Referral is how a server sends on to those of a zone below its own (RFC 1034 §4.3.2, step 3b).
type Referral struct {
	Zone    Name
	Servers []Name // sorted
	Glue    map[Name][]netip.Addr
	DS      []DS
}

// ReadReferral gives the referral that an answer is; false if it is none. Only the nearest
// zone that name is in counts.
func ReadReferral(a Answer, name Name) (Referral, bool) {
	ref := Referral{Glue: map[Name][]netip.Addr{}}
	if a.Authoritative || a.Rcode != NoError || len(a.Answer) > 0 {
		return ref, false
	}
	for _, rr := range a.Authority {
		owner := NameOf(rr.Header().Name)
		switch rr := rr.(type) {
		case *wire.NS:
			if !name.In(owner) || !ref.Zone.IsZero() && owner != ref.Zone {
				return ref, false
			}
			ref.Zone = owner
			ref.Servers = append(ref.Servers, NameOf(rr.Ns))
		case *wire.DS:
			ref.DS = append(ref.DS, readDS(rr))
		}
	}
	for _, rr := range a.Additional {
		if addr, ok := readAddr(rr); ok {
			owner := NameOf(rr.Header().Name)
			ref.Glue[owner] = append(ref.Glue[owner], addr)
		}
	}
	slices.SortFunc(ref.Servers, Name.compare)
	return ref, len(ref.Servers) > 0
}

// Apex gives the zone that an authoritative answer comes from, by its SOA record: that of
// the answer, or of the denial (RFC 2308 §2). It is the zero Name where there is none.
func Apex(a Answer) Name {
	for _, rr := range slices.Concat(a.Answer, a.Authority) {
		if rr.Header().Rrtype == wire.TypeSOA {
			return NameOf(rr.Header().Name)
		}
	}
	return Name{}
}

// Target gives the name that an answer's aliases lead to, and whether the answer has the records
// that were asked for there.
func Target(a Answer, q Question) (end Name, found bool) {
	end, _ = followAliases(a.Answer, q)
	return end, slices.ContainsFunc(a.Answer, func(rr RR) bool {
		return Type(rr.Header().Rrtype) == q.Type && NameOf(rr.Header().Name) == end
	})
}

// Opens reports whether an answer begins a transfer of the whole zone (RFC 5936 §2.2): with its SOA
// record, and more behind it.
func Opens(a Answer) bool {
	return a.Rcode == NoError && len(a.Answer) > 1 && a.Answer[0].Header().Rrtype == wire.TypeSOA
}

// Signature is one RRSIG record of an answer (RFC 4034 §3.1), without what only a
// validator needs.
type Signature struct {
	Name      Name
	Covers    Type
	Algorithm uint8
	Begins    time.Time
	Ends      time.Time
}

// Signatures gives the signatures in an answer section.
func Signatures(a Answer) []Signature {
	var all []Signature
	for _, rr := range a.Answer {
		if sig, ok := rr.(*wire.RRSIG); ok {
			all = append(all, Signature{
				Name: NameOf(sig.Hdr.Name), Covers: Type(sig.TypeCovered), Algorithm: sig.Algorithm,
				Begins: time.Unix(int64(sig.Inception), 0).UTC(), Ends: time.Unix(int64(sig.Expiration), 0).UTC(),
			})
		}
	}
	return all
}
