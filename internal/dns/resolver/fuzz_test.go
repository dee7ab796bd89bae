package resolver

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

func candidateAt(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), dnsPort)
}

func candidateFor(a string) netip.AddrPort { return netip.AddrPortFrom(addr(a), dnsPort) }

// seeds are replies to "www.example.com A" as good and bad servers send them.
func seeds(f *testing.F) {
	query, err := encode(nil, 0, fuzzAsk, true, nil)
	if err != nil {
		f.Fatal(err)
	}
	var q wire.Msg
	if err := q.Unpack(query); err != nil {
		f.Fatal(err)
	}
	for _, change := range []func(*wire.Msg){
		func(m *wire.Msg) { m.Answer = records("www.example.com. 60 A 192.0.2.80") },
		func(m *wire.Msg) {
			m.Answer = records("www.example.com. 60 CNAME a.example.com.", "a.example.com. 60 CNAME b.example.com.")
		},
		func(m *wire.Msg) {
			m.Answer = records("example.com. 60 DNAME example.net.", "www.example.com. 60 CNAME www.example.net.")
		},
		func(m *wire.Msg) {
			m.Rcode = wire.RcodeNameError
			m.Ns = records("example.com. 60 SOA a. b. 1 2 3 4 5")
		},
		func(m *wire.Msg) {
			m.Authoritative = false
			m.Ns = records("www.example.com. 60 NS ns.example.com.", "www.example.com. 60 NS ns.example.net.")
			m.Extra = records("ns.example.com. 60 A 192.0.2.1", "ns.example.com. 60 AAAA 2001:db8::1", "ns.example.net. 60 A 192.0.2.2")
		},
		func(m *wire.Msg) { m.Rcode = wire.RcodeServerFailure },
		func(m *wire.Msg) { m.Rcode = wire.RcodeFormatError; m.Question = nil },
		func(m *wire.Msg) { m.Truncated = true },
		func(m *wire.Msg) { m.SetEdns0(1232, true) },
		func(m *wire.Msg) {
			m.Compress = true
			m.Answer = records("www.example.com. 60 A 192.0.2.80", "www.example.com. 60 A 192.0.2.81", `www.example.com. 60 TXT "x"`,
				"www.example.com. 60 RRSIG A 8 3 60 20300101000000 20200101000000 1 example.com. AAAA")
		},
	} {
		m := new(wire.Msg).SetReply(&q)
		m.Authoritative = true
		change(m)
		f.Add(pack(m))
	}
	f.Add([]byte("220 mail.example.com ESMTP\r\n"))
	f.Add([]byte{})
}

var fuzzAsk = ask{name: dns.MustName("www.example.com"), typ: dns.TypeA, dnssec: true}

// FuzzReply holds what scrub lets through to its promise: whatever the bytes, nothing
// outside the zone, nothing that was not asked for, no referral that is not progress.
func FuzzReply(f *testing.F) {
	seeds(f)
	zone := dns.MustName("example.com")
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b, 0, fuzzAsk)
		if err != nil || m.Truncated {
			return
		}
		found, err := scrub(fuzzAsk, zone, m)
		if err != nil {
			return
		}
		if (found.referral == nil) == (len(found.pieces) == 0) {
			t.Fatalf("neither or both: %+v", found)
		}
		if d := found.referral; d != nil {
			if d.zone == zone || !d.zone.In(zone) || !fuzzAsk.name.In(d.zone) || len(d.names) > maxNSNames || d.ttl > maxTTL {
				t.Fatalf("a referral from %s to %+v", zone, d)
			}
			for name, addrs := range d.glue {
				if !name.In(zone) || len(addrs) > maxNSAddresses {
					t.Fatalf("glue %s %v", name, addrs)
				}
			}
		}
		at := fuzzAsk.name
		for i, p := range found.pieces {
			if p.name != at || !p.name.In(zone) || p.ttl < 0 || p.ttl > maxTTL {
				t.Fatalf("piece %d: %+v, expected one for %s", i, p, at)
			}
			for _, rr := range append(p.answer, p.authority...) {
				if !dns.NameOf(rr.Header().Name).In(zone) || rr.Header().Ttl > uint32(maxTTL/time.Second) {
					t.Fatalf("piece %d holds %v", i, rr)
				}
				if _, err := wire.PackRR(rr, make([]byte, 1<<17), 0, nil, false); err != nil {
					t.Fatalf("piece %d holds what nobody can send: %v: %v", i, rr, err)
				}
			}
			if at = p.target; at.IsZero() != (i == len(found.pieces)-1) && i < len(found.pieces)-1 {
				t.Fatalf("piece %d ends the chain, and there are %d", i, len(found.pieces))
			}
		}
	})
}

