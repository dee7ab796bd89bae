package zone

import (
	"slices"
	"strings"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// hashedNode is one NSEC3 record with its signatures. Its owner is no name of the zone
// (RFC 5155 §7.2.8), so it stands apart from the nodes.
type hashedNode struct {
	hash string // in capitals, as the wire library writes hashes
	set  []dns.RR
	sigs []dns.RR
}

// index finds in a zone what makes signed answers: it sorts the names, ties signatures to
// their sets, and takes the NSEC3 records out of the tree.
func (z *Zone) index() {
	z.takeHashes()
	z.ordered = z.ordered[:0]
	for _, n := range z.nodes {
		if n.order == "" {
			n.order = order(n.name)
		}
		n.sigs = nil
		for _, rr := range n.sets[typeRRSIG] {
			sig, ok := rr.(*wire.RRSIG)
			if !ok {
				continue
			}
			if n.sigs == nil {
				n.sigs = map[dns.Type][]dns.RR{}
			}
			covered := dns.Type(sig.TypeCovered)
			n.sigs[covered] = append(n.sigs[covered], rr)
		}
		if len(n.sets[typeNSEC]) > 0 && (n.cut == nil || n.cut == n) {
			z.ordered = append(z.ordered, n)
		}
	}
	slices.SortFunc(z.ordered, func(a, b *node) int { return strings.Compare(a.order, b.order) })
	z.params = nil
	for _, rr := range z.nodes[z.Origin].sets[typeNSEC3PARAM] {
		// RFC 5155 §4.1.2: records with other flags are not for us.
		if p, ok := rr.(*wire.NSEC3PARAM); ok && p.Flags == 0 && p.Hash == wire.SHA1 && len(z.hashes) > 0 {
			z.params = p
		}
	}
}

// takeHashes moves the NSEC3 records of a pre-signed zone out of the tree of names.
func (z *Zone) takeHashes() {
	moved := false
	for name, n := range z.nodes {
		set := n.sets[typeNSEC3]
		if len(set) == 0 || n.parent == nil || n.parent.name != z.Origin {
			continue
		}
		h := hashedNode{hash: strings.ToUpper(name.Labels()[0]), set: set}
		var rest []dns.RR
		for _, rr := range n.sets[typeRRSIG] {
			if sig, ok := rr.(*wire.RRSIG); ok && sig.TypeCovered == wire.TypeNSEC3 {
				h.sigs = append(h.sigs, rr)
			} else {
				rest = append(rest, rr)
			}
		}
		delete(n.sets, typeNSEC3)
		delete(n.sets, typeRRSIG)
		if len(rest) > 0 {
			n.sets[typeRRSIG] = rest
		}
		if len(n.sets) == 0 && !z.hasChild(n) {
			delete(z.nodes, name)
		}
		z.hashes = append(z.hashes, h)
		moved = true
	}
	if moved {
		slices.SortFunc(z.hashes, func(a, b hashedNode) int { return strings.Compare(a.hash, b.hash) })
	}
}

// hasChild is only asked of names that look like hashes, which have none.
func (z *Zone) hasChild(n *node) bool {
	if n.wildcard != nil {
		return true
	}
	for _, other := range z.nodes {
		if other.parent == n {
			return true
		}
	}
	return false
}

// order gives a text that sorts as RFC 4034 §6.1 wants the name to: labels from the right,
// each as octets with an end that is less than any octet.
func order(name dns.Name) string {
	var b strings.Builder
	labels := wire.SplitDomainName(name.FQDN())
	buf := make([]byte, 256)
	for _, label := range slices.Backward(labels) {
		n, err := wire.PackDomainName(label+".", buf, 0, nil, false)
		if err != nil {
			continue // no name that was parsed gives an error here
		}
		for _, c := range buf[1 : n-1] {
			switch c {
			case 0, 1:
				b.WriteByte(1)
				b.WriteByte(c + 1)
			default:
				b.WriteByte(c)
			}
		}
		b.WriteByte(0)
	}
	return b.String()
}

// signatures gives the records of a section that sign a set of a node, at the name asked
// if the node is a wildcard.
func (n *node) signatures(t dns.Type, owner string) []dns.RR {
	sigs := n.sigs[t]
	if owner == "" || len(sigs) == 0 {
		return sigs
	}
	out := make([]dns.RR, len(sigs))
	for i, rr := range sigs {
		out[i] = wire.Copy(rr)
		out[i].Header().Name = owner
	}
	return out
}

// prove adds proof records to the authority section, each once.
func (w *walk) prove(set, sigs []dns.RR) {
	if len(set) == 0 || containsRR(w.answer.Authority, set[0]) {
		return
	}
	w.answer.Authority = append(append(slices.Clip(w.answer.Authority), set...), sigs...)
}

// nothing sets the authority section of a negative answer (RFC 2308 §2).
func (w *walk) nothing() {
	if !w.q.DNSSEC {
		w.answer.Authority = w.zone.negative
		return
	}
	w.answer.Authority = append(slices.Clip(w.zone.negativeSigned), w.answer.Authority...)
}

// proofs reports whether negative answers need them: for who asks with DO, in a zone that
// has them.
func (w *walk) proofs() bool {
	return w.q.DNSSEC && (w.zone.params != nil || len(w.zone.ordered) > 0)
}

// proveNoName shows that a name does not exist, nor a wildcard that would stand for it
// (RFC 4035 §3.1.3.2, RFC 5155 §7.2.2).
func (w *walk) proveNoName(name dns.Name, encloser *node) {
	if !w.proofs() {
		return
	}
	if w.zone.params == nil {
		w.nsec(w.zone.covering(order(name)))
		w.nsec(w.zone.covering(encloser.order + "*\x00"))
		return
	}
	closest := w.enclosure(name)
	w.nsec3(w.zone.coveringHash(wildcardOf(closest)))
}

// proveNoExact shows that the name itself does not exist, so that a wildcard may stand for
// it (RFC 4035 §3.1.3.3, RFC 5155 §7.2.6).
func (w *walk) proveNoExact(name dns.Name, encloser *node) {
	if !w.proofs() {
		return
	}
	if w.zone.params == nil {
		w.nsec(w.zone.covering(order(name)))
		return
	}
	w.nsec3(w.zone.coveringHash(nextCloser(name, encloser.name)))
}

// proveNoType shows that a node has no records of the type; owner is the name asked if the
// node is a wildcard (RFC 4035 §3.1.3.1 and §3.1.3.4, RFC 5155 §7.2.3 to §7.2.5).
func (w *walk) proveNoType(n *node, owner string) {
	if !w.proofs() {
		return
	}
	if w.zone.params == nil {
		if owner != "" {
			w.nsec(w.zone.covering(order(dns.NameOf(owner))))
		}
		w.nsec(w.zone.covering(n.order))
		return
	}
	if owner != "" {
		w.enclosure(dns.NameOf(owner))
	}
	if h := w.zone.matchingHash(n.name); h != nil {
		w.nsec3(h)
		return
	}
	w.enclosure(n.name) // opted out
}

// enclosure is the closest encloser proof (RFC 5155 §7.2.1): the longest ancestor that has
// an NSEC3 record, and the cover of the name one label longer. With opt-out that is the
// closest provable encloser.
func (w *walk) enclosure(name dns.Name) (closest dns.Name) {
	for at := name; ; {
		above, ok := at.Parent()
		if !ok || !above.In(w.zone.Origin) {
			return w.zone.Origin
		}
		if h := w.zone.matchingHash(above); h != nil {
			w.nsec3(h)
			w.nsec3(w.zone.coveringHash(at))
			return above
		}
		at = above
	}
}

func (w *walk) nsec(n *node) {
	if n != nil {
		w.prove(n.sets[typeNSEC], n.sigs[typeNSEC])
	}
}

func (w *walk) nsec3(h *hashedNode) {
	if h != nil {
		w.prove(h.set, h.sigs)
	}
}

// covering gives the node whose NSEC record matches or covers a name, told by its order.
func (z *Zone) covering(name string) *node {
	if len(z.ordered) == 0 {
		return nil
	}
	i, found := slices.BinarySearchFunc(z.ordered, name, func(n *node, s string) int { return strings.Compare(n.order, s) })
	if !found {
		i = (i - 1 + len(z.ordered)) % len(z.ordered)
	}
	return z.ordered[i]
}

func (z *Zone) hashOf(name dns.Name) string {
	return wire.HashName(name.FQDN(), wire.SHA1, z.params.Iterations, z.params.Salt)
}

func (z *Zone) findHash(name dns.Name) (i int, found bool) {
	return slices.BinarySearchFunc(z.hashes, z.hashOf(name), func(h hashedNode, s string) int { return strings.Compare(h.hash, s) })
}

func (z *Zone) matchingHash(name dns.Name) *hashedNode {
	if i, found := z.findHash(name); found {
		return &z.hashes[i]
	}
	return nil
}

// coveringHash gives the NSEC3 record that covers a name, or none where it matches.
func (z *Zone) coveringHash(name dns.Name) *hashedNode {
	i, found := z.findHash(name)
	if found {
		return nil
	}
	return &z.hashes[(i-1+len(z.hashes))%len(z.hashes)]
}

// nextCloser is the name one label longer than the encloser, on the way to name.
func nextCloser(name, encloser dns.Name) dns.Name {
	for {
		above, ok := name.Parent()
		if !ok || above == encloser {
			return name
		}
		name = above
	}
}

func wildcardOf(name dns.Name) dns.Name {
	if name == dns.Root {
		return dns.NameOf("*.")
	}
	return dns.NameOf("*." + name.FQDN())
}
