package resolver

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// A socket that serves again is like a new one: it has another port, nothing of the last
// question waits in it, and who still holds the last question cannot end the next one's wait.
func TestSocketAgain(t *testing.T) {
	var sockets udpSockets
	listen := func() (net.PacketConn, netip.AddrPort) {
		pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pc.Close() })
		at := pc.LocalAddr().(*net.UDPAddr).AddrPort()
		return pc, netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	open := func(to netip.AddrPort) net.Conn {
		c, err := sockets.open(to)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first, at := listen()
	second, other := listen()
	ports, again := map[string]bool{}, 0
	for range 50 {
		c := open(at)
		ports[c.LocalAddr().String()] = true
		for range 3 { // too late for a question that has ended
			if _, err := first.WriteTo([]byte("old"), c.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		was := c.LocalAddr()
		c.Close()
		next := open(other)
		if next.LocalAddr().String() == was.String() {
			again++ // by chance, now and then
		}
		if _, err := first.WriteTo([]byte("late"), next.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		next.SetDeadline(time.Now().Add(10 * time.Second))
		if err := c.SetDeadline(time.Unix(1, 0)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the deadline of a question that has ended: %v", err)
		}
		if _, err := second.WriteTo([]byte("new"), next.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 8)
		if n, err := next.Read(buf); err != nil || string(buf[:n]) != "new" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		next.Close()
	}
	if len(ports) < 45 || again > 2 {
		t.Errorf("50 questions left from %d ports, %d servers in a row saw the same", len(ports), again)
	}

	// Who is flooded until the end of a question is given up.
	c := open(at)
	for range 2 * maxLeftovers {
		if _, err := first.WriteTo([]byte("old"), c.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	idle := len(sockets.idle[0])
	c.Close()
	if len(sockets.idle[0]) != idle {
		t.Error("a flooded socket serves again")
	}

	// A refusal is the last question's alone.
	first.Close()
	c = open(at)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := converse(c, []byte("?"), make([]byte, 8)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("nobody is there: %v", err)
	}
	c.Close()
	c = open(at)
	c.Write([]byte("?")) // and its refusal is never read
	c.Close()
	c = open(other)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	go func() {
		buf := make([]byte, 8)
		if _, from, err := second.ReadFrom(buf); err == nil {
			second.WriteTo([]byte("!"), from)
		}
	}()
	buf := make([]byte, 8)
	if n, err := converse(c, []byte("?"), buf); err != nil || string(buf[:n]) != "!" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	c.Close()

	// Of many at once no more than the limit are kept.
	var all []net.Conn
	for range maxIdleSockets + 10 {
		all = append(all, open(other))
	}
	for _, c := range all {
		c.Close()
	}
	if n := len(sockets.idle[0]); n != maxIdleSockets {
		t.Errorf("%d sockets are kept, want %d", n, maxIdleSockets)
	}
}
