package resolver

import (
	"context"
	"errors"
	"net/netip"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
)

// Validation (RFC 4035 §5) stands between scrub and the cache: what a reply says about one
// name and type is secure, insecure or bogus before anybody sees it. Bogus is an error; the
// cache keeps the other two with their mark. A question with CD=1 has pieces of its own,
// which were never looked at, and so have the addresses of name servers: they only show
// the way.
//
// The proof goes from the data upwards: the signer's keys need a DS record, which was
// signed by the zone above, and so on to a trust anchor. All that it takes is charged to
// the ledger of the question.

const (
	typeDNSKEY = dns.Type(wire.TypeDNSKEY)
	typeDNAME  = dns.Type(wire.TypeDNAME)
	typeRRSIG  = dns.Type(wire.TypeRRSIG)
	typeNSEC   = dns.Type(wire.TypeNSEC)
	typeNSEC3  = dns.Type(wire.TypeNSEC3)
)

// maxTrust is how long the judgement about a zone's keys is kept at most.
const maxTrust = time.Hour

// standing of a zone in the chain of trust.
type standingOf int

const (
	unsignedZone standingOf = iota + 1 // no chain of trust leads to it: what it says is insecure
	signedZone
	noZone // it is a name inside the zone above
)

// zoneTrust is what is known of a zone. Once its keys have been judged, keys is set.
type zoneTrust struct {
	standing standingOf
	why      uint16 // an unsigned zone has a signature in vain: the extended DNS error (RFC 8914)
	ds       []dns.RR
	keys     *dnssec.Zone
	until    time.Time
}

// asks makes the ask of a question; with a parent, it is for our own use.
func (r *Resolver) asks(q dns.Question, own bool) ask {
	return ask{name: q.Name, typ: q.Type, dnssec: q.DNSSEC, unchecked: r.validating() && (q.CheckingDisabled || own)}
}

// upstream is what servers are asked for an ask: where we validate, always with signatures.
func (r *Resolver) upstream(a ask) ask {
	a.dnssec = a.dnssec || r.validating()
	return a
}

// vetted judges the pieces of a reply that the servers of a zone gave, and leaves out the
// signatures that were not asked for. It is the only way into the cache.
func (r *Resolver) vetted(ctx context.Context, led *ledger, servers dns.Name, pieces []*piece) ([]*piece, error) {
	if !r.validating() {
		return pieces, nil
	}
	for _, p := range pieces {
		if !led.unchecked {
			if err := r.vet(ctx, led, servers, p); err != nil {
				return nil, err
			}
		}
		p.unchecked, p.dnssec = led.unchecked, led.dnssec
		if !led.dnssec {
			p.answer, p.authority = bare(p.answer, p.typ), bare(p.authority, noType)
		}
	}
	return pieces, nil
}

// noType asks for no type of DNSSEC's: nobody's question is about the authority section.
const noType = dns.Type(0)

// bare leaves out what only those want who asked for it (RFC 4035 §3.2.1).
func bare(section []dns.RR, typ dns.Type) []dns.RR {
	var kept []dns.RR
	for _, rr := range section {
		switch t := dns.Type(rr.Header().Rrtype); t {
		case typeRRSIG, typeNSEC, typeNSEC3:
			if t != typ && typ != dns.TypeANY {
				continue
			}
		}
		kept = append(kept, rr)
	}
	return kept
}

// vet judges one piece and marks it.
func (r *Resolver) vet(ctx context.Context, led *ledger, servers dns.Name, p *piece) error {
	v := vetting{r: r, led: led, servers: servers, p: p, now: time.Now()}
	secure, err := v.judge(ctx)
	var f *dnssec.Fault
	switch {
	case errors.As(err, &f):
		return led.bogus(f)
	case errors.Is(err, dnssec.ErrWork):
		return led.exhausted(limitValidation, "%v", err)
	case errors.Is(err, errCircular):
		return led.exhausted(limitValidation, "the keys of the zones above need each other")
	case err != nil:
		return err
	}
	p.secure = secure
	if secure {
		// Nothing outlives its signatures, nor the TTL that was signed (RFC 4035 §5.3.3).
		p.ttl = max(0, min(p.ttl, v.ttl, v.until.Sub(v.now)))
	}
	return nil
}

// bogus makes the error of a failed validation.
func (l *ledger) bogus(f *dnssec.Fault) *dns.Error {
	e := l.failed(dns.Bogus, f.Text)
	e.Extended = f.Code
	return e
}

// vetting is the judgement of one piece.
type vetting struct {
	r       *Resolver
	led     *ledger
	servers dns.Name // the zone whose servers gave the piece
	p       *piece
	now     time.Time
	until   time.Time     // the end of the first signature that ends
	ttl     time.Duration // the least that was signed
}

