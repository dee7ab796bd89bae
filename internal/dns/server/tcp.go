package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	wire "github.com/miekg/dns"
)

const maxAcceptErrors = 100 // in a row, then the listener is given up

// ServeTCP answers on the connections of ln, until Shutdown, and closes ln. It gives nil
// after Shutdown, and an error if ln fails.
//
// A client may send several questions without waiting; the answers go out as they are
// ready, in any order (RFC 7766 §6.2.1, §7).
func (s *Server) ServeTCP(ln net.Listener) error {
	defer ln.Close()
	ctx, done, ok := s.begin(ln, func() { _ = ln.Close() })
	if !ok {
		return nil
	}
	defer done()
	for failures := 0; ; {
		conn, err := ln.Accept()
		if err != nil {
			if s.isClosing() {
				return nil
			}
			if failures++; errors.Is(err, net.ErrClosed) || failures > maxAcceptErrors {
				return err
			}
			logSocketTrouble(s.logger(), "accept", ln.Addr(), err)
			time.Sleep(readErrorWait) // out of file descriptors, most likely
			continue
		}
		failures = 0
		s.connect(ctx, conn)
	}
}

// connect admits a connection and serves it in a goroutine of its own.
func (s *Server) connect(ctx context.Context, conn net.Conn) {
	client := addrPortOf(conn.RemoteAddr())
	perClient := orNone(s.MaxConnsPerClient, defaultMaxConnsPerClient)
	if client.Addr().IsLoopback() && !s.LimitLoopback {
		perClient = -1
	}
	network := networkOf(client.Addr(), 32)
	if !s.conns.add(network, orDefault(s.MaxConns, defaultMaxConns), perClient) {
		s.counts.refusedConns.Add(1)
		_ = conn.Close()
		return
	}
	_, done, ok := s.begin(conn, func() { _ = conn.SetReadDeadline(time.Now()) })
	if !ok {
		s.conns.remove(network)
		_ = conn.Close()
		return
	}
	go func() {
		defer done()
		defer s.conns.remove(network)
		defer conn.Close()
		c := connection{server: s, conn: conn, client: client, in: bufio.NewReader(conn),
			places: make(chan struct{}, orDefault(s.MaxPipelined, defaultMaxPipelined))}
		c.serve(ctx)
	}()
}

// connection is one TCP client.
type connection struct {
	server *Server
	conn   net.Conn
	client netip.AddrPort
	in     *bufio.Reader

	places   chan struct{} // one for each question in flight
	inFlight atomic.Int64
	writing  sync.Mutex
}

// serve reads questions until the client leaves, is idle, or the Server shuts down, and
// returns when the last answer is written.
func (c *connection) serve(ctx context.Context) {
	var answering sync.WaitGroup
	defer answering.Wait()
	for {
		packet, err := c.read()
		if err != nil {
			return
		}
		// A client that does not wait for answers waits here, in its own socket's queue.
		c.places <- struct{}{}
		c.inFlight.Add(1)
		answering.Go(func() {
			defer func() {
				c.inFlight.Add(-1)
				<-c.places
			}()
			c.answer(ctx, packet)
		})
	}
}

// read gives the next message: two octets of length, then the message (RFC 1035 §4.2.2).
func (c *connection) read() ([]byte, error) {
	idle := orDefault(c.server.IdleTimeout, defaultIdleTimeout)
	for {
		if err := c.deadline(idle); err != nil {
			return nil, err
		}
		_, err := c.in.Peek(1)
		if err == nil {
			break
		}
		// Whoever waits for an answer is not idle.
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.inFlight.Load() == 0 {
			return nil, err
		}
	}
	if err := c.deadline(orDefault(c.server.IOTimeout, defaultIOTimeout)); err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(c.in, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(length[:])
	if n > maxUDPQuery || n < headerSize {
		return nil, errMalformed // no question, and nobody to wait 64 KiB for
	}
	packet := make([]byte, n)
	_, err := io.ReadFull(c.in, packet)
	return packet, err
}

// deadline sets the time for the next read. Shutdown sets a deadline too, to end the
// reading; that one must stay.
func (c *connection) deadline(d time.Duration) error {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return net.ErrClosed
	}
	return c.conn.SetReadDeadline(time.Now().Add(d))
}

func (c *connection) answer(ctx context.Context, packet []byte) {
	s := c.server
	var out []byte
	if s.take() {
		out = s.answer(ctx, packet, true, c.client, false)
		s.giveBack()
	} else if q, err := parseHeader(packet); err == nil && q.parse(packet) == nil {
		out = s.bare(&q, wire.RcodeServerFailure)
	}
	if out == nil {
		_ = c.conn.Close() // who sends no questions is not kept
		return
	}
	if err := c.write(out); err != nil {
		logSendFailed(s.logger(), c.client, err)
		_ = c.conn.Close() // the stream is out of step; the reader ends
	}
}

// write sends length and message in one piece (RFC 7766 §8).
func (c *connection) write(out []byte) error {
	frame := make([]byte, 2, 2+len(out))
	binary.BigEndian.PutUint16(frame, uint16(len(out)))
	frame = append(frame, out...)
	c.writing.Lock()
	defer c.writing.Unlock()
	err := c.conn.SetWriteDeadline(time.Now().Add(orDefault(c.server.IOTimeout, defaultIOTimeout)))
	if err != nil {
		return err
	}
	_, err = c.conn.Write(frame)
	return err
}

// connTable counts connections.
type connTable struct {
	mu    sync.Mutex
	total int
	by    map[netip.Prefix]int
}

// add counts one more if that is within both limits; a negative one per client is none.
func (t *connTable) add(network netip.Prefix, limit, perClient int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.total >= limit || perClient >= 0 && t.by[network] >= perClient {
		return false
	}
	if t.by == nil {
		t.by = map[netip.Prefix]int{}
	}
	t.total++
	t.by[network]++
	return true
}

func (t *connTable) remove(network netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total--
	if t.by[network]--; t.by[network] == 0 {
		delete(t.by, network)
	}
}
