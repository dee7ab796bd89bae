package server_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/server"
)

// texts of n records of a size each.
func manyTXT(t testing.TB, owner string, n, size int) (rrs []dns.RR) {
	for i := range n {
		rrs = append(rrs, rr(t, fmt.Sprintf("%s 60 TXT \"%03d%s\"", owner, i, strings.Repeat("x", size-3))))
	}
	return rrs
}

func referral(t testing.TB, servers int, under string) dns.Answer {
	var a dns.Answer
	for i := range servers {
		host := fmt.Sprintf("ns%d.%s", i, under)
		a.Authority = append(a.Authority, rr(t, "child.example. 60 NS "+host))
		a.Additional = append(a.Additional, rr(t, fmt.Sprintf("%s 60 A 192.0.2.%d", host, i)), rr(t, fmt.Sprintf("%s 60 AAAA 2001:db8:1:2:3:4:5:%d", host, i)))
	}
	return a
}

// TestTruncation: what is left out of an answer that is too long.
func TestTruncation(t *testing.T) {
	small := rr(t, "www.example. 60 CNAME web.example.")
	soa := rr(t, "example. 60 SOA ns.example. host.example. 1 2 3 4 5")
	tests := []struct {
		what                          string
		answer                        dns.Answer
		size                          uint16 // of the client's OPT record; 0: it has none
		tcp                           bool
		tc                            bool
		inAnswer, authority, extraMin int
	}{
		{"all fits", dns.Answer{Answer: manyTXT(t, "a.example.", 2, 100)}, 0, false, false, 2, 0, 0},
		{"no EDNS means 512", dns.Answer{Answer: manyTXT(t, "a.example.", 6, 100)}, 0, false, true, 0, 0, 0},
		{"a smaller size than 512 means 512", dns.Answer{Answer: manyTXT(t, "a.example.", 3, 100)}, 100, false, false, 3, 0, 1},
		{"the client's size is honoured", dns.Answer{Answer: manyTXT(t, "a.example.", 6, 100)}, 1000, false, false, 6, 0, 1},
		{"but no more than 1232", dns.Answer{Answer: manyTXT(t, "a.example.", 12, 100)}, 4096, false, true, 0, 0, 1},
		{"over TCP all fits", dns.Answer{Answer: manyTXT(t, "a.example.", 12, 100)}, 512, true, false, 12, 0, 1},
		{"an RRset is never cut in two, the one before it stays", dns.Answer{Answer: append([]dns.RR{small}, manyTXT(t, "web.example.", 12, 100)...)}, 1232, false, true, 1, 0, 1},
		{"the authority section is needed", dns.Answer{Answer: manyTXT(t, "a.example.", 4, 98), Authority: []dns.RR{soa}}, 0, false, true, 4, 0, 0},
		{"other addresses are not", dns.Answer{Answer: manyTXT(t, "a.example.", 4, 98), Additional: manyTXT(t, "b.example.", 1, 200)}, 0, false, false, 4, 0, 0},
		{"as many of them as fit", dns.Answer{Answer: manyTXT(t, "a.example.", 2, 100), Additional: append(manyTXT(t, "b.example.", 1, 100), manyTXT(t, "c.example.", 1, 200)...)}, 0, false, false, 2, 0, 1},
		{"glue inside the child is needed (RFC 9471 §3.1)", referral(t, 13, "child.example."), 0, false, true, 0, 13, 1},
		{"and fits into 1232", referral(t, 13, "child.example."), 1232, false, false, 0, 13, 27},
		{"glue of a sibling is not", referral(t, 13, "other.example."), 0, false, false, 0, 13, 1},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			s := &server.Server{Resolver: fixed(tt.answer)}
			packet := query(t, "www.example.", wire.TypeTXT, func(m *wire.Msg) {
				if tt.size > 0 {
					m.SetEdns0(tt.size, false)
				}
			})
			m := reply(t, s, packet, tt.tcp)
			if m.Truncated != tt.tc || len(m.Answer) != tt.inAnswer || len(m.Ns) != tt.authority || len(m.Extra) < tt.extraMin {
				t.Errorf("TC %v, %d answer, %d authority, %d additional; want %v, %d, %d, at least %d",
					m.Truncated, len(m.Answer), len(m.Ns), len(m.Extra), tt.tc, tt.inAnswer, tt.authority, tt.extraMin)
			}
			if (m.IsEdns0() != nil) != (tt.size > 0) {
				t.Errorf("OPT record: %v", m.IsEdns0())
			}
			if want := map[bool]int64{true: 1}[tt.tc]; s.Counts().Truncated != want {
				t.Errorf("counts: %+v", s.Counts())
			}
		})
	}
}

// TestTruncationSizes: at every size the reply fits, holds whole RRsets only, and has TC
// exactly if something of the answer is missing.
func TestTruncationSizes(t *testing.T) {
	var answer []dns.RR
	for i := range 9 {
		answer = append(answer, manyTXT(t, fmt.Sprintf("a%d.example.", i), 3, 40)...)
	}
	s := &server.Server{Resolver: fixed(dns.Answer{Answer: answer})}
	before := -1
	for size := 512; size <= 1400; size += 7 {
		packet := query(t, "www.example.", wire.TypeTXT, func(m *wire.Msg) { m.SetEdns0(uint16(size), false) })
		out := s.Answer(t.Context(), packet, false, netip.AddrPort{})
		var m wire.Msg
		if err := m.Unpack(out); err != nil {
			t.Fatal(err)
		}
		if len(out) > min(size, 1232) || len(m.Answer)%3 != 0 || m.Truncated != (len(m.Answer) < len(answer)) || len(m.Answer) < before {
			t.Errorf("size %d: %d octets, %d records, TC %v", size, len(out), len(m.Answer), m.Truncated)
		}
		before = len(m.Answer)
	}
	if before < 3 {
		t.Errorf("only %d records at the greatest size", before)
	}
}

// TestTooLongForTCP: with TC over TCP a client would ask again for ever.
func TestTooLongForTCP(t *testing.T) {
	s := &server.Server{Resolver: fixed(dns.Answer{Answer: manyTXT(t, "a.example.", 700, 100)})}
	m := reply(t, s, query(t, "a.example.", wire.TypeTXT, nil), true)
	if m.Rcode != wire.RcodeServerFailure || m.Truncated || len(m.Answer) != 0 {
		t.Errorf("got %v", m.MsgHdr)
	}
	if m := reply(t, s, query(t, "a.example.", wire.TypeTXT, nil), false); !m.Truncated {
		t.Errorf("over UDP: %v", m.MsgHdr)
	}
}

// TestSharedSections: an answer's records and sections are shared by all who asked, and
// stay as they are.
func TestSharedSections(t *testing.T) {
	a := referral(t, 13, "child.example.")
	before := slices.Clone(a.Additional[:cap(a.Additional)])
	s := &server.Server{Resolver: fixed(a)}
	for range 3 {
		reply(t, s, query(t, "www.child.example.", wire.TypeA, func(m *wire.Msg) { m.SetEdns0(512, true) }), false)
	}
	if !slices.Equal(before, a.Additional[:cap(a.Additional)]) {
		t.Error("the additional section was written to")
	}
}
