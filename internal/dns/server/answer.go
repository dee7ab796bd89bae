package server

import (
	"context"
	"errors"
	"net/netip"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// maxExtraText bounds the text of an extended error, so that it fits beside the question.
const maxExtraText = 200

// Answer gives the reply to one packet, or nil where none is due. It is what the loops on
// the sockets call, without their limits on clients; tests call it without a socket.
func (s *Server) Answer(ctx context.Context, packet []byte, tcp bool, client netip.AddrPort) []byte {
	return s.answer(ctx, packet, tcp, client, false)
}

// answer makes the reply; a slipped one says over UDP nothing but "ask over TCP".
func (s *Server) answer(ctx context.Context, packet []byte, tcp bool, client netip.AddrPort, slip bool) (out []byte) {
	q, err := parseHeader(packet)
	if err != nil {
		s.counts.ignored.Add(1)
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			s.counts.panics.Add(1)
			logPanic(s.logger(), client, q, r)
			out = s.bare(&q, wire.RcodeServerFailure)
		}
	}()
	s.counts.queries.Add(1)
	if q.opcode != wire.OpcodeQuery {
		return s.bare(&q, wire.RcodeNotImplemented)
	}
	if err := q.parse(packet); err != nil {
		s.counts.malformed.Add(1)
		// RFC 6891 §7: the OPT record may be what is wrong, so the reply has none.
		return s.bare(&query{id: q.id, opcode: q.opcode, rd: q.rd, cd: q.cd}, wire.RcodeFormatError)
	}
	m := s.reply(&q)
	limit := s.limitOf(&q, tcp)
	if slip && !tcp {
		m.Truncated = true
		return s.pack(m, &q, limit, tcp)
	}
	if rcode, refused := refuse(&q); refused {
		m.Rcode = rcode
		return s.pack(m, &q, limit, tcp)
	}
	s.resolve(ctx, m, &q, client)
	return s.pack(m, &q, limit, tcp)
}

// refuse names the questions that no resolver is asked.
func refuse(q *query) (rcode int, refused bool) {
	switch {
	case q.version > 0:
		return wire.RcodeBadVers, true // RFC 6891 §6.1.3
	case q.class != wire.ClassINET:
		return wire.RcodeRefused, true
	}
	switch q.qtype {
	case wire.TypeAXFR, wire.TypeIXFR: // transfers are another server's matter
		return wire.RcodeRefused, true
	case wire.TypeMAILA, wire.TypeMAILB: // RFC 1035 §3.2.3, long gone
		return wire.RcodeNotImplemented, true
	case wire.TypeNone, wire.TypeOPT, wire.TypeTSIG, wire.TypeTKEY:
		return wire.RcodeFormatError, true // they are no data (RFC 6895 §3.1)
	}
	return 0, false
}

// resolve has the Resolver fill the reply.
func (s *Server) resolve(ctx context.Context, m *wire.Msg, q *query, client netip.AddrPort) {
	ctx, cancel := context.WithTimeout(ctx, orDefault(s.QueryTimeout, defaultQueryTimeout))
	defer cancel()
	a, err := s.Resolver.Resolve(ctx, q.question())
	if err != nil {
		s.fail(m, q, client, err)
		return
	}
	m.Rcode = int(a.Rcode)
	m.Authoritative = a.Authoritative
	// RFC 6840 §5.7, §5.8: AD is for those who show that they know it.
	m.AuthenticatedData = a.Authentic && (q.do || q.ad)
	m.Answer, m.Ns = a.Answer, a.Authority
	if o := m.IsEdns0(); o != nil && a.Extended != 0 {
		o.Option = append(o.Option, &wire.EDNS0_EDE{InfoCode: a.Extended})
	}
	opt := m.Extra // our OPT, or nothing
	m.Extra = append(append([]dns.RR(nil), a.Additional...), opt...)
}

// fail makes the reply say that no answer could be had.
func (s *Server) fail(m *wire.Msg, q *query, client netip.AddrPort, err error) {
	s.counts.failed.Add(1)
	logFailed(s.logger(), client, q, err)
	m.Rcode = wire.RcodeServerFailure
	extendedError(m, err)
}

// extendedError says in the OPT record why there is no answer (RFC 8914 §2).
func extendedError(m *wire.Msg, err error) {
	var e *dns.Error
	opt := m.IsEdns0()
	if opt == nil || !errors.As(err, &e) {
		return
	}
	text := e.Trouble.String()
	if e.Extended != 0 && e.Detail != "" {
		text = e.Detail // the code says the trouble
	} else if e.Detail != "" {
		text += ": " + e.Detail
	}
	opt.Option = append(opt.Option, &wire.EDNS0_EDE{InfoCode: e.ExtendedError(), ExtraText: clip(text)})
}

// clip cuts a text to maxExtraText octets, between characters.
func clip(text string) string {
	if len(text) <= maxExtraText {
		return text
	}
	end := 0
	for i := range text {
		if i > maxExtraText {
			break
		}
		end = i
	}
	return text[:end]
}

// reply begins a reply: the header, the question as it came, and an OPT record if the
// client sent one (RFC 6891 §6.1.1).
func (s *Server) reply(q *query) *wire.Msg {
	m := &wire.Msg{Compress: true}
	m.Id, m.Opcode, m.Response = q.id, q.opcode, true
	m.RecursionDesired, m.CheckingDisabled = q.rd, q.cd
	m.RecursionAvailable = s.Recursion
	if q.name != "" {
		m.Question = []wire.Question{{Name: q.name, Qtype: q.qtype, Qclass: q.class}}
	}
	if q.edns {
		opt := &wire.OPT{Hdr: wire.RR_Header{Name: ".", Rrtype: wire.TypeOPT}}
		opt.SetUDPSize(uint16(s.udpSize()))
		if q.do {
			opt.SetDo() // RFC 3225 §3
		}
		m.Extra = []dns.RR{opt}
	}
	return m
}

// bare is a reply without data. It cannot fail and asks nobody.
func (s *Server) bare(q *query, rcode int) []byte {
	m := s.reply(q)
	m.Rcode = rcode
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}

// limitOf is how long the reply may be.
func (s *Server) limitOf(q *query, tcp bool) int {
	if tcp {
		return wire.MaxMsgSize
	}
	return min(q.size, s.udpSize())
}

func (s *Server) udpSize() int {
	return min(max(orDefault(s.UDPSize, defaultUDPSize), minUDPSize), maxUDPSize)
}
