package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"mxward/internal/mail"
)

// chunk is the argument of a BDAT (RFC 3030 §2).
type chunk struct {
	size int64
	last bool
}

func parseChunk(s string) (chunk, error) {
	size, mark, more := strings.Cut(s, " ")
	n, err := parseSize(size)
	if err != nil {
		return chunk{}, err
	}
	if more && !strings.EqualFold(strings.TrimLeft(mark, " "), "LAST") {
		return chunk{}, fmt.Errorf("expected LAST, got %q", mark)
	}
	return chunk{n, more}, nil
}

// chunks reads a message that comes in BDAT chunks. Between two chunks it reads the next
// command itself: the Session sees one stream.
type chunks struct {
	c       *conn
	left    int64 // of the chunk
	last    bool  // the chunk is the last
	size    int64 // announced so far
	cr      bool  // the last octet was a CR
	lf      bool  // the last octets were CRLF
	any     bool  // there were octets
	closed  bool  // the CRLF that the last line lacked was given
	pending []byte
}

func (s *chunks) begin() {}

func (s *chunks) next(bare *bool) ([]byte, error) {
	c := s.c
	for s.left == 0 {
		if s.last {
			return s.closeLine(bare)
		}
		c.say(mail.NewReply(250, 0, 0, "chunk received"))
		if err := s.nextChunk(); err != nil {
			return nil, err
		}
	}
	if s.size > c.srv.limits.size {
		return nil, ErrTooLarge // known before it comes
	}
	if len(c.unread()) == 0 {
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
	p := c.unread()
	p = p[:min(int64(len(p)), s.left)]
	c.r += len(p)
	s.left -= int64(len(p))
	s.look(p, bare)
	return p, nil
}

// look checks the line ends.
func (s *chunks) look(p []byte, bare *bool) {
	s.any = true
	for len(p) > 0 {
		if s.cr {
			*bare = *bare || p[0] != '\n'
			s.cr = false
			if p[0] == '\n' {
				s.lf = true
				p = p[1:]
				continue
			}
		}
		i := bytes.IndexByte(p, '\r')
		text := p
		if i >= 0 {
			text = p[:i]
		}
		if bytes.IndexByte(text, '\n') >= 0 {
			*bare = true
		}
		if len(text) > 0 {
			s.lf = false
		}
		if i < 0 {
			return
		}
		s.cr, s.lf = true, false
		p = p[i+1:]
	}
}

// closeLine ends the last line, which BDAT need not do and DATA, our next hop's way
// perhaps, cannot leave undone.
func (s *chunks) closeLine(bare *bool) ([]byte, error) {
	if s.cr {
		*bare = true
	}
	if !s.any || s.lf || s.cr || s.closed {
		return nil, io.EOF
	}
	s.closed = true
	return crlf(), nil
}

// nextChunk obeys commands until one announces a chunk, or gives the message up: then that
// command is left in pending.
func (s *chunks) nextChunk() error {
	c := s.c
	for !c.closing {
		line, err := c.readLine()
		switch {
		case errors.Is(err, errLineTooLong), errors.Is(err, errBareCommand):
			c.fault(mail.NewReply(500, 5, 2, "malformed line"))
			continue
		case err != nil:
			return err
		}
		switch word, args := verb(line); word {
		case "BDAT":
			next, err := parseChunk(string(args))
			if err != nil {
				c.fault(mail.NewReply(501, 5, 4, "BDAT: "+err.Error()))
				continue
			}
			if next.size == 0 && !next.last && !c.idleCommand() {
				continue // it brings nothing nearer, and could come for ever
			}
			c.grow() // and so the line is void
			s.left, s.last = next.size, next.last
			s.size = saturated(s.size, next.size)
			return nil
		case "MAIL", "RCPT", "DATA":
			c.fault(mail.NewReply(503, 5, 1, "chunks of a message are under way")) // RFC 3030 §3
		case "NOOP", "VRFY", "HELP":
			c.command(line)
		default:
			s.pending = bytes.Clone(line)
			return ErrGivenUp
		}
	}
	return ErrGivenUp
}

func saturated(a, b int64) int64 {
	if a > 1<<62 || b > 1<<62 {
		return 1 << 62
	}
	return a + b
}

// skip throws the rest of the chunk away.
func (s *chunks) skip() error {
	for s.left > 0 {
		if len(s.c.unread()) == 0 {
			if err := s.c.fill(); err != nil {
				return err
			}
		}
		n := min(int64(len(s.c.unread())), s.left)
		s.c.r += int(n)
		s.left -= n
	}
	return nil
}

func (c *conn) cmdBdat(args string) {
	first, err := parseChunk(args)
	if err != nil {
		c.fault(mail.NewReply(501, 5, 4, "BDAT: "+err.Error()))
		return
	}
	c.beginMessage()
	defer c.endMessage()
	s := &chunks{c: c, left: first.size, last: first.last, size: first.size}
	if !c.inMail || c.accepted == 0 {
		// The chunk comes whether it is wanted or not (RFC 3030 §2).
		if err := s.skip(); err != nil {
			c.lostChunk(err)
			return
		}
		if !c.inMail {
			c.fault(mail.NewReply(503, 5, 1, "say MAIL first"))
		} else {
			c.fault(mail.NewReply(554, 5, 1, "no valid recipients"))
		}
		return
	}
	c.takeChunks(s)
}

func (c *conn) lostChunk(err error) {
	c.lost("read a chunk", err)
	c.closing = true
}

// takeChunks gives the chunks to the Session and answers the one that was last read.
func (c *conn) takeChunks(s *chunks) {
	c.reach(mail.StageData)
	b := &body{c: c, src: s}
	r := fitting(c.session.Data(c.ctx, b))
	told := b.err
	var fault, lost error
	if told == nil && r.Positive() {
		fault, lost = b.drainChunks()
	} else if told != nil && told != io.EOF {
		fault, lost = told, b.end
	}
	switch {
	case errors.Is(lost, ErrGivenUp):
		c.reset()
		c.junk++
		c.endMessage()
		if !c.closing {
			c.command(s.pending)
		}
		return
	case errors.Is(lost, ErrTooLarge):
		fault, lost = ErrTooLarge, nil
	case errors.Is(lost, io.EOF):
		lost = nil
	}
	if lost == nil {
		lost = s.skip()
	}
	if lost != nil {
		c.lostChunk(lost)
		return
	}
	if s.last {
		c.reach(mail.StageDot)
	}
	c.doneMessage(r, blame(told, fault, r))
}

// drainChunks reads on to the last chunk, or to what is wrong with the message.
func (b *body) drainChunks() (fault, lost error) {
	b.rest = nil
	for {
		_, err := b.step()
		switch {
		case err == nil:
		case errors.Is(err, ErrBareLine), errors.Is(err, ErrTooLarge):
			return err, nil
		case err == io.EOF:
			return nil, nil
		default:
			return nil, err
		}
	}
}
