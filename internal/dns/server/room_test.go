package server_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/server"
)

// seer is a Resolver whose questions say by their first label how they will fare: "held"
// ones are answered when open is closed, all others at once.
type seer struct {
	open   chan struct{}
	held   atomic.Int32
	silent atomic.Bool // what has a bad outlook is known to have no answer

	mu       sync.Mutex
	resolved []string
}

func (s *seer) Resolve(_ context.Context, q dns.Question) (dns.Answer, error) {
	name := q.Name.String()
	if strings.HasPrefix(name, "held") {
		s.held.Add(1)
		<-s.open
		return dns.Answer{}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resolved = append(s.resolved, name)
	return dns.Answer{Authoritative: true}, nil
}

func (s *seer) Foretell(q dns.WireQuestion, came time.Time) (dns.Outlook, error) {
	name := string(q.Name[1:])
	switch {
	case came.After(time.Now()):
		panic("it has not come yet")
	case strings.HasPrefix(name, "panic"):
		panic("a fault")
	case strings.HasPrefix(name, "fair"):
		return dns.OutlookFair, nil
	case strings.HasPrefix(name, "unsure"):
		return dns.OutlookUnsure, nil
	case strings.HasPrefix(name, "bad-error"):
		return dns.OutlookBad, badError{}
	case strings.HasPrefix(name, "bad") && s.silent.Load():
		return dns.OutlookBad, &dns.Error{Trouble: dns.NoReply, Detail: "the servers of example"}
	case strings.HasPrefix(name, "bad"):
		return dns.OutlookBad, nil
	}
	return dns.OutlookGood, nil
}

// badError cannot be looked at.
type badError struct{}

func (badError) Error() string { panic("a fault of the error's") }
func (badError) As(any) bool   { panic("a fault of the error's") }

// crowded serves a seer, and has as many questions in hand as make the server ask it.
func crowded(t *testing.T) (s *server.Server, r *seer, c net.Conn, served chan error) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r = &seer{open: make(chan struct{})}
	s = &server.Server{Resolver: r}
	served = make(chan error, 1)
	go func() { served <- s.ServeUDP(pc) }()
	c = dialUDP(t, pc.LocalAddr().String())
	for range 100 {
		if _, err := c.Write(query(t, "held.example.", wire.TypeA, nil)); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); r.held.Load() < 100; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d questions in hand", r.held.Load())
		}
	}
	return s, r, c, served
}

// TestWaitingRoom: what would only wait for silent servers costs no question to the Resolver,
// is in nobody's way, and is told that they are silent once that is known.
func TestWaitingRoom(t *testing.T) {
	s, r, c, served := crowded(t)
	const bad = 200
	for range bad {
		if _, err := c.Write(query(t, "bad.example.", wire.TypeA, nil)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"good.example.", "fair.example.", "unsure.example.", "panic.example."} {
		if m := exchange(t, c, name); m.Rcode != wire.RcodeSuccess || !m.Authoritative {
			t.Errorf("%s: %v", name, m)
		}
	}
	if n := s.Counts().Panics; n != 1 {
		t.Errorf("%d faults were caught, want that of panic.example", n)
	}
	r.mu.Lock()
	if got := strings.Join(r.resolved, " "); got != "good.example fair.example unsure.example panic.example" {
		t.Errorf("the Resolver was asked for %s", got)
	}
	r.mu.Unlock()
	r.silent.Store(true)
	for i := range bad {
		m := receiveUDP(t, c)
		if m.Rcode != wire.RcodeServerFailure || m.Question[0].Name != "bad.example." {
			t.Fatalf("answer %d: %v", i, m)
		}
	}
	close(r.open)
	for range 100 {
		receiveUDP(t, c)
	}
	if err := errors.Join(s.Shutdown(context.Background()), <-served); err != nil {
		t.Error(err)
	}
	if n := s.Counts(); n.Failed != bad || n.Queries != 100+4+bad || n.Dropped != 0 {
		t.Errorf("counted %+v", n)
	}
}

// TestWaitingRoomShutdown: who waits does not hold up the end for longer than it may.
func TestWaitingRoomShutdown(t *testing.T) {
	s, r, c, served := crowded(t)
	for range 200 {
		if _, err := c.Write(query(t, "bad.example.", wire.TypeA, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if m := exchange(t, c, "good.example."); m.Rcode != wire.RcodeSuccess {
		t.Errorf("%v", m)
	}
	close(r.open)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the end came with %v", err)
	}
	<-served
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestWaitingRoomTime: who has waited for as long as a question may take is asked after all,
// also where the others have gone.
func TestWaitingRoomTime(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &seer{open: make(chan struct{})}
	s := &server.Server{Resolver: r, QueryTimeout: 300 * time.Millisecond}
	served := make(chan error, 1)
	go func() { served <- s.ServeUDP(pc) }()
	c := dialUDP(t, pc.LocalAddr().String())
	for range 100 {
		if _, err := c.Write(query(t, "held.example.", wire.TypeA, nil)); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); r.held.Load() < 100 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if m := exchange(t, c, "bad.example."); m.Rcode != wire.RcodeSuccess || !m.Authoritative {
		t.Errorf("%v", m)
	}
	close(r.open)
	for range 100 {
		receiveUDP(t, c)
	}
	if err := errors.Join(s.Shutdown(context.Background()), <-served); err != nil {
		t.Error(err)
	}
}

// TestWaitingRoomFault: a fault in an answer to one that waits costs that answer alone.
func TestWaitingRoomFault(t *testing.T) {
	s, r, c, served := crowded(t)
	for _, edns := range []bool{false, true} {
		q := new(wire.Msg).SetQuestion("bad-error.example.", wire.TypeA)
		if edns {
			q.SetEdns0(1232, false)
		}
		packet, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
		if m := receiveUDP(t, c); m.Rcode != wire.RcodeServerFailure {
			t.Errorf("%v", m)
		}
	}
	if n := s.Counts().Panics; n != 1 {
		t.Errorf("%d faults were caught, want 1", n)
	}
	close(r.open)
	for range 100 {
		receiveUDP(t, c)
	}
	if err := errors.Join(s.Shutdown(context.Background()), <-served); err != nil {
		t.Error(err)
	}
}
