package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/server"
	"mxward/internal/dns/zone"
)

var client = netip.MustParseAddrPort("192.0.2.99:5353")

// fixed answers everything with one Answer.
func fixed(a dns.Answer) dns.Resolver {
	return dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) { return a, nil })
}

func rr(t testing.TB, text string) dns.RR {
	t.Helper()
	r, err := wire.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// query packs a question, after change has had its way with it.
func query(t testing.TB, name string, qtype uint16, change func(*wire.Msg)) []byte {
	t.Helper()
	m := new(wire.Msg).SetQuestion(name, qtype)
	m.Id = 4711
	if change != nil {
		change(m)
	}
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func reply(t testing.TB, s *server.Server, packet []byte, tcp bool) *wire.Msg {
	t.Helper()
	out := s.Answer(t.Context(), packet, tcp, client)
	if out == nil {
		return nil
	}
	m := new(wire.Msg)
	if err := m.Unpack(out); err != nil {
		t.Fatalf("unpack the reply: %v", err)
	}
	return m
}

// splice gives the packet with other octets at an offset.
func splice(packet []byte, at int, with ...byte) []byte {
	packet = bytes.Clone(packet)
	copy(packet[at:], with)
	return packet
}

func opt(version uint8, options ...wire.EDNS0) *wire.OPT {
	o := &wire.OPT{Hdr: wire.RR_Header{Name: ".", Rrtype: wire.TypeOPT}, Option: options}
	o.SetUDPSize(1232)
	o.SetVersion(version)
	return o
}

// TestPackets: what is answered without asking the Resolver, and how.
func TestPackets(t *testing.T) {
	asks := func(extra ...dns.RR) func(*wire.Msg) {
		return func(m *wire.Msg) { m.Extra = append(m.Extra, extra...) }
	}
	class := func(c uint16) func(*wire.Msg) { return func(m *wire.Msg) { m.Question[0].Qclass = c } }
	opcode := func(o int) func(*wire.Msg) { return func(m *wire.Msg) { m.Opcode = o } }
	plain := query(t, "example.com.", wire.TypeA, nil)
	edns := query(t, "example.com.", wire.TypeA, asks(opt(0)))
	many := make([]wire.EDNS0, 17)
	for i := range many {
		many[i] = &wire.EDNS0_LOCAL{Code: uint16(65001 + i)}
	}
	const none = -1 // no reply
	tests := []struct {
		what   string
		packet []byte
		rcode  int
	}{
		{"nothing", nil, none},
		{"half a header", plain[:11], none},
		{"a response, which must never be answered", splice(plain, 2, 0x81), none},
		{"a header alone", splice(plain[:12], 4, 0, 0), wire.RcodeFormatError},
		{"a header that promises a question", plain[:12], wire.RcodeFormatError},
		{"a plain question", plain, wire.RcodeSuccess},
		{"a question with EDNS", edns, wire.RcodeSuccess},
		// Opcodes.
		{"STATUS", query(t, "example.com.", wire.TypeA, opcode(wire.OpcodeStatus)), wire.RcodeNotImplemented},
		{"NOTIFY", query(t, "example.com.", wire.TypeSOA, opcode(wire.OpcodeNotify)), wire.RcodeNotImplemented},
		{"UPDATE", query(t, "example.com.", wire.TypeSOA, opcode(wire.OpcodeUpdate)), wire.RcodeNotImplemented},
		{"opcode 15", query(t, "example.com.", wire.TypeA, opcode(15)), wire.RcodeNotImplemented},
		// Counts that lie, octets too many or too few.
		{"two questions", splice(plain, 4, 0, 2), wire.RcodeFormatError},
		{"two real questions", query(t, "a.", wire.TypeA, func(m *wire.Msg) { m.Question = append(m.Question, m.Question[0]) }), wire.RcodeFormatError},
		{"no question", splice(plain, 4, 0, 0), wire.RcodeFormatError},
		{"an answer that is not there", splice(plain, 6, 0, 1), wire.RcodeFormatError},
		{"an answer in a query", query(t, "example.com.", wire.TypeA, func(m *wire.Msg) { m.Answer = append(m.Answer, rr(t, "a. A 192.0.2.1")) }), wire.RcodeFormatError},
		{"an authority that is not there", splice(plain, 8, 0, 1), wire.RcodeFormatError},
		{"an additional record that is not there", splice(plain, 10, 0, 1), wire.RcodeFormatError},
		{"65535 additional records", splice(plain, 10, 0xff, 0xff), wire.RcodeFormatError},
		{"five additional records", query(t, "a.", wire.TypeA, asks(rr(t, "a. A 192.0.2.1"), rr(t, "a. A 192.0.2.1"), rr(t, "a. A 192.0.2.1"), rr(t, "a. A 192.0.2.1"), rr(t, "a. A 192.0.2.1"))), wire.RcodeFormatError},
		{"one other additional record", query(t, "a.", wire.TypeA, asks(rr(t, "a. A 192.0.2.1"), opt(0))), wire.RcodeSuccess},
		{"an octet too many", append(bytes.Clone(plain), 0), wire.RcodeFormatError},
		{"an octet too few", plain[:len(plain)-1], wire.RcodeFormatError},
		{"an OPT record that ends early", edns[:len(edns)-1], wire.RcodeFormatError},
		{"an octet after the OPT record", append(bytes.Clone(edns), 0), wire.RcodeFormatError},
		// Names.
		{"a pointer in the question", []byte("\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"), wire.RcodeFormatError},
		{"a reserved label type", splice(plain, 12, 0x47), wire.RcodeFormatError},
		{"a name of 256 octets", []byte("\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00" + strings.Repeat("\x01a", 128) + "\x00\x00\x01\x00\x01"), wire.RcodeFormatError},
		{"a name of 255 octets", []byte("\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00" + strings.Repeat("\x01a", 127) + "\x00\x00\x01\x00\x01"), wire.RcodeSuccess},
		{"a label that runs out of the packet", splice(plain, 12, 0x3f), wire.RcodeFormatError},
		// EDNS.
		{"two OPT records", query(t, "a.", wire.TypeA, asks(opt(0), opt(0))), wire.RcodeFormatError},
		{"an OPT record with a name", append(splice(plain, 10, 0, 1), "\x01a\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"...), wire.RcodeFormatError},
		{"an option that is longer than the record", append(splice(plain, 10, 0, 1), "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x01"...), wire.RcodeFormatError},
		{"a piece of an option", append(splice(plain, 10, 0, 1), "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x02\x00\x0a"...), wire.RcodeFormatError},
		{"16 options", query(t, "a.", wire.TypeA, asks(opt(0, many[:16]...))), wire.RcodeSuccess},
		{"17 options", query(t, "a.", wire.TypeA, asks(opt(0, many...))), wire.RcodeFormatError},
		{"EDNS version 1", query(t, "a.", wire.TypeA, asks(opt(1))), wire.RcodeBadVers},
		{"an OPT record among the authority", query(t, "a.", wire.TypeIXFR, func(m *wire.Msg) { m.Ns = append(m.Ns, opt(0)) }), wire.RcodeFormatError},
		// Classes and types that no Resolver is asked.
		{"version.bind in CH", query(t, "version.bind.", wire.TypeTXT, class(wire.ClassCHAOS)), wire.RcodeRefused},
		{"class HS", query(t, "a.", wire.TypeA, class(wire.ClassHESIOD)), wire.RcodeRefused},
		{"class ANY", query(t, "a.", wire.TypeA, class(wire.ClassANY)), wire.RcodeRefused},
		{"AXFR", query(t, "a.", wire.TypeAXFR, nil), wire.RcodeRefused},
		{"IXFR with its SOA", query(t, "a.", wire.TypeIXFR, func(m *wire.Msg) { m.Ns = append(m.Ns, rr(t, "a. SOA . . 1 1 1 1 1")) }), wire.RcodeRefused},
		{"an SOA among the authority otherwise", query(t, "a.", wire.TypeA, func(m *wire.Msg) { m.Ns = append(m.Ns, rr(t, "a. SOA . . 1 1 1 1 1")) }), wire.RcodeFormatError},
		{"MAILA", query(t, "a.", wire.TypeMAILA, nil), wire.RcodeNotImplemented},
		{"type OPT", query(t, "a.", wire.TypeOPT, nil), wire.RcodeFormatError},
		{"type 0", query(t, "a.", 0, nil), wire.RcodeFormatError},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			asked := 0
			s := &server.Server{Resolver: dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) {
				asked++
				return dns.Answer{}, nil
			})}
			m := reply(t, s, tt.packet, false)
			if m == nil {
				if tt.rcode != none {
					t.Fatalf("no reply, want %s", wire.RcodeToString[tt.rcode])
				}
				return
			}
			if m.Rcode != tt.rcode {
				t.Fatalf("got %s, want %v", wire.RcodeToString[m.Rcode], tt.rcode)
			}
			if !m.Response || m.Id != uint16(tt.packet[0])<<8|uint16(tt.packet[1]) || m.Opcode != int(tt.packet[2]>>3&0xf) {
				t.Errorf("the reply does not belong to the query: %v", m)
			}
			if (asked == 1) != (tt.rcode == wire.RcodeSuccess) {
				t.Errorf("the Resolver was asked %d times", asked)
			}
		})
	}
}

