package resolver

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"mxward/internal/dns"
)

// How long the memory of servers lasts, and how large it may become.
const (
	deadAfter     = 2                // silences in a row
	deadFor       = 30 * time.Second // the first time; doubling
	maxDeadFor    = 5 * time.Minute
	lameFor       = 5 * time.Minute
	noEDNSFor     = time.Hour
	flatFor       = time.Hour // without random case
	wholeFor      = 5 * time.Minute
	noRouteFor    = time.Minute
	darkAfter     = 8 // silences of a family in a row
	maxServers    = 20_000
	maxLameZones  = 32 // remembered for one server
	exploreOneIn  = 20 // questions that go to a server other than the fastest
	unknownAtMost = 40 * time.Millisecond
)

// servers remembers how name servers behaved: round-trip time, silence, lameness. It only
// ever decides the order in which servers are asked, so that nothing remembered can make a
// name unresolvable; silence is shared only by those who wait while it lasts (turn.go).
type servers struct {
	mu       sync.Mutex
	m        map[netip.AddrPort]*serverState
	families [2]family
	signs    uint64    // signs of life of the DNS so far
	lastSign time.Time // the last one

	secretOnce sync.Once
	secret     [32]byte // of our cookies
}

type serverState struct {
	srtt      time.Duration // smoothed; 0 for unknown
	variation time.Duration // of it, smoothed
	silences  int           // in a row
	deadUntil time.Time
	lame      map[dns.Name]time.Time // by zone, until when
	noEDNS    time.Time              // until when
	flat      time.Time              // until when: it does not repeat the case of letters
	whole     time.Time              // until when: it fails at parts of names
	cookie    string                 // its DNS cookie; empty for none
	client    [clientCookieSize]byte // ours for it, until clientUntil
	zone      dns.Name               // where it was silent, for flush

	clientUntil time.Time

	heardAt time.Time // the last time
	inHand  int       // questions that are put to it
	turns   map[dns.Name]*turn

	waitedFor int // of the turns, those that somebody waits for
}

// heard reports whether the server replied the last time that it was asked.
func (st *serverState) heard() bool { return st != nil && st.srtt > 0 && st.silences == 0 }

// family is the memory of IPv4 or IPv6 as a whole.
type family struct {
	heard, noRouteUntil time.Time
	silences            int // since then
}

// lives notes a sign of life of the DNS: a reply that says what its sender may say. The
// refusal of a gateway, an ICMP error, a proxy that answers in the place of every server
// are none: they come from networks that lead nowhere.
func (s *servers) lives() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signs++
	s.lastSign = time.Now()
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// state gives the memory of one server. The lock is held.
func (s *servers) state(server netip.AddrPort) *serverState {
	if st := s.m[server]; st != nil {
		return st
	}
	if s.m == nil {
		s.m = map[netip.AddrPort]*serverState{}
	}
	for old := range s.m { // any one: the order of a map is random
		if len(s.m) < maxServers {
			break
		}
		delete(s.m, old)
	}
	st := &serverState{}
	s.m[server] = st
	return st
}

// answered notes a reply, of whatever worth.
func (s *servers) answered(server netip.AddrPort, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.families[familyOf(server.Addr())] = family{heard: time.Now()}
	st := s.state(server)
	took = max(took, time.Microsecond)   // 0 is unknown
	if st.srtt == 0 || st.silences > 0 { // RFC 6298 §2.2, §5.7: what silence made of it counts no more
		st.srtt, st.variation = took, took/2
	} else { // RFC 6298 §2.3
		st.variation += ((st.srtt - took).Abs() - st.variation) / 4
		st.srtt += (took - st.srtt) / 8
	}
	st.silences, st.deadUntil, st.heardAt = 0, time.Time{}, time.Now()
	st.tellAll()
}

// patience is how long to wait for a datagram from a server: as its record says, if it has
// one and was not silent the last time (RFC 6298 §2.3, §5.5).
func (s *servers) patience(server netip.AddrPort) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.m[server]
	if st == nil || st.srtt == 0 || st.silences > 0 {
		return packetTimeout
	}
	return min(max(st.srtt+4*st.variation, minPacketTimeout), packetTimeout)
}

