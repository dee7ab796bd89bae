package audit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"mxward/internal/dns"
)

// The limits of the way from the root to a zone; ours.
const (
	maxCuts    = 20 // delegations on the way
	maxParents = 4  // servers of one zone above that are asked
	maxServers = 26 // addresses of the zone's own servers that are asked
	maxDetours = 3  // ways to the names of servers, within each other
	maxUnglued = 8  // servers without glue of one referral whose addresses are looked for
	maxServing = 26 // names of the zone's own servers that are looked at
)

// way walks from the root to the domain's zone, as a resolver would that trusts nobody.
func (g *gatherer) way(ctx context.Context) {
	z := &g.facts.Zone
	if g.Asker == nil || len(g.Roots) == 0 {
		z.Err = errNotAsked
		return
	}
	*z = g.walk(ctx, g.facts.Domain, 0)
}

// zone asks each of the servers of the domain's zone.
func (g *gatherer) zone(ctx context.Context) {
	z := &g.facts.Zone
	if z.Parent.IsZero() && z.Err == nil {
		g.way(ctx)
	}
	if z.Name.IsZero() {
		return
	}
	g.nameServers(ctx, z)
	g.servers(ctx, z)
	for _, s := range z.Servers {
		if s.SOA.serves() {
			g.signatures(ctx, z, s.SOA.Server)
			return
		}
	}
	z.Keys.Err = errNotAsked
}

// deadZone: where none of the servers says anything, neither to us nor to the resolver, the
// questions that follow are not asked.
func (g *gatherer) deadZone() {
	var e *dns.Error
	if z := g.facts.Zone; z.silent() && errors.As(g.facts.MX.Err, &e) && e.Trouble == dns.NoReply {
		g.rec.dead, g.rec.silence = z.Name, e
	}
}

// silentWay reports whether the servers of the domain's zone that were asked on the way there are
// all silent.
func (g *gatherer) silentWay(ctx context.Context) bool {
	heard := g.rec.heardOf(g.addressesOf(ctx, g.facts.Zone.Referral, 0), dns.Question{Name: g.facts.Domain, Type: dns.TypeSOA, DNSSEC: true})
	return len(heard) > 0 && !slices.ContainsFunc(heard, func(h Heard) bool { return dns.TroubleOf(h.Err) != dns.NoReply })
}

// silent reports whether none of the servers says anything.
func (z Zone) silent() bool {
	return len(z.Servers) > 0 && !slices.ContainsFunc(z.Servers, func(s Server) bool {
		return s.Unasked || dns.TroubleOf(s.SOA.Err) != dns.NoReply || dns.TroubleOf(s.TCP.Err) != dns.NoReply
	})
}

// walk finds the zone that a name is in, and its delegation.
func (g *gatherer) walk(ctx context.Context, name dns.Name, detours int) Zone {
	z := Zone{Parent: dns.Root}
	above, servers := dns.Root, g.Roots
	if s, ok := g.Common.nearest(name); ok {
		z.Parent, above, servers = s.zone, s.above, s.servers
	}
	q := dns.Question{Name: name, Type: dns.TypeSOA, DNSSEC: true} // for the DS records of referrals
	for range maxCuts {
		heard := g.askToLead(ctx, servers, q, z.Parent)
		ref, answered := lead(heard, z.Parent, name)
		switch {
		case len(ref.Servers) > 0:
			if lacksGlue(ref) { // it may not have fitted into a datagram, and not every server says so
				if full, _ := lead(g.askOver(ctx, "tcp", servers, q), z.Parent, name); full.Zone == ref.Zone {
					ref = full
				}
			}
			z.Parents, z.Referral = heard, ref
		case answered != nil:
			apex := dns.Apex(answered.Said.Answer)
			z.Absent = answered.Said.Rcode == dns.NXDomain
			z.Undivided = apex != z.Parent && apex.In(z.Parent) && name.In(apex) // and not where an alias leads
			if z.Parents == nil || z.Undivided {
				z.Parents = heard
			}
			return z.arrived(apex, above)
		default:
			return z.stuck(heard, above, name)
		}
		above, z.Parent = z.Parent, ref.Zone
		servers = g.addressesOf(ctx, ref, detours)
		if len(servers) == 0 {
			return z.stuck(nil, above, name)
		}
		g.Common.keep(suffix{zone: z.Parent, above: above, servers: servers})
	}
	z.Err = fmt.Errorf("find the zone of %s: more than %d delegations", name, maxCuts)
	return z
}

