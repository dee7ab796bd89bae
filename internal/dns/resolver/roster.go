package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

const (
	dnsPort   = 53
	maxDead   = 2 // servers known to be dead that are asked nevertheless, when no other is left
	maxRounds = 2 // packets to a server that is silent, in one question
)

// candidate is one address of one name server.
type candidate struct {
	name     dns.Name
	server   netip.AddrPort
	standing standing
	estimate time.Duration
	heard    bool // the last time that it was asked
	rounds   int  // packets that it left without a reply
}

// crew is the servers of one zone while one question is put to them. It hands them out in
// this order: good ones, fastest first; those whose addresses must be looked up; silent
// ones once more, since a packet may be lost; and those that memory speaks against. At the
// end it says what was wrong with all of them.
type crew struct {
	r   *Resolver
	led *ledger
	cut *delegation

	ready   []candidate // good
	doubted []candidate // lame or dead by memory, or without a route
	again   []candidate // silent the first time
	missing []dns.Name  // name servers without an address
	known   []netip.Addr
	twice   []dns.Name // looked up though an address was known
	dead    int        // dead ones asked
	child   bool       // the child's own NS records have been looked at

	faults  faults
	absent  int     // name servers that do not exist or have no address
	limited bool    // a limit kept us from looking one up
	lookups []error // what kept addresses from being found
	detail  string
}

// muster calls the servers that the parent names.
func (r *Resolver) muster(led *ledger, cut *delegation) *crew {
	c := &crew{r: r, led: led, cut: cut}
	if len(cut.fixed) > 0 {
		c.child = true // the operator has named them all
		c.add(cut.candidates())
		return c
	}
	c.call(cut.names, r.roll(cut))
	return c
}

// faults counts what was wrong with servers.
type faults [faultMalformed + 1]int

func (f faults) sum() (n int) {
	for _, of := range f {
		n += of
	}
	return n
}

// call takes in name servers by name and what is known of their addresses; those without one
// are to be looked up.
func (c *crew) call(names []dns.Name, known [][]netip.Addr) {
	n := 0
	for _, addrs := range known {
		n += len(addrs)
	}
	c.known = slices.Grow(c.known, n)
	found := make([]candidate, 0, n)
	for i, name := range names {
		addrs := known[i]
		if len(addrs) == 0 || !c.routable(addrs) && !name.In(c.cut.zone) {
			c.missing = append(c.missing, name)
		}
		found = c.candidates(found, name, addrs)
	}
	c.add(found)
}

// routable reports whether one of the addresses is of a family that this host can reach.
func (c *crew) routable(addrs []netip.Addr) bool {
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return c.r.servers.routable(familyOf(a)) })
}

// rollFor is how long what is known of a zone's servers is not looked up again: a moment, so
// that many questions in a row for one zone find them ready.
const rollFor = 5 * time.Second

// rollCall is the addresses of a delegation's servers, in the order of their names.
type rollCall struct {
	addrs [][]netip.Addr
	until time.Time
}

// roll gives what is known of the addresses of a delegation's servers.
func (r *Resolver) roll(cut *delegation) [][]netip.Addr {
	now := time.Now()
	if known := cut.roll.Load(); known != nil && known.until.After(now) {
		return known.addrs
	}
	addrs := r.look(cut, cut.names, now)
	if !slices.ContainsFunc(addrs, func(of []netip.Addr) bool { return len(of) == 0 }) { // else more may be known in a moment
		cut.roll.Store(&rollCall{addrs, now.Add(rollFor)})
	}
	return addrs
}

// look gives what is known of the addresses of name servers.
func (r *Resolver) look(cut *delegation, names []dns.Name, now time.Time) [][]netip.Addr {
	addrs := make([][]netip.Addr, len(names))
	for i, name := range names {
		addrs[i] = r.addresses(cut, name, now)
	}
	return addrs
}

