package dnstest

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// packetConn is the client's end of a UDP association: one Read gives one packet. It never
// blocks on Write; packets beyond its queue are lost, as in a socket.
type packetConn struct {
	local, remote net.Addr
	send          func([]byte)
	in            chan []byte
	closed        chan struct{}
	closeOnce     sync.Once

	mu       sync.Mutex
	failed   error         // what the next Read gives, as after an ICMP message
	changed  chan struct{} // closed when failed or deadline is set
	deadline time.Time
}

const packetQueue = 64

func newPacketConn(local, remote net.Addr) *packetConn {
	return &packetConn{
		local: local, remote: remote,
		in:      make(chan []byte, packetQueue),
		closed:  make(chan struct{}),
		changed: make(chan struct{}),
	}
}

func (c *packetConn) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		err, deadline, changed := c.failed, c.deadline, c.changed
		c.failed = nil
		c.mu.Unlock()
		if err != nil {
			return 0, err
		}
		n, again, err := c.wait(p, deadline, changed)
		if !again {
			return n, err
		}
	}
}

func (c *packetConn) wait(p []byte, deadline time.Time, changed <-chan struct{}) (n int, again bool, err error) {
	var expired <-chan time.Time
	if !deadline.IsZero() {
		left := time.Until(deadline)
		if left <= 0 {
			return 0, false, c.opError("read", os.ErrDeadlineExceeded)
		}
		timer := time.NewTimer(left)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-c.closed:
		return 0, false, c.opError("read", net.ErrClosed)
	case packet := <-c.in:
		return copy(p, packet), false, nil // the rest of a packet is lost, as in a socket
	case <-expired:
		return 0, false, c.opError("read", os.ErrDeadlineExceeded)
	case <-changed:
		return 0, true, nil
	}
}

func (c *packetConn) Write(p []byte) (int, error) {
	select {
	case <-c.closed:
		return 0, c.opError("write", net.ErrClosed)
	default:
	}
	c.send(append([]byte(nil), p...))
	return len(p), nil
}

// deliver puts a packet into the queue of the client.
func (c *packetConn) deliver(p []byte) {
	select {
	case c.in <- p:
	default:
	}
}

// fail makes the next Read give err.
func (c *packetConn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = c.opError("read", err)
	c.wake()
}

func (c *packetConn) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *packetConn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: c.local, Addr: c.remote, Err: err}
}

func (c *packetConn) Close() error {
	err := c.opError("close", net.ErrClosed)
	c.closeOnce.Do(func() {
		close(c.closed)
		err = nil
	})
	return err
}

func (c *packetConn) LocalAddr() net.Addr  { return c.local }
func (c *packetConn) RemoteAddr() net.Addr { return c.remote }

func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	c.wake()
	return nil
}

func (c *packetConn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *packetConn) SetWriteDeadline(_ time.Time) error { return nil }

// streamConn is the client's end of a net.Pipe with the addresses of TCP.
type streamConn struct {
	net.Conn
	local, remote net.Addr
}

func (c *streamConn) LocalAddr() net.Addr  { return c.local }
func (c *streamConn) RemoteAddr() net.Addr { return c.remote }

// readFrame reads one message of DNS over TCP.
func readFrame(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	p := make([]byte, int(length[0])<<8|int(length[1]))
	_, err := io.ReadFull(r, p)
	return p, err
}