// TestHeader: which bits and which OPT record a reply has.
func TestHeader(t *testing.T) {
	edns := func(do bool) func(*wire.Msg) { return func(m *wire.Msg) { m.SetEdns0(4096, do) } }
	tests := []struct {
		what   string
		server *server.Server
		change func(*wire.Msg)
		answer dns.Answer
		want   string // flags as dig prints them, then EDNS
	}{
		{"RD is copied, RA is not offered", &server.Server{}, nil, dns.Answer{}, "qr rd"},
		{"RA on a recursive listener", &server.Server{Recursion: true}, nil, dns.Answer{}, "qr rd ra"},
		{"no RD", &server.Server{}, func(m *wire.Msg) { m.RecursionDesired = false }, dns.Answer{}, "qr"},
		{"CD is copied", &server.Server{}, func(m *wire.Msg) { m.CheckingDisabled = true }, dns.Answer{}, "qr rd cd"},
		{"AA", &server.Server{}, nil, dns.Answer{Authoritative: true}, "qr aa rd"},
		{"AD to nobody who did not ask", &server.Server{}, nil, dns.Answer{Authentic: true}, "qr rd"},
		{"AD to one who asked by AD", &server.Server{}, func(m *wire.Msg) { m.AuthenticatedData = true }, dns.Answer{Authentic: true}, "qr rd ad"},
		{"AD to one who asked by DO", &server.Server{}, edns(true), dns.Answer{Authentic: true}, "qr rd ad, edns 1232 do"},
		{"no AD without proof", &server.Server{}, edns(true), dns.Answer{}, "qr rd, edns 1232 do"},
		{"OPT for OPT", &server.Server{}, edns(false), dns.Answer{}, "qr rd, edns 1232"},
		{"our own size", &server.Server{UDPSize: 700}, edns(false), dns.Answer{}, "qr rd, edns 700"},
		{"our own size, too small", &server.Server{UDPSize: 100}, edns(false), dns.Answer{}, "qr rd, edns 512"},
		{"our own size, too large", &server.Server{UDPSize: 9000}, edns(false), dns.Answer{}, "qr rd, edns 1232"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			s := tt.server
			s.Resolver = fixed(tt.answer)
			m := reply(t, s, query(t, "eXaMpLe.CoM.", wire.TypeMX, tt.change), false)
			got := flags(m)
			if o := m.IsEdns0(); o != nil {
				got += fmt.Sprintf(", edns %d", o.UDPSize())
				if o.Do() {
					got += " do"
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			// The question comes back with the client's case (RFC 4343 §4.1).
			if len(m.Question) != 1 || m.Question[0] != (wire.Question{Name: "eXaMpLe.CoM.", Qtype: wire.TypeMX, Qclass: wire.ClassINET}) {
				t.Errorf("question: %v", m.Question)
			}
		})
	}
}

func flags(m *wire.Msg) string {
	out := "qr"
	for _, f := range []struct {
		set  bool
		name string
	}{{m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionDesired, "rd"}, {m.RecursionAvailable, "ra"}, {m.AuthenticatedData, "ad"}, {m.CheckingDisabled, "cd"}} {
		if f.set {
			out += " " + f.name
		}
	}
	return out
}

// TestQuestion: what the Resolver is asked.
func TestQuestion(t *testing.T) {
	var got dns.Question
	s := &server.Server{Resolver: dns.ResolverFunc(func(_ context.Context, q dns.Question) (dns.Answer, error) {
		got = q
		return dns.Answer{}, nil
	})}
	reply(t, s, query(t, `WWW.a\.b.Example.`, 731, func(m *wire.Msg) {
		m.CheckingDisabled = true
		m.SetEdns0(1232, true)
	}), false)
	want := dns.Question{Name: dns.MustName(`www.a\.b.example`), Type: 731, DNSSEC: true, CheckingDisabled: true}
	if got != want {
		t.Errorf("asked %+v, want %+v", got, want)
	}
}

// TestResolveError: an error is SERVFAIL, with the extended error for those who speak EDNS.
func TestResolveError(t *testing.T) {
	bogus := &dns.Error{Trouble: dns.Bogus, Extended: 6, Detail: "signature expired"}
	tests := []struct {
		what string
		err  error
		edns bool
		want string // the extended error as code and text
	}{
		{"an extended error", bogus, true, "6 signature expired"},
		{"wrapped", fmt.Errorf("cache: %w", bogus), true, "6 signature expired"},
		{"without a detail", &dns.Error{Trouble: dns.NoReply, Extended: 22}, true, "22 no reply"},
		{"to a client without EDNS", bogus, false, ""},
		{"an error without a code: that of its trouble", &dns.Error{Trouble: dns.NoReply}, true, "22 no reply"},
		{"the trouble in words, and where", &dns.Error{Trouble: dns.WorkLimit, Detail: "12 aliases"}, true, "0 the limit of work for one question was reached: 12 aliases"},
		{"another error", errors.New("the disk is gone"), true, ""},
		{"a long detail, cut between characters", &dns.Error{Extended: 1, Detail: strings.Repeat("ü", 150)}, true, "1 " + strings.Repeat("ü", 100)},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			s := &server.Server{Resolver: dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) {
				return dns.Answer{Rcode: dns.NXDomain, Authentic: true}, tt.err
			})}
			m := reply(t, s, query(t, "example.com.", wire.TypeA, func(m *wire.Msg) {
				if tt.edns {
					m.SetEdns0(1232, false)
				}
			}), false)
			if m.Rcode != wire.RcodeServerFailure || len(m.Answer) != 0 {
				t.Errorf("got %v", m)
			}
			got := ""
			if o := m.IsEdns0(); o != nil {
				for _, option := range o.Option {
					if e, ok := option.(*wire.EDNS0_EDE); ok {
						got = fmt.Sprintf("%d %s", e.InfoCode, e.ExtraText)
					}
				}
			}
			if got != tt.want {
				t.Errorf("extended error %q, want %q", got, tt.want)
			}
			if s.Counts().Failed != 1 {
				t.Errorf("counts: %+v", s.Counts())
			}
		})
	}
}

