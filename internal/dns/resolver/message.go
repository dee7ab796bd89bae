package resolver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// ednsSize is the largest datagram we want: it fits into one IPv6 packet of the smallest
// MTU, so that no fragment can be forged (RFC 9715 §3.1).
const ednsSize = 1232

// Limits of a message on the wire.
const (
	headerSize     = 12
	maxPointers    = 126 // a name has no more labels (RFC 1035 §2.3.4)
	maxEDNSOptions = 16
	maxName        = 255
	maxQuery       = headerSize + maxName + 4 + 11 + 4 + maxCookie // what we send at most
)

var (
	errNotOurs    = errors.New("it answers another question")
	errUnreadable = errors.New("it cannot be read")
	errNoName     = errors.New("a question without a name")
)

// ask is one name and type, as it goes to a server and as the cache knows it.
type ask struct {
	name   dns.Name
	typ    dns.Type
	dnssec bool

	unchecked bool // it is not validated, though others are
}

func (a ask) String() string { return a.question().String() }

func (a ask) question() dns.Question {
	return dns.Question{Name: a.name, Type: a.typ, DNSSEC: a.dnssec, CheckingDisabled: a.unchecked}
}

// encode makes the question's bytes in the room of an empty buffer, without RD: nobody shall
// recurse for us. The cookie goes into the OPT record, if it is not empty.
func encode(b []byte, id uint16, a ask, edns bool, cookie []byte) ([]byte, error) {
	if a.name.IsZero() {
		return nil, errNoName
	}
	b = binary.BigEndian.AppendUint16(b, id)
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) // one question
	b = binary.BigEndian.AppendUint16(a.name.AppendWire(b), uint16(a.typ))
	b = binary.BigEndian.AppendUint16(b, wire.ClassINET)
	if !edns {
		return b, nil
	}
	b[11] = 1 // one OPT record (RFC 6891 §6.1.2)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint16(b, wire.TypeOPT)
	b = binary.BigEndian.AppendUint16(b, ednsSize)
	b = append(b, 0, 0, 0, 0)
	if a.dnssec {
		b[len(b)-2] = 0x80 // DO (RFC 3225 §3)
	}
	if len(cookie) == 0 {
		return append(b, 0, 0), nil
	}
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(cookie)))
	b = binary.BigEndian.AppendUint16(b, wire.EDNS0COOKIE)
	b = binary.BigEndian.AppendUint16(b, uint16(len(cookie)))
	return append(b, cookie...), nil
}

// decode reads a whole reply to the question with this id, or says why it is none. The
// library's Unpack would accept sections shorter than announced and bytes after the end.
func decode(b []byte, id uint16, a ask) (*wire.Msg, error) {
	if len(b) < headerSize {
		return nil, fmt.Errorf("%w: %d bytes", errUnreadable, len(b))
	}
	m := header(b)
	// Whoever forges must guess: nothing else is looked at before the ID (RFC 5452 §9.1).
	if m.Id != id || !m.Response || m.Opcode != wire.OpcodeQuery {
		return nil, errNotOurs
	}
	off, err := m.question(b)
	if err != nil {
		return nil, err
	}
	if !m.answers(a) {
		return nil, errNotOurs
	}
	if m.Truncated {
		return &m.Msg, nil // the rest may be cut anywhere; TCP will tell (RFC 2181 §9)
	}
	for i, section := range []*[]wire.RR{&m.Answer, &m.Ns, &m.Extra} {
		count := int(binary.BigEndian.Uint16(b[6+2*i:]))
		for range count {
			var rr wire.RR
			if rr, off, err = record(b, off); err != nil {
				return nil, err
			}
			*section = append(*section, rr)
		}
	}
	if off != len(b) {
		return nil, fmt.Errorf("%w: %d bytes after the end", errUnreadable, len(b)-off)
	}
	return &m.Msg, m.extend()
}

type message struct{ wire.Msg }

func header(b []byte) *message {
	var m message
	flags := binary.BigEndian.Uint16(b[2:])
	m.Id = binary.BigEndian.Uint16(b)
	m.Response = flags&0x8000 != 0
	m.Opcode = int(flags >> 11 & 0xf)
	m.Authoritative = flags&0x0400 != 0
	m.Truncated = flags&0x0200 != 0
	m.RecursionAvailable = flags&0x0080 != 0
	m.Rcode = int(flags & 0xf)
	return &m
}