// arrived: Parent, whose servers were the last that were asked, is the zone, unless they say
// that the domain is not even delegated, or have a zone below as well.
func (z Zone) arrived(apex, above dns.Name) Zone {
	switch {
	case z.Undivided && z.Absent && isSuffix(apex):
		z.Parent, z.Undivided = apex, false // as of uk and co.uk
	case z.Undivided:
		z.Name, z.Referral = apex, dns.Referral{}
	case z.Absent && (z.Parent == dns.Root || isSuffix(z.Parent)):
	default:
		z.Name, z.Parent = z.Parent, above
	}
	return z
}

// stuck: the servers of Parent do not answer. If that is not a public suffix, it is the
// domain's own zone as far as anybody can tell.
func (z Zone) stuck(heard []Heard, above, name dns.Name) Zone {
	if z.Parent != dns.Root && (!isSuffix(z.Parent) || z.Parent == name) {
		z.Name, z.Parent = z.Parent, above
		return z
	}
	z.Parents = heard
	errs := []error{fmt.Errorf("no server of %s leads on", zoneText(z.Parent))}
	for _, h := range heard {
		errs = append(errs, h.Err)
	}
	z.Err = errors.Join(errs...)
	return z
}

func isSuffix(name dns.Name) bool {
	suffix, _ := publicsuffix.PublicSuffix(name.String())
	return strings.EqualFold(suffix, name.String())
}

func zoneText(n dns.Name) string {
	if n == dns.Root {
		return "the root"
	}
	return n.String()
}

// lead gives the first referral downwards, or the first answer of the zone's own. One server
// that is behind must not make a domain vanish: a denial counts where nobody says otherwise.
func lead(heard []Heard, zone, name dns.Name) (ref dns.Referral, answered *Heard) {
	for i, h := range heard {
		if h.Err != nil {
			continue
		}
		if ref, ok := dns.ReadReferral(h.Said.Answer, name); ok && ref.Zone != zone && ref.Zone.In(zone) {
			return ref, nil
		}
		if h.serves() && (answered == nil || answered.Said.Rcode == dns.NXDomain && h.Said.Rcode == dns.NoError) {
			answered = &heard[i]
		}
	}
	return dns.Referral{}, answered
}

// lacksGlue reports whether the address of a server inside the zone is not there.
func lacksGlue(ref dns.Referral) bool {
	return slices.ContainsFunc(ref.Servers, func(ns dns.Name) bool { return ns.In(ref.Zone) && len(ref.Glue[ns]) == 0 })
}

// askSome asks a few servers at the same time.
func (g *gatherer) askSome(ctx context.Context, servers []netip.AddrPort, q dns.Question) []Heard {
	return g.askOver(ctx, "udp", servers, q)
}

func (g *gatherer) askOver(ctx context.Context, network string, servers []netip.AddrPort, q dns.Question) []Heard {
	servers = servers[:min(maxParents, len(servers))]
	heard := make([]Heard, len(servers))
	do := make([]func(context.Context), len(servers))
	for i, at := range servers {
		do[i] = func(ctx context.Context) {
			heard[i] = g.rec.ask(ctx, at, network, q)
			if heard[i].Err == nil && heard[i].Said.Truncated {
				heard[i] = g.rec.ask(ctx, at, "tcp", q)
			}
		}
	}
	g.atOnce(ctx, do...) // one that is silent keeps none of the others waiting
	return heard
}

// addressesOf gives where the servers of a referral are, IPv4 first.
func (g *gatherer) addressesOf(ctx context.Context, ref dns.Referral, detours int) []netip.AddrPort {
	var all []netip.AddrPort
	unglued := 0
	for _, ns := range ref.Servers {
		addrs := ref.Glue[ns]
		if len(addrs) == 0 && !ns.In(ref.Zone) && len(all) < maxParents && unglued < maxUnglued {
			unglued++
			addrs = g.addrs(ctx, ns, detours).Records
		}
		for _, addr := range addrs {
			if g.allowed(addr) {
				all = append(all, netip.AddrPortFrom(addr, 53))
			}
		}
	}
	slices.SortStableFunc(all, func(a, b netip.AddrPort) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	return all
}

// allowed: records of strangers do not make us talk to this host or network.
func (g *gatherer) allowed(addr netip.Addr) bool {
	return g.AllowLoopback || global(addr)
}

// addrs looks for the addresses of a server's name. Where the resolver has none, the name's
// own servers have the word: a resolver that lies must not make a server of the zone's vanish.
func (g *gatherer) addrs(ctx context.Context, name dns.Name, detours int) Fact[netip.Addr] {
	lookup := dns.LookupAddrs
	if g.Common != nil { // as with all questions about one of many domains
		lookup = dns.LookupAddrsInTurn
	}
	f := fact(lookup(ctx, g.rec, name))
	if f.Err == nil && len(f.Records) > 0 || detours == maxDetours {
		return f
	}
	z := g.walk(ctx, name, detours+1)
	if direct, ok := g.addrsFrom(ctx, g.addressesOf(ctx, z.Referral, detours+1), name); ok {
		return direct
	}
	return f
}

// addrsFrom takes the word of the first of these servers that has one.
func (g *gatherer) addrsFrom(ctx context.Context, servers []netip.AddrPort, name dns.Name) (Fact[netip.Addr], bool) {
	for _, at := range servers[:min(maxParents, len(servers))] {
		given := dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			heard := g.rec.ask(ctx, at, "udp", q)
			if heard.Err == nil && !heard.serves() {
				heard.Err = &dns.Error{Question: q, Trouble: dns.Lame, Detail: at.String()}
			}
			return heard.Said.Answer, heard.Err
		})
		// An alias that leads away from these servers is followed by the resolver.
		if set, err := dns.LookupAddrs(ctx, given, name); err == nil && (len(set.Aliases) == 0 || len(set.Records) > 0) {
			return Fact[netip.Addr]{Set: set}, true
		}
	}
	return Fact[netip.Addr]{}, false
}