// addresses gives what is known of a name server: for each family what its own zone says,
// if that is in the cache, else the parent's glue (RFC 2181 §5.4.1).
func (r *Resolver) addresses(cut *delegation, name dns.Name, now time.Time) []netip.Addr {
	var addrs []netip.Addr
	for family, typ := range [...]dns.Type{dns.TypeA, dns.TypeAAAA} {
		var own []netip.Addr
		if p := r.cache.find(r.asks(dns.Question{Name: name, Type: typ}, true), now); p != nil {
			own = addresses(p.answer)
		}
		for _, a := range cut.glue[name] {
			if len(own) == 0 && familyOf(a) == family {
				addrs = append(addrs, a)
			}
		}
		addrs = append(addrs, own...)
	}
	return addrs
}

func addresses(records []dns.RR) []netip.Addr {
	var addrs []netip.Addr
	for _, rr := range records {
		if a, ok := address(rr); ok {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// candidates appends those at some addresses of one name. It drops addresses where no name
// server can be, and those that are known: many names for one address must not multiply the
// work (CVE-2026-3592).
func (c *crew) candidates(found []candidate, name dns.Name, addrs []netip.Addr) []candidate {
	most := len(found) + maxNSAddresses
	for _, a := range addrs {
		if slices.Contains(c.known, a) || !c.r.usable(a, c.cut.zone == dns.Root) || c.r.rebinds(c.cut.zone, a) || len(found) >= most {
			continue
		}
		c.known = append(c.known, a)
		found = append(found, candidate{name: name, server: netip.AddrPortFrom(a, dnsPort)})
	}
	return found
}

// usable reports whether a name server may be at an address.
func (r *Resolver) usable(a netip.Addr, hint bool) bool {
	switch {
	case a.Is4() && r.NoIPv4, a.Is6() && r.NoIPv6:
		return false
	case a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 224): // RFC 1122 §3.2.1.3, RFC 5771, RFC 1112
		return false
	case a.Is4In6(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast():
		return false
	case a.IsLoopback():
		return hint || r.AllowLoopback
	}
	return a.IsValid()
}

// add ranks new candidates in among those not asked yet.
func (c *crew) add(found []candidate) {
	all := append(c.ready, found...)
	good := c.r.servers.rank(all, c.cut.zone)
	c.ready, c.doubted = all[:good:good], append(c.doubted, all[good:]...)
}

// next gives the server to ask next, or false if there is none left.
func (c *crew) next(ctx context.Context) (candidate, bool) {
	for ctx.Err() == nil && !c.hopeless() {
		if len(c.ready) > 0 {
			return pop(&c.ready), true
		}
		if len(c.missing) > 0 {
			c.add(c.lookup(ctx, pop(&c.missing)))
			continue
		}
		if len(c.again) > 0 {
			return pop(&c.again), true
		}
		if len(c.doubted) > 0 {
			s := pop(&c.doubted)
			if s.standing == standingDead {
				if c.dead++; c.dead > maxDead {
					c.faults[faultSilent]++
					c.led.tried(dns.Attempt{Server: s.server, Name: s.name.String(), Protocol: "udp", Said: "not asked: it was silent the last times"})
					continue
				}
				s.rounds = maxRounds // no second packet
			}
			return s, true
		}
		if c.child {
			break
		}
		c.child = true
		names := c.childServers()
		c.call(names, c.r.look(c.cut, names, time.Now()))
	}
	return candidate{}, false
}

// heardInstead gives one that was heard in the place of another, if there is one.
func (c *crew) heardInstead(s candidate) candidate {
	i := slices.IndexFunc(c.ready, func(other candidate) bool { return other.heard })
	if i < 0 {
		return s
	}
	s, c.ready[i] = c.ready[i], s
	return s
}

// hopeless reports whether enough root servers were heard to know that none of them was
// one: the root has no lame servers, so somebody answers in their place.
func (c *crew) hopeless() bool {
	return c.cut.zone == dns.Root && c.impostors() >= 2 && c.impostors()+len(c.again)+c.faults[faultSilent] >= 4
}

func pop[T any](list *[]T) T {
	first := (*list)[0]
	*list = (*list)[1:]
	return first
}

// childServers gives the servers that the zone itself names and its parent does not, if
// somebody asked for them: the last resort where the parent's are of no use.
func (c *crew) childServers() []dns.Name {
	p := c.r.cache.find(c.r.asks(dns.Question{Name: c.cut.zone, Type: dns.TypeNS}, false), time.Now())
	if p == nil {
		return nil
	}
	called := map[dns.Name]bool{}
	for _, name := range c.cut.names {
		called[name] = true
	}
	var names []dns.Name
	for _, rr := range p.answer {
		ns, ok := rr.(*wire.NS)
		if !ok || len(names) >= maxNSNames {
			continue
		}
		if name := dns.NameOf(ns.Ns); !called[name] {
			called[name] = true
			names = append(names, name)
		}
	}
	return names
}

// lookup finds the addresses of a name server that came without glue. All that it costs is
// the asker's (NXNSAttack, 2020), and it may take half of the time that is left, so that
// one dark name server cannot use it up.
func (c *crew) lookup(ctx context.Context, name dns.Name) []candidate {
	if name.In(c.cut.zone) {
		c.lost(name, "lies in the zone itself and has no glue")
		return nil
	}
	if c.absent >= maxNSMissing {
		c.r.counts.limits[limitNSMissing].Add(1)
		return nil
	}
	if !c.led.chargeNSLookup() {
		c.limited = true
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		half, cancel := context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
		ctx = half
	}
	families := []dns.Type{dns.TypeA, dns.TypeAAAA}
	if c.r.NoIPv4 || !c.r.servers.routable(0) {
		families = []dns.Type{dns.TypeAAAA, dns.TypeA}
	}
	failed, why := false, "has no address"
	for _, family := range families {
		q := dns.Question{Name: name, Type: family}
		answer, err := c.r.chase(ctx, q, c.r.open(c.r.asks(q, true), c.led))
		if err != nil {
			failed = true
			c.lookups = append(c.lookups, fmt.Errorf("name server %s: %w", name, err))
			continue
		}
		if found := c.candidates(nil, name, addresses(answer.Answer)); len(found) > 0 {
			return found
		}
		if answer.Rcode == dns.NXDomain {
			why = "does not exist"
			break
		}
		if len(addresses(answer.Answer)) > 0 {
			why = "has no address of use that was not tried"
		}
	}
	if !failed {
		c.lost(name, why)
	}
	return nil
}

// lost notes a name server that cannot be found.
func (c *crew) lost(name dns.Name, why string) {
	c.absent++
	if c.detail == "" {
		c.detail = fmt.Sprintf("name server %s %s", name, why)
	}
}

// failed notes what was wrong with a server that was asked.
func (c *crew) failed(ctx context.Context, s candidate, e *serverError) {
	s.rounds++
	if e.fault == faultSilent {
		if len(c.cut.fixed) == 0 { // a stub's servers are not the Internet's
			c.r.feelPulse(ctx, c.led, c.cut.zone)
		}
		if s.rounds < maxRounds && !e.heard {
			c.again = append(c.again, s)
			return
		}
	}
	c.faults[e.fault]++
	// Without a route in this family, the server may have an address in the other.
	if e.fault == faultLocal && !c.r.servers.routable(familyOf(s.server.Addr())) && !s.name.IsZero() && !slices.Contains(c.twice, s.name) && !s.name.In(c.cut.zone) {
		c.twice = append(c.twice, s.name)
		c.missing = append(c.missing, s.name)
	}
}

// failure sums up why no server gave an answer.
func (c *crew) failure(ctx context.Context) error {
	if ctx.Err() == context.Canceled {
		return ctx.Err()
	}
	asked := len(c.again)
	c.faults[faultSilent] += asked
	asked = c.faults.sum()
	e := c.led.failed(c.trouble(asked > 0, ctx.Err() != nil), "")
	switch {
	case asked > 0 && c.dark(ctx, e.Trouble):
		e.Detail = "no root server replies"
		if c.impostors() > 0 {
			e.Detail = "something on the way answers in the place of the root servers"
		}
		e.Trouble = dns.NoNetwork
	case e.Trouble == dns.BrokenDelegation:
		e.Detail = c.detail
	}
	e.Detail = join(c.cut.servers(), e.Detail)
	if asked == 0 {
		if e.Err = c.cause(); e.Err != nil && e.Detail == c.cut.servers() {
			e.Detail += ": a name server's address cannot be had"
		}
		e.Attempts = append(e.Attempts, attempts(c.lookups)...)
	}
	return e
}

// impostors is the number of servers that replied with what is no answer.
func (c *crew) impostors() int {
	return c.faults[faultFailed] + c.faults[faultLame] + c.faults[faultMalformed]
}

// dark reports whether the failure of all servers is that of our network. Silence is its
// sign; but a network may also refuse every packet, or answer every question itself, and
// then the servers asked look as if they failed. The root tells the difference: it always
// answers, unless it cannot be reached from here.
func (c *crew) dark(ctx context.Context, t dns.Trouble) bool {
	if len(c.cut.fixed) > 0 {
		return false // a stub's servers are not the Internet's
	}
	switch t {
	case dns.NoReply:
		return !c.r.alive(ctx, c.led)
	case dns.ServerFailed, dns.Lame, dns.Malformed:
		if c.r.servers.livedWithin(recently) {
			return false
		}
		c.r.feelPulse(ctx, c.led, c.cut.zone)
		return !c.r.alive(ctx, c.led) && ctx.Err() == nil
	}
	return false
}

func join(a, b string) string {
	if b == "" {
		return a
	}
	return a + ": " + b
}

// trouble names the class. The servers that were asked decide; where there were none, the
// reason why.
func (c *crew) trouble(asked, late bool) dns.Trouble {
	silent, refusing := c.faults[faultSilent], c.faults[faultFailed]
	lame, malformed := c.faults[faultLame], c.faults[faultMalformed]
	switch {
	case !asked && len(c.lookups) == 0 && (late || c.limited):
		return dns.WorkLimit
	case !asked:
		return c.lookupTrouble()
	case refusing > 0:
		return dns.ServerFailed
	case malformed > 0:
		return dns.Malformed
	case silent > 0:
		return dns.NoReply
	case lame > 0:
		return dns.Lame
	}
	return dns.NoNetwork
}

// lookupTrouble names the class where no address of a server was found. That a name server
// could not be looked up is its own servers' trouble, or ours; only where the DNS says that
// there is no address, the delegation is broken.
func (c *crew) lookupTrouble() dns.Trouble {
	worst := dns.BrokenDelegation
	for _, err := range c.lookups {
		if t := dns.TroubleOf(err); t != 0 && t < worst {
			worst = t
		}
	}
	return worst
}

// cause gives the one error of a look-up that says most; all of them would say it again
// for each family and each level.
func (c *crew) cause() error {
	worst := c.lookupTrouble()
	var first error
	for _, err := range c.lookups {
		if errors.Is(err, errCircular) {
			return err
		}
		if first == nil && (dns.TroubleOf(err) == worst || worst == dns.BrokenDelegation) {
			first = err
		}
	}
	return first
}

// attempts gathers what the look-ups of name servers tried.
func attempts(errs []error) []dns.Attempt {
	var all []dns.Attempt
	for _, err := range errs {
		var e *dns.Error
		if errors.As(err, &e) && len(all)+len(e.Attempts) <= maxAttemptsKept {
			all = append(all, e.Attempts...)
		}
	}
	return all
}