// FuzzRead reads datagrams as the reply to a question with random case and a cookie. What
// is believed repeats ID, question and cookie, and what is nearly so is called a near miss.
func FuzzRead(f *testing.F) {
	seeds(f)
	r := &Resolver{}
	q, err := r.compose(packet{server: candidateAt(1), proto: "udp", edns: true, mixed: true, cookies: true, ask: fuzzAsk}, localAt{}, nil)
	if err != nil {
		f.Fatal(err)
	}
	end, err := nameEnd(q.bytes, headerSize)
	if err != nil {
		f.Fatal(err)
	}
	reply := func(cookie string) []byte {
		var m wire.Msg
		if err := m.Unpack(q.bytes); err != nil {
			f.Fatal(err)
		}
		m.Response, m.Answer = true, records("www.example.com. 60 A 192.0.2.80")
		m.IsEdns0().Option = []wire.EDNS0{&wire.EDNS0_COOKIE{Code: wire.EDNS0COOKIE, Cookie: cookie}}
		return pack(&m)
	}
	f.Add(reply(hex.EncodeToString(q.client)))
	f.Add(reply(hex.EncodeToString(append(q.client[:clientCookieSize:clientCookieSize], "of the server"...))))
	f.Add(reply("00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, fitted(b, q.bytes)} {
			came := bytes.Clone(b)
			b = bytes.Clone(b)
			m, near, err := q.read(b)
			if !bytes.EqualFold(b, came) || len(b) > end && !bytes.Equal(b[end:], came[end:]) {
				t.Fatal("more than the letters of the question was changed")
			}
			if (m == nil) != (err != nil) || near && err == nil {
				t.Fatalf("%v, %v, %v", m, near, err)
			}
			if err != nil {
				continue
			}
			if m.Id != q.id || len(m.Question) == 1 && !bytes.Equal(came[headerSize:end], q.bytes[headerSize:end]) {
				t.Fatalf("believed: %v", m)
			}
			if c := cookieIn(m); !m.Truncated && c != nil && !bytes.HasPrefix(c, q.client) {
				t.Fatalf("believed with the cookie %x", c)
			}
			if s := serverCookie(m); len(s) > maxServerCookie {
				t.Fatalf("a server cookie of %d bytes", len(s))
			}
		}
	})
}

// FuzzServers plays all name servers with the fuzzer's packets, which get the right ID and
// question, so that they are looked at. Resolve must end in time, within its work, and
// with an answer or an error that has a name.
func FuzzServers(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			r := &Resolver{
				Hints: []Hint{{dns.MustName("a.root-servers.example"), addr("192.0.2.1")}},
				Dial: func(_ context.Context, network, _ string) (net.Conn, error) {
					if network == "tcp" {
						return nil, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}
					}
					return newPeer(func(q []byte) [][]byte { return [][]byte{fitted(b, q)} }), nil
				},
			}
			for _, q := range []string{"www.example.com A", "www.example.com MX", "example.com NS"} {
				var answer dns.Answer
				var err error
				before := r.Stats().Packets
				spent := took(func() { answer, err = r.Resolve(t.Context(), question(q)) })
				if spent > defaultTimeout || r.Stats().Packets-before > maxPackets {
					t.Fatalf("%s: %s, %d packets", q, spent, r.Stats().Packets-before)
				}
				if err != nil && dns.TroubleOf(err) == 0 || err == nil && len(answer.Answer)+len(answer.Authority) > 4*maxSetRecords {
					t.Fatalf("%s: %v, %v", q, answer, err)
				}
			}
			if r.Stats().Panics > 0 {
				t.Fatal("a panic was caught")
			}
		})
	})
}

// fitted puts the ID and the question of a query into a reply.
func fitted(reply, query []byte) []byte {
	if len(reply) < headerSize {
		return reply
	}
	end, err := nameEnd(query, headerSize)
	if err != nil {
		panic(err)
	}
	old, err := nameEnd(reply, headerSize)
	if err != nil || old+4 > len(reply) {
		old = headerSize - 4
	}
	out := append([]byte{}, query[:2]...)
	out = append(out, reply[2]|0x80, reply[3])
	out = binary.BigEndian.AppendUint16(out, 1)
	out = append(out, reply[6:headerSize]...)
	out = append(out, query[headerSize:end+4]...)
	return append(out, reply[old+4:]...)
}

func FuzzParseHints(f *testing.F) {
	f.Add(". 3600000 NS A.ROOT-SERVERS.NET.\nA.ROOT-SERVERS.NET. A 198.41.0.4\n")
	f.Add(". NS a.\n\t AAAA ::1\n$TTL 5\n;\n")
	f.Fuzz(func(t *testing.T, text string) {
		hints, err := ParseHints(strings.NewReader(text), "f")
		if err != nil && !strings.HasPrefix(err.Error(), "f:") || err == nil && len(hints) == 0 {
			t.Errorf("%v, %v", hints, err)
		}
	})
}
