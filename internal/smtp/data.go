package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"mxward/internal/mail"
)

// source gives the octets of a message, run by run.
type source interface {
	// begin is called before the first run is read.
	begin()
	// next gives the next octets, which lie in the connection's buffer and are valid until
	// the next call, and io.EOF after the last. A bare CR or LF sets *bare and nothing
	// else: the message goes on to its true end.
	next(bare *bool) ([]byte, error)
}

// body is a message as the Session reads it.
type body struct {
	c    *conn
	src  source
	rest []byte // given by src and not yet by Read
	size int64
	bare bool
	read bool  // somebody has asked for the first octet
	err  error // sticky, what the Session was told
	end  error // sticky, what src said: io.EOF, or why the client was lost
}

// run gives the next octets, within the limits.
func (b *body) run() ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	p, err := b.step()
	if err == nil {
		return p, nil
	}
	b.err = err
	return nil, err
}

// step goes on in the message, whatever the Session was told of it.
func (b *body) step() ([]byte, error) {
	if b.end != nil {
		return nil, b.end
	}
	if !b.read {
		b.read = true
		b.src.begin()
	}
	p, err := b.src.next(&b.bare)
	b.size += int64(len(p))
	switch {
	case err != nil && err != io.EOF:
		b.end = err
	case b.bare:
		b.end, err = b.keep(err), ErrBareLine
	case b.size > b.c.srv.limits.size:
		b.end, err = b.keep(err), ErrTooLarge
	default:
		b.end = err
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// keep is the end of the source, if it has come.
func (b *body) keep(err error) error {
	if err == io.EOF {
		return io.EOF
	}
	return nil
}

// Read is io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(b.rest) == 0 {
		run, err := b.run()
		if err != nil {
			return 0, err
		}
		b.rest = run
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// WriteTo is io.WriterTo: the octets go from the connection's buffer to w.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		run := b.rest
		b.rest = nil
		if len(run) == 0 {
			var err error
			if run, err = b.run(); err != nil {
				if err == io.EOF {
					err = nil
				}
				return total, err
			}
		}
		n, err := w.Write(run)
		total += int64(n)
		if err != nil {
			return total, fmt.Errorf("keep the message: %w", err)
		}
	}
}

// drain reads on to the true end of the message and keeps nothing of it: what is left must
// never be taken for commands. It gives what is wrong with the message, or why the client
// was lost.
func (b *body) drain() (fault, lost error) {
	b.rest = nil
	for {
		_, err := b.step()
		switch {
		case err == nil:
		case errors.Is(err, ErrBareLine), errors.Is(err, ErrTooLarge):
			if fault == nil {
				fault = err
			}
		case err == io.EOF:
			return fault, nil
		}
		if b.end == io.EOF {
			return fault, nil
		}
		if b.end != nil {
			return fault, b.end
		}
	}
}

// beginMessage sets the time-outs of a message (RFC 5321 §4.5.3.2.5).
func (c *conn) beginMessage() {
	c.wait = c.srv.limits.Block
	if end := time.Now().Add(c.srv.limits.Message); end.Before(c.until) {
		c.until = end
	}
	c.grow()
}

func (c *conn) endMessage() {
	c.wait = c.srv.limits.Command
	c.until = c.info.Began.Add(c.srv.limits.Session)
}

func (c *conn) cmdData(args []byte) {
	switch {
	case len(args) > 0:
		c.fault(mail.NewReply(501, 5, 4, "DATA takes no argument"))
		return
	case !c.inMail:
		c.fault(mail.NewReply(503, 5, 1, "say MAIL first"))
		return
	case c.accepted == 0:
		c.fault(mail.NewReply(554, 5, 1, "no valid recipients")) // RFC 5321 §3.3
		return
	}
	c.beginMessage()
	defer c.endMessage()
	c.reach(mail.StageData)
	b := &body{c: c, src: &dots{c: c, lineStart: true}}
	r := fitting(c.session.Data(c.ctx, b))
	if !b.read && !r.Positive() {
		c.doneMessage(r, nil) // instead of the 354
		return
	}
	told := b.err
	fault, lost := b.drain()
	if lost != nil {
		c.lost("read a message", lost)
		c.closing = true
		return
	}
	if fault == nil && told != io.EOF {
		fault = told
	}
	c.reach(mail.StageDot)
	fault = blame(told, fault, r)
	c.doneMessage(r, fault)
	// What follows a message with a bare CR or LF may be commands for us and still the same
	// message for whoever handed it to this client: nothing more is read. The chunks of BDAT
	// have lengths, and leave no doubt.
	c.closing = c.closing || errors.Is(fault, ErrBareLine)
}

