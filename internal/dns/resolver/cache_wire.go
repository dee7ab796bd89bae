package resolver

import (
	"encoding/binary"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// questionTail is the type and class after the question's name.
const questionTail = 4

// packBody packs the records of an answer and its authority as they stand in a message
// whose question has this name, compressed. It gives false for what cannot be packed.
func packBody(name dns.Name, answer, authority []dns.RR) ([]byte, bool) {
	m := wire.Msg{Compress: true, Answer: answer, Ns: authority}
	m.Question = []wire.Question{{Name: name.FQDN(), Qclass: wire.ClassINET}}
	packed, err := m.Pack()
	if err != nil {
		return nil, false
	}
	var buf [maxNameOctets]byte
	start := headerSize + len(name.AppendWire(buf[:0])) + questionTail
	return packed[start:], true
}

// records unpacks the body, with the TTL that left gives to each record by its number.
func (e *entry) records(left func(i int) uint32) (answer, authority []dns.RR) {
	if e.answers+e.authority == 0 {
		return nil, nil
	}
	msg := make([]byte, headerSize, headerSize+len(e.data)+questionTail)
	msg = append(msg, e.name()...)
	msg = append(msg, make([]byte, questionTail)...)
	off := len(msg)
	msg = append(msg, e.body()...)
	for i := range int(e.answers) + int(e.authority) {
		rr, next, err := wire.UnpackRR(msg, off)
		if err != nil {
			return answer, authority // it was packed by the same library, or checked by Load
		}
		off = next
		rr.Header().Ttl = left(i)
		if i < int(e.answers) {
			answer = append(answer, rr)
		} else {
			authority = append(authority, rr)
		}
	}
	return answer, authority
}

// chain is a whole answer with an alias in it. Each link has a time of its own.
type chain struct {
	answer dns.Answer // without records
	links  []link
}

// link is how many records of the answer section come from one piece, and its times.
type link struct {
	records int
	ttl     time.Duration
	expires time.Time
}

// left gives the seconds that a piece has left, rounded up: what was fetched just now keeps
// the TTL that it came with.
func left(expires, now time.Time, ttl time.Duration) time.Duration {
	rest := max(0, expires.Sub(now)+time.Second-1).Truncate(time.Second)
	return min(rest, ttl)
}

// sum adds up the TTLs of an entry: while it is the same, so is each of them.
func (e *entry) sum(now time.Time) (sum time.Duration) {
	c, ok := e.value.(*chain)
	if !ok {
		p := e.value.(*piece)
		return left(p.expires, now, p.ttl)
	}
	for _, l := range c.links {
		sum += left(l.expires, now, l.ttl)
	}
	return sum
}

// ttl gives the TTL of one record, by its number.
func (e *entry) ttl(i int, now time.Time) uint32 {
	if c, ok := e.value.(*chain); ok {
		return c.ttl(i, now)
	}
	p := e.value.(*piece)
	return uint32(left(p.expires, now, p.ttl) / time.Second)
}

// ttl gives the TTL of one record; those of the authority section may come from any link,
// and have the least of all.
func (c *chain) ttl(i int, now time.Time) uint32 {
	rest := maxTTL
	for _, l := range c.links {
		of := left(l.expires, now, l.ttl)
		if i < l.records {
			return uint32(of / time.Second)
		}
		i -= l.records
		rest = min(rest, of)
	}
	return uint32(rest / time.Second)
}

// head gives the answer of an entry without its records.
func (e *entry) head(typ dns.Type, now time.Time) dns.Answer {
	if c, ok := e.value.(*chain); ok {
		return c.answer
	}
	var a dns.Answer
	addTo(&a, typ, e.value.(*piece), now)
	return a
}

// ready gives the entry that answers a question by itself: a piece that is no alias, or the
// chain that begins with one. It reports whether anything is there to begin with.
func (c *cache) ready(name []byte, a ask, now time.Time) (e *entry, there bool) {
	since := c.since(now)
	e = c.locate(name, a, since)
	if e == nil || e.value.(*piece).target.IsZero() || a.typ == dns.TypeCNAME {
		return e, e != nil
	}
	e = c.lookup(name, cacheKey{kindChain, a})
	if e == nil || e.expires <= since {
		return nil, true
	}
	return e, true
}

// AppendAnswer implements dns.WireResolver with what the cache has ready.
func (r *Resolver) AppendAnswer(reply []byte, q dns.WireQuestion) ([]byte, dns.WireAnswer, bool) {
	r.once.Do(r.start)
	noData := q.Type >= firstMeta && q.Type <= lastMeta && q.Type != dns.TypeANY // see local
	if q.CheckingDisabled || noData || r.Trace != nil || len(q.Name) > maxNameOctets {
		return reply, dns.WireAnswer{}, false
	}
	var buf [maxNameOctets]byte
	name := lowered(buf[:0], q.Name)
	a := ask{typ: q.Type, dnssec: q.DNSSEC}
	now := time.Now()
	e, _ := r.cache.ready(name, a, now)
	if e == nil || len(reply) != headerSize+len(q.Name)+questionTail {
		return reply, dns.WireAnswer{}, false
	}
	header, ok := e.header()
	if !ok || r.due(e, a, now) {
		return reply, dns.WireAnswer{}, false // the other way says more, or sees to it
	}
	start := len(reply)
	reply = append(reply, e.body()...)
	if !e.patch(reply[start:], now) {
		return reply[:start], dns.WireAnswer{}, false
	}
	r.cache.shard(e.hash).hits.Add(1)
	return reply, header, true
}

// header is head in the words of a packet, for an entry that is ready. It gives false if
// there is more to say than fits.
func (e *entry) header() (dns.WireAnswer, bool) {
	h := dns.WireAnswer{Answer: e.answers, Authority: e.authority}
	if c, ok := e.value.(*chain); ok {
		h.Rcode, h.Authoritative, h.Authentic = c.answer.Rcode, c.answer.Authoritative, c.answer.Authentic
		return h, c.answer.Extended == 0
	}
	p := e.value.(*piece)
	h.Rcode, h.Authentic = p.rcode, p.secure
	return h, p.extended == 0
}

// lowered appends a name in lower case. Lengths of labels are below 'A'.
func lowered(buf, name []byte) []byte {
	buf = append(buf, name...)
	for i, c := range buf {
		if 'A' <= c && c <= 'Z' {
			buf[i] = c + 'a' - 'A'
		}
	}
	return buf
}

// patch writes the TTLs of the moment into packed records.
func (e *entry) patch(body []byte, now time.Time) bool {
	c, linked := e.value.(*chain)
	var ttl uint32
	if !linked {
		ttl = e.ttl(0, now) // of every record
	}
	off := 0
	for i := range int(e.answers) + int(e.authority) {
		if linked {
			ttl = c.ttl(i, now)
		}
		for off < len(body) && body[off] != 0 && body[off] < 0xc0 {
			off += 1 + int(body[off])
		}
		if off < len(body) && body[off] >= 0xc0 {
			off++
		}
		const ttlAt, lengthAt = 1 + 4, 1 + 8 // after the name's last octet: type, class, TTL, length
		if off+lengthAt+2 > len(body) {
			return false
		}
		binary.BigEndian.PutUint32(body[off+ttlAt:], ttl)
		off += lengthAt + 2 + int(binary.BigEndian.Uint16(body[off+lengthAt:]))
	}
	return off == len(body)
}
