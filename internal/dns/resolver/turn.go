package resolver

import (
	"context"
	"net/netip"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// A server that was not heard the last time is asked no more than a few questions at once, and
// the others wait for what becomes of these: they go on once it is heard, and share its
// silence. So the questions for dead servers, however many, cost next to nothing, and a server
// that is only far away answers all of them one round trip later.
const (
	maxUnheard  = 4                                // questions put at once to a server that is not heard
	newsTimeout = packetTimeout + minPacketTimeout // there is news when the first packet is given up
)

// tell lets those go on who wait to hear from the server. The lock is held.
func (st *serverState) tell() {
	if st.news != nil {
		close(st.news)
		st.news = nil
	}
}

// take puts one more question to a server, unless it was not heard the last time and has
// enough already: then it gives what will be closed with the news of it.
func (s *servers) take(server netip.AddrPort) (news <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state(server)
	if st.heard() || st.inHand < maxUnheard {
		st.inHand++
		return nil
	}
	if st.news == nil {
		st.news = make(chan struct{})
	}
	return st.news
}

// takeNow is take for who has waited.
func (s *servers) takeNow(server netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state(server).inHand++
}

// giveBack ends what take or takeNow began.
func (s *servers) giveBack(server netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.m[server]; st != nil && st.inHand > 0 { // it may have been forgotten meanwhile
		st.inHand--
	}
}

// busyAll gives the news to wait for where all of these servers are busy: of one that has not
// been silent since a question began, or of any if none is left, which silent reports. Heard
// reports whether one of them was heard the last time.
func (s *servers) busyAll(list []netip.AddrPort, began time.Time) (news <-chan struct{}, heard, silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var next *serverState
	busy := len(list) > 0
	silent = true
	for _, server := range list {
		st := s.m[server]
		if heard = heard || st.heard(); heard {
			return nil, true, false
		}
		if st == nil || st.inHand < maxUnheard {
			busy = false
			continue
		}
		if next == nil || silent && !st.silentAt.After(began) {
			next = st
		}
		silent = silent && st.silentAt.After(began)
	}
	if !busy {
		return nil, false, false
	}
	if next.news == nil {
		next.news = make(chan struct{})
	}
	return next.news, false, silent
}

// busy reports whether a question would have to wait for news of the server.
func (s *servers) busy(server netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.m[server]
	return st != nil && !st.heard() && st.inHand >= maxUnheard
}

// lineUp lets a question wait, before it costs anything, where all servers of its zone are busy
// with others that they do not answer. If it then finds them all silent, while others are
// heard, that is its answer; what is remembered of it are the servers' silences.
func (r *Resolver) lineUp(ctx context.Context, q dns.Question) error {
	began, timer := time.Now(), time.NewTimer(maxRounds*newsTimeout)
	defer timer.Stop()
	for {
		_, news, err := r.foretell(q, began)
		if news == nil {
			return err
		}
		select {
		case <-news:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Foretell implements dns.Foreteller.
func (r *Resolver) Foretell(q dns.WireQuestion, came time.Time) (dns.Outlook, error) {
	r.once.Do(r.start)
	if len(q.Name) > maxNameOctets {
		return dns.OutlookGood, nil
	}
	name, _, err := wire.UnpackDomainName(q.Name, 0)
	if err != nil {
		return dns.OutlookGood, nil // Resolve says what is wrong with it
	}
	outlook, _, err := r.foretell(dns.Question{Name: dns.NameOf(name), Type: q.Type, DNSSEC: q.DNSSEC, CheckingDisabled: q.CheckingDisabled}, came)
	return outlook, err
}

// foretell gives the outlook of a question, and if that is bad the news to wait for. The zones
// at the top are taken to know where to ask, and no more: nearly everything is further down.
func (r *Resolver) foretell(q dns.Question, came time.Time) (outlook dns.Outlook, news <-chan struct{}, err error) {
	a := r.asks(q, false)
	if _, f := r.elsewhere.find(a); f != nil || a.name.IsZero() {
		return dns.OutlookGood, nil, nil
	}
	cut := r.closest(a)
	servers := r.known(cut)
	news, heard, silent := r.servers.busyAll(servers, came)
	switch {
	case heard && cut.zone.CountLabels() > 1:
		return dns.OutlookGood, nil, nil
	case heard:
		return dns.OutlookFair, nil, nil
	case news == nil:
		return dns.OutlookUnsure, nil, nil
	case !silent || !r.servers.livedSince(came):
		return dns.OutlookBad, news, nil
	}
	e := &dns.Error{Question: q, Trouble: dns.NoReply, Detail: cut.servers()}
	for _, server := range servers {
		e.Attempts = append(e.Attempts, dns.Attempt{Server: server, Protocol: "udp", Said: saidToOthers, Took: time.Since(came)})
	}
	return dns.OutlookBad, nil, e
}

// known gives the addresses of a zone's servers, as many as are known.
func (r *Resolver) known(cut *delegation) []netip.AddrPort {
	if len(cut.fixed) > 0 {
		return cut.fixed
	}
	var servers []netip.AddrPort
	for _, addrs := range r.roll(cut) {
		for _, a := range addrs {
			if r.usable(a, cut.zone == dns.Root) && len(servers) < maxNSNames {
				servers = append(servers, netip.AddrPortFrom(a, dnsPort))
			}
		}
	}
	return servers
}

// saidToOthers is what a server says to those who share its silence.
const saidToOthers = "no reply to others that asked a moment before"

// askInTurn asks one server when it is its turn, and for the whole name where a part of it was
// of no use.
func (r *Resolver) askInTurn(ctx context.Context, led *ledger, a ask, zone dns.Name, c candidate, m manners, why string) (finding, ask, error) {
	if err := r.await(ctx, led, c); err != nil {
		return finding{}, a, err
	}
	defer r.servers.giveBack(c.server)
	found, err := r.askServer(ctx, led, a, zone, c, m, why)
	if a != led.ask && odd(found, err) {
		if err != nil {
			r.servers.wantsWhole(c.server)
		}
		a = led.ask
		found, err = r.askServer(ctx, led, a, zone, c, m, why)
	}
	return found, a, err
}

// stepAside makes way for other questions before one waits for a server that has not been
// heard, or not the last time.
func (r *Resolver) stepAside(ctx context.Context, led *ledger, c candidate) error {
	switch {
	case c.heard || r.slots.slowDown(ctx, led.place):
		return nil
	case ctx.Err() == context.DeadlineExceeded:
		return led.exhausted(limitInFlight, "too many questions at once")
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return errJostled
}

// await waits for a server's turn: as long as it is not heard, it is asked no more than a few
// questions, and the others wait for what becomes of these. They share its silence, and go on
// once it is heard.
func (r *Resolver) await(ctx context.Context, led *ledger, c candidate) error {
	news := r.servers.take(c.server)
	if news == nil {
		return nil
	}
	began := time.Now()
	timer := time.NewTimer(newsTimeout)
	defer timer.Stop()
	select {
	case <-news:
		if r.servers.heard(c.server) {
			break
		}
		e := &serverError{fault: faultSilent, said: saidToOthers}
		led.tried(dns.Attempt{Server: c.server, Name: c.name.String(), Protocol: "udp", Said: e.said, Took: time.Since(began)})
		return e
	case <-timer.C: // those who asked have gone
	case <-ctx.Done():
		return ctx.Err()
	}
	r.servers.takeNow(c.server)
	return nil
}
