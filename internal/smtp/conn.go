package smtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"mxward/internal/mail"
)

// conn is one connection of a Server.
type conn struct {
	srv     *Server
	raw     net.Conn // never the TLS connection
	info    Conn
	ctx     context.Context
	session Session
	wire

	mu   sync.Mutex // of idle and of the read deadline
	idle bool       // the last read was for a command outside of a transaction

	pace    time.Duration
	soft    bool
	greeted bool
	hello   Hello
	helloed bool

	inMail   bool // MAIL was accepted
	env      mail.Envelope
	accepted int // recipients of this transaction

	errors  int // see the limits of the same names
	junk    int
	refused int

	word, args string // of the command under way; args for MAIL and RCPT only
	refusal    refusal

	closing  bool
	panicked bool
	end      End
}

// refusal is the first negative reply of the Server's own in a connection: the Session never
// hears of it, and somebody will ask why the mail did not get through.
type refusal struct {
	command string
	reply   mail.Reply
	more    int
}

// serve is the whole life of a connection.
func (c *conn) serve() {
	ctx, cancel := context.WithCancel(c.srv.base)
	defer cancel()
	c.ctx = ctx
	c.end.Stage = mail.StageConnect
	c.wait = c.srv.limits.Command
	c.until = c.info.Began.Add(c.srv.limits.Session)
	c.guard(c.converse)
	if c.panicked {
		c.guard(func() { c.lastWord(mail.NewReply(421, 3, 0, "internal error, try again later")) })
	}
	c.guard(c.close)
	c.guard(c.finish)
}

// guard is where a panic of this package or of a Session ends: it costs one connection.
func (c *conn) guard(f func()) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		c.srv.panics.Add(1)
		c.panicked = true
		c.end.Err = fmt.Errorf("panic: %v", v)
		c.logPanic(v, debug.Stack())
	}()
	f()
}

func (c *conn) finish() {
	if c.big != nil {
		c.srv.buffers.Put(c.big)
		c.big = nil
	}
	c.end.Took = time.Since(c.info.Began)
	c.logEnd()
	if c.session != nil {
		c.session.End(c.end)
	}
}

func (c *conn) close() {
	if c.closing && !c.end.Quit && !c.srv.draining.Load() {
		c.linger()
	}
	c.conn.Close()
}

// converse greets and obeys until one side ends it.
func (c *conn) converse() {
	if !c.greet() {
		return
	}
	for !c.closing {
		if !c.inMail && c.srv.draining.Load() {
			c.end.Err = ErrServerClosed
			c.lastWord(replyShutdown())
			return
		}
		line, err := c.readLine()
		c.word, c.args = "", ""
		switch {
		case err == nil:
			c.command(line)
		case errors.Is(err, errLineTooLong):
			c.fault(mail.NewReply(500, 5, 2, "line too long")) // RFC 5321 §4.5.3.1.4
		case errors.Is(err, errBareCommand):
			c.fault(mail.NewReply(500, 5, 2, "a bare CR or LF ends no line; send CRLF"))
		default:
			c.lost("wait for a command", err)
			return
		}
	}
	if err := c.flush(); err != nil && c.end.Err == nil && !c.end.Quit {
		c.end.Err = fmt.Errorf("send a reply: %w", err)
	}
}

// greet begins the Session and says the first word (RFC 5321 §4.3.1).
func (c *conn) greet() bool {
	session, g := c.srv.Handler.NewSession(c.ctx, c.info)
	c.session, c.pace, c.soft = session, g.Pace, g.Soft
	c.noteEarlyTalk()
	if !g.Reply.Positive() {
		c.refuseGreeting(g.Reply)
		return false
	}
	text := c.srv.Hostname + " ESMTP"
	if g.Reply.Text != "" {
		text += " " + g.Reply.Text
	}
	c.say(mail.Reply{Code: 220, Text: text})
	if err := c.flush(); err != nil {
		c.end.Err = fmt.Errorf("greet: %w", err)
		return false
	}
	c.greeted = true
	return true
}

func (c *conn) refuseGreeting(r mail.Reply) {
	if r.Code < 400 || r.Code > 599 {
		r = mail.NewReply(421, 3, 0, "local error, try again later")
	}
	c.end.Err = fmt.Errorf("refused with %d", r.Code)
	c.say(r)
	_ = c.flush() // refused either way
	c.closing = true
}

