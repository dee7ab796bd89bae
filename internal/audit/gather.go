package audit

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/blocklist"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/mailauth/spf"
	"mxward/internal/mailauth/tlsa"
	"mxward/internal/site"
)

// The limits of one domain's audit; ours.
const (
	Limit        = 60 * time.Second
	maxHosts     = 20 // MX hosts whose addresses are looked for
	maxReverse   = 32 // addresses whose names are
	maxNames     = 10 // of one address (RFC 8601 §3)
	MaxSelectors = 32
	maxRoots     = 3 // of each family
)

// Asker puts one question to one server, over "udp" or "tcp", and gives what it says.
type Asker interface {
	Ask(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, error)
}

// Auditor gathers the facts about domains. Resolver must be set; what is missing of the rest
// makes the checks that need it unknown or skipped.
type Auditor struct {
	// Resolver is the one whose answers count, and which is judged too.
	Resolver dns.Resolver
	// Server is where Resolver sends its questions; zero where it asks from the root down.
	Server netip.AddrPort
	// Asker and Roots are the way around the resolver, to the servers themselves.
	Asker Asker
	Roots []netip.AddrPort
	// MTASTS gets policies; its own Resolver is not asked. Nil leaves policies out.
	MTASTS *mtasts.Fetcher
	// Bogus is a name whose signatures are known to be wrong, to see whether another resolver
	// validates; zero for none.
	Bogus dns.Name
	// Senders are addresses that send the domain's mail, to be held against SPF.
	Senders []netip.Addr
	// Origins say which networks addresses are in; zero leaves that out.
	Origins Origins
	// Web looks for the file of autoconfig; nil leaves it out.
	Web *WebLook
	// Registry says when a domain's registration ends; nil leaves that out.
	Registry func(ctx context.Context, domain dns.Name) (time.Time, error)
	// SMTP visits the MX hosts; nil leaves them out, and so with every check that needs them.
	SMTP Visitor
	// Controls are domains whose MX hosts are known to answer: where none of the domain's own
	// does, they say whether it is this network that lets nothing out to port 25.
	Controls []dns.Name
	// Selectors are the DKIM selectors to look at: no question can list them.
	Selectors []string
	// Lists are the block lists and allow lists to ask; nil leaves them out.
	Lists []blocklist.List
	// Certs looks at the certificates of the servers that SRV records name; nil leaves them out.
	Certs CertSource
	// Plan is the site's plan, to compare with; nil for none. PlanKey is the key that its
	// reports are signed with, or nil.
	Plan    *site.Plan
	PlanKey *OwnKey
	// Message is one that was shown; nil for none.
	Message *Message
	// AllowLoopback asks servers on loopback and private addresses, as in a lab; otherwise
	// no domain's records make us talk to this host or network.
	AllowLoopback bool
	// Wanted says what will be judged: what other checks alone need is not asked for. Nil is all.
	Wanted Wanted
	// Hasty leaves a domain as soon as all servers of its zone that were asked are silent: for who
	// asks again later. It wants Common.
	Hasty bool
	// Common is what the audits of many domains share; nil asks all for each.
	Common *Common
	// Probes is what the lists' test entries have said; nil asks them for each domain.
	Probes *Probes
	// Now is the time as of which all is judged; zero for that of the audit.
	Now time.Time
	// NoSuch is the label of the names that nobody has; "" makes one up for each.
	NoSuch string
}

// Gather finds out all that the checks want to know about a domain.
func (a *Auditor) Gather(ctx context.Context, domain dns.Name) *Facts {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	f := &Facts{
		Domain: domain, Selectors: a.Selectors, When: cmp.Or(a.Now, time.Now()).UTC(), Server: a.Server, Lab: a.AllowLoopback,
		Direct: map[dns.Question][]Heard{}, Plan: a.newPlanned(domain),
	}
	g := a.gatherer(f)
	if g.Common != nil { // one after the other: what comes first spares questions to the rest
		g.way(ctx) // the resolver may learn it
		if a.Hasty && g.silentWay(ctx) {
			f.Unfinished, f.Packets = true, g.rec.packets
			return f
		}
		g.all(ctx, g.ourSide, g.zone, g.mx)
		g.deadZone()
		g.all(ctx, g.records)
	} else {
		g.all(ctx, g.ourSide, g.zone, g.records)
		g.deadZone()
	}
	g.all(ctx, g.where(g.guess, "dkim", "dmarc.spf-only-reject"))
	g.more(ctx)
	// Now, since a denial in a signed zone answers for its neighbours too (RFC 8198): what denies
	// these names must not stand in for what mail asks for.
	g.all(ctx, g.where(g.programs, "autoconf"), g.where(g.challenges, "acme"), g.where(g.names, "zone", "autoconf"), g.where(g.autoconfig, "autoconf.autoconfig-missing"))
	g.all(ctx, g.secondOpinion, g.where(g.wildDirectly, "zone"), g.where(g.besides, "zone"))
	g.ourSideAgain(ctx)
	f.Log, f.Packets = append(g.rec.sorted(), f.common...), g.rec.packets
	return f
}

