package audit

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/net/publicsuffix"

	"mxward/internal/dns"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/mailauth/spf"
)

// The limits of what is looked at behind the first answers; ours.
const (
	maxOthers  = 10 // other domains of which is asked whether somebody has registered them
	maxNamed   = 20 // hosts whose own SPF and CAA records are looked at
	MaxSenders = 32
)

// Sender is an address that sends the domain's mail, and what SPF says of it.
type Sender struct {
	Addr netip.Addr
	SPF  spf.Verdict
}

// more gathers what depends on what was found before: hosts, policies, the zone's servers. All is
// asked at the same time, and each writes what nobody else here reads.
func (g *gatherer) more(ctx context.Context) {
	g.all(ctx,
		g.where(g.permitted, "ptr"), g.senders, g.where(g.hostTexts, "spf.helo-missing"),
		g.where(g.others, "mx.unregistered", "spf.include-unregistered"), g.where(g.oldSPF, "spf.type99"),
		g.where(g.belowDomainKeys, "dmarc.spf-only-reject"), g.where(g.signing, "dnssec"),
		g.where(g.transfers, "deleg.axfr-open"), g.where(g.hostCAA, "caa"),
		g.reverseOpinion, g.forged, g.origins, g.registration,
	)
}

// permitted finds out which MX hosts send as well: those that the domain's SPF permits.
func (g *gatherer) permitted(ctx context.Context) {
	f := g.facts
	results := make([]spf.Result, len(f.Reverse))
	do := make([]func(context.Context), len(f.Reverse))
	for i, r := range f.Reverse {
		do[i] = func(ctx context.Context) { results[i] = g.sends(ctx, r.Addr).Result }
	}
	g.all(ctx, do...)
	f.Permitted = map[netip.Addr]spf.Result{}
	for i, r := range f.Reverse {
		f.Permitted[r.Addr] = results[i]
	}
}

func (g *gatherer) sends(ctx context.Context, addr netip.Addr) spf.Verdict {
	domain := g.facts.Domain.String()
	return spf.Check(ctx, g.rec, spf.Session{Client: addr, Helo: domain, From: "postmaster@" + domain})
}

func (g *gatherer) senders(ctx context.Context) {
	f := g.facts
	f.Senders = make([]Sender, min(MaxSenders, len(g.Senders)))
	do := make([]func(context.Context), len(f.Senders))
	for i := range f.Senders {
		do[i] = func(ctx context.Context) { f.Senders[i] = Sender{g.Senders[i], g.sends(ctx, g.Senders[i])} }
	}
	g.all(ctx, do...)
}

// ownHosts gives the MX hosts in the domain's own zone, whose records are the domain's matter.
func (f *Facts) ownHosts() []Host {
	var own []Host
	for _, h := range f.Hosts {
		known := slices.ContainsFunc(own, func(o Host) bool { return o.Name == h.Name })
		if !known && f.inZone(h.Name) && hostName(h.Name) && len(h.addrs()) > 0 && len(own) < maxNamed {
			own = append(own, h)
		}
	}
	return own
}

// hostTexts asks for the policies of the names that MX hosts say in HELO.
func (g *gatherer) hostTexts(ctx context.Context) {
	hosts := g.facts.ownHosts()
	texts := make([]Fact[string], len(hosts))
	do := make([]func(context.Context), len(hosts))
	for i, h := range hosts {
		do[i] = func(ctx context.Context) { texts[i] = fact(dns.LookupTXT(ctx, g.rec, h.Name)) }
	}
	g.all(ctx, do...)
	g.facts.HostTXT = map[dns.Name]Fact[string]{}
	for i, h := range hosts {
		g.facts.HostTXT[h.Name] = texts[i]
	}
}

// others looks whether somebody has registered the domains of names that records give and that
// do not exist: whoever registers one gets mail, or may send. The servers of the public suffix
// have the word.
func (g *gatherer) others(ctx context.Context) {
	f := g.facts
	f.Others = map[dns.Name]Zone{}
	for _, name := range append(f.goneHosts(), f.SPF.Gone()...) {
		if org, ok := organization(name); ok && len(f.Others) < maxOthers && !f.Domain.In(org) {
			f.Others[org] = Zone{Err: errNotAsked}
		}
	}
	if g.Asker == nil || len(g.Roots) == 0 {
		return
	}
	var mu sync.Mutex
	var do []func(context.Context)
	for org := range f.Others {
		do = append(do, func(ctx context.Context) {
			z := g.walk(ctx, org, 0)
			mu.Lock()
			defer mu.Unlock()
			f.Others[org] = z
		})
	}
	g.all(ctx, do...)
}

// goneHosts gives the MX hosts that do not exist.
func (f *Facts) goneHosts() []dns.Name {
	var gone []dns.Name
	for _, h := range f.Hosts {
		if h.err() == nil && !h.A.Exists && !h.AAAA.Exists && len(h.A.Aliases) == 0 {
			gone = append(gone, h.Name)
		}
	}
	return gone
}

// organization gives the domain that somebody registers to have a name.
func organization(name dns.Name) (dns.Name, bool) {
	text, err := publicsuffix.EffectiveTLDPlusOne(name.String())
	if err != nil {
		return dns.Name{}, false
	}
	org, err := dns.ParseName(text)
	return org, err == nil
}

// free reports whether nobody has registered a domain: the servers of the zone above deny it.
func (z Zone) free() bool { return z.Absent && z.Name.IsZero() && z.Parent != dns.Root }

func (g *gatherer) oldSPF(ctx context.Context) {
	g.facts.OldSPF = fact(dns.LookupSPF(ctx, g.rec, g.facts.Domain))
}