// TestPanic: a fault in a Resolver costs its client an answer, and nobody else.
func TestPanic(t *testing.T) {
	var logged bytes.Buffer
	s := &server.Server{
		Resolver: dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) { panic("out of cheese") }),
		Logger:   slog.New(slog.NewTextHandler(&logged, nil)),
	}
	m := reply(t, s, query(t, "example.com.", wire.TypeA, nil), false)
	if m == nil || m.Rcode != wire.RcodeServerFailure || len(m.Question) != 1 {
		t.Errorf("got %v", m)
	}
	for _, word := range []string{"out of cheese", "example.com.", "answer_test.go", "192.0.2.99:5353"} {
		if !strings.Contains(logged.String(), word) {
			t.Errorf("the log lacks %q: %s", word, &logged)
		}
	}
	if s.Counts().Panics != 1 {
		t.Errorf("counts: %+v", s.Counts())
	}
}

// TestQueryTimeout: a Resolver that waits for ever is told to stop.
func TestQueryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server.Server{Resolver: dns.ResolverFunc(func(ctx context.Context, _ dns.Question) (dns.Answer, error) {
			<-ctx.Done()
			return dns.Answer{}, ctx.Err()
		})}
		start := time.Now()
		m := reply(t, s, query(t, "example.com.", wire.TypeA, nil), false)
		if took := time.Since(start); m.Rcode != wire.RcodeServerFailure || took != 10*time.Second {
			t.Errorf("%s after %v", wire.RcodeToString[m.Rcode], took)
		}
	})
}

