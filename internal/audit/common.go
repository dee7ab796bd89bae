package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dmarc"
)

// For how long the audits of many domains hold by what one of them found out; ours.
const (
	controlAge  = time.Minute            // our own side, while nothing fails
	controlSoon = time.Second            // where something did: it must not be held against a domain
	suffixAge   = 10 * time.Minute       // the servers of a public suffix
	ableAge     = 5 * time.Minute        // that a server takes TCP
	silentAge   = 30 * time.Second       // that a server is silent
	heardSoon   = 500 * time.Millisecond // a server; after that, others are asked beside it
	silentAfter = 3                      // names in a row: some servers drop questions for zones that they do not have
	maxCommon   = 100_000                // servers; then all is found out anew
)

// Common is what the audits of many domains have in common, and is asked for once: the state
// of our own side, the servers of public suffixes, whether a server takes TCP, and which are
// silent. The zero value works, for several goroutines.
type Common struct {
	mu       sync.Mutex
	latest   *controlled
	suffixes map[dns.Name]suffix
	servers  map[talk]*manner
}

// controlled is one look at our own side.
type controlled struct {
	began   time.Time
	done    chan struct{}
	control Control
	log     []Exchange
}

// suffix is how the way from the root to a public suffix ended.
type suffix struct {
	zone, above dns.Name
	servers     []netip.AddrPort
	until       time.Time
}

// talk is one server over one transport, and manner how it was lately.
type talk struct {
	server  netip.AddrPort
	network string
}

type manner struct {
	until  time.Time
	heard  Heard      // of an answer without its sections
	silent []dns.Name // asked for without an answer since it was heard
}

// control gives our own side as it was at that time or later. Whoever finds it too old looks
// anew, for all who wait.
func (c *Common) control(ctx context.Context, a *Auditor, since time.Time) (Control, []Exchange, error) {
	c.mu.Lock()
	look := c.latest
	if look == nil || look.began.Before(since) {
		look = &controlled{began: time.Now(), done: make(chan struct{})}
		c.latest = look
		go look.take(context.WithoutCancel(ctx), a)
	}
	c.mu.Unlock()
	select {
	case <-look.done:
		return look.control, look.log, nil
	case <-ctx.Done():
		return Control{}, nil, ctx.Err()
	}
}