// nameServers gathers the names of the zone's servers: the parent's word and the child's.
func (g *gatherer) nameServers(ctx context.Context, z *Zone) {
	for _, name := range z.Referral.Servers[:min(maxServing, len(z.Referral.Servers))] {
		z.Names = append(z.Names, NameServer{Name: name, AtParent: true})
	}
	asked := g.addressesOf(ctx, z.Referral, 0)
	if z.Undivided {
		for _, h := range z.Parents {
			asked = append(asked, h.Server)
		}
	}
	awake, silence := asked, error(nil) // who is silent now is not asked for addresses
	sleeps := func(h Heard) {
		if dns.TroubleOf(h.Err) == dns.NoReply {
			silence = h.Err
			awake = slices.DeleteFunc(slices.Clone(awake), func(at netip.AddrPort) bool { return at == h.Server })
		}
	}
	for _, h := range g.rec.heardOf(asked, dns.Question{Name: g.facts.Domain, Type: dns.TypeSOA, DNSSEC: true}) {
		sleeps(h) // on the way here
	}
	for _, h := range g.askToServe(ctx, z, awake) {
		sleeps(h)
		if !h.serves() {
			continue
		}
		set, err := dns.LookupNS(ctx, dns.Given(h.Said.Answer), z.Name)
		if err != nil {
			continue
		}
		for _, name := range set.Records {
			i := slices.IndexFunc(z.Names, func(ns NameServer) bool { return ns.Name == name })
			if i < 0 && len(z.Names) == maxServing {
				continue
			}
			if i < 0 {
				i = len(z.Names)
				z.Names = append(z.Names, NameServer{Name: name})
			}
			z.Names[i].AtChild = true
		}
	}
	do := make([]func(context.Context), len(z.Names))
	for i := range z.Names {
		do[i] = func(ctx context.Context) {
			ns, ok := &z.Names[i], false
			if ns.Name.In(z.Name) {
				ns.Addrs, ok = g.addrsFrom(ctx, awake, ns.Name)
			}
			switch {
			case ok:
			case ns.Name.In(z.Name) && silence != nil && len(awake) == 0:
				ns.Addrs.Err = silence // the resolver would wait for the same servers
			default:
				ns.Addrs = g.addrs(ctx, ns.Name, 0)
			}
		}
	}
	g.all(ctx, do...)
}

// askToServe asks servers for the names of all. Of many domains each asks one, and the others
// where that does not say what the parent says: it may be behind.
func (g *gatherer) askToServe(ctx context.Context, z *Zone, servers []netip.AddrPort) []Heard {
	q := dns.Question{Name: z.Name, Type: dns.TypeNS}
	if g.Common == nil || len(servers) < 2 {
		return g.askSome(ctx, servers, q)
	}
	return g.askFirst(ctx, servers, q, func(first Heard) bool {
		set, err := dns.LookupNS(ctx, dns.Given(first.Said.Answer), z.Name)
		return first.serves() && err == nil && sameNames(set.Records, z.Referral.Servers)
	})
}

func sameNames(a, b []dns.Name) bool {
	return !slices.ContainsFunc(a, func(n dns.Name) bool { return !slices.Contains(b, n) }) &&
		!slices.ContainsFunc(b, func(n dns.Name) bool { return !slices.Contains(a, n) })
}