// TestUpperRcode: a client without EDNS has no place for the upper bits of an Rcode.
func TestUpperRcode(t *testing.T) {
	s := &server.Server{Resolver: fixed(dns.Answer{Rcode: 23})} // BADCOOKIE
	if m := reply(t, s, query(t, "a.", wire.TypeA, nil), false); m.Rcode != wire.RcodeServerFailure {
		t.Errorf("without EDNS: %d", m.Rcode)
	}
	if m := reply(t, s, query(t, "a.", wire.TypeA, func(m *wire.Msg) { m.SetEdns0(1232, false) }), false); m.Rcode != 23 {
		t.Errorf("with EDNS: %d", m.Rcode)
	}
}

// TestUnpackable: a record that cannot be packed is SERVFAIL, not silence.
func TestUnpackable(t *testing.T) {
	broken := &wire.A{Hdr: wire.RR_Header{Name: "not..a.name.", Rrtype: wire.TypeA, Class: wire.ClassINET}}
	s := &server.Server{Resolver: fixed(dns.Answer{Answer: []dns.RR{broken}})}
	if m := reply(t, s, query(t, "a.", wire.TypeA, nil), false); m == nil || m.Rcode != wire.RcodeServerFailure {
		t.Errorf("got %v", m)
	}
}

// FuzzAnswer: whatever comes, the reply is nothing or a message that belongs to the query,
// is no longer than the client allows, and says nothing to a response.
func FuzzAnswer(f *testing.F) {
	file, err := os.Open(filepath.Join("testdata", "peers", "world", "example.com.zone"))
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	z, err := zone.Parse(file, dns.MustName("example.com"), file.Name())
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"www.example.com.", "large.example.com.", "x.manyns.example.com.", "a.dname.example.com."} {
		f.Add(query(f, name, wire.TypeTXT, nil), false)
		f.Add(query(f, name, wire.TypeANY, func(m *wire.Msg) { m.SetEdns0(1232, true) }), true)
	}
	f.Fuzz(func(t *testing.T, packet []byte, tcp bool) {
		s := &server.Server{Resolver: z}
		out := s.Answer(t.Context(), packet, tcp, client)
		if out == nil {
			if len(packet) >= 12 && packet[2]&0x80 == 0 {
				t.Fatal("no reply to a query")
			}
			return
		}
		if packet[2]&0x80 != 0 {
			t.Fatal("a reply to a response")
		}
		var m wire.Msg
		if err := m.Unpack(out); err != nil {
			t.Fatalf("unpack: %v", err)
		}
		if !m.Response || m.Id != uint16(packet[0])<<8|uint16(packet[1]) || !tcp && len(out) > 1232 {
			t.Fatalf("%d octets: %v", len(out), &m)
		}
		if s.Counts().Panics > 0 {
			t.Fatal("a panic")
		}
	})
}