// records asks the resolver for what mail needs. Hosts that are talked to, and not only asked for,
// may take their time.
func (g *gatherer) records(ctx context.Context) {
	f, domain := g.facts, g.facts.Domain
	hosts, visits := g.mailHosts, (func(context.Context))(nil)
	if g.SMTP != nil {
		hosts, visits = nil, g.mailHosts
	}
	policy, page := g.mtasts, (func(context.Context))(nil) // in trouble all is asked at once anyway
	if g.Common != nil && !g.rec.trouble() && g.mayHavePolicy(ctx) {
		policy, page = nil, g.mtasts
	}
	g.atOnce(ctx, visits, page, func(ctx context.Context) {
		g.all(ctx,
			hosts, policy,
			func(ctx context.Context) { f.TXT = fact(dns.LookupTXT(ctx, g.rec, domain)) },
			func(ctx context.Context) { f.SPF = spf.Survey(ctx, g.rec, domain.String()) },
			g.dmarc,
			g.dkim,
			g.where(func(ctx context.Context) { f.TLSRPT = g.texts(ctx, "_smtp._tls") }, "tlsrpt", "dnssec.bogus"),
			func(ctx context.Context) { f.DANE = tlsa.Look(ctx, g.rec, domain, 0) },
			g.where(func(ctx context.Context) { f.BIMI = g.texts(ctx, "default._bimi") }, "bimi", "dnssec.bogus"),
			g.where(g.caa, "caa", "dnssec.bogus"), g.plan, g.where(g.copies, "spf.flatten-stale"), g.message,
		)
	})
}

func (a *Auditor) gatherer(f *Facts) *gatherer {
	rec := &recorder{resolver: a.Resolver, server: a.Server, asker: a.Asker}
	if a.Common != nil && a.Asker != nil {
		rec.asker, rec.heard = sparing{a.Asker, a.Common}, map[asked]Heard{}
	}
	probes := a.Probes
	if probes == nil {
		probes = &Probes{}
	}
	return &gatherer{Auditor: a, facts: f, rec: rec, probes: probes, began: time.Now()}
}

// gatherer gathers the facts of one domain.
type gatherer struct {
	*Auditor
	facts  *Facts
	rec    *recorder
	probes *Probes
	began  time.Time
}

// wants reports whether one of these ids or areas is to be judged.
func (g *gatherer) wants(words ...string) bool {
	return g.Wanted == nil || slices.ContainsFunc(words, func(word string) bool { return g.Wanted[word] })
}

// where gives a gatherer if a check is wanted that needs it, and otherwise nil.
func (g *gatherer) where(gather func(context.Context), words ...string) func(context.Context) {
	if g.wants(words...) {
		return gather
	}
	return nil
}

// noSuch is a label that nobody has.
func (a *Auditor) noSuch() string { return cmp.Or(a.NoSuch, NewNoSuch()) }

// NewNoSuch makes up a label.
func NewNoSuch() string { return "mxward-" + strings.ToLower(rand.Text()) }

// all does things at the same time. Of many domains they come one after the other, in this
// goroutine: enough is under way, and no server gets all questions about a domain at once. But as
// soon as something could not be had, the rest of the domain's waits together. Nil is nothing to do.
func (g *gatherer) all(ctx context.Context, things ...func(context.Context)) {
	for i, thing := range things {
		switch {
		case g.Common == nil || g.rec.trouble():
			g.atOnce(ctx, things[i:]...)
			return
		case thing != nil:
			thing(ctx)
		}
	}
}

// atOnce is all for what may take long, and for what waits for each other: always at the same
// time, the last thing here. What panics there panics here, where somebody can say so.
func (g *gatherer) atOnce(ctx context.Context, things ...func(context.Context)) {
	var all sync.WaitGroup
	var once sync.Once
	var panicked any
	run := func(thing func(context.Context)) {
		defer func() {
			if v := recover(); v != nil {
				once.Do(func() { panicked = fmt.Sprintf("%v\n%s", v, debug.Stack()) })
			}
		}()
		thing(ctx)
	}
	var last func(context.Context)
	for _, thing := range things {
		if thing == nil {
			continue
		}
		if before := last; before != nil {
			all.Go(func() { run(before) })
		}
		last = thing
	}
	if last != nil {
		run(last)
	}
	all.Wait()
	if panicked != nil {
		panic(panicked)
	}
}