// servers asks each address of each server for what mail needs.
func (g *gatherer) servers(ctx context.Context, z *Zone) {
	for _, ns := range z.Names {
		for _, addr := range union(z.Referral.Glue[ns.Name], ns.Addrs.Records) {
			if len(z.Servers) < maxServers {
				z.Servers = append(z.Servers, Server{Name: ns.Name, Addr: addr, Unasked: !g.allowed(addr)})
			}
		}
	}
	do := g.ofEach(z, soaOf)
	// What each has besides is worth a question where it is compared, also with what another
	// resolver says.
	if g.wants(comparing()...) || g.Server.IsValid() {
		do = append(do, g.ofEach(z, restOf)...)
	}
	g.atOnce(ctx, do...)
}

// comparing gives the checks that compare what the zone's servers have.
func comparing() []string {
	return []string{"deleg.ns-inconsistent", "deleg.inconsistent-rrset", "mx.inconsistent", "resolver.disagrees", "zone"}
}

// wish is what one server is asked, and where its answer goes.
type wish struct {
	into    *Heard
	network string
	q       dns.Question
}

func soaOf(g *gatherer, z *Zone, s *Server) []wish {
	// With signatures where it was asked so on the way here.
	soa := dns.Question{Name: z.Name, Type: dns.TypeSOA, DNSSEC: g.Common != nil}
	return []wish{{&s.SOA, "udp", soa}, {&s.TCP, "tcp", bare(soa)}}
}

func restOf(g *gatherer, z *Zone, s *Server) []wish {
	return []wish{
		{&s.NS, "udp", dns.Question{Name: z.Name, Type: dns.TypeNS}},
		{&s.MX, "udp", g.facts.q(dns.TypeMX)},
		{&s.TXT, "udp", g.facts.q(dns.TypeTXT)},
	}
}

// ofEach gives what asks each server.
func (g *gatherer) ofEach(z *Zone, wishes func(*gatherer, *Zone, *Server) []wish) (do []func(context.Context)) {
	for i := range z.Servers {
		if z.Servers[i].Unasked {
			continue
		}
		at := netip.AddrPortFrom(z.Servers[i].Addr, 53)
		for _, w := range wishes(g, z, &z.Servers[i]) {
			if heard, ok := g.Common.able(at); w.network == "tcp" && ok { // lately, for another zone
				*w.into = heard
				continue
			}
			if heard := g.rec.heardOf([]netip.AddrPort{at}, w.q); w.network == "udp" && len(heard) > 0 && !heard[0].Said.Truncated { // on the way here
				*w.into = heard[0]
				continue
			}
			do = append(do, func(ctx context.Context) {
				*w.into = g.rec.ask(ctx, at, w.network, w.q)
				if w.q.Type != dns.TypeSOA && w.into.Err == nil && w.into.Said.Truncated { // a part would be compared with the whole
					*w.into = g.rec.ask(ctx, at, "tcp", w.q)
				}
			})
		}
	}
	return do
}

// union gives the addresses of both, each once.
func union(a, b []netip.Addr) []netip.Addr {
	all := slices.Clone(a)
	for _, addr := range b {
		if !slices.Contains(all, addr) {
			all = append(all, addr)
		}
	}
	return all
}

// signatures asks a server of the zone for its keys and for a signature. Keys may not fit
// into a datagram.
func (g *gatherer) signatures(ctx context.Context, z *Zone, at netip.AddrPort) {
	signed := dns.Question{Name: z.Name, Type: dns.TypeSOA, DNSSEC: true}
	first, second := "tcp", "udp"
	if g.Common != nil {
		z.Signed = g.rec.ask(ctx, at, "udp", signed)
		if z.unsigned() {
			return // keys without a signature mean nothing to anybody
		}
		first, second = second, first
	}
	keys := g.rec.ask(ctx, at, first, dns.Question{Name: z.Name, Type: dns.TypeDNSKEY, DNSSEC: true})
	if keys.Err != nil || keys.Said.Truncated {
		keys = g.rec.ask(ctx, at, second, dns.Question{Name: z.Name, Type: dns.TypeDNSKEY, DNSSEC: true})
	}
	z.Keys.Err = keys.Err
	if keys.Err == nil {
		z.Keys = fact(dns.LookupKeys(ctx, dns.Given(keys.Said.Answer), z.Name))
	}
	z.Signed = g.rec.ask(ctx, at, "udp", signed)
}

// unsigned reports whether neither the parent nor the zone's own server shows that it is signed.
func (z Zone) unsigned() bool {
	return len(z.Referral.DS) == 0 && !z.Undivided && z.Signed.serves() && !z.Signed.Said.Truncated && len(dns.Signatures(z.Signed.Said.Answer)) == 0
}
