package server_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns/server"
)

// exchange asks over a real UDP socket.
func exchange(t *testing.T, c net.Conn, name string) *wire.Msg {
	t.Helper()
	if _, err := c.Write(query(t, name, wire.TypeA, nil)); err != nil {
		t.Fatal(err)
	}
	return receiveUDP(t, c)
}

func dialUDP(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestUDP: real sockets, IPv4 and IPv6; what is no query is not answered, and does no harm.
func TestUDP(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			pc, err := net.ListenPacket("udp", addr)
			if err != nil {
				t.Skipf("left out: %v", err)
			}
			s := &server.Server{Resolver: newGate()}
			served := make(chan error, 1)
			go func() { served <- s.ServeUDP(pc) }()
			c := dialUDP(t, pc.LocalAddr().String())
			for _, junk := range []string{"", "x", strings.Repeat("\xff", 60), strings.Repeat("\x00", 5000)} {
				if _, err := c.Write([]byte(junk)); err != nil {
					t.Fatal(err)
				}
			}
			if m := exchange(t, c, "a.example."); !m.Authoritative {
				t.Errorf("got %v", m)
			}
			if err := errors.Join(s.Shutdown(t.Context()), <-served); err != nil {
				t.Error(err)
			}
			if n := s.Counts().Ignored; n != 4 {
				t.Errorf("%d ignored: %+v", n, s.Counts())
			}
		})
	}
}

// TestUDPShutdown: a question that was read before Shutdown is answered.
func TestUDPShutdown(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := newGate()
	s := &server.Server{Resolver: g}
	served := make(chan error, 1)
	go func() { served <- s.ServeUDP(pc) }()
	c := dialUDP(t, pc.LocalAddr().String())
	if _, err := c.Write(query(t, "slow.example.", wire.TypeA, nil)); err != nil {
		t.Fatal(err)
	}
	for g.waiting.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(context.Background()) }()
	time.AfterFunc(50*time.Millisecond, func() { close(g.open) })
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 512)); err != nil {
		t.Errorf("no answer: %v", err)
	}
	if err := errors.Join(<-stopped, <-served); err != nil {
		t.Error(err)
	}
	late, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ServeUDP(late); err != nil {
		t.Errorf("served after Shutdown: %v", err)
	}
	if _, err := late.WriteTo([]byte("x"), late.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the socket is still open: %v", err)
	}
}

// TestMaxInFlightUDP: while the Resolver is busy, reading goes on, and questions for which
// there is no room are dropped.
func TestMaxInFlightUDP(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := newGate()
	s := &server.Server{Resolver: g, MaxInFlight: 2}
	served := make(chan error, 1)
	go func() { served <- s.ServeUDP(pc) }()
	c := dialUDP(t, pc.LocalAddr().String())
	for range 5 {
		if _, err := c.Write(query(t, "slow.example.", wire.TypeA, nil)); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); s.Counts().Dropped < 3 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if n := s.Counts().Dropped; n != 3 || g.waiting.Load() > 2 {
		t.Errorf("%d dropped, %d in flight", n, g.waiting.Load())
	}
	close(g.open)
	for range 2 {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 512)); err != nil {
			t.Errorf("an answer is missing: %v", err)
		}
	}
	if err := errors.Join(s.Shutdown(context.Background()), <-served); err != nil {
		t.Error(err)
	}
}

// roomy tells of the room that is asked for in the kernel.
type roomy struct {
	net.PacketConn
	asked chan int
}

func (r roomy) SetReadBuffer(bytes int) error {
	r.asked <- bytes
	return errors.New("no room at all")
}

// TestUnread: a burst of questions finds room in the kernel until it is read; a kernel that
// gives none is served all the same.
func TestUnread(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := newGate()
	close(g.open)
	s := &server.Server{Resolver: g}
	served, asked := make(chan error, 1), make(chan int, 1)
	go func() { served <- s.ServeUDP(roomy{pc, asked}) }()
	const burst, each = 1000, 1000 // questions, and what the kernel counts for one and more
	if got := <-asked; got < burst*each {
		t.Errorf("room for %d bytes, which is less than %d questions", got, burst)
	}
	c := dialUDP(t, pc.LocalAddr().String())
	if _, err := c.Write(query(t, "www.example.", wire.TypeA, nil)); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 512)); err != nil {
		t.Errorf("no answer: %v", err)
	}
	if err := errors.Join(s.Shutdown(context.Background()), <-served); err != nil {
		t.Error(err)
	}
}