func (v *vetting) judge(ctx context.Context) (secure bool, err error) {
	v.until, v.ttl = v.now.Add(maxTTL), maxTTL
	if v.p.typ == typeRRSIG || v.r.exempt(above(v.p.ask)) {
		return false, nil
	}
	if v.p.typ == typeDNSKEY && v.p.name == v.servers {
		return v.keys(ctx, keySet(v.p)) // they cannot be judged by themselves
	}
	above, err := v.r.standing(ctx, v.led, v.servers)
	if err != nil {
		return false, err
	}
	if above.standing == unsignedZone && !v.r.anchoredBelow(v.servers, v.p.name) {
		return v.insecure(above)
	}
	if len(v.p.answer) == 0 {
		return v.denial(ctx)
	}
	sets := dnssec.Group(v.p.answer)
	for i, set := range sets {
		if i > 0 && sets[0].Type == typeDNAME && v.p.typ == dns.TypeCNAME {
			continue // the CNAME that we made of the DNAME
		}
		if secure, err = v.set(ctx, set); err != nil || !secure {
			return false, err
		}
	}
	return secure, nil
}

func keySet(p *piece) dnssec.Set {
	for _, set := range dnssec.Group(p.answer) {
		if set.Type == typeDNSKEY && set.Name == p.name {
			return set
		}
	}
	return dnssec.Set{Name: p.name, Type: typeDNSKEY}
}

// insecure is the judgement about what an unsigned zone says.
func (v *vetting) insecure(zone *zoneTrust) (secure bool, err error) {
	v.p.extended = zone.why
	return false, nil
}

// set judges an RRset of the answer.
func (v *vetting) set(ctx context.Context, set dnssec.Set) (secure bool, err error) {
	signer := set.Signer(v.servers)
	if signer.IsZero() {
		return false, v.unsigned(ctx, set.Name, set.Type, "there is no signature on "+set.String())
	}
	if set.Type == typeDNSKEY && signer == set.Name {
		return v.keys(ctx, set)
	}
	zone, err := v.r.keysOf(ctx, v.led, signer)
	if err != nil {
		return false, err
	}
	switch zone.standing {
	case unsignedZone:
		return v.insecure(zone)
	case noZone:
		return false, &dnssec.Fault{Code: dnssec.CodeBogus, Text: "the signature on " + set.String() + " is by " + signer.String() + ", which is no zone"}
	}
	verdict, err := zone.keys.Verify(set, v.now, &v.led.work)
	if err != nil {
		return false, err
	}
	v.note(verdict)
	if !verdict.Expanded {
		return true, nil
	}
	proof, until, err := zone.keys.Proof(v.p.authority, v.now, &v.led.work)
	if err != nil {
		return false, err
	}
	v.ends(until)
	v.dear(proof)
	denial, err := proof.Wildcard(set.Name, verdict.Labels)
	if err != nil || denial != dnssec.Proven {
		return false, err
	}
	v.teach(expanded(signer, set, verdict, proof))
	return true, nil
}

// dear says why a proof with too many iterations proves nothing.
func (v *vetting) dear(proof *dnssec.Proof) {
	if proof.Dear() {
		v.p.extended = dnssec.CodeIterations
	}
}

func (v *vetting) note(verdict dnssec.Verdict) {
	v.ends(verdict.Until)
	v.ttl = min(v.ttl, verdict.TTL)
}

func (v *vetting) ends(t time.Time) {
	if t.Before(v.until) {
		v.until = t
	}
}

// denial judges a piece that says that there is nothing.
func (v *vetting) denial(ctx context.Context) (secure bool, err error) {
	sets := dnssec.Group(v.p.authority)
	said := denier(sets)
	if said.Name.IsZero() || v.p.typ == dns.TypeDS && said.Type == dns.TypeSOA && said.Name == v.p.name && v.p.name != dns.Root {
		return false, v.unsigned(ctx, v.p.name, v.p.typ, "there is no proof that "+v.p.name.String()+" has no "+v.p.typ.String())
	}
	if v.p.typ == typeDNSKEY && said.Name == v.p.name {
		return v.keys(ctx, keySet(v.p))
	}
	signer := said.Signer(v.servers)
	if signer.IsZero() {
		return false, v.unsigned(ctx, v.p.name, v.p.typ, "there is no signature on "+said.String())
	}
	zone, err := v.r.keysOf(ctx, v.led, signer)
	switch {
	case err != nil:
		return false, err
	case zone.standing == unsignedZone:
		return v.insecure(zone)
	case zone.standing == noZone:
		return false, &dnssec.Fault{Code: dnssec.CodeBogus, Text: "the signature on " + said.String() + " is by " + signer.String() + ", which is no zone"}
	}
	taught := lesson{zone: signer}
	if said.Type == dns.TypeSOA {
		verdict, err := zone.keys.Verify(said, v.now, &v.led.work)
		if err != nil {
			return false, err
		}
		v.note(verdict)
		if said.Name == signer {
			taught.soa = dnssec.Set{Name: said.Name, Type: said.Type, Records: said.Records, Sigs: []*wire.RRSIG{verdict.Sig}}
		}
	}
	proof, until, err := zone.keys.Proof(v.p.authority, v.now, &v.led.work)
	if err != nil {
		return false, err
	}
	v.ends(until)
	v.dear(proof)
	secure, err = v.proven(proof)
	if secure && err == nil {
		taught.denials = proof.Sets
		v.teach(taught)
	}
	return secure, err
}