// belowDomainKeys asks whether there can be any DKIM key: below a name that does not exist
// nothing does (RFC 8020 §2). It only matters where mail without one is refused.
func (g *gatherer) belowDomainKeys(ctx context.Context) {
	if !g.facts.rejects() || g.facts.signs() {
		return
	}
	g.facts.BelowDKIM = g.texts(ctx, "_domainkey")
}

// signing asks the server that gave the keys how it proves, and what it asks its parent for.
func (g *gatherer) signing(ctx context.Context) {
	z := &g.facts.Zone
	if len(z.Keys.Records) == 0 {
		return
	}
	given := dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		heard := g.rec.ask(ctx, z.Signed.Server, "udp", q)
		if heard.Err == nil && heard.Said.Truncated {
			heard = g.rec.ask(ctx, z.Signed.Server, "tcp", q)
		}
		return heard.Said.Answer, heard.Err
	})
	g.all(ctx,
		func(ctx context.Context) { z.Hashing = fact(dns.LookupHashing(ctx, given, z.Name)) },
		func(ctx context.Context) { z.CDS = fact(dns.LookupCDS(ctx, given, z.Name)) },
		func(ctx context.Context) { z.CDNSKEY = fact(dns.LookupCDNSKEY(ctx, given, z.Name)) },
	)
}

// transfers asks each server for the whole zone, and reads no more than the first message.
func (g *gatherer) transfers(ctx context.Context) {
	f := g.facts
	f.Transfers = map[netip.Addr]Heard{}
	var mu sync.Mutex
	var do []func(context.Context)
	for _, s := range f.Zone.Servers {
		if s.SOA.serves() && s.TCP.Err == nil {
			do = append(do, func(ctx context.Context) {
				heard := g.rec.ask(ctx, s.SOA.Server, "tcp", dns.Question{Name: f.Zone.Name, Type: dns.TypeAXFR})
				mu.Lock()
				defer mu.Unlock()
				f.Transfers[s.Addr] = heard
			})
		}
	}
	g.all(ctx, do...)
}

// hostCAA looks for the records that hold for the other names for which the domain needs
// certificates: the host of its MTA-STS policy, and its MX hosts.
func (g *gatherer) hostCAA(ctx context.Context) {
	f := g.facts
	var names []dns.Name
	if f.MTASTS != nil && f.MTASTS.Fetched.TLS.HandshakeComplete {
		if host, err := mtasts.PolicyHost(f.Domain); err == nil {
			names = append(names, host)
		}
	}
	for _, h := range f.ownHosts() {
		names = append(names, h.Name)
	}
	f.HostCAA = make([]CAA, len(names))
	do := make([]func(context.Context), len(names))
	for i, name := range names {
		do[i] = func(ctx context.Context) { f.HostCAA[i] = g.climb(ctx, name) }
	}
	g.all(ctx, do...)
}

// reverseOpinion asks the servers of the reverse zone for the names that another resolver failed
// at: a SERVFAIL does not say whose it is.
func (g *gatherer) reverseOpinion(ctx context.Context) {
	f := g.facts
	if !g.Server.IsValid() || g.Asker == nil || len(g.Roots) == 0 {
		return // our own resolver has asked those
	}
	var mu sync.Mutex
	var do []func(context.Context)
	for _, r := range f.Reverse {
		q := r.question()
		if r.PTR.Err == nil || f.inZone(q.Name) {
			continue
		}
		if resolved := g.unchecked(q); resolved != nil {
			do = append(do, resolved)
		}
		do = append(do, func(ctx context.Context) {
			z := g.walk(ctx, q.Name, 0)
			for _, heard := range g.askSome(ctx, g.addressesOf(ctx, z.Referral, 0), q) {
				mu.Lock()
				f.Direct[q] = append(f.Direct[q], heard)
				mu.Unlock()
			}
		})
	}
	g.all(ctx, do...)
}

// Forged is a name whose signatures are known to be wrong, and what the resolver makes of it.
type Forged struct {
	Name   dns.Name
	Proved bool // the DS records above mean none of its keys
	Addrs  Fact[netip.Addr]
}

func (g *gatherer) forged(ctx context.Context) {
	if g.Bogus.IsZero() || g.Asker == nil || len(g.Roots) == 0 {
		return
	}
	c := &Forged{Name: g.Bogus}
	g.facts.Control.Forged = c
	g.all(ctx,
		func(ctx context.Context) { c.Addrs = fact(dns.LookupAddrsOf(ctx, g.rec, g.Bogus, dns.TypeA)) },
		func(ctx context.Context) {
			z := g.walk(ctx, g.Bogus, 0)
			servers := g.addressesOf(ctx, z.Referral, 0)
			if len(servers) > 0 {
				g.signatures(ctx, &z, servers[0])
			}
			c.Proved = z.unmeant()
		},
	)
}

// everywhereKnown: an algorithm and a digest that all validators must have (RFC 9904).
func everywhereKnown(ds dns.DS) bool {
	return slices.Contains([]uint8{8, 10, 13}, ds.Algorithm) && slices.Contains([]uint8{2, 4}, ds.DigestType)
}

// unmeant reports whether the zone has keys, and the DS records above it mean none of them. One
// of these must be of a kind that every validator knows: to others the zone is not signed
// (RFC 4035 §5.2).
func (z Zone) unmeant() bool {
	return len(z.Keys.Records) > 0 && slices.ContainsFunc(z.Referral.DS, everywhereKnown) && !slices.ContainsFunc(z.Referral.DS, func(ds dns.DS) bool {
		return slices.ContainsFunc(z.Keys.Records, func(k dns.Key) bool { return k.KeyTag == ds.KeyTag && k.Algorithm == ds.Algorithm })
	})
}
