package health

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// onceConn gives one datagram, and then nothing any more.
type onceConn struct {
	net.Conn
	asked []byte
	reply []byte
}

func (c *onceConn) Write(p []byte) (int, error) {
	c.asked = bytes.Clone(p)
	if len(c.reply) > 1 && len(p) > 1 {
		copy(c.reply, p[:2]) // as somebody who has seen the question
	}
	return len(p), nil
}

func (c *onceConn) Read(p []byte) (int, error) {
	if c.reply == nil {
		return 0, net.ErrClosed
	}
	n := copy(p, c.reply)
	c.reply = nil
	return n, nil
}

func (c *onceConn) SetDeadline(time.Time) error { return nil }
func (c *onceConn) Close() error                { return nil }

// Whatever a server says, there is an answer to the question that was asked, or an error.
func FuzzReply(f *testing.F) {
	m := new(wire.Msg).SetQuestion("example.com.", wire.TypeMX)
	m.Response = true
	m.Answer = []dns.RR{record("example.com. 300 MX 10 mx.example.com.")}
	good, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add([]byte("220 mail.example.com ESMTP\r\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, reply []byte) {
		c := &client{at: at("192.0.2.53:53"), dial: func(context.Context, string, string) (net.Conn, error) {
			return &onceConn{reply: bytes.Clone(reply)}, nil
		}}
		q := dns.Question{Name: dns.MustName("example.com"), Type: dns.TypeMX}
		answer, err := c.Resolve(t.Context(), q)
		if err == nil && answer.Rcode != dns.NoError && answer.Rcode != dns.NXDomain {
			t.Errorf("%s is no answer", answer.Rcode)
		}
	})
}