// silent notes that no reply came that can be read.
func (s *servers) silent(server netip.AddrPort, zone dns.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.darkens(familyOf(server.Addr()))
	st := s.state(server)
	if t := st.turns[zone]; t != nil {
		t.silentAt = time.Now()
		st.tell(t, true)
	}
	st.zone = zone
	st.srtt = min(max(2*st.srtt, 400*time.Millisecond), packetTimeout)
	st.silences++
	if over := st.silences - deadAfter; over >= 0 {
		st.deadUntil = time.Now().Add(min(deadFor<<min(over, 10), maxDeadFor))
	}
}

// lame notes that the server does not serve the zone.
func (s *servers) lame(server netip.AddrPort, zone dns.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state(server)
	if st.lame == nil || len(st.lame) >= maxLameZones {
		st.lame = map[dns.Name]time.Time{}
	}
	st.lame[zone] = time.Now().Add(lameFor)
}

// noRoute notes that a family has no route, unless it had one a moment ago: then only this
// destination has none.
func (s *servers) noRoute(server netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, now := &s.families[familyOf(server.Addr())], time.Now()
	if now.Sub(f.heard) > noRouteFor {
		f.noRouteUntil = now.Add(noRouteFor)
	}
}

// darkens counts the silences of a family. After many in a row, while the other family is
// heard, its packets lead nowhere, though this host has a route: its servers come last for
// a while, and one more silence after that is enough. The lock is held.
func (s *servers) darkens(family int) {
	f, other, now := &s.families[family], s.families[1-family], time.Now()
	if f.silences++; f.silences >= darkAfter && !other.heard.IsZero() && now.Sub(other.heard) < noRouteFor && other.silences < darkAfter {
		f.noRouteUntil = now.Add(noRouteFor)
	}
}

// routable reports whether nothing speaks against a family: 0 for IPv4, 1 for IPv6.
func (s *servers) routable(family int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.families[family].noRouteUntil.After(time.Now())
}

// refusesEDNS notes a server that does not know EDNS (RFC 6891 §7); speaksEDNS asks.
func (s *servers) refusesEDNS(server netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state(server).noEDNS = time.Now().Add(noEDNSFor)
}

func (s *servers) speaksEDNS(server netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.m[server]
	return st == nil || st.noEDNS.Before(time.Now())
}

// signsOfLife counts them, of all servers; a question that compares two counts knows
// whether the network works.
func (s *servers) signsOfLife() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signs
}

// livedSince reports whether there was a sign of life after some time.
func (s *servers) livedSince(t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastSign.After(t)
}

// livedWithin reports whether there was a sign of life not longer ago than d.
func (s *servers) livedWithin(d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.lastSign.IsZero() && time.Since(s.lastSign) <= d
}

// flush forgives the servers that failed name or a zone below it.
func (s *servers) flush(name dns.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for server, st := range s.m {
		if name == dns.Root || !st.zone.IsZero() && st.zone.In(name) {
			delete(s.m, server)
			continue
		}
		for zone := range st.lame {
			if zone.In(name) {
				delete(st.lame, zone)
			}
		}
	}
	if name == dns.Root {
		s.families = [2]family{}
	}
}

// standing says how promising a server is, best first.
type standing int

const (
	standingGood standing = iota
	standingNoRoute
	standingLame
	standingDead
)

// rank sorts candidates: first the good ones, by smoothed round-trip time, with a try at
// another one now and then, since who is never asked can never become faster. It gives how
// many those are.
func (s *servers) rank(candidates []candidate, zone dns.Name) (good int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for i := range candidates {
		c := &candidates[i]
		c.standing, c.estimate = s.judge(c.server, zone, now)
		c.heard = s.m[c.server].heard()
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.standing, b.standing), cmp.Compare(a.estimate, b.estimate))
	})
	for good < len(candidates) && candidates[good].standing == standingGood {
		good++
	}
	if good > 1 && rand.IntN(exploreOneIn) == 0 {
		i := 1 + rand.IntN(good-1)
		candidates[0], candidates[i] = candidates[i], candidates[0]
	}
	return good
}

func (s *servers) judge(server netip.AddrPort, zone dns.Name, now time.Time) (standing, time.Duration) {
	estimate := rand.N(unknownAtMost) // who is not known may well be fast
	st := s.m[server]
	if st != nil && st.srtt > 0 {
		estimate = st.srtt
	}
	switch {
	case st != nil && st.deadUntil.After(now):
		return standingDead, st.deadUntil.Sub(now)
	case st != nil && st.lame[zone].After(now):
		return standingLame, estimate
	case s.families[familyOf(server.Addr())].noRouteUntil.After(now):
		return standingNoRoute, estimate
	}
	return standingGood, estimate
}
