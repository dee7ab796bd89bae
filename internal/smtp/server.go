package smtp

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mxward/internal/mail"
)

// Errors of the server.
var (
	// ErrServerClosed is what Serve returns after Shutdown.
	ErrServerClosed = errors.New("smtp server closed")
	// ErrTooLarge is what a message's reader gives where the message passes MaxSize.
	ErrTooLarge = errors.New("message too large")
	// ErrBareLine is what a message's reader gives where the message has a bare CR or LF.
	ErrBareLine = errors.New("message has a bare CR or LF")
	// ErrLost is what a message's reader gives where the client is gone.
	ErrLost = errors.New("client is gone")
	// ErrGivenUp is what a message's reader gives where the client gave the message up
	// between two chunks (RFC 3030 §2).
	ErrGivenUp = errors.New("message given up by the client")
)

// Server accepts connections and drives a Session for each. Its fields are not to be
// changed after the first Serve.
type Server struct {
	Hostname string // in the greeting and in the reply to EHLO
	Handler  Handler
	TLS      *tls.Config // nil: STARTTLS is not offered

	MaxSize       int64 // octets of a message; 0: 50 MiB
	MaxRecipients int   // of a message; 0: 100
	MaxSessions   int   // at once; 0: 5,000
	MaxPerClient  int   // sessions at once of one IPv4 address or one IPv6 /64; 0: 50

	Timeouts Timeouts
	Logger   *slog.Logger // nil: no logs

	once     sync.Once
	limits   limits
	log      *slog.Logger
	base     context.Context // of all connections
	cancel   context.CancelFunc
	buffers  sync.Pool // *[]byte of bodyBuffer octets
	refusing chan struct{}

	draining atomic.Bool
	idPrefix string // of connection IDs
	lastID   atomic.Uint64
	refused  atomic.Uint64
	// refusalLogged is when the log last had a line of that, in Unix nanoseconds.
	refusalLogged atomic.Int64
	panics        atomic.Uint64

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	clients   map[netip.Addr]int
	idle      chan struct{} // closed when draining and no connection is left
}

// limits are the Server's with the defaults filled in.
type limits struct {
	size                             int64
	recipients, sessions, perClients int
	Timeouts
}

// Stats counts what a Server has seen since it began.
type Stats struct {
	Sessions uint64 // begun
	Refused  uint64 // for MaxSessions and MaxPerClient
	Panics   uint64 // caught at the boundary of a connection
	Open     int    // sessions now
}

// Stats tells the counts of now.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	open := len(s.conns)
	s.mu.Unlock()
	return Stats{s.lastID.Load(), s.refused.Load(), s.panics.Load(), open}
}

// idPrefixLen random letters keep the IDs of different servers and starts apart in a log.
const idPrefixLen = 6

func orDefault[T int | int64](v, d T) T {
	if v <= 0 {
		return d
	}
	return v
}

func (s *Server) setUp() {
	s.once.Do(func() {
		s.limits = limits{
			size:       orDefault(s.MaxSize, defaultMaxSize),
			recipients: orDefault(s.MaxRecipients, defaultMaxRecipients),
			sessions:   orDefault(s.MaxSessions, defaultMaxSessions),
			perClients: orDefault(s.MaxPerClient, defaultMaxPerClient),
			Timeouts:   s.Timeouts.withDefaults(),
		}
		s.log = s.Logger
		if s.log == nil {
			s.log = slog.New(slog.DiscardHandler)
		}
		s.idPrefix = strings.ToLower(rand.Text()[:idPrefixLen]) + "-"
		s.base, s.cancel = context.WithCancel(context.Background())
		s.buffers.New = func() any { b := make([]byte, bodyBuffer); return &b }
		s.refusing = make(chan struct{}, maxRefusing)
		s.listeners = map[net.Listener]struct{}{}
		s.conns = map[*conn]struct{}{}
		s.clients = map[netip.Addr]int{}
		s.idle = make(chan struct{})
	})
}