// lost notes why nothing more can be read, and says so where somebody may be listening.
func (c *conn) lost(doing string, err error) {
	c.end.Err = fmt.Errorf("%s: %w", doing, err)
	switch {
	case errors.Is(err, errFlood):
		c.lastWord(mail.NewReply(421, 5, 2, "line too long, closing"))
	case errors.Is(err, os.ErrDeadlineExceeded) && c.srv.draining.Load() && !c.inMail:
		c.end.Err = ErrServerClosed
		c.lastWord(replyShutdown())
	case errors.Is(err, os.ErrDeadlineExceeded):
		text := "timed out, closing"
		if c.end.BareLine {
			text = "timed out, closing; a line ends in CRLF, not in LF"
		}
		c.lastWord(mail.NewReply(421, 4, 2, text)) // RFC 5321 §3.8
	}
}

// lastWord says a reply without any pauses and ends the connection.
func (c *conn) lastWord(r mail.Reply) {
	c.closing = true
	c.pace = 0
	c.out = appendReply(c.out, r)
	_ = c.raw.SetWriteDeadline(time.Now().Add(refusalWait))
	_, _ = c.conn.Write(c.out) // there is nobody left to tell of an error
	c.out = nil
}

// say queues a reply; it is sent before the next read that waits.
func (c *conn) say(r mail.Reply) {
	c.out = appendReply(c.out, r)
	if r.Code == 421 {
		c.closing = true
	}
	if len(c.out) < maxPending && c.pace == 0 {
		return
	}
	if err := c.flush(); err != nil {
		c.closing = true
		if c.end.Err == nil {
			c.end.Err = fmt.Errorf("send a reply: %w", err)
		}
	}
}

// answer says what the Session answered.
func (c *conn) answer(r mail.Reply) mail.Reply {
	r = fitting(r)
	if r.Code == 421 && c.end.Err == nil {
		c.end.Err = errors.New("closed by the session with 421")
	}
	c.say(r)
	return r
}

// refuse says a negative reply of the Server's own.
func (c *conn) refuse(r mail.Reply) {
	if c.soft {
		r = softened(r)
	}
	if c.refusal.reply.Code == 0 {
		c.refusal.command, c.refusal.reply = strings.TrimSpace(c.word+" "+c.args), r
	} else {
		c.refusal.more++
	}
	c.say(r)
}

// fault is refuse for what a decent client does not do.
func (c *conn) fault(r mail.Reply) {
	if c.errors++; c.errors > maxErrors {
		c.giveUp("too many errors")
		return
	}
	c.refuse(r)
}

// idleCommand counts a command that brings no message nearer; it reports false where it was
// one too many and has been answered.
func (c *conn) idleCommand() bool {
	if c.junk++; c.junk > maxJunk {
		c.giveUp("too many commands without a message")
		return false
	}
	return true
}

func (c *conn) giveUp(why string) {
	if c.end.Err == nil {
		c.end.Err = errors.New(why)
	}
	c.say(mail.NewReply(421, 7, 0, why+", closing"))
}

// stageOrder puts the stages of an End in their order.
func stageOrder(s mail.Stage) int {
	switch s {
	case mail.StageHello:
		return 1
	case mail.StageMail:
		return 2
	case mail.StageRcpt:
		return 3
	case mail.StageData:
		return 4
	case mail.StageDot:
		return 5
	}
	return 0
}

func (c *conn) reach(s mail.Stage) {
	if stageOrder(s) > stageOrder(c.end.Stage) {
		c.end.Stage = s
	}
}

// reset gives the transaction up (RFC 5321 §4.1.1.5).
func (c *conn) reset() {
	c.inMail = false
	c.env = mail.Envelope{}
	c.accepted = 0
}

// sayHello answers a HELO or EHLO that the Session welcomed (RFC 5321 §4.1.1.1).
func (c *conn) sayHello(extended bool, text string) {
	first := c.srv.Hostname
	if text != "" {
		first += " " + text
	}
	if extended {
		first += "\nPIPELINING\nSIZE " + strconv.FormatInt(c.srv.limits.size, 10) + "\n8BITMIME\nSMTPUTF8"
		if c.srv.TLS != nil && c.hello.TLS == nil {
			first += "\nSTARTTLS"
		}
		first += "\nENHANCEDSTATUSCODES\nCHUNKING\nDSN"
	}
	c.say(mail.Reply{Code: 250, Text: first})
}
