package mailauth

import (
	"bytes"
	"fmt"

	"mxward/internal/mail"
)

// header holds a header until its end has come, at most mail.MaxHeader octets of it.
type header struct {
	held []byte
	line int // where the line begins whose end has not come
	seen int // up to where no end of that line was found
}

// take adds the next octets of a message. It gives the whole header, with the empty line,
// and what of p follows it, or ended false.
func (h *header) take(p []byte) (head, rest []byte, ended bool, err error) {
	before := len(h.held)
	if before == 0 {
		// Most headers come in one piece, which then is not copied.
		if end := new(header).end(p); end >= 0 && end <= mail.MaxHeader {
			return p[:end], p[end:], true, nil
		}
	}
	h.held = append(h.held, p[:min(len(p), mail.MaxHeader+1-before)]...)
	end := h.end(h.held)
	switch {
	case end >= 0 && end <= mail.MaxHeader:
		return h.held[:end], p[end-before:], true, nil
	case len(h.held) > mail.MaxHeader:
		return nil, nil, false, fmt.Errorf("%w: more than %d octets", mail.ErrHeaderTooLarge, mail.MaxHeader)
	}
	return nil, nil, false, nil
}

// end finds the end of the empty line that ends a header, or -1. It goes on where it was.
func (h *header) end(p []byte) int {
	for {
		n := bytes.IndexByte(p[h.seen:], '\n')
		if n < 0 {
			h.seen = len(p)
			return -1
		}
		h.seen += n + 1
		line := p[h.line:h.seen]
		if len(line) == 1 || len(line) == 2 && line[0] == '\r' {
			return h.seen
		}
		h.line = h.seen
	}
}

// fields goes through a header as it was received, well formed or not: a line that does
// not begin with white space begins a field, whatever it is. each is told where the field
// is, with its folded lines.
func fields(head []byte, each func(from, to int)) {
	from := 0
	for at := 0; at < len(head); {
		n := bytes.IndexByte(head[at:], '\n')
		next := at + n + 1
		if n < 0 {
			next = len(head)
		}
		if next == len(head) || head[next] != ' ' && head[next] != '\t' {
			each(from, next)
			from = next
		}
		at = next
	}
}

// fieldOf gives a line with a colon as a field. The name has no white space behind it
// (RFC 5322 §4.5), nor a fold: no field has one there, but some who read unfold first.
func fieldOf(raw []byte) (mail.Field, bool) {
	name, _, ok := bytes.Cut(raw, []byte{':'})
	name = bytes.TrimRight(name, " \t\r\n")
	if !ok || !bytes.EqualFold(name, []byte(FieldName)) {
		return mail.Field{}, false
	}
	return mail.Field{Name: string(name), Raw: string(raw)}, true
}