// control asks what everybody knows: the root.
func (g *gatherer) control(ctx context.Context) {
	c := &g.facts.Control
	nobody, err := dns.ParseName(g.noSuch())
	if err != nil {
		c.NoSuch.Err = err
	}
	signed := dns.Question{Name: dns.Root, Type: dns.TypeSOA, DNSSEC: true}
	do := []func(context.Context){
		func(ctx context.Context) {
			c.Resolver = fact(dns.LookupNS(ctx, g.rec, dns.Root))
			c.Took = g.rec.took(rootNS)
		},
		func(ctx context.Context) {
			if err == nil {
				c.NoSuch = fact(dns.LookupAddrsOf(ctx, g.rec, nobody, dns.TypeA))
			}
		},
		func(ctx context.Context) {
			answer, err := g.rec.Resolve(ctx, signed)
			c.Signed = Heard{Server: g.Server, Said: dns.Said{Answer: answer}, Err: err}
		},
	}
	if g.Asker != nil {
		roots := someRoots(g.Roots)
		c.Roots, c.OverTCP = make([]Heard, len(roots)), make([]Heard, len(roots))
		for i, root := range roots {
			do = append(do, func(ctx context.Context) { c.OverTCP[i] = g.rec.ask(ctx, root, "tcp", signed) })
			do = append(do, func(ctx context.Context) { c.Roots[i] = g.rec.ask(ctx, root, "udp", signed) })
		}
		if g.Server.IsValid() {
			do = append(do, func(ctx context.Context) {
				heard := g.rec.ask(ctx, g.Server, "tcp", dns.Question{Name: dns.Root, Type: dns.TypeNS})
				c.TCP = &heard
			})
		}
	}
	g.atOnce(ctx, do...) // all domains wait for this
}

// someRoots gives a few root servers of each family: what is silent over IPv6 alone says nothing
// unless somebody is heard that way.
func someRoots(all []netip.AddrPort) []netip.AddrPort {
	var some []netip.AddrPort
	count := map[bool]int{}
	for _, root := range all {
		if six := root.Addr().Is6(); count[six] < maxRoots {
			count[six]++
			some = append(some, root)
		}
	}
	return some
}

// mailHosts looks for the hosts that take the domain's mail, and then for what lists say of them.
func (g *gatherer) mailHosts(ctx context.Context) {
	g.hosts(ctx)
	g.lists(ctx)
}

func (g *gatherer) mx(ctx context.Context) {
	g.facts.MX = fact(dns.LookupMX(ctx, g.rec, g.facts.Domain))
}

// hosts looks for the hosts that take the domain's mail, their addresses and the names of those.
func (g *gatherer) hosts(ctx context.Context) {
	f := g.facts
	own := func(ctx context.Context) { f.Own = g.host(ctx, dns.MX{Host: f.Domain}) }
	kinds := g.where(own, "zone", "dnssec.bogus") // what stands at the domain beside its MX records
	if g.Common != nil && f.Zone.unsigned() && !g.wants("zone") {
		kinds = nil // nothing there can be bogus
	}
	g.all(ctx, g.mx, kinds)
	if f.Own.Name.IsZero() && len(f.MX.Records) == 0 {
		own(ctx)
	}
	records := f.MX.Records
	if f.MX.Err == nil && len(records) == 0 && len(f.Own.addrs()) > 0 {
		records = []dns.MX{{Host: f.Domain}} // RFC 5321 §5.1
	}
	for _, mx := range records {
		if mx.Host != dns.Root && len(f.Hosts) < maxHosts {
			f.Hosts = append(f.Hosts, Host{Name: mx.Host, Preference: mx.Preference})
		}
	}
	do := make([]func(context.Context), len(f.Hosts))
	for i, h := range f.Hosts {
		do[i] = func(ctx context.Context) { f.Hosts[i] = g.host(ctx, dns.MX{Host: h.Name, Preference: h.Preference}) }
	}
	g.all(ctx, do...)
	g.all(ctx, g.reverse, g.smtp)
}

func (g *gatherer) host(ctx context.Context, mx dns.MX) Host {
	h := Host{Name: mx.Host, Preference: mx.Preference}
	g.all(ctx,
		func(ctx context.Context) { h.A = fact(dns.LookupAddrsOf(ctx, g.rec, mx.Host, dns.TypeA)) },
		func(ctx context.Context) { h.AAAA = fact(dns.LookupAddrsOf(ctx, g.rec, mx.Host, dns.TypeAAAA)) },
	)
	return h
}

