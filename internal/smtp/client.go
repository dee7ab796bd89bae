package smtp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"mxward/internal/mail"
)

// ClientConfig is how a Client introduces itself and what it knows of the host.
type ClientConfig struct {
	Hello    string      // the name in EHLO, HELO or LHLO
	Host     string      // who Outcomes say it was: "mx.example.com [192.0.2.1]:25"
	LMTP     bool        // RFC 2033: LHLO, and a reply for each recipient after the dot
	TLS      *tls.Config // nil: STARTTLS is never said; else where it is offered
	Timeouts Timeouts    // zero: RFC 5321 §4.5.3.2
}

// Error is why a connection could not be made use of.
type Error struct {
	Stage mail.Stage
	Reply mail.Reply // what the host said; zero where it said nothing
	Err   error      // what went wrong; nil where the reply says it all
}

// Error is the error interface.
func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return fmt.Sprintf("%s: the host said %s", e.Stage, e.Reply)
	case e.Reply.Code == 0:
		return fmt.Sprintf("%s: %v", e.Stage, e.Err)
	}
	return fmt.Sprintf("%s: %v: the host said %s", e.Stage, e.Err, e.Reply)
}

// Unwrap gives Err.
func (e *Error) Unwrap() error { return e.Err }

// Errors of the client.
var (
	// ErrProtocol is the class of errors about a host that does not speak SMTP well.
	ErrProtocol = errors.New("protocol error")
)

// Client is a connection to a mail host, greeted and ready for messages. It is used by one
// goroutine at a time.
type Client struct {
	cfg        ClientConfig
	conn       net.Conn
	replies    *bufio.Reader
	extensions map[string]string
	tls        *tls.ConnectionState

	ctx     context.Context // of the call under way
	broken  bool            // nothing may be said any more
	open    bool            // a transaction may be open there: RSET is due
	scratch []byte          // the first octets of a body
	writer  *bufio.Writer   // of bodies
}

// Handshake takes a new connection through greeting, EHLO (HELO where the host knows no
// EHLO, RFC 5321 §3.2), STARTTLS and EHLO again. The error is an *Error; conn is closed
// then. Once ctx ends, so does the waiting.
func Handshake(ctx context.Context, conn net.Conn, cfg ClientConfig) (*Client, error) {
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	c := &Client{cfg: cfg, conn: conn, replies: bufio.NewReaderSize(conn, maxPeerLine)}
	defer c.during(ctx)()
	err := c.introduce()
	if err == nil && cfg.TLS != nil {
		if _, offered := c.Extension("STARTTLS"); offered {
			err = c.startTLS(ctx)
		}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// during makes the end of ctx the end of every wait until the function that it gives is
// called.
func (c *Client) during(ctx context.Context) (done func()) {
	c.ctx = ctx
	conn := c.conn
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = conn.SetDeadline(longAgo())
	})
	return func() {
		if !stop() {
			<-ended // or it would cut the next call short
		}
	}
}

// patience sets how long a read or a write may take. It looks at ctx afterwards, so that a
// deadline set here never outlives one that the end of ctx has set.
func (c *Client) patience(set func(time.Time) error, d time.Duration) {
	_ = set(time.Now().Add(d))
	if c.ctx.Err() != nil {
		_ = set(longAgo())
	}
}

// because gives the end of ctx as the reason where it is.
func (c *Client) because(err error) error {
	if cause := context.Cause(c.ctx); cause != nil {
		return cause
	}
	return err
}

func (c *Client) introduce() error {
	r, err := c.reply(c.cfg.Timeouts.Greeting)
	if err != nil || r.Code != 220 {
		return c.failed(mail.StageGreeting, r, err)
	}
	return c.sayHello()
}

// failed makes the Error of a stage; a positive reply there is out of place.
func (c *Client) failed(stage mail.Stage, r mail.Reply, err error) error {
	if err == nil && !r.Temporary() && !r.Permanent() {
		err = fmt.Errorf("%w: the reply %d is out of place", ErrProtocol, r.Code)
	}
	return &Error{stage, r, err}
}

