package smtp

import (
	"bufio"
	"bytes"
)

// stuffer writes a message as DATA wants it: lines end in CRLF, a dot at the start of a line
// is doubled (RFC 5321 §4.5.2). A bare CR or LF becomes CRLF: passed on as it is, it could
// end the message at a host that takes "\n.\n" for the end, and let what follows pass for
// commands.
type stuffer struct {
	w         *bufio.Writer
	lineStart bool
	cr        bool // a CR is held back until the next octet is seen
}

func newStuffer(w *bufio.Writer) *stuffer { return &stuffer{w: w, lineStart: true} }

func (s *stuffer) newline() {
	s.w.WriteString("\r\n") // the Writer keeps its error for Flush
	s.lineStart, s.cr = true, false
}

func (s *stuffer) text(p []byte) {
	if len(p) == 0 {
		return
	}
	if s.lineStart && p[0] == '.' {
		s.w.WriteByte('.')
	}
	s.w.Write(p)
	s.lineStart = false
}

// Write takes the next octets of the message.
func (s *stuffer) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if s.cr {
			s.newline()
			if p[0] == '\n' {
				p = p[1:]
			}
			continue
		}
		lf := bytes.IndexByte(p, '\n')
		line := p
		if lf >= 0 {
			line = p[:lf]
		}
		switch cr := bytes.IndexByte(line, '\r'); {
		case cr >= 0:
			s.text(p[:cr])
			s.cr = true
			p = p[cr+1:]
			if len(p) > 0 && p[0] == '\n' {
				s.newline()
				p = p[1:]
			}
		case lf >= 0:
			s.text(line)
			s.newline()
			p = p[lf+1:]
		default:
			s.text(p)
			p = nil
		}
	}
	_, err := s.w.Write(nil) // gives the Writer's error
	return total, err
}

// end completes the last line, says that the message is over and sends everything.
func (s *stuffer) end() error {
	if s.cr || !s.lineStart {
		s.newline()
	}
	s.w.WriteString(".\r\n")
	return s.w.Flush()
}

// isCanonical reports whether p consists of whole lines that end in CRLF, with no other CR
// or LF.
func isCanonical(p []byte) bool {
	for len(p) > 0 {
		lf := bytes.IndexByte(p, '\n')
		if lf < 1 || bytes.IndexByte(p[:lf], '\r') != lf-1 {
			return false
		}
		p = p[lf+1:]
	}
	return true
}