// TestRate: above the rate there are truncated answers and silence, in turns; loopback is
// exempt unless it is said otherwise.
func TestRate(t *testing.T) {
	const sent = 20
	for _, tt := range []struct {
		what    string
		rate    int
		limit   bool
		limited bool
	}{
		{"loopback is exempt", 1, false, false},
		{"a limited client", 1, true, true},
		{"switched off", -1, true, false},
		{"the default is wide enough", 0, true, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			pc, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := &server.Server{Resolver: newGate(), Rate: tt.rate, LimitLoopback: tt.limit}
			served := make(chan error, 1)
			go func() { served <- s.ServeUDP(pc) }()
			c := dialUDP(t, pc.LocalAddr().String())
			for range sent {
				if _, err := c.Write(query(t, "a.example.", wire.TypeA, nil)); err != nil {
					t.Fatal(err)
				}
			}
			// Of those above the rate the first, third … are answered with TC.
			wantTruncated := func() int64 { return (s.Counts().Limited + 1) / 2 }
			for s.Counts().Queries+s.Counts().Limited-wantTruncated() < sent {
				time.Sleep(time.Millisecond) // until all are read
			}
			if err := errors.Join(s.Shutdown(context.Background()), <-served); err != nil {
				t.Error(err)
			}
			full, truncated := 0, 0
			for range s.Counts().Queries {
				if m := receiveUDP(t, c); m.Truncated {
					truncated++
				} else if m.Authoritative {
					full++
				}
			}
			if int64(truncated) != wantTruncated() || full == 0 || tt.limited != (full < sent/2) {
				t.Errorf("%d full, %d truncated, %+v", full, truncated, s.Counts())
			}
		})
	}
}

func receiveUDP(t *testing.T, c net.Conn) *wire.Msg {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	m := new(wire.Msg)
	if err := m.Unpack(buf[:n]); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestShutdownIdle: a loop that waits for questions stops at once, and its port is free.
func TestShutdownIdle(t *testing.T) {
	for _, idle := range []bool{true, false} { // no question ever; and after one
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := pc.LocalAddr().String()
		s := &server.Server{Resolver: prepared{}}
		served := make(chan error, 1)
		go func() { served <- s.ServeUDP(pc) }()
		if !idle {
			exchange(t, dialUDP(t, addr), "ready.example.")
		}
		if err := errors.Join(s.Shutdown(context.Background()), <-served); err != nil {
			t.Error(err)
		}
		again, err := net.ListenPacket("udp", addr)
		if err != nil {
			t.Fatalf("the port is still in use: %v", err)
		}
		_ = again.Close()
	}
}

// TestShutdownCutsOffUDP: a question that takes longer than Shutdown may is given up, and then
// the loop ends as well.
func TestShutdownCutsOffUDP(t *testing.T) {
	for _, tt := range []struct {
		what string
		pc   func(net.PacketConn) net.PacketConn
	}{
		{"in batches, where the system has them", func(pc net.PacketConn) net.PacketConn { return pc }},
		{"one by one", func(pc net.PacketConn) net.PacketConn { return struct{ net.PacketConn }{pc} }},
	} {
		t.Run(tt.what, func(t *testing.T) {
			pc, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			g := newGate()
			s := &server.Server{Resolver: g}
			served := make(chan error, 1)
			go func() { served <- s.ServeUDP(tt.pc(pc)) }()
			c := dialUDP(t, pc.LocalAddr().String())
			if _, err := c.Write(query(t, "slow.example.", wire.TypeA, nil)); err != nil {
				t.Fatal(err)
			}
			for g.waiting.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSocketCloses: a socket that fails ends ServeUDP with its error. One of the kernel's
// belongs to the loop alone; this one does not.
func TestSocketCloses(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server.Server{Resolver: newGate()}
	served := make(chan error, 1)
	go func() { served <- s.ServeUDP(struct{ net.PacketConn }{pc}) }()
	c := dialUDP(t, pc.LocalAddr().String())
	exchange(t, c, "a.example.")
	_ = pc.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