// blame chooses between what is wrong with the message and the Session's reply: a fault
// that the Session was told of makes its reply void, and one that it did not read as far as
// makes a positive reply void.
func blame(told, fault error, r mail.Reply) error {
	if errors.Is(told, ErrBareLine) || errors.Is(told, ErrTooLarge) {
		return told
	}
	if r.Positive() {
		return fault
	}
	return nil
}

// doneMessage gives the last reply of a transaction.
func (c *conn) doneMessage(r mail.Reply, fault error) {
	c.reset()
	c.refused = 0
	switch {
	case errors.Is(fault, ErrBareLine):
		c.end.BareLine = true
		c.junk++
		c.refuse(mail.NewReply(550, 6, 0, "a bare CR or LF in the message; lines end in CRLF (RFC 5321 section 2.3.8)"))
	case errors.Is(fault, ErrTooLarge):
		c.junk++
		c.refuse(mail.NewReply(552, 3, 4, "the message is too large")) // RFC 1870 §6.3
	default:
		if c.answer(r).Positive() {
			c.junk = 0
		} else {
			c.junk++
		}
	}
}

// dots reads a message that DATA announced: dots are unstuffed (RFC 5321 §4.5.2), and only
// CRLF "." CRLF ends it (RFC 5321 §4.1.1.4). A bare CR or LF is no part of that: servers
// that took "\n.\n" and its like for the end let one message hide another.
type dots struct {
	c         *conn
	lineStart bool // the last octets were CRLF, or there were none
	cr        bool // the last octet was a CR
}

func (d *dots) begin() {
	d.c.say(mail.Reply{Code: 354, Text: "go ahead; end with <CRLF>.<CRLF>"})
}

func (d *dots) next(bare *bool) ([]byte, error) {
	for {
		if len(d.c.unread()) == 0 {
			if err := d.c.fill(); err != nil {
				return nil, err
			}
		}
		if !d.lineStart || d.c.buf[d.c.r] != '.' {
			return d.lines(bare), nil
		}
		ends, err := d.dot()
		if err != nil {
			return nil, err
		}
		if ends {
			return nil, io.EOF
		}
	}
}

// dot takes the dot at the start of a line, and the line's end where nothing follows the
// dot: then the message ends.
func (d *dots) dot() (ends bool, err error) {
	c := d.c
	for {
		line := c.unread()
		switch {
		case len(line) >= 3 && line[1] == '\r' && line[2] == '\n':
			c.r += 3
			return true, nil
		case len(line) >= 3, len(line) == 2 && line[1] != '\r':
			c.r++
			d.lineStart = false
			return false, nil
		}
		if err := c.fill(); err != nil {
			return false, err
		}
	}
}

// lines gives the buffered octets up to the next line that starts with a dot.
func (d *dots) lines(bare *bool) []byte {
	chunk := d.c.unread()
	n := 0
	for n < len(chunk) && !(d.lineStart && chunk[n] == '.') {
		n += d.line(chunk[n:], bare)
	}
	d.c.r += n
	return chunk[:n]
}

// line looks at one line, or at what has come of it, and gives its length.
func (d *dots) line(p []byte, bare *bool) int {
	end := bytes.IndexByte(p, '\n')
	text := p // without the LF
	if end >= 0 {
		text = p[:end]
	}
	if d.cr && len(text) > 0 {
		*bare = true // the CR before this was followed by something else than LF
		d.cr = false
	}
	// A CR is fine as the last octet only.
	if i := bytes.IndexByte(text, '\r'); i >= 0 {
		if i < len(text)-1 {
			*bare = true
		}
		d.cr = text[len(text)-1] == '\r'
	}
	if end < 0 {
		d.lineStart = false
		return len(p)
	}
	d.lineStart = d.cr
	if !d.cr {
		*bare = true
	}
	d.cr = false
	return end + 1
}