// proven asks the proof for what the piece says.
func (v *vetting) proven(proof *dnssec.Proof) (secure bool, err error) {
	var denial dnssec.Denial
	switch {
	case v.p.rcode == dns.NXDomain:
		denial, err = proof.NXDomain(v.p.name)
	case v.p.typ == dns.TypeDS:
		v.p.cut, err = proof.NoDS(v.p.name)
		fallthrough
	default:
		if err == nil {
			denial, err = proof.NoData(v.p.name, v.p.typ)
		}
	}
	return denial == dnssec.Proven, err
}

// denier gives the set whose signer denies: the SOA, or in a referral an NSEC or NSEC3.
func denier(sets []dnssec.Set) dnssec.Set {
	var found dnssec.Set
	for _, set := range sets {
		switch {
		case set.Type == dns.TypeSOA:
			return set
		case (set.Type == typeNSEC || set.Type == typeNSEC3) && found.Name.IsZero():
			found = set
		}
	}
	return found
}

// unsigned looks for the unsigned delegation that excuses a missing signature (RFC 4035
// §5.2): somewhere between the zone whose servers said it and the name. Servers may serve
// zones below the one that they are asked for, so that no referral showed it.
func (v *vetting) unsigned(ctx context.Context, name dns.Name, typ dns.Type, missing string) error {
	for _, at := range between(v.servers, above(ask{name: name, typ: typ})) {
		t, err := v.r.standing(ctx, v.led, at)
		if dns.TroubleOf(err) == dns.Bogus {
			break // nothing there is signed: that is what was missing in the first place
		}
		if err != nil {
			return err
		}
		if t.standing == unsignedZone {
			v.p.extended = t.why
			return nil
		}
	}
	return &dnssec.Fault{Code: dnssec.CodeSignaturesMissing, Text: missing + ", and its zone is signed"}
}

// between gives the names below top down to name, top first.
func between(top, name dns.Name) []dns.Name {
	var path []dns.Name
	for ok := true; ok && name != top && name.In(top); name, ok = name.Parent() {
		path = append([]dns.Name{name}, path...)
	}
	return path
}

// keys judges the DNSKEY set of a zone by its DS records.
func (v *vetting) keys(ctx context.Context, set dnssec.Set) (secure bool, err error) {
	t, err := v.r.standing(ctx, v.led, set.Name)
	if err != nil || t.standing != signedZone {
		if err == nil {
			v.p.extended = t.why
		}
		return false, err
	}
	zone, verdict, err := dnssec.Trust(set.Name, t.ds, set, v.now, &v.led.work)
	known := *t
	switch {
	case errors.Is(err, dnssec.ErrUnsupported):
		known.standing, known.why = unsignedZone, dnssec.CodeUnsupportedAlgorithm
		v.r.keepTrust(v.led, set.Name, &known)
		return v.insecure(&known)
	case err != nil:
		return false, err
	}
	v.note(verdict)
	known.keys = zone
	if end := v.now.Add(min(v.p.ttl, verdict.TTL)); end.Before(known.until) {
		known.until = end
	}
	if v.until.Before(known.until) {
		known.until = v.until
	}
	v.r.keepTrust(v.led, set.Name, &known)
	v.r.rollover(set, v.now, v.led)
	return true, nil
}

// anotherTry reports whether a bogus reply is worth a question to another server: one
// secondary with old signatures must not take a zone away. The one that gave it is asked
// last from now on.
func (r *Resolver) anotherTry(led *ledger, cut *delegation, from netip.AddrPort, err error) bool {
	var e *dns.Error
	if !errors.As(err, &e) || e.Trouble != dns.Bogus || e.Question != led.question() || len(cut.names) < 2 {
		return false
	}
	r.servers.lame(from, cut.zone)
	return true
}
