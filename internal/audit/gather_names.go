package audit

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dmarc"
)

// The limits of what is asked about names; ours.
const (
	maxChallenges = 12 // names whose ACME challenges are looked at
	maxBesides    = 4  // aliases of which a server is asked whether they are alone
)

// Names is what stands at names below the domain that mail uses, and at one that nobody has.
type Names struct {
	Asked bool
	Well  []Alias // those of wellNames
	Wild  Wild
	// Besides is what one server of the zone has beside an alias.
	Besides []Beside
}

// Beside is what a server says to questions for several types at one name.
type Beside struct {
	Name  dns.Name
	Heard map[dns.Type]Heard
}

// wellNames are the labels below a domain that mail programs and senders ask for.
func wellNames() []string { return []string{"mta-sts", "autoconfig", "autodiscover", "mail"} }

// Alias is a name, and where it leads if it is an alias.
type Alias struct {
	Host
	// Free: the domain that it leads into does not exist, and so anybody can register it.
	Free bool
	// Direct is what the servers at its end say, where another resolver says that there is nothing.
	Direct Fact[netip.Addr]
}

// Wild is what stands at a name that was made up.
type Wild struct {
	Name dns.Name
	MX   Fact[dns.MX]
	A    Fact[netip.Addr] // only where it exists and has no MX
	// Direct is what a server of the zone says, where the resolver says that it exists.
	Direct Heard
}

// Challenge is what stands where ACME looks for the proof that a name is somebody's
// (RFC 8555 §8.4).
type Challenge struct {
	Name dns.Name
	TXT  Fact[string]
	Free bool // as of an Alias
}

// names looks at names below the domain.
func (g *gatherer) names(ctx context.Context) {
	n := &g.facts.Names
	n.Asked = true
	n.Well = make([]Alias, len(wellNames()))
	do := []func(context.Context){g.wild}
	for i, label := range wellNames() {
		do = append(do, func(ctx context.Context) { n.Well[i] = g.alias(ctx, label) })
	}
	g.all(ctx, do...)
}

// alias asks for a name's IPv4 addresses, which tells whether it is there; for the others only
// where it has none.
func (g *gatherer) alias(ctx context.Context, label string) Alias {
	name, err := g.facts.Domain.Child(label)
	if err != nil {
		return Alias{} // a name that cannot be leads nowhere
	}
	a := Alias{Host: Host{Name: name}}
	a.A = fact(dns.LookupAddrsOf(ctx, g.rec, name, dns.TypeA))
	if a.A.Err == nil && a.A.Exists && len(a.A.Records) == 0 {
		a.AAAA = fact(dns.LookupAddrsOf(ctx, g.rec, name, dns.TypeAAAA))
	}
	a.Free = a.A.Err == nil && !a.A.Exists && len(a.A.Aliases) > 0 && g.free(ctx, a.A.Canonical)
	if len(a.A.Aliases) > 0 && len(a.addrs()) == 0 && a.err() == nil && g.Server.IsValid() {
		a.Direct = g.atTheEnd(ctx, a.A.Canonical)
	}
	return a
}

// atTheEnd asks the servers of the zone that a name is in for its addresses.
func (g *gatherer) atTheEnd(ctx context.Context, name dns.Name) Fact[netip.Addr] {
	if g.Asker == nil || len(g.Roots) == 0 {
		return Fact[netip.Addr]{Err: errNotAsked}
	}
	z := g.walk(ctx, name, 0)
	if z.free() {
		return Fact[netip.Addr]{} // the servers above deny the whole domain
	}
	servers := g.addressesOf(ctx, z.Referral, 0)
	for _, h := range z.Parents {
		if len(z.Referral.Servers) == 0 && h.serves() { // who was asked first has the zone itself
			servers = append(servers, h.Server)
		}
	}
	said, ok := g.addrsFrom(ctx, servers, name)
	if !ok {
		said.Err = fmt.Errorf("no server of %s answers", name)
	}
	return said
}

// free reports whether the domain that a name is in does not exist. Another resolver's word alone
// is not enough: it may deny what others see.
func (g *gatherer) free(ctx context.Context, name dns.Name) bool {
	set, err := dns.LookupSOA(ctx, g.rec, dmarc.ListOrg(name))
	if err != nil || set.Exists || len(set.Aliases) > 0 {
		return false
	}
	return !g.Server.IsValid() || g.Asker != nil && len(g.Roots) > 0 && g.walk(ctx, dmarc.ListOrg(name), 0).free()
}

