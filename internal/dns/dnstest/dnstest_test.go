package dnstest_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

const exampleZone = `
$TTL 300
@    SOA ns1 hostmaster 1 3600 600 86400 60
@    NS  ns1
ns1  A   192.0.2.1
www  A   192.0.2.80
`

func newNet(t *testing.T) *dnstest.Net {
	t.Helper()
	var n dnstest.Net
	z := dnstest.Zone(t, "example.com", exampleZone)
	for addr, behaviour := range map[string]dnstest.Behaviour{
		"192.0.2.1":  dnstest.Honest,
		"192.0.2.2":  dnstest.Silent,
		"192.0.2.3":  dnstest.Refusing,
		"192.0.2.4":  dnstest.NoRoute,
		"192.0.2.5":  dnstest.Garbage,
		"192.0.2.6":  dnstest.WrongID,
		"192.0.2.7":  dnstest.WrongQuestion,
		"192.0.2.8":  dnstest.Truncating,
		"192.0.2.9":  dnstest.Failing,
		"192.0.2.10": dnstest.Lame,
	} {
		n.Set(addr, dnstest.Host{Resolver: z, Behaviour: behaviour})
	}
	return &n
}

func question(id uint16) []byte {
	m := new(wire.Msg).SetQuestion("www.example.com.", wire.TypeA)
	m.Id = id
	p, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return p
}

// ask sends one question and gives the reply, within two seconds.
func ask(t *testing.T, n *dnstest.Net, network, addr string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	conn, err := n.Dial(ctx, network, net.JoinHostPort(addr, "53"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	p := question(7)
	if network == "tcp" {
		p = append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)
	}
	if _, err := conn.Write(p); err != nil {
		return nil, err
	}
	if network == "udp" {
		buf := make([]byte, 4096)
		size, err := conn.Read(buf)
		return buf[:size], err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err = io.ReadFull(conn, buf)
	return buf, err
}

func TestBehaviours(t *testing.T) {
	tests := []struct {
		network, addr string
		err           error                // what Dial, Write or Read gives
		reply         func(*wire.Msg) bool // what the reply has
	}{
		{"udp", "192.0.2.1", nil, func(m *wire.Msg) bool { return m.Id == 7 && len(m.Answer) == 1 && m.Authoritative }},
		{"tcp", "192.0.2.1", nil, func(m *wire.Msg) bool { return m.Id == 7 && len(m.Answer) == 1 }},
		{"udp", "192.0.2.2", os.ErrDeadlineExceeded, nil},
		{"tcp", "192.0.2.2", context.DeadlineExceeded, nil},
		{"udp", "192.0.2.3", syscall.ECONNREFUSED, nil}, // the ICMP message shows at the Read
		{"tcp", "192.0.2.3", syscall.ECONNREFUSED, nil},
		{"udp", "192.0.2.4", syscall.ENETUNREACH, nil},
		{"tcp", "192.0.2.4", syscall.ENETUNREACH, nil},
		{"udp", "192.0.2.5", nil, nil}, // bytes come, but no message
		{"udp", "192.0.2.6", nil, func(m *wire.Msg) bool { return m.Id == 8 }},
		{"udp", "192.0.2.7", nil, func(m *wire.Msg) bool { return m.Id == 7 && m.Question[0].Name == "forged.invalid." }},
		{"udp", "192.0.2.8", nil, func(m *wire.Msg) bool { return m.Truncated && len(m.Answer) == 0 }},
		{"tcp", "192.0.2.8", nil, func(m *wire.Msg) bool { return !m.Truncated && len(m.Answer) == 1 }},
		{"udp", "192.0.2.9", nil, func(m *wire.Msg) bool { return m.Rcode == wire.RcodeServerFailure }},
		{"udp", "192.0.2.10", nil, func(m *wire.Msg) bool { return m.Rcode == wire.RcodeRefused }},
		{"udp", "192.0.2.99", os.ErrDeadlineExceeded, nil}, // nobody is there
	}
	for _, tt := range tests {
		t.Run(tt.network+" "+tt.addr, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reply, err := ask(t, newNet(t), tt.network, tt.addr)
				if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
					t.Fatalf("got error %v, want %v", err, tt.err)
				}
				if err != nil {
					return
				}
				var m wire.Msg
				err = m.Unpack(reply)
				if (err == nil) != (tt.reply != nil) {
					t.Fatalf("unpack: %v", err)
				}
				if tt.reply != nil && !tt.reply(&m) {
					t.Errorf("unexpected reply:\n%s", &m)
				}
			})
		})
	}
}

func TestDelayAndCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		n.Set("192.0.2.1", dnstest.Host{Resolver: dnstest.Zone(t, "example.com", exampleZone), Delay: time.Second})
		start := time.Now()
		if _, err := ask(t, n, "udp", "192.0.2.1"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("the answer took %v, want 1s", took)
		}
		n.Set("192.0.2.1", dnstest.Host{Resolver: dnstest.Zone(t, "example.com", exampleZone), Delay: time.Minute})
		if _, err := ask(t, n, "tcp", "192.0.2.1"); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a time-out", err)
		}
		want := dns.Question{Name: dns.MustName("www.example.com"), Type: dns.TypeA}
		got := n.Asked("192.0.2.1")
		if len(got) != 2 || got[0] != (dnstest.Asked{"udp", want}) || got[1] != (dnstest.Asked{"tcp", want}) {
			t.Errorf("asked: %v", got)
		}
		if n.Total() != 2 {
			t.Errorf("total %d, want 2", n.Total())
		}
		n.Forget()
		if n.Total() != 0 {
			t.Errorf("total %d after Forget", n.Total())
		}
		time.Sleep(time.Minute) // let the slow server finish inside the bubble
	})
}

// TestLateDeadline: a deadline that is set while a Read waits holds for that Read.
func TestLateDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, err := newNet(t).Dial(t.Context(), "udp", "192.0.2.2:53")
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error)
		go func() {
			_, err := conn.Read(make([]byte, 512))
			got <- err
		}()
		synctest.Wait()
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a time-out", err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
	})
}
