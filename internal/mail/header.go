package mail

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits of the header of a message. RFC 5322 §2.1.1 bounds the line and not the header; a
// real header is some 10 kB, and what is far above these is meant to hurt whoever reads it.
const (
	MaxHeader       = 1 << 20   // octets of the whole header
	MaxHeaderFields = 5000      // fields
	MaxHeaderField  = 256 << 10 // octets of one field, its folding included
)

// The errors of ReadHeader that are the message's own fault. Whatever else it gives is an
// error of its reader.
var (
	ErrHeaderTooLarge  = errors.New("the message header is too large")
	ErrHeaderMalformed = errors.New("malformed message header")
)

// Header is the header of a message, its fields in the order in which they stand.
type Header []Field

// Field is one field of a header as it was received.
type Field struct {
	// Name is what stands before the colon, in its own case, without white space.
	Name string
	// Raw is the whole field: name, colon, folded value and the final CRLF. Each of its
	// lines ends with CRLF, whatever was received.
	Raw string
}

// Is reports whether the field has this name, in any case (RFC 5322 §1.2.2).
func (f Field) Is(name string) bool { return strings.EqualFold(f.Name, name) }

// Folded gives what follows the colon, with its folding and without the final CRLF.
func (f Field) Folded() string {
	_, value, _ := strings.Cut(f.Raw, ":")
	return strings.TrimSuffix(value, "\r\n")
}

// Value gives what follows the colon on one line (RFC 5322 §2.2.3), without the white space
// around it.
func (f Field) Value() string {
	return strings.Trim(strings.ReplaceAll(f.Folded(), "\r\n", ""), " \t")
}

// All gives the fields of a name, from the top.
func (h Header) All(name string) []Field {
	var found []Field
	for _, f := range h {
		if f.Is(name) {
			found = append(found, f)
		}
	}
	return found
}

// ReadHeader reads the header of a message and the empty line after it; r then stands at
// the body. A message may end with its header. Lines may end with CRLF or with LF alone;
// a CR elsewhere is an octet like any other.
//
// A header over a limit ends in ErrHeaderTooLarge, a line that is neither a field nor a
// continuation in ErrHeaderMalformed: nobody judges half a header.
func ReadHeader(r *bufio.Reader) (Header, error) {
	var (
		text   strings.Builder
		starts []int // where each field begins in text
	)
	for {
		line, err := readHeaderLine(r, MaxHeader-text.Len())
		if err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		if line[0] != ' ' && line[0] != '\t' {
			starts = append(starts, text.Len())
		} else if len(starts) == 0 {
			return nil, fmt.Errorf("%w: it begins with a continuation line", ErrHeaderMalformed)
		}
		text.WriteString(line)
		switch {
		case len(starts) > MaxHeaderFields:
			return nil, fmt.Errorf("%w: more than %d fields", ErrHeaderTooLarge, MaxHeaderFields)
		case text.Len()-starts[len(starts)-1] > MaxHeaderField:
			return nil, fmt.Errorf("%w: a field of more than %d octets", ErrHeaderTooLarge, MaxHeaderField)
		}
	}
	return parseFields(text.String(), starts)
}

// readHeaderLine gives the next line with CRLF at its end, or "" for the empty line and for
// the end of the message. The line has at most room octets.
func readHeaderLine(r *bufio.Reader, room int) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > room {
			return "", fmt.Errorf("%w: more than %d octets", ErrHeaderTooLarge, MaxHeader)
		}
		if line == nil && err == nil {
			line = part // in r's buffer, which is not read from again before the line is copied
		} else {
			line = append(line, part...)
		}
		switch {
		case err == nil || err == io.EOF && len(line) > 0:
			text := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
			switch {
			case len(text) == 0:
				return "", nil
			case bytes.HasSuffix(line, []byte("\r\n")):
				return string(line), nil
			}
			return string(text) + "\r\n", nil
		case err == io.EOF:
			return "", nil
		case err != bufio.ErrBufferFull:
			return "", fmt.Errorf("read the message header: %w", err)
		}
	}
}

func parseFields(text string, starts []int) (Header, error) {
	h := make(Header, len(starts))
	for i, start := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		raw := text[start:end]
		name, _, ok := strings.Cut(raw, ":")
		// White space before the colon is obsolete and still to be read (RFC 5322 §4.5).
		name = strings.TrimRight(name, " \t")
		switch known := ok && isFieldName(name); {
		case !known && start == 0 && strings.HasPrefix(raw, "From "):
			return nil, fmt.Errorf("%w: it begins with the line of an mbox file, which is no field: %q", ErrHeaderMalformed, excerpt(raw))
		case !known:
			return nil, fmt.Errorf("%w: expected a field, got %q", ErrHeaderMalformed, excerpt(raw))
		}
		h[i] = Field{name, raw}
	}
	return h, nil
}

// isFieldName: printable ASCII (RFC 5322 §2.2).
func isFieldName(s string) bool { return s != "" && isPrintable(s) }

// excerpt cuts what goes into an error.
func excerpt(s string) string {
	const most = 60
	if s = strings.TrimRight(s, "\r\n"); len(s) > most {
		return s[:most] + "…"
	}
	return s
}
