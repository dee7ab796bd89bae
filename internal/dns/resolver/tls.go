package resolver

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// Connections that wait for the next question: RFC 7858 §3.4 wants them reused, since the
// handshake costs more than the question.
const (
	maxIdleTLS = 8
	idleTLS    = 10 * time.Second
)

// tlsServer is a resolver that is asked over TLS. Each connection carries one question at
// a time. A pointer to it can be part of a packet, which must be comparable.
type tlsServer struct {
	config *tls.Config

	mu   sync.Mutex
	idle []idleConn // used last at the end
}

type idleConn struct {
	net.Conn
	expire *time.Timer
}

// connect gives a connection on which a question may be written. The error is a
// *serverError or ctx's.
func (s *tlsServer) connect(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), address string) (net.Conn, error) {
	if conn := s.take(); conn != nil {
		return &tlsConn{Conn: conn, server: s}, nil
	}
	plain, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, dialError(ctx, err)
	}
	conn := tls.Client(plain, s.config)
	if err := conn.HandshakeContext(ctx); err != nil {
		plain.Close()
		if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, dialError(ctx, err)
		}
		// Another resolver may be there in its place: nothing is asked of it.
		return nil, &serverError{fault: faultFailed, said: "no TLS: " + cause(err).Error(), err: err, heard: true}
	}
	return &tlsConn{Conn: conn, server: s}, nil
}

// dialError is socketError, unless nobody waits any more.
func dialError(ctx context.Context, err error) error {
	if ctx.Err() == context.Canceled {
		return ctx.Err()
	}
	return socketError(err)
}

func (s *tlsServer) take() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.idle) > 0 {
		last := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		if last.expire.Stop() { // else its time is up
			return last.Conn
		}
	}
	return nil
}

// keep holds a connection for the next question.
func (s *tlsServer) keep(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) >= maxIdleTLS {
		conn.Close()
		return
	}
	s.idle = append(s.idle, idleConn{conn, time.AfterFunc(idleTLS, func() { conn.Close() })})
}

// drop closes what waits: where one connection broke, the others are likely to have.
func (s *tlsServer) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.idle {
		if c.expire.Stop() {
			c.Close()
		}
	}
	s.idle = nil
}

// tlsConn is a connection for the time of one question. It goes back to the server's idle
// ones if the whole reply was read.
type tlsConn struct {
	net.Conn
	server *tlsServer

	mu     sync.Mutex
	closed bool
	frame  [2]byte // the reply's length
	got    int     // octets of the reply, its length among them
}

func (c *tlsConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got < len(c.frame) {
		copy(c.frame[c.got:], p[:n])
	}
	c.got += n
	return n, err
}

// SetDeadline has no effect on a connection that was given back.
func (c *tlsConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	return c.Conn.SetDeadline(t)
}

func (c *tlsConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	whole := c.got >= len(c.frame) && c.got == len(c.frame)+int(binary.BigEndian.Uint16(c.frame[:]))
	if !whole || c.Conn.SetDeadline(time.Time{}) != nil {
		c.server.drop()
		return c.Conn.Close()
	}
	c.server.keep(c.Conn)
	return nil
}
