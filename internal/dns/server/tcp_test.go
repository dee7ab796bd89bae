package server_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/server"
)

// gate is a Resolver that answers names that begin with "slow" only when it is opened.
type gate struct {
	open    chan struct{}
	waiting atomic.Int64
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	if strings.HasPrefix(q.Name.String(), "slow") {
		g.waiting.Add(1)
		defer g.waiting.Add(-1)
		select {
		case <-g.open:
		case <-ctx.Done():
			return dns.Answer{}, ctx.Err()
		}
	}
	return dns.Answer{Authoritative: true}, nil
}

// listener hands out the far ends of pipes, so that time can be virtual.
type listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 53} }

// from is a pipe that says where it comes from.
type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr {
	a, err := net.ResolveTCPAddr("tcp", f.addr)
	if err != nil {
		panic(err)
	}
	return a
}

func (l *listener) dial(addr string) net.Conn {
	near, far := net.Pipe()
	l.conns <- from{far, addr}
	return near
}

func frame(t testing.TB, id uint16, name string) []byte {
	p := query(t, name, wire.TypeA, func(m *wire.Msg) { m.Id = id })
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)
}

// receive reads one reply; nil at the end of the connection.
func receive(t testing.TB, c net.Conn) *wire.Msg {
	t.Helper()
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return nil
	}
	p := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, p); err != nil {
		t.Errorf("half a reply: %v", err)
		return nil
	}
	m := new(wire.Msg)
	if err := m.Unpack(p); err != nil {
		t.Error(err)
	}
	return m
}

// bubble runs a test of TCP in virtual time, with a gate behind the server, and shuts the
// server down at its end.
func bubble(t *testing.T, s *server.Server, test func(t *testing.T, l *listener, g *gate)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l, g := newListener(), newGate()
		s.Resolver = g
		served := make(chan error, 1)
		go func() { served <- s.ServeTCP(l) }()
		test(t, l, g)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("ServeTCP: %v", err)
		}
	})
}

// TestPipelining: a quick answer overtakes a slow one on the same connection (RFC 7766 §7).
func TestPipelining(t *testing.T) {
	bubble(t, &server.Server{}, func(t *testing.T, l *listener, g *gate) {
		c := l.dial("192.0.2.7:1000")
		defer c.Close()
		// Three questions in one write, the second cut in two.
		all := append(frame(t, 1, "slow.example."), frame(t, 2, "quick.example.")...)
		all = append(all, frame(t, 3, "quick.example.")...)
		for _, piece := range [][]byte{all[:40], all[40:50], all[50:]} {
			if _, err := c.Write(piece); err != nil {
				t.Fatal(err)
			}
		}
		got := map[uint16]bool{receive(t, c).Id: true, receive(t, c).Id: true}
		if !got[2] || !got[3] {
			t.Fatalf("first came %v", got)
		}
		close(g.open)
		if m := receive(t, c); m.Id != 1 || !m.Authoritative {
			t.Errorf("then came %v", m)
		}
	})
}

