package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
)

// lined is a reader that knows in which line an octet was.
type lined struct {
	io.Reader
	read   int64
	ends   []int64 // of lines, in octets, but for those that were forgotten
	before int     // how many were
}

// Read implements io.Reader.
func (l *lined) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	for i, c := range p[:n] {
		if c == '\n' {
			l.ends = append(l.ends, l.read+int64(i))
		}
	}
	l.read += int64(n)
	return n, err
}

// line gives the line, from 1, of the octet with this number, from 0.
func (l *lined) line(octet int64) int {
	return 1 + l.before + sort.Search(len(l.ends), func(i int) bool { return l.ends[i] >= octet })
}

// forget keeps only what the lines from an octet on want.
func (l *lined) forget(octet int64) {
	n := l.line(octet) - 1 - l.before
	l.before += n
	l.ends = append(l.ends[:0], l.ends[n:]...)
}

// undecoded says in which line what was read is no report, where the decoder would name its own
// parts. The nth document began at an octet.
func (l *lined) undecoded(err error, n int, began int64) error {
	const expected = "expected what mxward check --json prints"
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("line %d: it ends in the middle of a document: %s", l.line(l.read-1), expected)
	case errors.As(err, &syntax): // its offset is that of the whole, the other's that of the document
		return fmt.Errorf("line %d: %s, and here is no JSON", l.line(syntax.Offset-1), expected)
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Errorf("line %d: %s, an object, and got a JSON %s", l.line(began+kind.Offset-1), expected, kind.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("line %d: %s, where %s is no JSON %s", l.line(began+kind.Offset-1), expected, kind.Field, kind.Value)
	}
	return fmt.Errorf("document %d: %w", n, err) // of a name, or of the file
}
