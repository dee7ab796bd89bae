package resolver

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
)

// How long anything is kept at most (RFC 2308 §5, RFC 8767 §4). There is no floor.
const (
	maxTTL         = 24 * time.Hour
	maxNegativeTTL = time.Hour
)

// rcodeYXDomain answers for a name that a DNAME would make too long (RFC 6672 §2.2).
const rcodeYXDomain = dns.Rcode(wire.RcodeYXDomain)

// piece is what the DNS says about one name and type: records, an alias, or that there is
// nothing. It is never changed, so that the cache and all answers share it.
type piece struct {
	ask               // under which it is cached; an NXDOMAIN counts for every type
	rcode             dns.Rcode
	target            dns.Name // set if the name is an alias
	ttl               time.Duration
	expires           time.Time // set by keep
	secure            bool      // DNSSEC has proven it
	answer, authority []dns.RR
	cut               dnssec.Cut // of a proof that there is no DS
	extended          uint16     // why it is not secure, if that is the zone's matter (RFC 8914)
}

// finding is what may be believed of one reply: pieces, or the way to a deeper zone.
type finding struct {
	pieces   []*piece // an alias chain, with its end if that lies in the zone
	referral *delegation
	from     netip.AddrPort // who said it
}

// scrub takes from a reply what the servers of zone may say to the question, and nothing
// else: names outside the zone are ignored, and so is everything nobody asked for.
func scrub(a ask, zone dns.Name, m *wire.Msg) (finding, error) {
	switch m.Rcode {
	case wire.RcodeSuccess, wire.RcodeNameError, wire.RcodeYXDomain:
	default:
		return finding{}, &serverError{fault: faultFailed, said: said(m), heard: true}
	}
	s := scrubber{ask: a, zone: zone, msg: m, answer: within(m.Answer, zone), authority: within(m.Ns, zone)}
	found, err := s.read()
	// Data from a cache: the server recurses and does not serve the zone. A referral has no
	// AA in any case.
	if err == nil && found.referral == nil && !m.Authoritative && m.RecursionAvailable {
		return finding{}, &serverError{fault: faultLame, said: "not authoritative: it answers from a cache", heard: true}
	}
	return found, err
}

type scrubber struct {
	ask
	zone              dns.Name
	msg               *wire.Msg
	answer, authority []owned
	chain             []*piece
}

// owned is a record of class IN with its owner in canonical form.
type owned struct {
	name dns.Name
	typ  dns.Type
	rr   dns.RR
}

// within gives the records whose owners the zone's servers may speak of.
func within(section []dns.RR, zone dns.Name) []owned {
	var kept []owned
	for _, rr := range section {
		h := rr.Header()
		if h.Class != wire.ClassINET {
			continue
		}
		if name := dns.NameOf(h.Name); !name.IsZero() && name.In(zone) {
			kept = append(kept, owned{name, dns.Type(h.Rrtype), rr})
		}
	}
	return kept
}

// read follows the alias chain through the answer section for as long as it stays in the
// zone, and then takes what the reply says about its end.
func (s *scrubber) read() (finding, error) {
	name := s.name
	for range maxRestarts + 1 {
		link := s.substituted(name)
		if link == nil {
			if records := s.find(name, s.typ); len(records) > 0 {
				end, err := s.positive(name, records)
				return finding{pieces: append(s.chain, end)}, err
			}
			link = s.alias(name)
		}
		if link == nil {
			return s.negative(name)
		}
		s.chain = append(s.chain, link)
		if link.target.IsZero() || s.typ == dns.TypeCNAME || !link.target.In(s.zone) {
			return finding{pieces: s.chain}, nil
		}
		name = link.target
	}
	return finding{pieces: s.chain}, nil // too long a chain: whoever follows it stops as well
}

// find gives the records of one name and type, or all of the name for ANY.
func (s *scrubber) find(name dns.Name, typ dns.Type) []dns.RR {
	var found []dns.RR
	for _, o := range s.answer {
		if o.name == name && (o.typ == typ || typ == dns.TypeANY) && !duplicate(found, o.rr) {
			found = append(found, o.rr)
			if len(found) > maxSetRecords {
				break
			}
		}
	}
	return found
}

// duplicate reports whether the set has the record already (RFC 2181 §5).
func duplicate(set []dns.RR, rr dns.RR) bool {
	return slices.ContainsFunc(set, func(other dns.RR) bool { return wire.IsDuplicate(other, rr) })
}

func (s *scrubber) positive(name dns.Name, records []dns.RR) (*piece, error) {
	if len(records) > maxSetRecords {
		return nil, &serverError{fault: faultMalformed, said: "more than 100 records in one set", limit: limitRecords, heard: true}
	}
	p := s.set(ask{name, s.typ, s.dnssec, s.unchecked}, records)
	if c, ok := records[0].(*wire.CNAME); ok && s.typ == dns.TypeCNAME {
		p.target = dns.NameOf(c.Target) // of use to questions for other types
	}
	return p, nil
}

