// Package server answers DNS questions on UDP and TCP (RFC 1035 §4.2, RFC 7766) with what
// a dns.Resolver says, with EDNS (RFC 6891), extended errors (RFC 8914) and limits on what
// clients can make it do.
//
// The loops on the sockets are its own; the wire library parses names and packs replies.
// Over UDP, packets are read and sent in batches where the system can (batch_linux.go), and
// what a dns.WireResolver has ready goes out from the goroutine that reads (quick.go); all
// else is answered by a goroutine of its own (answer.go). While there are many of these, what
// would only wait for silent servers waits as a packet, if a dns.Foreteller says so (room.go),
// and each who asks has its turn (fairqueue.go).
//
// Not here: TSIG (RFC 8945), cookies (RFC 7873), transfers (RFC 5936: REFUSED), NOTIFY and
// UPDATE (NOTIMP), classes other than IN (REFUSED), DNS over TLS, HTTPS or QUIC.
package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"mxward/internal/dns"
)

// Defaults of the limits in Server.
const (
	defaultUDPSize           = 1232 // no fragments: RFC 9715 §3.1
	maxUDPSize               = 1232
	defaultMaxInFlight       = 1000
	defaultMaxConns          = 512
	defaultMaxConnsPerClient = 32
	defaultMaxPipelined      = 64
	defaultRate              = 1000
	defaultQueryTimeout      = 10 * time.Second
	defaultIdleTimeout       = 10 * time.Second // RFC 7766 §6.2.3: of the order of seconds
	defaultIOTimeout         = 5 * time.Second
)

// Server answers questions that come over UDP and TCP. Its zero value with a Resolver is
// ready for use; no field may change once it serves. For a limit, 0 stands for the default.
//
// Recursion is a property of the listener: a Server for the public gets a Resolver that
// knows its own zones only, a Server on loopback one that also asks the world.
type Server struct {
	Resolver  dns.Resolver
	Recursion bool // recursion is offered: the RA bit
	Logger    *slog.Logger

	UDPSize      int           // longest answer over UDP, at most and by default 1232 octets
	MaxInFlight  int           // questions being answered at once; more are dropped over UDP, SERVFAIL over TCP
	QueryTimeout time.Duration // for one question

	MaxConns          int           // TCP connections at once; more are closed unheard
	MaxConnsPerClient int           // the same for one IPv4 address or one IPv6 /64; negative: no limit
	MaxPipelined      int           // questions in flight on one connection; the rest wait in the socket
	IdleTimeout       time.Duration // a connection without questions is closed after it
	IOTimeout         time.Duration // to read the rest of a message, or to write one

	// Rate is how many UDP questions a second one IPv4 /24 or IPv6 /64 may ask, so that
	// forged senders make poor victims. Of those above it every second gets a truncated
	// answer, so that a real client comes back over TCP, and the others none. Negative:
	// no limit.
	Rate int
	// LimitLoopback applies Rate and MaxConnsPerClient to clients on loopback too.
	LimitLoopback bool

	counts   counters
	inFlight atomic.Int64

	mu      sync.Mutex
	begun   bool
	closing bool
	work    sync.WaitGroup       // loops and connections
	open    map[io.Closer]func() // what is served, and how to make its reader stop
	ctx     context.Context      // of all questions
	cancel  context.CancelFunc
	limiter *limiter
	wire    dns.WireResolver // the Resolver, if it is one
	foresee dns.Foreteller   // the same
	conns   connTable
}

// counters are the numbers of Counts.
type counters struct {
	queries, ignored, malformed, failed, truncated, limited, dropped, refusedConns, panics atomic.Int64
}

// Counts is what a Server has done so far.
type Counts struct {
	Queries      int64 // packets that ask
	Ignored      int64 // packets that are no queries
	Malformed    int64 // FORMERR
	Failed       int64 // SERVFAIL, because no answer could be had or sent
	Truncated    int64 // TC, because the answer was too long
	Limited      int64 // over the rate: dropped, or truncated
	Dropped      int64 // too many in flight
	RefusedConns int64 // too many connections
	Panics       int64
}

// Counts gives the numbers so far.
func (s *Server) Counts() Counts {
	c := &s.counts
	return Counts{
		Queries: c.queries.Load(), Ignored: c.ignored.Load(), Malformed: c.malformed.Load(),
		Failed: c.failed.Load(), Truncated: c.truncated.Load(), Limited: c.limited.Load(),
		Dropped: c.dropped.Load(), RefusedConns: c.refusedConns.Load(), Panics: c.panics.Load(),
	}
}

func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// orNone is orDefault for the limits that a negative number switches off.
func orNone(v, def int) int {
	if v < 0 {
		return -1
	}
	return orDefault(v, def)
}

// begin registers a socket before it is served, and reports whether the service is still
// open. stop makes its reader return; done has to be called at the end.
func (s *Server) begin(c io.Closer, stop func()) (ctx context.Context, done func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, nil, false
	}
	if !s.begun {
		s.begun = true
		s.open = map[io.Closer]func(){}
		s.ctx, s.cancel = context.WithCancel(context.Background())
		s.limiter = newLimiter(orNone(s.Rate, defaultRate))
		s.wire, _ = s.Resolver.(dns.WireResolver)
		s.foresee, _ = s.Resolver.(dns.Foreteller)
	}
	s.open[c] = stop
	s.work.Add(1)
	return s.ctx, func() {
		s.mu.Lock()
		delete(s.open, c)
		s.mu.Unlock()
		s.work.Done()
	}, true
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// Shutdown stops reading at once and waits until the questions already read are answered.
// If ctx ends first, it cuts them off and gives ctx's error. A Server serves no more after
// it; a second call waits like the first.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for _, stop := range s.open {
		stop()
	}
	s.mu.Unlock()

	finished := make(chan struct{})
	go func() {
		s.work.Wait()
		close(finished)
	}()
	select {
	case <-finished:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	var errs []error
	if s.cancel != nil {
		s.cancel()
	}
	for c := range s.open {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.mu.Unlock()
	return errors.Join(append([]error{ctx.Err()}, errs...)...)
}

// take reserves a place among the questions in flight.
func (s *Server) take() bool {
	if s.inFlight.Add(1) > int64(orDefault(s.MaxInFlight, defaultMaxInFlight)) {
		s.inFlight.Add(-1)
		s.counts.dropped.Add(1)
		return false
	}
	return true
}

func (s *Server) giveBack() { s.inFlight.Add(-1) }
