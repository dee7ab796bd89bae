package dns

import "time"

// WireQuestion is a Question as it came in a packet. It is valid only during the call that
// it is handed to.
type WireQuestion struct {
	Name             []byte // uncompressed, in whatever case, with the root's empty label (RFC 1035 §3.1)
	Type             Type
	DNSSEC           bool
	CheckingDisabled bool
}

// WireAnswer is what the header of a reply says about records that were appended.
type WireAnswer struct {
	Rcode                         Rcode
	Authoritative, Authentic      bool
	Answer, Authority, Additional uint16 // how many records each section has
}

// WireResolver is a Resolver that answers some questions from bytes that it has ready, fast
// and without allocation. Who serves bytes tries it first and asks Resolve where it says no.
//
// AppendAnswer appends to reply, which holds a header and the one question and nothing
// else, the records of the sections in their order, with names compressed as positions in
// reply (RFC 1035 §4.1.4), and says what they are. It gives ok only where Resolve would give
// exactly this answer now; else what is in reply beyond its length has no meaning. It never
// waits, and neither keeps nor changes q.Name.
type WireResolver interface {
	Resolver
	AppendAnswer(reply []byte, q WireQuestion) (out []byte, answer WireAnswer, ok bool)
}

// Foreteller is a Resolver that can say of a question beforehand how it will fare. Who serves
// many clients asks it first, so that those who would wait for servers that are silent cost
// nothing meanwhile, and come after those who would not.
//
// Foretell is told when the question came. The error is what Resolve would give; it is nil
// where only Resolve can tell. It never waits, and neither keeps nor changes q.Name.
type Foreteller interface {
	Resolver
	Foretell(q WireQuestion, came time.Time) (Outlook, error)
}

// Outlook is how a question will fare.
type Outlook int

// The outlooks, best first.
const (
	OutlookGood   Outlook = iota // somebody who can answer was heard lately
	OutlookFair                  // somebody was heard who knows where to ask
	OutlookUnsure                // nobody was heard who can answer
	OutlookBad                   // it would only wait for servers that do not answer others either
)

// AppendWire appends the name in the form that it has in a packet, uncompressed
// (RFC 1035 §3.1). The zero Name is appended as nothing.
func (n Name) AppendWire(buf []byte) []byte {
	if n.IsZero() {
		return buf
	}
	if n == Root {
		return append(buf, 0)
	}
	length := len(buf) // where the label's length goes
	buf = append(buf, 0)
	for i := 0; i < len(n.text); i++ {
		c := n.text[i]
		switch {
		case c == '.':
			buf[length] = byte(len(buf) - length - 1)
			length = len(buf)
			buf = append(buf, 0)
			continue
		case c == '\\' && i+3 < len(n.text) && isDigit(n.text[i+1]):
			c = (n.text[i+1]-'0')*100 + (n.text[i+2]-'0')*10 + n.text[i+3] - '0'
			i += 3
		case c == '\\' && i+1 < len(n.text):
			i++
			c = n.text[i]
		}
		buf = append(buf, c)
	}
	buf[length] = byte(len(buf) - length - 1)
	return append(buf, 0)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// AppendAnswer implements WireResolver for the zones and the default that do.
func (m *Mux) AppendAnswer(reply []byte, q WireQuestion) ([]byte, WireAnswer, bool) {
	if r, ok := m.findWire(q).(WireResolver); ok {
		return r.AppendAnswer(reply, q)
	}
	return reply, WireAnswer{}, false
}

// Foretell implements Foreteller for the zones and the default that do.
func (m *Mux) Foretell(q WireQuestion, came time.Time) (Outlook, error) {
	if r, ok := m.findWire(q).(Foreteller); ok {
		return r.Foretell(q, came)
	}
	return OutlookGood, nil
}

// findWire is find for a name in a packet. It gives nil for names that would need an
// escape: those are rare enough for the other way.
func (m *Mux) findWire(q WireQuestion) Resolver {
	if q.Type == TypeDS {
		return nil // the parent's; see find
	}
	if len(m.Zones) == 0 {
		return m.Default
	}
	var buf [maxNameOctets]byte
	text, ok := appendPlain(buf[:0], q.Name)
	if !ok {
		return nil
	}
	for rest := text; len(rest) > 0; {
		if r, found := m.Zones[Name{string(rest)}]; found {
			return r
		}
		next := 0
		for next < len(rest) && rest[next] != '.' {
			next++
		}
		rest = rest[min(next+1, len(rest)):]
	}
	if r, found := m.Zones[Root]; found {
		return r
	}
	return m.Default
}

// appendPlain appends the text of a name in a packet, in lower case and without the last
// dot, if it has one spelling only.
func appendPlain(text, name []byte) ([]byte, bool) {
	for len(name) > 0 && name[0] != 0 {
		n := int(name[0])
		if n > maxLabelOctets || n+1 >= len(name) {
			return nil, false
		}
		if len(text) > 0 {
			text = append(text, '.')
		}
		for _, c := range name[1 : n+1] {
			switch {
			case 'A' <= c && c <= 'Z':
				c += 'a' - 'A'
			case 'a' <= c && c <= 'z', isDigit(c), c == '-', c == '_':
			default:
				return nil, false
			}
			text = append(text, c)
		}
		name = name[n+1:]
	}
	return text, len(name) == 1
}
