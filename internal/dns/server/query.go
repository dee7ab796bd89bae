package server

import (
	"encoding/binary"
	"errors"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// Limits of a question. A message that asks has one question, perhaps an OPT record with a
// few options, perhaps a TSIG; whatever has more does not come from a resolver.
const (
	headerSize    = 12
	maxAdditional = 4
	maxOptions    = 16
	minUDPSize    = 512 // RFC 6891 §6.2.3
)

// Bits of the header's third and fourth octets (RFC 1035 §4.1.1, RFC 4035 §3).
const (
	bitQR = 1 << 15
	bitRD = 1 << 8
	bitAD = 1 << 5
	bitCD = 1 << 4
	bitDO = 1 << 15 // of the OPT record's flags (RFC 3225 §3)
)

// query is what one packet asks.
type query struct {
	id         uint16
	opcode     int
	rd, ad, cd bool

	name    string // with the case that it came in, to be echoed (RFC 4343 §4.1)
	nameEnd int    // where it ends in the packet
	qtype   uint16
	class   uint16

	edns    bool
	version uint8
	size    int // what the client can take over UDP
	do      bool
}

var (
	errNotAQuery = errors.New("no query: too short for a header, or a response")
	errMalformed = errors.New("the packet does not hold what its header says")
)

// parseHeader reads the part that every reply needs. A response is never answered: two
// servers could be made to talk to each other for ever.
func parseHeader(p []byte) (q query, err error) {
	if len(p) < headerSize {
		return q, errNotAQuery
	}
	flags := binary.BigEndian.Uint16(p[2:])
	if flags&bitQR != 0 {
		return q, errNotAQuery
	}
	q.id = binary.BigEndian.Uint16(p)
	q.opcode = int(flags >> 11 & 0xf)
	q.rd, q.ad, q.cd = flags&bitRD != 0, flags&bitAD != 0, flags&bitCD != 0
	q.size = minUDPSize
	return q, nil
}

// parse reads the rest of a packet with opcode QUERY. It is strict: the counts are true,
// nothing follows the last record, there is one question (RFC 9619), and no answers. What
// could be read before an error stays in q, so that the reply can hold it.
func (q *query) parse(p []byte) error { return q.read(p, true) }

// read is parse, with the name as text or without.
func (q *query) read(p []byte, named bool) error {
	questions, answers := binary.BigEndian.Uint16(p[4:]), binary.BigEndian.Uint16(p[6:])
	authority, additional := binary.BigEndian.Uint16(p[8:]), binary.BigEndian.Uint16(p[10:])
	if questions != 1 || answers != 0 || authority > 1 || additional > maxAdditional {
		return errMalformed
	}
	off, ok := skipName(p, headerSize, false)
	if !ok || off+4 > len(p) {
		return errMalformed
	}
	if named {
		name, _, err := wire.UnpackDomainName(p, headerSize)
		if err != nil {
			return errMalformed
		}
		q.name = name
	}
	q.nameEnd = off
	q.qtype, q.class = binary.BigEndian.Uint16(p[off:]), binary.BigEndian.Uint16(p[off+2:])
	if authority == 1 && q.qtype != wire.TypeIXFR { // RFC 1995 §3: the client's SOA
		return errMalformed
	}
	off += 4
	for i := range authority + additional {
		if off, ok = q.record(p, off, i >= authority); !ok {
			return errMalformed
		}
	}
	if off != len(p) {
		return errMalformed
	}
	return nil
}

// record steps over one record, and reads it if it is the OPT record.
func (q *query) record(p []byte, off int, additional bool) (next int, ok bool) {
	start := off
	off, ok = skipName(p, off, true)
	if !ok || off+10 > len(p) {
		return 0, false
	}
	h := p[off:]
	end := off + 10 + int(binary.BigEndian.Uint16(h[8:]))
	if end > len(p) {
		return 0, false
	}
	if binary.BigEndian.Uint16(h) != wire.TypeOPT {
		return end, true
	}
	// RFC 6891 §6.1.1, §6.1.2: at most one, of the root's name, among the additional.
	if q.edns || !additional || p[start] != 0 || !validOptions(p[off+10:end]) {
		return 0, false
	}
	q.edns = true
	q.size = max(minUDPSize, int(binary.BigEndian.Uint16(h[2:])))
	q.version = h[5]
	q.do = binary.BigEndian.Uint16(h[6:])&bitDO != 0
	return end, true
}

func validOptions(data []byte) bool {
	for range maxOptions + 1 {
		if len(data) == 0 {
			return true
		}
		if len(data) < 4 {
			return false
		}
		n := 4 + int(binary.BigEndian.Uint16(data[2:]))
		if n > len(data) {
			return false
		}
		data = data[n:]
	}
	return false
}

// skipName steps over a name. It does not follow a pointer; in the question, which is the
// first name, a pointer has nothing to point to.
func skipName(p []byte, off int, pointers bool) (next int, ok bool) {
	for start := off; off < len(p) && off-start < 255; {
		switch n := int(p[off]); {
		case n == 0:
			return off + 1, true
		case n < 64:
			off += 1 + n
		case n >= 192 && pointers && off+2 <= len(p):
			return off + 2, true
		default:
			return 0, false
		}
	}
	return 0, false
}

// question is q in the words of the house.
func (q *query) question() dns.Question {
	return dns.Question{
		Name:             dns.NameOf(q.name),
		Type:             dns.Type(q.qtype),
		DNSSEC:           q.do,
		CheckingDisabled: q.cd,
	}
}