// question reads the question section: one question, or none in an error that a server
// sent without reading ours to the end.
func (m *message) question(b []byte) (int, error) {
	switch count := binary.BigEndian.Uint16(b[4:]); {
	case count == 0 && m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError:
		return headerSize, nil
	case count != 1:
		return 0, errNotOurs
	}
	end, err := nameEnd(b, headerSize)
	if err != nil {
		return 0, err
	}
	name, _, err := wire.UnpackDomainName(b, headerSize)
	if err != nil || end+4 > len(b) {
		return 0, fmt.Errorf("%w: the question", errUnreadable)
	}
	m.Question = []wire.Question{{Name: name, Qtype: binary.BigEndian.Uint16(b[end:]), Qclass: binary.BigEndian.Uint16(b[end+2:])}}
	return end + 4, nil
}

// answers reports whether the reply repeats our question (RFC 5452 §9.1).
func (m *message) answers(a ask) bool {
	if len(m.Question) == 0 {
		return true
	}
	q := m.Question[0]
	return q.Qtype == uint16(a.typ) && q.Qclass == wire.ClassINET && strings.EqualFold(q.Name, a.name.FQDN())
}

// extend reads the OPT record: the upper bits of the Rcode are there (RFC 6891 §6.1.3).
func (m *message) extend() error {
	var opt *wire.OPT
	for _, rr := range m.Extra {
		o, ok := rr.(*wire.OPT)
		if !ok {
			continue
		}
		if opt != nil || o.Hdr.Name != "." || len(o.Option) > maxEDNSOptions { // RFC 6891 §6.1.1
			return fmt.Errorf("%w: the OPT record", errUnreadable)
		}
		opt = o
		m.Rcode |= o.ExtendedRcode()
	}
	return nil
}

// record reads one record and gives the offset after it.
func record(b []byte, off int) (wire.RR, int, error) {
	end, err := nameEnd(b, off)
	if err != nil {
		return nil, 0, err
	}
	const fixed = 10 // type, class, TTL, length
	if end+fixed > len(b) {
		return nil, 0, fmt.Errorf("%w: a record is cut", errUnreadable)
	}
	typ := binary.BigEndian.Uint16(b[end:])
	data := end + fixed
	if err := checkData(b, typ, data, int(binary.BigEndian.Uint16(b[end+8:]))); err != nil {
		return nil, 0, err
	}
	rr, off, err := wire.UnpackRR(b, off)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %s record: %v", errUnreadable, dns.Type(typ), err)
	}
	return rr, off, nil
}

// checkData looks at what the library lets pass: data that is missing, and names that
// point forwards.
func checkData(b []byte, typ uint16, off, length int) error {
	if off+length > len(b) {
		return fmt.Errorf("%w: a record is cut", errUnreadable)
	}
	if length == 0 {
		if _, known := wire.TypeToRR[typ]; known && typ != wire.TypeOPT && typ != wire.TypeAPL && typ != wire.TypeNULL {
			return fmt.Errorf("%w: %s record without data", errUnreadable, dns.Type(typ))
		}
		return nil
	}
	names := 0
	switch typ { // the types whose names may be compressed: RFC 3597 §4
	case wire.TypeNS, wire.TypeCNAME, wire.TypePTR, wire.TypeDNAME:
		names = 1
	case wire.TypeMX:
		names, off = 1, off+2
	case wire.TypeSOA:
		names = 2
	}
	for range names {
		end, err := nameEnd(b, off)
		if err != nil {
			return err
		}
		off = end
	}
	return nil
}

// nameEnd gives the offset after the name at off. Pointers must lead strictly backwards,
// so that no name can contain itself.
func nameEnd(b []byte, off int) (int, error) {
	end, lowest, pointers := 0, off, 0
	for off < len(b) {
		switch c := int(b[off]); {
		case c == 0:
			if pointers == 0 {
				end = off + 1
			}
			return end, nil
		case c < 0x40:
			off += 1 + c
		case c >= 0xc0 && off+1 < len(b):
			if pointers == 0 {
				end = off + 2
			}
			to := (c&0x3f)<<8 | int(b[off+1])
			if pointers++; to >= lowest || to < headerSize || pointers > maxPointers {
				return 0, fmt.Errorf("%w: a compression pointer", errUnreadable)
			}
			off, lowest = to, to
		default:
			return 0, fmt.Errorf("%w: a label", errUnreadable)
		}
	}
	return 0, fmt.Errorf("%w: a name is cut", errUnreadable)
}