func (c *Client) sayHello() error {
	word := "EHLO"
	if c.cfg.LMTP {
		word = "LHLO" // RFC 2033 §4.1
	}
	text, err := c.exchange(word + " " + c.cfg.Hello)
	if err != nil {
		return c.failed(mail.StageHello, mail.Reply{}, err)
	}
	if text.code/100 == 5 && !c.cfg.LMTP {
		// RFC 5321 §3.2 names 500 and 502; hosts say 501, 504 and 550, too.
		if text, err = c.exchange("HELO " + c.cfg.Hello); err != nil {
			return c.failed(mail.StageHello, mail.Reply{}, err)
		}
		text.lines = text.lines[:1] // what follows a HELO's reply is no extension
	}
	if text.code != 250 {
		return c.failed(mail.StageHello, text.reply(), nil)
	}
	c.extensions = map[string]string{}
	for _, line := range text.lines[1:] {
		keyword, params, _ := strings.Cut(line, " ")
		c.extensions[strings.ToUpper(keyword)] = params
	}
	return nil
}

// exchange says one command and reads its reply.
func (c *Client) exchange(command string) (rawReply, error) {
	if err := c.write([]byte(command + "\r\n")); err != nil {
		return rawReply{}, err
	}
	return c.rawReply(c.cfg.Timeouts.Command)
}

func (c *Client) write(p []byte) error {
	c.patience(c.conn.SetWriteDeadline, c.cfg.Timeouts.Block)
	if _, err := c.conn.Write(p); err != nil {
		return c.because(err)
	}
	return nil
}

// startTLS: RFC 3207.
func (c *Client) startTLS(ctx context.Context) error {
	text, err := c.exchange("STARTTLS")
	if err != nil || text.code != 220 {
		return c.failed(mail.StageStartTLS, text.reply(), err)
	}
	if c.replies.Buffered() > 0 {
		// Whoever wrote this before the handshake wants it read as if it came under TLS.
		err := fmt.Errorf("%w: the host went on in plain text after STARTTLS", ErrProtocol)
		return c.failed(mail.StageStartTLS, mail.Reply{}, err)
	}
	secured := tls.Client(c.conn, c.cfg.TLS)
	c.patience(c.conn.SetDeadline, c.cfg.Timeouts.TLS)
	if err := secured.HandshakeContext(ctx); err != nil {
		return c.failed(mail.StageStartTLS, mail.Reply{}, fmt.Errorf("tls handshake: %w", c.because(err)))
	}
	state := secured.ConnectionState()
	c.tls = &state
	c.conn = secured
	c.replies.Reset(secured)
	return c.sayHello() // what was offered before is void (RFC 3207 §4.2)
}

// Extension tells whether the host offers an extension, and with which parameters.
func (c *Client) Extension(name string) (params string, ok bool) {
	params, ok = c.extensions[strings.ToUpper(name)]
	return params, ok
}

// TLSState tells of the connection's TLS; false where there is none.
func (c *Client) TLSState() (tls.ConnectionState, bool) {
	if c.tls == nil {
		return tls.ConnectionState{}, false
	}
	return *c.tls, true
}

// Usable reports whether another Send may follow.
func (c *Client) Usable() bool { return !c.broken }

// Close says QUIT, where something can still be said, waits a moment for the reply and
// closes the connection. The message's fate is known by then, so only the closing itself
// can be an error.
func (c *Client) Close() error {
	if !c.broken {
		c.broken = true
		ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Timeouts.Quit)
		defer cancel()
		defer c.during(ctx)()
		if err := c.write([]byte("QUIT\r\n")); err == nil {
			_, _ = c.reply(c.cfg.Timeouts.Quit)
		}
	}
	return c.conn.Close()
}
