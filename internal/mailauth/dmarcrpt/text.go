package dmarcrpt

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// text is the input of the XML decoder: the octets of a report as UTF-8, with what careless
// senders write put right on the way, and never more than a limit at once. It is an
// io.ByteReader so that the decoder reads nothing ahead of the limit.
//
// Put right are a less-than sign that begins no tag ("<email><dmarc@example.com></email>"),
// octets that are no UTF-8, and control characters.
type text struct {
	r       *bufio.Reader
	charset *charmap.Charmap // nil for UTF-8
	queue   []byte           // what an octet became
	left    int              // octets until the limit
	err     error            // of the reader, or of the limit
}

// declaration is the XML declaration, also one whose last question mark is missing.
var (
	declaration = regexp.MustCompile(`^<\?xml[^>]*>`)
	encoding    = regexp.MustCompile(`(?i)encoding\s*=\s*["']([^"']*)["']`)
)

// newText reads the declaration, which says the charset. The decoder never sees it: it would
// refuse version 1.1.
func newText(r io.Reader) (*text, error) {
	t := &text{r: bufio.NewReaderSize(r, 4096), left: MaxMarkup}
	begin, err := t.r.Peek(512)
	if err != nil && err != io.EOF {
		return nil, err
	}
	skip := 0
	if bytes.HasPrefix(begin, []byte("\xef\xbb\xbf")) {
		skip = 3
	}
	if bytes.HasPrefix(begin, []byte("\xff\xfe")) || bytes.HasPrefix(begin, []byte("\xfe\xff")) || bytes.HasPrefix(begin, []byte("<\x00?")) || bytes.HasPrefix(begin, []byte("\x00<")) {
		return nil, fmt.Errorf("%w: it is in UTF-16; RFC 9990 reports are in UTF-8", ErrMalformed)
	}
	skip += len(begin[skip:]) - len(bytes.TrimLeft(begin[skip:], " \t\r\n"))
	found := declaration.Find(begin[skip:])
	if m := encoding.FindSubmatch(found); m != nil {
		switch name := strings.ToLower(string(m[1])); name {
		case "utf-8", "utf8", "us-ascii", "ascii", "":
		case "iso-8859-1", "latin1", "latin-1", "iso8859-1":
			t.charset = charmap.ISO8859_1
		case "windows-1252", "cp1252":
			t.charset = charmap.Windows1252
		default:
			return nil, fmt.Errorf("%w: it is in the charset %q; only UTF-8, US-ASCII, ISO-8859-1 and Windows-1252 are read", ErrMalformed, clip(name))
		}
	}
	_, err = t.r.Discard(skip + len(found))
	return t, err
}

// Read serves the interface; the decoder calls ReadByte.
func (t *text) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c, err := t.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = c
	return 1, nil
}

func (t *text) ReadByte() (byte, error) {
	if len(t.queue) > 0 {
		c := t.queue[0]
		t.queue = t.queue[1:]
		return c, nil
	}
	if t.left--; t.left < 0 {
		t.err = fmt.Errorf("%w: more than %d octets of a tag or of text", ErrTooLarge, MaxMarkup)
		return 0, t.err
	}
	c, err := t.r.ReadByte()
	switch {
	case err == io.EOF:
		return 0, err
	case err != nil:
		t.err = err
		return 0, err
	case c == '<' && !t.isTag():
		t.queue = []byte("lt;")
		return '&', nil
	case c >= utf8.RuneSelf:
		return t.rune(c)
	case c < ' ' && c != '\t' && c != '\r' && c != '\n':
		return ' ', nil
	}
	return c, nil
}

// rune reads a character that begins with c and gives its first octet in UTF-8.
func (t *text) rune(c byte) (byte, error) {
	char := utf8.RuneError
	if t.charset != nil {
		char = t.charset.DecodeByte(c)
	} else {
		t.r.UnreadByte()
		begin, _ := t.r.Peek(utf8.UTFMax)
		var size int
		char, size = utf8.DecodeRune(begin)
		t.r.Discard(size)
	}
	if char < ' ' || char == 0xFFFE || char == 0xFFFF { // not in XML
		char = utf8.RuneError
	}
	var b [utf8.UTFMax]byte
	n := utf8.EncodeRune(b[:], char)
	t.queue = append(t.queue[:0], b[1:n]...)
	return b[0], nil
}

// isTag tells by what follows a less-than sign whether it begins markup.
func (t *text) isTag() bool {
	const longest = 64 // of names that a report could have
	next, _ := t.r.Peek(longest)
	if len(next) == 0 {
		return false
	}
	if next[0] == '!' || next[0] == '?' || next[0] == '/' {
		return true
	}
	for i, c := range next {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == ':', c >= utf8.RuneSelf:
		case i > 0 && (c >= '0' && c <= '9' || c == '-' || c == '.'):
		default:
			return i > 0 && strings.IndexByte(" \t\r\n/>", c) >= 0
		}
	}
	return false
}

// clip cuts what goes into an error or a fault.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
