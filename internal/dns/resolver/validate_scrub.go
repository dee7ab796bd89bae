package resolver

import (
	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// expansion gives the proofs that come with a set that was made from a wildcard: without
// them nobody can know that the name itself is not there (RFC 4035 §5.3.4).
func (s *scrubber) expansion(records []dns.RR) []dns.RR {
	for _, rr := range records {
		sig, ok := rr.(*wire.RRSIG)
		if ok && int(sig.Labels) < dns.NameOf(sig.Hdr.Name).CountLabels() {
			return s.proof()
		}
	}
	return nil
}

// signer makes a piece of what a referral says about the DS records of the delegation:
// the records, or the proof that there are none (RFC 4035 §3.1.4.1). It is nil where the
// referral says nothing.
func (s *scrubber) signer(cut dns.Name) *piece {
	if !s.dnssec {
		return nil
	}
	p := &piece{ask: ask{name: cut, typ: dns.TypeDS, dnssec: true}, ttl: maxTTL}
	var set []dns.RR
	for _, o := range s.authority {
		if o.name == cut && o.typ == dns.TypeDS && len(set) < maxSetRecords && !duplicate(set, o.rr) {
			set = append(set, o.rr)
		}
	}
	if len(set) > 0 {
		set = append(set, signatures(s.authority, p.ask)...)
		for _, rr := range set {
			p.ttl = min(p.ttl, seconds(rr.Header().Ttl))
		}
		p.answer = retime(set, p.ttl)
		return p
	}
	proof := s.proof()
	if len(proof) == 0 {
		return nil
	}
	p.ttl = maxNegativeTTL
	for _, rr := range proof {
		p.ttl = min(p.ttl, seconds(rr.Header().Ttl))
	}
	p.authority = retime(proof, p.ttl)
	return p
}
