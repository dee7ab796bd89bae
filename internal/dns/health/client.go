package health

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

const (
	ednsSize     = 1232 // RFC 9715 §3.1
	tries        = 2
	replyTimeout = 2500 * time.Millisecond
)

// client asks one server, and reports what it says as it says it: AD too.
type client struct {
	at      netip.AddrPort
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	recurse bool
}

// Resolve implements dns.Resolver.
func (c *client) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	m, err := c.exchange(ctx, "udp", q)
	if err == nil && m.Truncated {
		m, err = c.exchange(ctx, "tcp", q)
	}
	if err != nil {
		return dns.Answer{}, err
	}
	rcode := dns.Rcode(m.Rcode)
	if rcode != dns.NoError && rcode != dns.NXDomain {
		return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.ServerFailed, Detail: fmt.Sprintf("%s says %s", c.at, rcode)}
	}
	return dns.Answer{Rcode: rcode, Authoritative: m.Authoritative, Authentic: m.AuthenticatedData, Answer: m.Answer, Authority: m.Ns}, nil
}

// exchange asks in one way, twice if there is no reply: a packet may be lost.
func (c *client) exchange(ctx context.Context, network string, q dns.Question) (*wire.Msg, error) {
	var err error
	for range tries {
		var m *wire.Msg
		if m, err = c.once(ctx, network, q); err == nil {
			return m, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			break
		}
	}
	return nil, &dns.Error{Question: q, Trouble: dns.NoReply, Detail: fmt.Sprintf("%s over %s", c.at, network), Err: err}
}

// once writes one question and reads until its reply comes.
func (c *client) once(ctx context.Context, network string, q dns.Question) (*wire.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, replyTimeout)
	defer cancel()
	conn, err := c.dial(ctx, network, c.at.String())
	if err != nil {
		if ctx.Err() != nil {
			err = os.ErrDeadlineExceeded
		}
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	m := new(wire.Msg)
	m.SetQuestion(q.Name.FQDN(), uint16(q.Type)) // with a random ID
	m.RecursionDesired, m.AuthenticatedData = c.recurse, c.recurse
	m.SetEdns0(ednsSize, q.DNSSEC)
	query, err := m.Pack()
	if err != nil {
		return nil, err
	}
	if network == "tcp" {
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	for {
		packet, err := read(conn, network)
		if err != nil {
			return nil, err
		}
		reply := new(wire.Msg)
		err = reply.Unpack(packet)
		switch {
		case err == nil && ours(m, reply):
			return reply, nil
		case network == "tcp":
			return nil, errors.New("what came is not the reply")
		}
	}
}

// read gives the next message.
func read(conn net.Conn, network string) ([]byte, error) {
	if network == "udp" {
		packet := make([]byte, ednsSize)
		n, err := conn.Read(packet)
		return packet[:n], err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	packet := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(conn, packet)
	return packet, err
}

// ours reports whether a reply is one to the question (RFC 5452 §9.1).
func ours(asked, reply *wire.Msg) bool {
	if reply.Id != asked.Id || !reply.Response {
		return false
	}
	if len(reply.Question) == 0 {
		return reply.Rcode != wire.RcodeSuccess && reply.Rcode != wire.RcodeNameError
	}
	a, b := asked.Question[0], reply.Question[0]
	return strings.EqualFold(a.Name, b.Name) && a.Qtype == b.Qtype && a.Qclass == b.Qclass
}
