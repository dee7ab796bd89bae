package server

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// sent is a socket that keeps what is sent.
type sent struct {
	mu     sync.Mutex
	rcodes map[uint16][]int // by the port
}

func (s *sent) send(out []byte, to netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var m wire.Msg
	if err := m.Unpack(out); err != nil {
		return err
	}
	s.rcodes[to.Port()] = append(s.rcodes[to.Port()], m.Rcode)
	return nil
}

func (*sent) turn(*udpLoop) error { return nil }
func (*sent) stop()               {}
func (*sent) Close() error        { return nil }

// TestOverdue: while newer questions come first, one whose turn does not come is told so after the
// time that an answer may take, and gives its place back.
func TestOverdue(t *testing.T) {
	stile, err := newTurnstile()
	if err != nil {
		t.Fatal(err)
	}
	defer stile.Close()
	packet, err := new(wire.Msg).SetQuestion("example.com.", wire.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Resolver: dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) { return dns.Answer{}, nil })}
	out := &sent{rcodes: map[uint16][]int{}}
	var answering sync.WaitGroup
	l := &udpLoop{server: s, ctx: t.Context(), socket: out, answering: &answering, turnstile: stile}
	l.room.tended = true // by us, below
	wait := func(port uint16, age time.Duration, outlook dns.Outlook) {
		s.inFlight.Add(1)
		at := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port)
		l.room.add(waiting{packet: packet, from: at, came: time.Now().Add(-age)}, outlook, l)
	}
	wait(1, time.Minute, dns.OutlookFair)
	wait(2, time.Minute, dns.OutlookUnsure)
	wait(3, 0, dns.OutlookUnsure)
	wait(4, time.Minute, dns.OutlookFair) // of a source whose second question is new
	wait(4, 0, dns.OutlookFair)
	for port := range uint16(beginsEach) {
		wait(10+port, 0, dns.OutlookFair)
	}
	l.tend()
	answering.Wait()
	want := map[uint16][]int{1: {wire.RcodeServerFailure}, 2: {wire.RcodeServerFailure}, 3: {wire.RcodeSuccess}, 4: {wire.RcodeSuccess, wire.RcodeServerFailure}}
	for port := range uint16(beginsEach) {
		want[10+port] = []int{wire.RcodeSuccess}
	}
	for port, rcodes := range want {
		got := slices.Sorted(slices.Values(out.rcodes[port]))
		if !slices.Equal(got, rcodes) {
			t.Errorf("port %d was told %v, want %v", port, got, rcodes)
		}
	}
	if n := s.inFlight.Load(); n != 0 || len(out.rcodes) != len(want) {
		t.Errorf("%d are still in flight; %d were told", n, len(out.rcodes))
	}
	if len(l.room.fair.sources) != 0 || l.room.fair.turns.Len() != 0 {
		t.Error("sources are remembered that wait for nothing")
	}
}

// TestSweep: those who wait are counted through a few times in their time, and not each time that
// somebody is looked at.
func TestSweep(t *testing.T) {
	var r waitingRoom
	now := time.Now()
	r.overdue(now, time.Second)
	r.unsure = []waiting{{came: now.Add(-time.Minute)}}
	if late := r.overdue(now.Add(time.Second/sweeps-1), time.Second); len(late) != 0 {
		t.Error("they are counted through at once again")
	}
	if late := r.overdue(now.Add(time.Second/sweeps), time.Second); len(late) != 1 {
		t.Errorf("%d are overdue, want 1", len(late))
	}
}
