package zone

import (
	"context"
	"slices"
	"strings"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// maxAliases bounds the CNAMEs and DNAMEs that one answer follows. Where it is reached, the
// answer holds the chain so far, and the asker goes on from there.
const maxAliases = 16

const yxDomain = dns.Rcode(wire.RcodeYXDomain)

// Resolve implements dns.Resolver from the zone's data alone; it never waits and never
// gives an error. A name outside the zone is REFUSED.
//
// Choices where the standards leave one: ANY gets the RRset with the lowest type number
// (RFC 8482 §4.1); positive answers carry no NS in the authority section; the additional
// section has the addresses that NS, MX and SRV point to, as far as the zone knows them.
func (z *Zone) Resolve(_ context.Context, q dns.Question) (dns.Answer, error) {
	if !q.Name.In(z.Origin) {
		return dns.Answer{Rcode: dns.Refused}, nil
	}
	w := walk{zone: z, q: q, answer: dns.Answer{Authoritative: true}}
	name, ok := q.Name, true
	for hops := 0; ok && hops <= maxAliases; hops++ {
		name, ok = w.step(name)
	}
	w.additional()
	return w.answer, nil
}

// walk is the making of one answer.
type walk struct {
	zone   *Zone
	q      dns.Question
	seen   []dns.Name // the names that aliases led away from
	answer dns.Answer
}

// step is RFC 1034 §4.3.2, step 3, for one name. It gives the target of an alias where
// that has to be looked at next.
func (w *walk) step(name dns.Name) (next dns.Name, more bool) {
	encloser := w.zone.closest(name)
	if cut := encloser.cut; cut != nil {
		// The DS record at a cut is the parent's (RFC 4035 §3.1.4.1).
		if name != cut.name || w.q.Type != dns.TypeDS {
			w.refer(cut)
			return dns.Name{}, false
		}
	}
	if encloser.name == name {
		return w.match(encloser, "", nil)
	}
	if dname := encloser.sets[typeDNAME]; len(dname) > 0 {
		return w.substitute(encloser, dname[0].(*wire.DNAME), name)
	}
	if source := encloser.wildcard; source != nil {
		return w.match(source, name.FQDN(), encloser)
	}
	w.answer.Rcode = dns.NXDomain // also at the end of a chain: RFC 6604 §3
	w.proveNoName(name, encloser)
	w.nothing()
	return dns.Name{}, false
}

// closest gives the closest encloser (RFC 4592 §3.3.1): the longest existing name at or
// above a name of the zone.
func (z *Zone) closest(name dns.Name) *node {
	for {
		if n, ok := z.nodes[name]; ok {
			return n
		}
		name, _ = name.Parent()
	}
}

// match answers from a node; owner and encloser are set where the node is the source of a
// wildcard.
func (w *walk) match(n *node, owner string, encloser *node) (next dns.Name, more bool) {
	t := w.q.Type
	if t == dns.TypeANY && len(n.sets) > 0 {
		t = n.any()
	}
	if set := n.sets[t]; len(set) > 0 {
		w.append(n, t, owner)
		if owner != "" {
			w.proveNoExact(dns.NameOf(owner), encloser)
		}
		return dns.Name{}, false
	}
	if alias := n.sets[dns.TypeCNAME]; len(alias) > 0 {
		w.append(n, dns.TypeCNAME, owner)
		from := n.name
		if owner != "" {
			w.proveNoExact(dns.NameOf(owner), encloser)
			from = dns.NameOf(owner)
		}
		return w.alias(from, dns.NameOf(alias[0].(*wire.CNAME).Target))
	}
	w.proveNoType(n, owner) // NODATA: RFC 2308 §2.2
	w.nothing()
	return dns.Name{}, false
}

// any gives the type that stands for all: the lowest, but no signatures or proofs where
// there is something else.
func (n *node) any() dns.Type {
	types := n.types()
	for _, t := range types {
		if t != typeRRSIG && t != typeNSEC {
			return t
		}
	}
	return types[0]
}

// append adds a set to the answer section, at the name asked if it is a wildcard's.
func (w *walk) append(n *node, t dns.Type, owner string) {
	set := n.sets[t]
	if owner == "" {
		w.answer.Answer = append(w.answer.Answer, set...)
	} else {
		for _, rr := range set {
			rr = wire.Copy(rr)
			rr.Header().Name = owner
			w.answer.Answer = append(w.answer.Answer, rr)
		}
	}
	if w.q.DNSSEC {
		w.answer.Answer = append(w.answer.Answer, n.signatures(t, owner)...)
	}
}

// alias decides whether the chain goes on inside this zone. A loop ends where it closes.
func (w *walk) alias(from, to dns.Name) (next dns.Name, more bool) {
	w.seen = append(w.seen, from)
	return to, to.In(w.zone.Origin) && !slices.Contains(w.seen, to)
}

// substitute is RFC 6672 §3.2: the DNAME, and a CNAME made from it with its TTL.
func (w *walk) substitute(n *node, dname *wire.DNAME, name dns.Name) (next dns.Name, more bool) {
	if len(w.seen) == 0 || !containsRR(w.answer.Answer, dname) {
		w.append(n, typeDNAME, "")
	}
	prefix := name.FQDN()
	if owner := dns.NameOf(dname.Hdr.Name); owner != dns.Root {
		prefix = strings.TrimSuffix(prefix, owner.FQDN())
	}
	target, err := dns.ParseName(prefix + strings.TrimPrefix(dname.Target, "."))
	if err != nil {
		w.answer.Rcode = yxDomain // the new name is too long: RFC 6672 §2.2
		return dns.Name{}, false
	}
	w.answer.Answer = append(w.answer.Answer, &wire.CNAME{
		Hdr:    wire.RR_Header{Name: name.FQDN(), Rrtype: wire.TypeCNAME, Class: wire.ClassINET, Ttl: dname.Hdr.Ttl},
		Target: target.FQDN(),
	})
	if w.q.Type == dns.TypeCNAME || w.q.Type == dns.TypeANY {
		return dns.Name{}, false // the CNAME is what was asked for
	}
	return w.alias(name, target)
}

func containsRR(section []dns.RR, rr dns.RR) bool {
	return slices.ContainsFunc(section, func(other dns.RR) bool { return other == rr })
}

// refer answers with the delegation. The answer is not ours then, unless an alias of ours
// led to it (RFC 1035 §4.1.1: AA is for the first owner name).
func (w *walk) refer(cut *node) {
	w.answer.Authority = append(w.answer.Authority, cut.sets[dns.TypeNS]...)
	w.answer.Authoritative = len(w.answer.Answer) > 0
	switch {
	case !w.q.DNSSEC:
	case len(cut.sigs[dns.TypeDS]) > 0: // RFC 4035 §3.1.4; unsigned ones prove nothing
		w.answer.Authority = append(w.answer.Authority, cut.sets[dns.TypeDS]...)
		w.answer.Authority = append(w.answer.Authority, cut.sigs[dns.TypeDS]...)
	default: // RFC 4035 §3.1.4.1, RFC 5155 §7.2.7
		w.proveNoType(cut, "")
	}
}

// additional adds the addresses of the hosts that the answer names (RFC 1034 §4.3.2, step
// 6), each host once. For NS records that includes glue, of sibling delegations too (RFC
// 9471 §2.2); data below a cut is of no use to anybody else.
func (w *walk) additional() {
	var done []dns.Name
	for _, section := range [][]dns.RR{w.answer.Answer, w.answer.Authority} {
		for _, rr := range section {
			target, isNS := host(rr)
			name := dns.NameOf(target)
			n := w.zone.nodes[name]
			if n == nil || n.cut != nil && !isNS || slices.Contains(done, name) {
				continue
			}
			done = append(done, name)
			for _, t := range []dns.Type{dns.TypeA, dns.TypeAAAA} {
				w.answer.Additional = append(w.answer.Additional, n.sets[t]...)
				if w.q.DNSSEC { // RFC 4035 §3.1.1; glue has none
					w.answer.Additional = append(w.answer.Additional, n.sigs[t]...)
				}
			}
		}
	}
}

// host gives the host name that a record points to.
func host(rr dns.RR) (target string, isNS bool) {
	switch rr := rr.(type) {
	case *wire.NS:
		return rr.Ns, true
	case *wire.MX:
		return rr.Mx, false
	case *wire.SRV:
		return rr.Target, false
	}
	return "", false
}