// wild asks for a name that nobody has.
func (g *gatherer) wild(ctx context.Context) {
	w := &g.facts.Names.Wild
	name, err := g.facts.Domain.Child(g.noSuch())
	if err != nil {
		return // the domain is so long that there is nothing below
	}
	w.Name = name
	w.MX = fact(dns.LookupMX(ctx, g.rec, name))
	if w.MX.Err == nil && w.MX.Exists && len(w.MX.Records) == 0 {
		w.A = fact(dns.LookupAddrsOf(ctx, g.rec, name, dns.TypeA))
	}
}

// wildDirectly asks a server of the zone for what the resolver knows and nobody has made: one that
// makes up names is no wildcard.
func (g *gatherer) wildDirectly(ctx context.Context) {
	w := &g.facts.Names.Wild
	w.Direct.Err = errNotAsked
	if len(w.MX.Records) == 0 && len(w.A.Records) == 0 {
		return
	}
	for _, s := range g.facts.Zone.Servers {
		if s.SOA.serves() {
			w.Direct = g.rec.ask(ctx, s.SOA.Server, "udp", dns.Question{Name: w.Name, Type: dns.TypeMX})
			return
		}
	}
}

// besides asks a server of the zone what it has at names that are aliases: a resolver that has
// seen the alias sees nothing else there.
func (g *gatherer) besides(ctx context.Context) {
	f := g.facts
	i := slices.IndexFunc(f.Zone.Servers, func(s Server) bool { return s.SOA.serves() })
	if i < 0 {
		return
	}
	for _, name := range f.aliases() {
		b := Beside{name, map[dns.Type]Heard{}}
		for _, t := range besideTypes() {
			b.Heard[t] = g.rec.ask(ctx, f.Zone.Servers[i].SOA.Server, "udp", dns.Question{Name: name, Type: t})
		}
		f.Names.Besides = append(f.Names.Besides, b)
	}
}

// inner gives the domain and its MX hosts, each once, as far as they are names inside of the zone; at
// its apex an alias is another fault.
func (f *Facts) inner() (all []Host) {
	for _, h := range append([]Host{f.Own}, f.Hosts...) {
		known := slices.ContainsFunc(all, func(o Host) bool { return o.Name == h.Name })
		if !known && h.Name != f.Zone.Name && f.inZone(h.Name) {
			all = append(all, h)
		}
	}
	return all
}

// aliases gives those of them that are aliases for who asks for one type, as many as are looked at.
func (f *Facts) aliases() (names []dns.Name) {
	for _, h := range f.inner() {
		alias := len(h.A.Aliases)+len(h.AAAA.Aliases) > 0 || h.Name == f.Domain && len(f.MX.Aliases)+len(f.TXT.Aliases) > 0
		if alias && len(names) < maxBesides {
			names = append(names, h.Name)
		}
	}
	return names
}

func besideTypes() []dns.Type { return []dns.Type{dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeTXT} }

// challenges asks where ACME would: for the domain, its own MX hosts and the host of its policy.
func (g *gatherer) challenges(ctx context.Context) {
	f := g.facts
	of := []string{f.Domain.FQDN(), "mta-sts." + f.Domain.FQDN()}
	for _, h := range f.Hosts {
		if h.Name != f.Domain && h.Name.In(f.Domain) {
			of = append(of, h.Name.FQDN())
		}
	}
	for _, name := range of[:min(maxChallenges, len(of))] {
		if name, err := dns.ParseName("_acme-challenge." + name); err == nil {
			f.Challenges = append(f.Challenges, Challenge{Name: name})
		}
	}
	do := make([]func(context.Context), len(f.Challenges))
	for i := range f.Challenges {
		c := &f.Challenges[i]
		do[i] = func(ctx context.Context) {
			c.TXT = fact(dns.LookupTXT(ctx, g.rec, c.Name))
			c.Free = c.TXT.Err == nil && !c.TXT.Exists && len(c.TXT.Aliases) > 0 && g.free(ctx, c.TXT.Canonical)
		}
	}
	g.all(ctx, do...)
}
