package audit

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/blocklist"
	"mxward/internal/mailauth/dmarc"
)

// The limits of what block lists are asked; ours.
const (
	maxListed     = 8 // addresses of MX hosts
	maxListTexts  = 3 // of one listing
	listsLimit    = 10 * time.Second
	probedFor     = 10 * time.Minute // so long a list counts as it was when its test entries were asked for
	silentFor     = time.Minute      // and so long where it did not answer
	maxListDetail = 200              // octets of a list's own words
)

// Lists is what block lists and allow lists say.
type Lists struct {
	Asked   bool
	Addrs   []Listing
	Domain  []Listing
	LeftOut int // addresses that were not asked for
}

// Listing is what one list says of one address, or of the domain.
type Listing struct {
	List     blocklist.List
	Target   string
	Question dns.Question
	Tests    []dns.Question
	Answer   blocklist.Answer
	Probe    blocklist.Probe
	Texts    []string // the list's own words
}

func (l Listing) verdict() blocklist.Verdict { return l.List.Judge(l.Answer, l.Probe) }

// lists asks each list for the addresses of the MX hosts and for the domain, unless its test
// entries show that it is of no use.
func (g *gatherer) lists(ctx context.Context) {
	f := g.facts
	if len(g.Lists) == 0 {
		return
	}
	f.Lists.Asked = true
	ctx, cancel := context.WithTimeout(ctx, listsLimit)
	defer cancel()
	addrs := g.listedAddrs()
	for _, l := range g.Lists {
		if l.Kind == blocklist.Domains {
			domain := f.Domain
			if !l.Hosts {
				domain = dmarc.ListOrg(domain)
			}
			f.Lists.Domain = append(f.Lists.Domain, listing(l, domain.String(), false)(l.DomainName(domain)))
			continue
		}
		for _, addr := range addrs {
			if addr.Is4() || l.IPv6 {
				f.Lists.Addrs = append(f.Lists.Addrs, listing(l, addr.String(), addr.Is6())(l.AddrName(addr)))
			}
		}
	}
	var do []func(context.Context)
	for _, all := range [][]Listing{f.Lists.Addrs, f.Lists.Domain} {
		for i := range all {
			do = append(do, func(ctx context.Context) { g.list(ctx, &all[i]) })
		}
	}
	g.all(ctx, do...)
}

// listedAddrs gives the addresses that lists are asked for.
func (g *gatherer) listedAddrs() []netip.Addr {
	f := g.facts
	var some []netip.Addr
	seen := map[netip.Addr]bool{}
	for _, h := range f.Hosts {
		for _, addr := range h.addrs() {
			addr = addr.Unmap()
			switch {
			case seen[addr], !global(addr): // no list has what is none of the world's
			case len(some) == maxListed:
				f.Lists.LeftOut++
			default:
				some = append(some, addr)
			}
			seen[addr] = true
		}
	}
	return some
}

// listing prepares one question; where there is none to ask, its error is what came of it.
func listing(l blocklist.List, target string, six bool) func(dns.Name, error) Listing {
	return func(name dns.Name, err error) Listing {
		out := Listing{List: l, Target: target, Question: dns.Question{Name: name, Type: dns.TypeA}, Answer: blocklist.Answer{Err: err}}
		if test, never, err := l.TestNames(six); err == nil {
			out.Tests = []dns.Question{{Name: test, Type: dns.TypeA}, {Name: never, Type: dns.TypeA}}
		}
		return out
	}
}

func (g *gatherer) list(ctx context.Context, l *Listing) {
	six := false
	if addr, err := netip.ParseAddr(l.Target); err == nil {
		six = addr.Is6()
	}
	l.Probe = g.probe(ctx, l.List, six)
	if l.Answer.Err != nil || l.List.Alive(l.Probe).Unusable != "" {
		return
	}
	l.Answer = blocklist.Look(ctx, g.rec, l.Question.Name)
	if v := l.verdict(); len(v.Codes) == 0 || v.Is(blocklist.Allow) {
		return
	}
	if texts, err := dns.LookupTXT(ctx, g.rec, l.Question.Name); err == nil {
		l.Texts = texts.Records[:min(maxListTexts, len(texts.Records))]
	}
}

// probe gives what is known of a list's test entries, and notes how.
func (g *gatherer) probe(ctx context.Context, l blocklist.List, six bool) blocklist.Probe {
	p := g.probes.get(probeKey{l.Zone, six}, func(p *probed) {
		// Others wait for it too: that one domain is given up does not make the list silent.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listsLimit)
		defer cancel()
		rec := &recorder{resolver: g.Resolver, server: g.Server}
		p.probe = l.Ask(ctx, rec, six)
		p.log = rec.sorted()
	})
	select {
	case <-p.done:
		g.rec.noteOnce(p.log)
		return p.probe
	case <-ctx.Done():
		err := fmt.Errorf("ask for the test entries of %s: %w", l.Zone, ctx.Err())
		return blocklist.Probe{Test: blocklist.Answer{Err: err}, Never: blocklist.Answer{Err: err}}
	}
}

// Probes keeps what the lists' test entries have said, for many domains. The zero value works, for
// several goroutines.
type Probes struct {
	mu    sync.Mutex
	known map[probeKey]*probed
}

type probeKey struct {
	zone dns.Name
	six  bool
}

// probed is one list's test entries and, once it is done, what came of them.
type probed struct {
	done  chan struct{}
	probe blocklist.Probe
	log   []Exchange
	until time.Time
}

// get gives what is known, or has it asked for: once, however many want to know.
func (p *Probes) get(key probeKey, ask func(*probed)) *probed {
	p.mu.Lock()
	defer p.mu.Unlock()
	if have := p.known[key]; have != nil && have.fresh() {
		return have
	}
	if p.known == nil {
		p.known = map[probeKey]*probed{}
	}
	made := &probed{done: make(chan struct{})}
	p.known[key] = made
	go func() {
		made.safely(ask)
		kept := probedFor
		if made.probe.Test.Err != nil || made.probe.Never.Err != nil {
			kept = silentFor
		}
		made.until = time.Now().Add(kept)
		close(made.done)
	}()
	return made
}

// safely asks; that a panic ends it is an error of ours, for all who wait.
func (p *probed) safely(ask func(*probed)) {
	defer func() {
		if v := recover(); v != nil {
			err := fmt.Errorf("ask for a list's test entries: panic, which is a fault of mxward's: please report it: %v\n%s", v, debug.Stack())
			p.probe = blocklist.Probe{Test: blocklist.Answer{Err: err}, Never: blocklist.Answer{Err: err}}
		}
	}()
	ask(p)
}

// fresh reports whether it is still being asked for, or is not too old.
func (p *probed) fresh() bool {
	select {
	case <-p.done:
		return time.Now().Before(p.until)
	default:
		return true
	}
}

// noteOnce adds what another has asked, unless it stands there already.
func (r *recorder) noteOnce(log []Exchange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range log {
		known := false
		for _, have := range r.log {
			known = known || have.question == x.question && have.Server == x.Server && have.Transport == x.Transport
		}
		if !known {
			r.log = append(r.log, x)
		}
	}
}