// TestIdle: a connection without questions is closed, one that waits for an answer is not.
func TestIdle(t *testing.T) {
	bubble(t, &server.Server{QueryTimeout: time.Hour}, func(t *testing.T, l *listener, g *gate) {
		start := time.Now()
		silent, waiting, half, slowLength := l.dial("192.0.2.7:1"), l.dial("192.0.2.7:2"), l.dial("192.0.2.7:3"), l.dial("192.0.2.7:4")
		for _, w := range []struct {
			c net.Conn
			p []byte
		}{{waiting, frame(t, 1, "slow.example.")}, {half, frame(t, 2, "quick.example.")[:20]}, {slowLength, []byte{0}}} {
			if _, err := w.c.Write(w.p); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []struct {
			c     net.Conn
			after time.Duration
		}{{half, 5 * time.Second}, {slowLength, 5 * time.Second}, {silent, 10 * time.Second}} {
			if m := receive(t, want.c); m != nil {
				t.Errorf("got %v", m)
			}
			if took := time.Since(start); took != want.after {
				t.Errorf("closed after %v, want %v", took, want.after)
			}
		}
		time.Sleep(10 * time.Minute)
		close(g.open)
		if m := receive(t, waiting); m == nil || m.Id != 1 {
			t.Errorf("the one who waited got %v", m)
		}
		answered := time.Now()
		if m := receive(t, waiting); m != nil {
			t.Errorf("got %v", m)
		}
		if idle := time.Since(answered); idle > 10*time.Second {
			t.Errorf("closed %v after the last answer", idle)
		}
	})
}

// TestStuckReader: a client that does not take its answers loses its connection.
func TestStuckReader(t *testing.T) {
	bubble(t, &server.Server{}, func(t *testing.T, l *listener, _ *gate) {
		c := l.dial("192.0.2.7:1")
		if _, err := c.Write(frame(t, 1, "quick.example.")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		if m := receive(t, c); m != nil {
			t.Errorf("got %v", m)
		}
	})
}

// TestNoQuestions: a connection that carries something else is closed.
func TestNoQuestions(t *testing.T) {
	response := frame(t, 1, "a.")
	response[4] |= 0x80
	for what, p := range map[string][]byte{
		"a response":       response,
		"too long":         {0xff, 0xff},
		"too short":        {0, 11},
		"an HTTP request":  []byte("GET / HTTP/1.1\r\n\r\n"),
		"a zero length":    {0, 0},
		"a length of 4097": {0x10, 0x01},
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, &server.Server{}, func(t *testing.T, l *listener, _ *gate) {
				c := l.dial("192.0.2.7:1")
				start := time.Now()
				_, _ = c.Write(p)
				if m := receive(t, c); m != nil {
					t.Errorf("got %v", m)
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("closed after %v", took)
				}
			})
		})
	}
}

// TestFormErrKeepsConnection: a malformed question in a good frame gets its FORMERR, and
// the next question its answer.
func TestFormErrKeepsConnection(t *testing.T) {
	bubble(t, &server.Server{}, func(t *testing.T, l *listener, _ *gate) {
		c := l.dial("192.0.2.7:1")
		defer c.Close()
		bad := frame(t, 1, "a.")
		bad[2+5] = 2 // QDCOUNT
		_, _ = c.Write(bad)
		if m := receive(t, c); m.Rcode != wire.RcodeFormatError {
			t.Errorf("got %v", m)
		}
		_, _ = c.Write(frame(t, 2, "a."))
		if m := receive(t, c); m.Id != 2 || m.Rcode != wire.RcodeSuccess {
			t.Errorf("got %v", m)
		}
	})
}

// TestMaxConns: above the limits connections are closed unheard, and places become free.
func TestMaxConns(t *testing.T) {
	s := &server.Server{MaxConns: 3, MaxConnsPerClient: 2}
	bubble(t, s, func(t *testing.T, l *listener, _ *gate) {
		served := func(c net.Conn) bool {
			_, _ = c.Write(frame(t, 1, "quick.example."))
			return receive(t, c) != nil
		}
		a, b := l.dial("192.0.2.7:1"), l.dial("192.0.2.7:2")
		if !served(a) || !served(b) {
			t.Error("two of one client were not served")
		}
		if served(l.dial("192.0.2.7:3")) {
			t.Error("a third of one client was served")
		}
		if !served(l.dial("192.0.2.8:1")) {
			t.Error("the first of another client was not served")
		}
		if served(l.dial("192.0.2.9:1")) {
			t.Error("a fourth in all was served")
		}
		_ = a.Close()
		synctest.Wait()
		if !served(l.dial("[2001:db8::1]:1")) {
			t.Error("a free place was not given away")
		}
		if n := s.Counts().RefusedConns; n != 2 {
			t.Errorf("%d refused", n)
		}
	})
}

// TestLoopbackConns: the limit per client is not for loopback, unless it is said so.
func TestLoopbackConns(t *testing.T) {
	for _, limited := range []bool{false, true} {
		s := &server.Server{MaxConnsPerClient: 1, LimitLoopback: limited}
		bubble(t, s, func(t *testing.T, l *listener, _ *gate) {
			l.dial("127.0.0.1:1")
			l.dial("127.0.0.1:2")
			synctest.Wait()
			if refused := s.Counts().RefusedConns == 1; refused != limited {
				t.Errorf("limited %v: refused %v", limited, refused)
			}
		})
	}
}

