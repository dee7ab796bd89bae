package dkim

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Canonicalization is a way to write a header field or a body before it is hashed
// (RFC 6376 §3.4). ARC uses the same.
type Canonicalization string

// The canonicalizations.
const (
	Simple  Canonicalization = "simple"  // RFC 6376 §3.4.1, §3.4.3
	Relaxed Canonicalization = "relaxed" // RFC 6376 §3.4.2, §3.4.4
)

// ParseCanonicalization reads the value of c=, "relaxed/simple": that of the header, then
// that of the body. What is missing is simple (RFC 6376 §3.5).
func ParseCanonicalization(s string) (header, body Canonicalization, err error) {
	header, body = Simple, Simple
	first, second, both := strings.Cut(s, "/")
	if s != "" {
		header = Canonicalization(first)
	}
	if both {
		body = Canonicalization(second)
	}
	if !header.known() || !body.known() {
		return "", "", fmt.Errorf("unknown canonicalization %q", excerpt(s))
	}
	return header, body, nil
}

func (c Canonicalization) known() bool { return c == Simple || c == Relaxed }

// AppendField appends a header field, which ends with CRLF, as mail.Field.Raw does.
func (c Canonicalization) AppendField(dst []byte, raw string) []byte {
	if c == Simple {
		return append(dst, raw...)
	}
	name, value, _ := strings.Cut(raw, ":")
	for i := range len(name) {
		b := name[i]
		if 'A' <= b && b <= 'Z' {
			b |= 0x20
		}
		if b != ' ' && b != '\t' {
			dst = append(dst, b)
		}
	}
	dst = append(dst, ':')
	gap, begun := false, false
	for i := 0; i < len(value); i++ {
		switch b := value[i]; {
		case b == ' ' || b == '\t':
			gap = true
		case b == '\r' && i+1 < len(value) && value[i+1] == '\n':
			i++ // unfolded: the white space that follows stays
		default:
			if gap && begun {
				dst = append(dst, ' ')
			}
			gap, begun = false, true
			dst = append(dst, b)
		}
	}
	return append(dst, "\r\n"...)
}

// WithoutSignature gives a signature's field, DKIM-Signature, ARC-Seal or
// ARC-Message-Signature, with the value of its b= tag taken out (RFC 6376 §3.7). All else
// stays as it is, its white space too.
func WithoutSignature(raw string) string {
	colon := strings.IndexByte(raw, ':')
	for start := colon + 1; start < len(raw); {
		end := len(raw)
		last := true
		if semicolon := strings.IndexByte(raw[start:], ';'); semicolon >= 0 {
			end, last = start+semicolon, false
		}
		name, _, ok := strings.Cut(raw[start:end], "=")
		if ok && trimSpace(name) == "b" {
			rest := raw[end:]
			if last {
				rest = "\r\n"
			}
			return raw[:start] + name + "=" + rest
		}
		start = end + 1
	}
	return raw
}

// Body gives a writer that writes a body on to w in canonical form. It needs little memory
// whatever comes. Close writes what is due at the end, and does not close w.
func (c Canonicalization) Body(w io.Writer) io.WriteCloser {
	return &bodyWriter{w: w, relaxed: c == Relaxed}
}

// bodyBuffer is how many octets go to the hash at once.
const bodyBuffer = 4 << 10

// bodyWriter holds back what may turn out to be of no account: line ends, since empty lines
// at the end of the body do not count, white space, since none at the end of a line counts
// if relaxed, and a CR, since a LF may follow.
type bodyWriter struct {
	w       io.Writer
	relaxed bool

	out   [bodyBuffer]byte
	n     int   // octets in out
	lines int64 // line ends held back
	gap   bool  // white space held back
	cr    bool  // a CR held back
	some  bool  // something was written
	err   error
}

// Write takes the next octets of the body.
func (b *bodyWriter) Write(p []byte) (int, error) {
	for i := 0; i < len(p); {
		c := p[i]
		switch {
		case c == '\n':
			b.lines++
			b.gap, b.cr = false, false
			i++
		case b.cr:
			b.cr = false
			b.put([]byte{'\r'})
		case c == '\r':
			b.cr = true
			i++
		case b.relaxed && (c == ' ' || c == '\t'):
			b.gap = true
			i++
		default:
			n := b.plain(p[i:])
			b.put(p[i : i+n])
			i += n
		}
	}
	return len(p), b.err
}

// plain counts the octets at the front of p that stay as they are; at least one. They are
// few enough for the buffer. A single space between words is among them: a line goes in
// one piece.
func (b *bodyWriter) plain(p []byte) int {
	p = p[:min(len(p), bodyBuffer)]
	if b.relaxed {
		for i, c := range p {
			switch {
			case c > ' ':
			case c == ' ' && i+1 < len(p) && p[i+1] > ' ':
			case c == ' ' || c == '\n' || c == '\t' || c == '\r':
				return i
			}
		}
		return len(p)
	}
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		p = p[:i]
	}
	if i := bytes.IndexByte(p, '\r'); i >= 0 {
		p = p[:i]
	}
	return len(p)
}

// put writes text of a line, and before it what was held back.
func (b *bodyWriter) put(text []byte) {
	for ; b.lines > 0; b.lines-- {
		b.buffer('\r', '\n')
	}
	if b.gap {
		b.buffer(' ')
		b.gap = false
	}
	b.buffer(text...)
}

func (b *bodyWriter) buffer(text ...byte) {
	b.some = true
	if b.n+len(text) > len(b.out) {
		b.flush()
	}
	b.n += copy(b.out[b.n:], text)
}

func (b *bodyWriter) flush() {
	if b.err == nil {
		_, b.err = b.w.Write(b.out[:b.n])
	}
	b.n = 0
}

// Close ends the body: with one CRLF, even an empty one if simple (RFC 6376 §3.4.3); an
// empty one stays empty if relaxed (RFC 6376 §3.4.4).
func (b *bodyWriter) Close() error {
	if b.cr {
		b.cr = false
		b.put([]byte{'\r'})
	}
	if b.some || !b.relaxed {
		b.buffer('\r', '\n')
	}
	b.flush()
	return b.err
}
