package resolver

import (
	"context"
	"net/netip"
	"time"

	"mxward/internal/dns"
)

// A server that was not heard the last time is asked no more than a few questions at once, and
// the others wait for what becomes of these: they go on once it is heard, and share its
// silence. So the questions for dead servers, however many, cost next to nothing, and a server
// that is only far away answers all of them one round trip later.
//
// Silence is shared by the questions of one zone alone, and not of a server that was heard
// meanwhile: many servers drop what they do not serve, and anybody can delegate a zone to them.
const (
	maxUnheard  = 4                                // questions put at once to a server that is not heard
	newsTimeout = packetTimeout + minPacketTimeout // there is news when the first packet is given up
	turnsLooked = 4                                // at, to forget those of old, for each new one
)

// turn is what one zone has to do with a server.
type turn struct {
	inHand   int // its questions that are put to the server
	silentAt time.Time
	news     *news // nil while nobody waits for it
}

// news is what those wait for who do not ask a server themselves.
type news struct {
	came   chan struct{} // closed when it comes, and when nobody asks any more
	silent bool          // the server was silent; read it after that
}

// hand is a question that is put to a server.
type hand struct {
	server *serverState
	turn   *turn // nil for a server that was heard: nobody waits for it
}

// tell lets those go on who wait to hear from the server. The lock is held.
func (st *serverState) tell(t *turn, silent bool) {
	if t.news != nil {
		t.news.silent = silent
		close(t.news.came)
		t.news = nil
		st.waitedFor--
	}
}

// tellAll is tell for all zones, of a server that was heard. The lock is held.
func (st *serverState) tellAll() {
	if st.waitedFor == 0 {
		return
	}
	for _, t := range st.turns {
		st.tell(t, false)
	}
}

// wait gives what to wait for. The lock is held.
func (st *serverState) wait(t *turn) *news {
	if t.news == nil {
		t.news = &news{came: make(chan struct{})}
		st.waitedFor++
	}
	return t.news
}

// turn gives what a zone has to do with the server. The lock is held.
func (st *serverState) turn(zone dns.Name) *turn {
	if t := st.turns[zone]; t != nil {
		return t
	}
	if st.turns == nil {
		st.turns = map[dns.Name]*turn{}
	}
	looked := 0
	for old, t := range st.turns { // any few: the order of a map is random
		if looked++; looked > turnsLooked {
			break
		}
		if t.inHand == 0 && t.news == nil {
			delete(st.turns, old)
		}
	}
	t := &turn{}
	st.turns[zone] = t
	return t
}

// full reports whether the server has as many questions as one may have that is not heard.
// One that was heard a moment ago is there. The lock is held.
func (st *serverState) full() bool {
	return st != nil && !st.heard() && st.inHand >= maxUnheard && time.Since(st.heardAt) >= packetTimeout
}

// busy reports whether a question of a zone has to wait; each zone may always put one. The
// lock is held.
func (st *serverState) busy(zone dns.Name) bool {
	if !st.full() {
		return false
	}
	t := st.turns[zone]
	return t != nil && t.inHand > 0
}

// heardSince reports whether the server was heard after some time, or while a question was
// under way that it left without a reply by then. The lock is held.
func (st *serverState) heardSince(t time.Time) bool {
	return st != nil && st.heardAt.After(t.Add(-packetTimeout))
}

// take puts one more question to a server, unless it is busy: then it gives the news to wait
// for.
func (s *servers) take(server netip.AddrPort, zone dns.Name) (hand, *news) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state(server)
	if st.busy(zone) {
		return hand{}, st.wait(st.turn(zone))
	}
	return st.put(zone), nil
}

// takeNow is take for who has waited.
func (s *servers) takeNow(server netip.AddrPort, zone dns.Name) hand {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state(server).put(zone)
}

// put counts a question of a zone. The lock is held.
func (st *serverState) put(zone dns.Name) hand {
	h := hand{server: st}
	st.inHand++
	if !st.heard() {
		h.turn = st.turn(zone)
		h.turn.inHand++
	}
	return h
}

// giveBack ends what take or takeNow began. Where nobody asks any more, no news will come.
func (s *servers) giveBack(h hand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.server.inHand--
	if h.turn == nil {
		return
	}
	if h.turn.inHand--; h.turn.inHand == 0 {
		h.server.tell(h.turn, false)
	}
}

// busyAll gives the news to wait for where all of a zone's servers have as many questions as
// they may, one of the zone among them: of a server that has one and has not been silent since
// a question began, or of any if all have, which silent reports. Heard reports whether one of
// them was heard the last time.
func (s *servers) busyAll(list []netip.AddrPort, zone dns.Name, began time.Time) (next *news, heard, silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first hand
	full := true
	silent = true
	for _, server := range list {
		st := s.m[server]
		if st.heard() {
			return nil, true, false
		}
		if !st.full() {
			full = false
			continue
		}
		t := st.turns[zone]
		quiet := t != nil && t.silentAt.After(began) && !st.heardSince(began)
		if t != nil && t.inHand > 0 && (first.turn == nil || silent && !quiet) {
			first = hand{st, t}
		}
		silent = silent && quiet
	}
	if !full || first.turn == nil {
		return nil, false, false
	}
	return first.server.wait(first.turn), false, silent
}

// busy reports whether a question would have to wait for news of the server.
func (s *servers) busy(server netip.AddrPort, zone dns.Name) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[server].busy(zone)
}

// heardSince is that of a server's state.
func (s *servers) heardSince(server netip.AddrPort, t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[server].heardSince(t)
}

// saidToOthers is what a server says to those who share its silence.
const saidToOthers = "no reply to others that asked a moment before"

// askInTurn asks one server when it is its turn, and for the whole name where a part of it was
// of no use.
func (r *Resolver) askInTurn(ctx context.Context, led *ledger, a ask, zone dns.Name, c candidate, m manners, why string) (finding, ask, error) {
	h, err := r.await(ctx, led, zone, c)
	if err != nil {
		return finding{}, a, err
	}
	defer r.servers.giveBack(h)
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
func (r *Resolver) await(ctx context.Context, led *ledger, zone dns.Name, c candidate) (hand, error) {
	h, news := r.servers.take(c.server, zone)
	if news == nil {
		return h, nil
	}
	began := time.Now()
	timer := time.NewTimer(newsTimeout)
	defer timer.Stop()
	for ; news != nil; h, news = r.servers.take(c.server, zone) {
		select {
		case <-news.came:
		case <-timer.C: // those who asked take their time
			return r.servers.takeNow(c.server, zone), nil
		case <-ctx.Done():
			return hand{}, ctx.Err()
		}
		if !news.silent {
			continue
		}
		if r.servers.heardSince(c.server, began) { // it drops some questions, or they were lost
			return r.servers.takeNow(c.server, zone), nil
		}
		e := &serverError{fault: faultSilent, said: saidToOthers}
		led.tried(dns.Attempt{Server: c.server, Name: c.name.String(), Protocol: "udp", Said: e.said, Took: time.Since(began)})
		return hand{}, e
	}
	return h, nil
}