// reverse looks for the names of each address once, and for the addresses of those names.
func (g *gatherer) reverse(ctx context.Context) {
	f := g.facts
	seen := map[netip.Addr]bool{}
	for _, h := range f.Hosts {
		for _, addr := range h.addrs() {
			if !seen[addr] && len(f.Reverse) < maxReverse {
				seen[addr] = true
				f.Reverse = append(f.Reverse, Reverse{Host: h.Name, Addr: addr})
			}
		}
	}
	do := make([]func(context.Context), len(f.Reverse))
	for i := range f.Reverse {
		r := &f.Reverse[i]
		do[i] = func(ctx context.Context) {
			r.PTR = fact(dns.LookupPTR(ctx, g.rec, r.Addr))
			for _, name := range r.PTR.Records[:min(maxNames, len(r.PTR.Records))] {
				r.Names = append(r.Names, g.host(ctx, dns.MX{Host: name}))
			}
		}
	}
	g.all(ctx, do...)
}

func (g *gatherer) texts(ctx context.Context, below string) Fact[string] {
	name, err := dns.ParseName(below + "." + g.facts.Domain.FQDN())
	if err != nil {
		return Fact[string]{} // a name that cannot be has no records
	}
	return fact(dns.LookupTXT(ctx, g.rec, name))
}

func (g *gatherer) dkim(ctx context.Context) {
	for _, w := range g.selectors() {
		g.facts.DKIM = append(g.facts.DKIM, g.selector(ctx, w))
	}
}

func (g *gatherer) dmarc(ctx context.Context) {
	survey := dmarc.Survey
	if g.Common != nil {
		survey = dmarc.SurveyOfMany
	}
	g.facts.DMARC = survey(ctx, g.rec, g.facts.Domain)
}

func (g *gatherer) mtasts(ctx context.Context) {
	if g.MTASTS == nil {
		return
	}
	fetcher := *g.MTASTS
	fetcher.Resolver = g.rec
	g.facts.MTASTS = mtasts.Look(ctx, &fetcher, g.facts.Domain)
}

// mayHavePolicy reports whether the domain has a record of MTA-STS, or a host where its policy
// would be.
func (g *gatherer) mayHavePolicy(ctx context.Context) bool {
	if g.MTASTS == nil {
		return false
	}
	if len(g.texts(ctx, "_mta-sts").Records) > 0 {
		return true
	}
	host, err := mtasts.PolicyHost(g.facts.Domain)
	if err != nil {
		return false
	}
	set, err := dns.LookupAddrsInTurn(ctx, g.rec, host)
	return err == nil && len(set.Records) > 0
}

func (g *gatherer) caa(ctx context.Context) { g.facts.CAA = g.climb(ctx, g.facts.Domain) }

// climb goes from a name up to the first set of CAA records (RFC 8659 §3).
func (g *gatherer) climb(ctx context.Context, host dns.Name) CAA {
	c := CAA{Host: host}
	for name, ok := host, true; ok && name != dns.Root; name, ok = name.Parent() {
		c.At, c.Fact = name, fact(dns.LookupCAA(ctx, g.rec, name))
		if c.Err != nil || len(c.Records) > 0 {
			break
		}
	}
	return c
}

// secondOpinion puts each question that the resolver failed at to the zone's own servers:
// what they answer is the resolver's fault.
func (g *gatherer) secondOpinion(ctx context.Context) {
	const most = 2 // servers
	f := g.facts
	var mu sync.Mutex
	var do []func(context.Context)
	for _, q := range g.rec.failures() {
		if f.Zone.Name.IsZero() || !q.Name.In(f.Zone.Name) {
			continue
		}
		asked := 0
		for _, s := range f.Zone.Servers {
			if !s.SOA.serves() || asked == most {
				continue
			}
			asked++
			do = append(do, func(ctx context.Context) {
				heard := g.rec.ask(ctx, s.SOA.Server, "udp", q)
				if heard.Err == nil && heard.Said.Truncated {
					heard = g.rec.ask(ctx, s.SOA.Server, "tcp", q)
				}
				mu.Lock()
				defer mu.Unlock()
				f.Direct[bare(q)] = append(f.Direct[bare(q)], heard)
			})
		}
		if resolved := g.unchecked(q); resolved != nil {
			do = append(do, resolved)
		}
	}
	g.all(ctx, do...)
}

// unchecked asks a resolver that says SERVFAIL once more without validation: where that
// helps, it was DNSSEC (RFC 4035 §3.2.2).
func (g *gatherer) unchecked(q dns.Question) func(context.Context) {
	if !g.Server.IsValid() {
		return nil // our own says by itself what it was
	}
	q.CheckingDisabled = true
	return func(ctx context.Context) { _, _ = g.rec.Resolve(ctx, q) }
}

// bare is a question without the bits that say how it is asked.
func bare(q dns.Question) dns.Question { return dns.Question{Name: q.Name, Type: q.Type} }

// errNotAsked stands where there was nobody to ask.
var errNotAsked = errors.New("there was nobody to ask")