func (l *controlled) take(ctx context.Context, a *Auditor) {
	defer close(l.done)
	defer func() { // a fault of ours: nothing can be judged by it
		if v := recover(); v != nil {
			l.control = Control{Resolver: Fact[dns.Name]{Err: fmt.Errorf("look at our own side: %v", v)}}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	g := a.gatherer(&Facts{})
	g.control(ctx)
	l.control, l.log = g.facts.Control, g.rec.sorted()
}

// ourSide gathers what is known of our own side: for one domain anew, for one of many what
// another found a while ago.
func (g *gatherer) ourSide(ctx context.Context) {
	if g.Common == nil {
		g.control(ctx)
		return
	}
	g.controlledSince(ctx, time.Now().Add(-controlAge))
}

// ourSideAgain: where something failed for this domain, our own side is looked at again, for
// it may be our network that has gone; and where it was gone, or came back half-way through that
// look, for it may be back.
func (g *gatherer) ourSideAgain(ctx context.Context) {
	if c := g.facts.Control; g.Common != nil && (g.rec.trouble() || g.facts.controlAway() || c.NoSuch.Err != nil || c.Signed.Err != nil) {
		g.controlledSince(ctx, time.Now().Add(-controlSoon))
	}
}

func (g *gatherer) controlledSince(ctx context.Context, since time.Time) {
	control, log, err := g.Common.control(ctx, g.Auditor, since)
	if err != nil {
		g.facts.Control.Resolver.Err = err // we were told to stop
		return
	}
	control.Forged = g.facts.Control.Forged
	g.facts.Control, g.facts.common = control, log
}

// nearest gives the nearest public suffix above a name whose servers are known.
func (c *Common) nearest(name dns.Name) (suffix, bool) {
	if c == nil {
		return suffix{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for above, ok := name.Parent(); ok && above != dns.Root; above, ok = above.Parent() {
		if s, ok := c.suffixes[above]; ok && time.Now().Before(s.until) {
			return s, true
		}
	}
	return suffix{}, false
}

func (c *Common) keep(s suffix) {
	if c == nil || len(s.servers) == 0 || !isSuffix(s.zone) {
		return
	}
	s.until = time.Now().Add(suffixAge)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.suffixes == nil || len(c.suffixes) >= maxCommon {
		c.suffixes = map[dns.Name]suffix{}
	}
	c.suffixes[s.zone] = s
}

// askToLead asks the servers of a zone above. Of many domains each asks one, and the others
// where that does not lead on: one that is behind, or silent, must not make a domain vanish.
func (g *gatherer) askToLead(ctx context.Context, servers []netip.AddrPort, q dns.Question, zone dns.Name) []Heard {
	servers = servers[:min(maxParents, len(servers))]
	if g.Common == nil || len(servers) < 2 {
		return g.askSome(ctx, servers, q)
	}
	turned := slices.Clone(servers)
	first := rand.IntN(len(turned))
	turned[0], turned[first] = turned[first], turned[0]
	return g.askFirst(ctx, turned, q, func(first Heard) bool {
		ref, answered := lead([]Heard{first}, zone, q.Name)
		return len(ref.Servers) > 0 || answered != nil && answered.Said.Rcode == dns.NoError
	})
}

// askFirst asks the first of some servers, and the others where that does not do, or is not heard
// soon.
func (g *gatherer) askFirst(ctx context.Context, servers []netip.AddrPort, q dns.Question, does func(Heard) bool) []Heard {
	var others []Heard
	asked := make(chan any, 1)
	soon := time.AfterFunc(heardSoon, func() {
		defer func() { asked <- recover() }()
		others = g.askSome(ctx, servers[1:], q)
	})
	first := g.askSome(context.WithValue(ctx, clockKey{}, soon), servers[:1], q)
	if !soon.Stop() {
		if fault := <-asked; fault != nil {
			panic(fault)
		}
		return append(first, others...)
	}
	if len(first) > 0 && does(first[0]) {
		return first
	}
	return append(first, g.askSome(ctx, servers[1:], q)...)
}

// clockKey is where a context has the clock of askFirst.
type clockKey struct{}

// Hold stops that clock while an Asker holds a question back that was not sent yet; what it gives
// lets the clock run on. Otherwise who waits for one busy server would ask all of them, and make
// them busier.
func Hold(ctx context.Context) (goOn func()) {
	clock, ok := ctx.Value(clockKey{}).(*time.Timer)
	if !ok || !clock.Stop() {
		return func() {}
	}
	return func() { clock.Reset(heardSoon) }
}

// able gives that a server was heard over TCP.
func (c *Common) able(server netip.AddrPort) (Heard, bool) {
	if c == nil {
		return Heard{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.servers[talk{server, "tcp"}]
	if m == nil || len(m.silent) > 0 || !time.Now().Before(m.until) {
		return Heard{}, false
	}
	return m.heard, true
}

// sparing is an Asker that does not wait again and again for servers that are silent.
type sparing struct {
	Asker
	common *Common
}

// Ask implements Asker. For the SOA record over UDP each server is asked for each domain: by that
// it is judged.
func (s sparing) Ask(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, error) {
	at := talk{server, network}
	if judged := q.Type == dns.TypeSOA && network == "udp"; !judged {
		if err := s.common.silence(at, q); err != nil {
			return dns.Said{}, err
		}
	}
	said, err := s.Asker.Ask(ctx, server, network, q)
	if ctx.Err() == nil {
		s.common.learn(at, q, said, err)
	}
	return said, err
}

// silence gives the error of a server that was silent for some names in a row.
func (c *Common) silence(at talk, q dns.Question) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.servers[at]
	var e *dns.Error
	if m == nil || len(m.silent) < silentAfter || !time.Now().Before(m.until) || !errors.As(m.heard.Err, &e) {
		return nil
	}
	return &dns.Error{Question: q, Trouble: e.Trouble, Detail: at.server.String() + " over " + at.network + ": no reply to others a moment ago"}
}

func (c *Common) learn(at talk, q dns.Question, said dns.Said, err error) {
	silent := dns.TroubleOf(err) == dns.NoReply
	if err != nil && !silent {
		return // our own trouble, or an answer that cannot be read
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.servers[at]
	switch {
	case !silent && at.network != "tcp": // that it is heard is the usual
		if m != nil {
			delete(c.servers, at)
		}
		return
	case m == nil:
		if c.servers == nil || len(c.servers) >= maxCommon {
			c.servers = map[talk]*manner{}
		}
		m = &manner{}
		c.servers[at] = m
	}
	if silent {
		if name := dmarc.ListOrg(q.Name); len(m.silent) < silentAfter && !slices.Contains(m.silent, name) {
			m.silent = append(m.silent, name)
		}
		m.heard, m.until = Heard{Server: at.server, Err: err}, time.Now().Add(silentAge)
		return
	}
	said.Answer = dns.Answer{Rcode: said.Rcode, Authoritative: said.Authoritative}
	*m = manner{heard: Heard{Server: at.server, Said: said}, until: time.Now().Add(ableAge)}
}

// unsure are the ids that say that a server is silent, or fails. It may have been so under our
// own load, or for a moment.
var unsure = []string{"deleg.no-udp", "deleg.no-tcp", "deleg.no-ns", "spf.temperror", "dmarc.temperror", "ptr.temperror", "mtasts.temperror", "dane.temperror"}

// AskAgain reports whether it is worth while to ask again for a domain a while later: something
// is unknown, or silent, and the trouble is not on our own side.
func AskAgain(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool {
		switch {
		case f.aside || f.Blame.Ours() || f.ID == "dkim.no-selector-known":
			return false
		case f.Status == Fail:
			return slices.Contains(unsure, f.ID)
		}
		return f.Status == Unknown
	})
}

// Away reports whether our own side as a whole was not there, so that nothing can be said of any
// domain: the resolver did not answer, no root server was heard, or this host had no way to the zone
// above. A family of addresses that it does not have is nothing that comes back.
func (f *Facts) Away() bool {
	return f.controlAway() || f.Zone.Err != nil && f.Zone.Parent == dns.Root ||
		f.noWay() && slices.ContainsFunc(f.Zone.Parents, func(h Heard) bool { return f.rootsHeardOver(h.Server.Addr().Is6()) })
}

// rootsHeardOver reports whether a root server was heard over IPv6, or over IPv4.
func (f *Facts) rootsHeardOver(six bool) bool {
	return slices.ContainsFunc(f.Control.Roots, func(h Heard) bool { return h.serves() && h.Server.Addr().Is6() == six })
}

// CutOff reports whether our own resolver was without a network at some question. Our own side may
// have been there before and after.
func (f *Facts) CutOff() bool {
	return !f.Server.IsValid() && slices.ContainsFunc(f.Log, func(x Exchange) bool {
		return x.err != nil && x.Transport == "" && dns.TroubleOf(x.err) == dns.NoNetwork
	})
}

func (f *Facts) controlAway() bool {
	err := f.Control.Resolver.Err
	return err != nil && !stopped(err) || len(f.Control.Roots) > 0 && !f.rootsHeard()
}

// noWay: the way to the zone ended where this host could send to none of the servers. Our own side
// may have been there a moment before.
func (f *Facts) noWay() bool {
	return f.Zone.Err != nil && len(f.Zone.Parents) > 0 && !slices.ContainsFunc(f.Zone.Parents, func(h Heard) bool { return dns.TroubleOf(h.Err) != dns.NoNetwork })
}

// Ours reports whether our own side is at fault, so that the findings say little about the
// domain.
func Ours(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool {
		return f.Blame.Ours() && !f.aside && (f.Status == Unknown || f.Status == Fail && f.Severity.AtLeast(Error))
	})
}