// TestMaxPipelined: who sends more questions than may be in flight has to wait.
func TestMaxPipelined(t *testing.T) {
	bubble(t, &server.Server{MaxPipelined: 2}, func(t *testing.T, l *listener, g *gate) {
		c := l.dial("192.0.2.7:1")
		defer c.Close()
		go func() {
			for id := range 5 {
				_, _ = c.Write(frame(t, uint16(id), "slow.example."))
			}
		}()
		synctest.Wait()
		if n := g.waiting.Load(); n != 2 {
			t.Errorf("%d questions in flight", n)
		}
		close(g.open)
		for range 5 {
			if receive(t, c) == nil {
				t.Error("an answer is missing")
			}
		}
	})
}

// TestMaxInFlightTCP: over TCP a question for which there is no room is SERVFAIL.
func TestMaxInFlightTCP(t *testing.T) {
	s := &server.Server{MaxInFlight: 1}
	bubble(t, s, func(t *testing.T, l *listener, g *gate) {
		c := l.dial("192.0.2.7:1")
		defer c.Close()
		_, _ = c.Write(frame(t, 1, "slow.example."))
		synctest.Wait()
		_, _ = c.Write(frame(t, 2, "quick.example."))
		if m := receive(t, c); m.Id != 2 || m.Rcode != wire.RcodeServerFailure {
			t.Errorf("got %v", m)
		}
		close(g.open)
		if m := receive(t, c); m.Id != 1 || m.Rcode != wire.RcodeSuccess {
			t.Errorf("got %v", m)
		}
		if n := s.Counts().Dropped; n != 1 {
			t.Errorf("%d dropped", n)
		}
	})
}

// TestShutdownTCP: what has been read is answered, then the connection ends; idle ones end
// at once.
func TestShutdownTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		s := &server.Server{Resolver: g}
		l := newListener()
		served := make(chan error, 1)
		go func() { served <- s.ServeTCP(l) }()
		idle, busy := l.dial("192.0.2.7:1"), l.dial("192.0.2.7:2")
		_, _ = busy.Write(frame(t, 1, "slow.example."))
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- s.Shutdown(t.Context()) }()
		if m := receive(t, idle); m != nil {
			t.Errorf("idle got %v", m)
		}
		synctest.Wait()
		select {
		case err := <-stopped:
			t.Errorf("Shutdown did not wait: %v", err)
		default:
		}
		close(g.open)
		if m := receive(t, busy); m == nil || m.Id != 1 {
			t.Errorf("busy got %v", m)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := s.ServeTCP(newListener()); err != nil {
			t.Errorf("served after Shutdown: %v", err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("second Shutdown: %v", err)
		}
	})
}

// TestShutdownCutsOff: when the time for Shutdown is over, questions are given up.
func TestShutdownCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate() // never opened
		s := &server.Server{Resolver: g, QueryTimeout: time.Hour}
		l := newListener()
		served := make(chan error, 1)
		go func() { served <- s.ServeTCP(l) }()
		c := l.dial("192.0.2.7:1")
		_, _ = c.Write(frame(t, 1, "slow.example."))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := g.waiting.Load(); n != 0 {
			t.Errorf("%d questions are still asked", n)
		}
	})
}

// TestAcceptTrouble: a listener that fails for good ends ServeTCP; its errors are tried again.
func TestAcceptTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("too many open files")
		s := &server.Server{Resolver: newGate()}
		if err := s.ServeTCP(failing{newListener(), broken}); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		closed := newListener()
		_ = closed.Close()
		if err := s.ServeTCP(closed); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

type failing struct {
	*listener
	err error
}

func (f failing) Accept() (net.Conn, error) { return nil, f.err }

// TestRealTCP: the same over a real listener, two questions in one write.
func TestRealTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server.Server{Resolver: newGate()}
	served := make(chan error, 1)
	go func() { served <- s.ServeTCP(ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write(append(frame(t, 1, "a."), frame(t, 2, "b.")...)); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, c).Id + receive(t, c).Id; got != 3 {
		t.Errorf("IDs sum up to %d", got)
	}
	if err := errors.Join(s.Shutdown(context.Background()), <-served); err != nil {
		t.Error(err)
	}
	if m := receive(t, c); m != nil {
		t.Errorf("after Shutdown: %v", m)
	}
}