// set makes a piece of records, which get one TTL, the least (RFC 2181 §5.2), and their
// signatures if DNSSEC was asked for. Proofs that have to go along live no longer than that.
func (s *scrubber) set(a ask, records []dns.RR) *piece {
	if s.dnssec && a.typ != dns.TypeANY && a.typ != dns.Type(wire.TypeRRSIG) {
		records = append(records, signatures(s.answer, a)...)
	}
	proof := s.expansion(records)
	ttl := least(least(maxTTL, records), proof)
	return &piece{ask: a, answer: retime(records, ttl), authority: retime(proof, ttl), ttl: ttl}
}

// least gives the least TTL of the records, ttl at most.
func least(ttl time.Duration, records []dns.RR) time.Duration {
	for _, rr := range records {
		ttl = min(ttl, seconds(rr.Header().Ttl))
	}
	return ttl
}

// signatures gives the RRSIGs over the set a.
func signatures(section []owned, a ask) []dns.RR {
	var found []dns.RR
	for _, o := range section {
		sig, ok := o.rr.(*wire.RRSIG)
		if ok && o.name == a.name && sig.TypeCovered == uint16(a.typ) && len(found) < maxSetSigs {
			found = append(found, sig)
		}
	}
	return found
}

// substituted gives the link that a DNAME above name makes, or nil. The CNAME that it
// entails is made here and not believed (RFC 6672 §3.4).
func (s *scrubber) substituted(name dns.Name) *piece {
	for _, o := range s.answer {
		if d, ok := o.rr.(*wire.DNAME); ok && name != o.name && name.In(o.name) {
			return s.substitute(ask{name, dns.TypeCNAME, s.dnssec, s.unchecked}, d, o.name)
		}
	}
	return nil
}

// alias gives the link of a CNAME at name, or nil.
func (s *scrubber) alias(name dns.Name) *piece {
	a := ask{name, dns.TypeCNAME, s.dnssec, s.unchecked}
	for _, o := range s.answer {
		if c, ok := o.rr.(*wire.CNAME); ok && o.name == name {
			p := s.set(a, []dns.RR{c})
			p.target = dns.NameOf(c.Target)
			return p
		}
	}
	return nil
}

// substitute puts the DNAME's target in the place of its owner (RFC 6672 §2.2).
func (s *scrubber) substitute(a ask, d *wire.DNAME, owner dns.Name) *piece {
	p := s.set(ask{owner, dns.Type(wire.TypeDNAME), s.dnssec, s.unchecked}, []dns.RR{d})
	p.ask = a
	labels := a.name.Labels()
	labels = labels[:len(labels)-len(owner.Labels())]
	text := strings.Join(labels, ".")
	if to := dns.NameOf(d.Target); to != dns.Root {
		text += "." + to.FQDN()
	}
	target, err := dns.ParseName(text)
	if err != nil {
		p.typ, p.rcode, p.ttl = s.typ, rcodeYXDomain, 0
		return p
	}
	p.target = target
	p.answer = append(p.answer, &wire.CNAME{
		Hdr:    wire.RR_Header{Name: a.name.FQDN(), Rrtype: wire.TypeCNAME, Class: wire.ClassINET, Ttl: uint32(p.ttl / time.Second)},
		Target: target.FQDN(),
	})
	return p
}

// negative reads a reply that has nothing at name: the end of the chain.
func (s *scrubber) negative(name dns.Name) (finding, error) {
	if above := s.deniedFrom(name); !above.IsZero() {
		return finding{}, &serverError{fault: faultLame, said: "answers for " + above.String(), heard: true}
	}
	soa := s.soa(name)
	switch {
	case s.msg.Rcode == wire.RcodeNameError && soa == nil && !s.msg.Authoritative: // a proxy, perhaps
		if len(s.chain) > 0 {
			return finding{pieces: s.chain}, nil // the rest is asked on its own
		}
		return finding{}, &serverError{fault: faultLame, said: "not authoritative", heard: true}
	case s.msg.Rcode == wire.RcodeNameError && soa == nil && s.elsewhere(): // not its zone
		return finding{}, &serverError{fault: faultLame, said: "denies with the SOA of another zone", heard: true}
	// Of the chain's end: RFC 6604 §3. Without an SOA it counts for this question alone (RFC
	// 2308 §2.1.1, §5).
	case s.msg.Rcode == wire.RcodeNameError:
		return s.nothing(name, dns.NXDomain, soa)
	case s.msg.Rcode != wire.RcodeSuccess:
		return finding{}, &serverError{fault: faultFailed, said: said(s.msg), heard: true}
	case soa != nil:
		return s.nothing(name, dns.NoError, soa)
	case len(s.chain) > 0: // the rest is asked on its own
		return finding{pieces: s.chain}, nil
	}
	if cut := s.cut(name); !cut.IsZero() && !(s.typ == dns.TypeDS && cut == name) {
		return finding{referral: s.referral(cut)}, nil
	}
	if s.msg.Authoritative {
		return s.nothing(name, dns.NoError, nil) // not to be cached: RFC 2308 §5
	}
	for _, rr := range s.msg.Ns {
		if rr.Header().Rrtype == wire.TypeNS {
			return finding{}, &serverError{fault: faultLame, said: "refers to " + dns.NameOf(rr.Header().Name).String(), heard: true}
		}
	}
	return finding{}, &serverError{fault: faultLame, said: "not authoritative", heard: true}
}

