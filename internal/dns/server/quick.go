package server

import (
	"encoding/binary"
	"net/netip"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// Bits of the header's third and fourth octets that only a reply sets.
const (
	bitAA = 1 << 10
	bitRA = 1 << 7
)

// quick answers a common question from what the Resolver has ready, on the goroutine that
// read it and without allocation. Where it gives false the question goes the long way; the
// reply is what the long way would give. Buf must be empty, with room for an answer.
func (s *Server) quick(buf, packet []byte, client netip.AddrPort) (out []byte, ok bool) {
	if s.wire == nil {
		return nil, false
	}
	defer func() {
		if r := recover(); r != nil {
			s.counts.panics.Add(1)
			logPanic(s.logger(), client, query{}, r)
			ok = false
		}
	}()
	q, err := parseHeader(packet)
	if err != nil || q.opcode != wire.OpcodeQuery || q.read(packet, false) != nil {
		return nil, false
	}
	if _, refused := refuse(&q); refused {
		return nil, false
	}
	question := packet[headerSize : q.nameEnd+4]
	out = append(buf, packet[:headerSize]...)
	out = append(out, question...)
	out, a, ok := s.wire.AppendAnswer(out, dns.WireQuestion{
		Name: packet[headerSize:q.nameEnd], Type: dns.Type(q.qtype), DNSSEC: q.do, CheckingDisabled: q.cd,
	})
	if !ok || a.Rcode > 0xf {
		return nil, false
	}
	if q.edns {
		out = s.appendOPT(out, &q)
		a.Additional++
	}
	if len(out) > s.limitOf(&q, false) {
		return nil, false // to be cut with care
	}
	s.putHeader(out, &q, a)
	return out, true
}

// appendOPT appends our OPT record (RFC 6891 §6.1.2).
func (s *Server) appendOPT(out []byte, q *query) []byte {
	size := s.udpSize()
	flags := byte(0)
	if q.do {
		flags = bitDO >> 8 // RFC 3225 §3
	}
	return append(out, 0, 0, byte(wire.TypeOPT), byte(size>>8), byte(size), 0, 0, flags, 0, 0, 0)
}

// putHeader writes the header over the question's own; its id stays.
func (s *Server) putHeader(out []byte, q *query, a dns.WireAnswer) {
	flags := uint16(bitQR) | uint16(a.Rcode)
	if a.Authoritative {
		flags |= bitAA
	}
	if q.rd {
		flags |= bitRD
	}
	if s.Recursion {
		flags |= bitRA
	}
	if a.Authentic && (q.do || q.ad) { // RFC 6840 §5.7, §5.8
		flags |= bitAD
	}
	if q.cd {
		flags |= bitCD
	}
	binary.BigEndian.PutUint16(out[2:], flags)
	binary.BigEndian.PutUint16(out[4:], 1)
	binary.BigEndian.PutUint16(out[6:], a.Answer)
	binary.BigEndian.PutUint16(out[8:], a.Authority)
	binary.BigEndian.PutUint16(out[10:], a.Additional)
}