// Serve accepts connections from ln until Shutdown, and closes ln. It may be called for
// several listeners at once. After Shutdown it returns ErrServerClosed.
func (s *Server) Serve(ln net.Listener) error {
	s.setUp()
	defer ln.Close()
	if !s.addListener(ln) {
		return ErrServerClosed
	}
	defer s.removeListener(ln)
	for pause := time.Duration(0); ; {
		c, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.begin(c, func(c *conn) { go s.run(c) })
		case s.draining.Load():
			return ErrServerClosed
		case isTemporary(err):
			// Out of file descriptors, or a client that was gone before we looked.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.logAcceptFailed(err, pause)
			time.Sleep(pause)
		default:
			return fmt.Errorf("accept smtp connections: %w", err)
		}
	}
}

// ServeConn serves one connection that came by another way than a listener, and returns
// when it has ended.
func (s *Server) ServeConn(nc net.Conn) {
	s.setUp()
	s.begin(nc, s.run)
}

func isTemporary(err error) bool {
	var ne interface{ Temporary() bool }
	return errors.As(err, &ne) && ne.Temporary()
}

// begin runs a connection, or refuses one that is too many.
func (s *Server) begin(nc net.Conn, run func(*conn)) {
	c := &conn{srv: s, raw: nc, wire: wire{conn: nc}}
	c.info.Remote, c.info.Local = addrPort(nc.RemoteAddr()), addrPort(nc.LocalAddr())
	c.info.Began = time.Now()
	if reply, ok := s.admit(c); !ok {
		s.refused.Add(1)
		if r, ok := s.Handler.(Refuser); ok {
			r.Refused(c.info)
		}
		s.logRefused(c.info.Remote, reply)
		s.refuse(nc, reply)
		return
	}
	run(c)
}

func (s *Server) run(c *conn) {
	defer s.forget(c)
	c.serve()
}

// admit counts the connection in, if it may come in.
func (s *Server) admit(c *conn) (mail.Reply, bool) {
	client := clientOf(c.info.Remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining.Load():
		return replyShutdown(), false
	case len(s.conns) >= s.limits.sessions:
		return mail.NewReply(421, 3, 2, "too many sessions, try again later"), false
	case client.IsValid() && s.clients[client] >= s.limits.perClients:
		return mail.NewReply(421, 7, 0, "too many sessions from your address, try again later"), false
	}
	c.info.ID = s.idPrefix + strconv.FormatUint(s.lastID.Add(1), 36)
	s.conns[c] = struct{}{}
	if client.IsValid() {
		s.clients[client]++
	}
	return mail.Reply{}, true
}

func (s *Server) forget(c *conn) {
	client := clientOf(c.info.Remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if n := s.clients[client]; n > 1 {
		s.clients[client] = n - 1
	} else {
		delete(s.clients, client)
	}
	s.noteIdle()
}

// noteIdle needs s.mu.
func (s *Server) noteIdle() {
	if !s.draining.Load() || len(s.conns) > 0 {
		return
	}
	select {
	case <-s.idle:
	default:
		close(s.idle)
	}
}

// refuse says why and closes, without keeping the accepting loop from its work.
func (s *Server) refuse(nc net.Conn, reply mail.Reply) {
	select {
	case s.refusing <- struct{}{}:
	default:
		nc.Close()
		return
	}
	go func() {
		defer func() { <-s.refusing }()
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(refusalWait))
		_, _ = nc.Write(appendReply(nil, reply))
	}()
}

// clientOf is what MaxPerClient counts: an IPv4 address, or the /64 that one IPv6 customer
// has at least.
func clientOf(ap netip.AddrPort) netip.Addr {
	a := ap.Addr()
	if a.Is6() {
		p, _ := a.WithZone("").Prefix(64)
		return p.Addr()
	}
	return a
}

func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	if a == nil {
		return netip.AddrPort{}
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return ap
}

func (s *Server) addListener(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	s.listeners[ln] = struct{}{}
	return true
}

func (s *Server) removeListener(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

// Shutdown stops accepting, tells idle clients 421, lets transactions that are under way
// finish, and returns when all sessions have ended. Where ctx ends before, the sessions
// that are left are cut off and ctx's error is returned. It may be called more than once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.setUp()
	s.mu.Lock()
	s.draining.Store(true)
	for ln := range s.listeners {
		ln.Close()
	}
	for c := range s.conns {
		c.wake()
	}
	s.noteIdle()
	s.mu.Unlock()
	select {
	case <-s.idle:
		s.cancel()
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.raw.Close()
	}
	if len(s.conns) == 0 {
		return nil
	}
	return fmt.Errorf("wait for %d smtp sessions: %w", len(s.conns), ctx.Err())
}
