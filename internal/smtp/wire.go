package smtp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// Errors of readLine that the client is told of and that do not end the connection.
var (
	errLineTooLong = errors.New("command line too long")
	errBareCommand = errors.New("command line has a bare CR or LF")
	errFlood       = errors.New("one command line without an end")
)

// wire is the server's end of a connection: what was received and not read, and what was
// said and not sent.
type wire struct {
	conn  net.Conn // the TLS connection after STARTTLS
	buf   []byte   // buf[r:w] is unread
	r, w  int
	small []byte  // the buffer between messages
	big   *[]byte // the buffer of a message, from the pool
	out   []byte

	wait  time.Duration // for the next octet
	until time.Time     // whatever comes
}

// unread gives what is in the buffer, valid until the next fill.
func (c *conn) unread() []byte { return c.buf[c.r:c.w] }

// fill reads more, after what was said has been sent: the client may be waiting for it
// (RFC 2920 §3.2).
func (c *conn) fill() error {
	if err := c.flush(); err != nil {
		return err
	}
	c.makeRoom()
	if c.w == len(c.buf) {
		return io.ErrShortBuffer
	}
	c.arm(c.wait)
	for range 10 {
		n, err := c.conn.Read(c.buf[c.w:])
		c.w += n
		switch {
		case n > 0:
			return nil
		case errors.Is(err, io.EOF):
			// Never io.EOF: to whoever reads a message that would mean that it is whole. Nor
			// io.ErrUnexpectedEOF, which io.ReadFull makes of the end of a whole message.
			return ErrLost
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

func (c *conn) makeRoom() {
	if c.buf == nil {
		c.small = make([]byte, maxCommandLine)
		c.buf = c.small
	}
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
}

// grow takes a big buffer for the length of a message.
func (c *conn) grow() {
	if c.big != nil {
		return
	}
	c.makeRoom()
	c.big = c.srv.buffers.Get().(*[]byte)
	c.w = copy(*c.big, c.buf[:c.w])
	c.buf = *c.big
}

// shrink gives the big buffer back, once what is unread fits into the small one.
func (c *conn) shrink() {
	if c.big == nil || c.w-c.r > len(c.small) {
		return
	}
	c.w = copy(c.small, c.buf[c.r:c.w])
	c.r = 0
	c.buf = c.small
	c.srv.buffers.Put(c.big)
	c.big = nil
}

// arm sets the time at which a read gives up. While no transaction is open and the server
// is shutting down that is now.
func (c *conn) arm(wait time.Duration) {
	at := time.Now().Add(wait)
	if at.After(c.until) {
		at = c.until
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = !c.inMail
	if c.idle && c.srv.draining.Load() {
		at = longAgo()
	}
	_ = c.raw.SetReadDeadline(at)
}

// wake ends the wait for a command. It is called by Shutdown.
func (c *conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle {
		_ = c.raw.SetReadDeadline(longAgo())
	}
}

func longAgo() time.Time { return time.Unix(1, 0) }

// readLine gives the next command line without its CRLF, valid until the next fill. CRLF
// ends a line and nothing else does (RFC 5321 §2.3.8): a line with a bare CR or LF in it is
// read to its true end and is errBareCommand as a whole.
func (c *conn) readLine() ([]byte, error) {
	seen, thrown := 0, 0
	for {
		chunk := c.unread()
		if i := bytes.Index(chunk[seen:], crlf()); i >= 0 {
			line := chunk[:seen+i]
			c.r += len(line) + 2
			return line, c.judgeLine(line, thrown)
		}
		seen = max(0, len(chunk)-1)
		if len(chunk) >= maxCommandLine {
			// The last octet stays: it may be the CR of the CRLF.
			c.noteBare(chunk[:seen])
			thrown += seen
			c.r += seen
			seen = 0
			if thrown > maxOverlong {
				return nil, errFlood
			}
		}
		c.shrink()
		if err := c.fill(); err != nil {
			if rest := c.unread(); len(rest) > 0 {
				c.noteBare(rest[:len(rest)-1])
				c.noteBare(bytes.TrimSuffix(rest[len(rest)-1:], []byte{'\r'})) // a CR may yet have got its LF
			}
			return nil, err
		}
	}
}

func (c *conn) judgeLine(line []byte, thrown int) error {
	if c.noteBare(line) {
		return errBareCommand
	}
	if thrown+len(line)+2 > maxCommandLine {
		return errLineTooLong
	}
	return nil
}

// noteBare looks for a CR or LF in a line that has no CRLF.
func (c *conn) noteBare(line []byte) bool {
	if bytes.IndexByte(line, '\n') < 0 && bytes.IndexByte(line, '\r') < 0 {
		return false
	}
	c.end.BareLine = true
	return true
}

// flush sends what was said.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	out := c.out
	c.out = c.out[:0]
	if cap(out) > 2*maxPending {
		c.out = nil
	}
	if c.pace > 0 && !c.srv.draining.Load() {
		rest, err := c.drip(out)
		if err != nil {
			return err
		}
		out = rest
	}
	if len(out) == 0 {
		return nil
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(c.srv.limits.Command))
	_, err := c.conn.Write(out)
	return err
}

// drip sends octet by octet, each after a pause, and gives the rest once that has taken as
// long as it may.
func (c *conn) drip(out []byte) ([]byte, error) {
	end := time.Now().Add(maxPacedReply)
	for i := range out {
		if !time.Now().Add(c.pace).Before(end) || c.srv.draining.Load() {
			return out[i:], nil
		}
		if err := c.pause(c.pace); err != nil {
			return nil, err
		}
		_ = c.raw.SetWriteDeadline(time.Now().Add(c.srv.limits.Command))
		if _, err := c.conn.Write(out[i : i+1]); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// pause waits by reading, so that a client that talks too early or goes away is noticed.
func (c *conn) pause(d time.Duration) error {
	end := time.Now().Add(d)
	c.makeRoom()
	for c.w < len(c.buf) {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		c.arm(left)
		n, err := c.conn.Read(c.buf[c.w:])
		c.w += n
		if n > 0 && !c.greeted {
			c.end.EarlyTalk = true
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil // the pause is over, or a shutdown or the session's end cut it short
		default:
			return err
		}
	}
	timer := time.NewTimer(time.Until(end))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
	}
	return nil
}

// noteEarlyTalk tells whether the client has spoken before it was greeted (RFC 5321 §3.1:
// it has to wait).
func (c *conn) noteEarlyTalk() {
	if waiting, asked := peek(c.raw); asked {
		c.end.EarlyTalk = c.end.EarlyTalk || waiting
		return
	}
	c.makeRoom()
	c.arm(earlyWait)
	n, _ := c.conn.Read(c.buf[c.w:]) // what is wrong with the connection will show again
	c.w += n
	c.end.EarlyTalk = c.end.EarlyTalk || n > 0
}

// linger lets the client read our last words: closing while there is something unread makes
// the kernel send a reset, which throws them away.
func (c *conn) linger() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.raw.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.raw, lingerOctets)
}

func crlf() []byte { return []byte("\r\n") }