// nothing makes the negative piece for name; without an SOA it has no TTL.
func (s *scrubber) nothing(name dns.Name, rcode dns.Rcode, soa *wire.SOA) (finding, error) {
	p := &piece{ask: ask{name, s.typ, s.dnssec, s.unchecked}, rcode: rcode}
	if soa != nil {
		// RFC 2308 §5: the lesser of the SOA's TTL and its MINIMUM.
		proof := s.proof()
		p.ttl = least(min(seconds(soa.Hdr.Ttl), seconds(soa.Minttl), maxNegativeTTL), proof)
		p.authority = retime(append([]dns.RR{soa}, proof...), p.ttl)
	}
	return finding{pieces: append(s.chain, p)}, nil
}

// soa gives the SOA of the zone that denies name, which must be the zone asked or lie in
// it, above the name.
func (s *scrubber) soa(name dns.Name) *wire.SOA {
	for _, o := range s.authority {
		if soa, ok := o.rr.(*wire.SOA); ok && name.In(o.name) {
			return soa
		}
	}
	return nil
}

// elsewhere reports whether the reply has an SOA at all.
func (s *scrubber) elsewhere() bool {
	return slices.ContainsFunc(s.msg.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == wire.TypeSOA })
}

// deniedFrom gives the zone above ours whose SOA the reply carries: its sender serves that
// one and not the zone that we ask it for.
func (s *scrubber) deniedFrom(name dns.Name) dns.Name {
	for _, rr := range s.msg.Ns {
		if _, ok := rr.(*wire.SOA); ok {
			owner := dns.NameOf(rr.Header().Name)
			if !owner.In(s.zone) && s.zone.In(owner) && name.In(owner) {
				return owner
			}
		}
	}
	return dns.Name{}
}

// proof gives the signed denial in the authority section, if it was asked for.
func (s *scrubber) proof() []dns.RR {
	var found []dns.RR
	for _, o := range s.authority {
		if len(found) >= maxSetRecords || !s.dnssec {
			break
		}
		switch o.rr.(type) {
		case *wire.NSEC, *wire.NSEC3, *wire.RRSIG:
			found = append(found, o.rr)
		}
	}
	return found
}

// cut gives the owner of the NS records that lead on: strictly below the zone asked and on
// the way to name, so that every referral comes closer to its end.
func (s *scrubber) cut(name dns.Name) dns.Name {
	for _, o := range s.authority {
		if o.typ == dns.TypeNS && o.name != s.zone && name.In(o.name) {
			return o.name
		}
	}
	return dns.Name{}
}

// referral reads the delegation of cut with the glue that the servers asked may give: for
// hosts in their own zone (RFC 9471 §2), and only for the hosts that the NS records name.
func (s *scrubber) referral(cut dns.Name) *delegation {
	d := &delegation{zone: cut, ttl: maxTTL, glue: map[dns.Name][]netip.Addr{}, ds: s.signer(cut)}
	for _, o := range s.authority {
		ns, ok := o.rr.(*wire.NS)
		if !ok || o.name != cut {
			continue
		}
		d.ttl = min(d.ttl, seconds(ns.Hdr.Ttl))
		if host := dns.NameOf(ns.Ns); !host.IsZero() && !slices.Contains(d.names, host) && len(d.names) < maxNSNames {
			d.names = append(d.names, host)
		}
	}
	for _, o := range within(s.msg.Extra, s.zone) {
		addr, ok := address(o.rr)
		if ok && slices.Contains(d.names, o.name) && len(d.glue[o.name]) < maxNSAddresses {
			d.glue[o.name] = append(d.glue[o.name], addr)
		}
	}
	return d
}

// address reads an A or AAAA record.
func address(rr dns.RR) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *wire.A:
		return netip.AddrFromSlice(rr.A.To4())
	case *wire.AAAA:
		return netip.AddrFromSlice(rr.AAAA.To16())
	}
	return netip.Addr{}, false
}

// seconds reads a TTL; one with the highest bit set counts as 0 (RFC 2181 §8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// retime gives the records with one TTL; those that have another are copied.
func retime(records []dns.RR, ttl time.Duration) []dns.RR {
	secs := uint32(ttl / time.Second)
	timed := slices.Clone(records)
	for i, rr := range timed {
		if rr.Header().Ttl != secs {
			timed[i] = wire.Copy(rr)
			timed[i].Header().Ttl = secs
		}
	}
	return timed
}
