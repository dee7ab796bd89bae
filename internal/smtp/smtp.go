// Package smtp is the wire of SMTP and LMTP, both ends: a Server that drives a Session, and
// a Client that reports one outcome for each recipient.
//
// Implemented: RFC 5321 (SMTP), RFC 2920 (PIPELINING), RFC 1870 (SIZE), RFC 6152
// (8BITMIME), RFC 6531 (SMTPUTF8), RFC 3207 (STARTTLS), RFC 2034 (ENHANCEDSTATUSCODES),
// RFC 3030 (CHUNKING), RFC 3461 (DSN parameters); as a client also RFC 2033 (LMTP).
// Not implemented: AUTH and submission, BINARYMIME, ETRN, EXPN, TURN; VRFY says 252.
//
// The package has no policy: who may send what to whom is the Session's word. A line ends
// in CRLF and in nothing else; a bare CR or LF never ends a line, a command or a message.
package smtp

import (
	"context"
	"crypto/tls"
	"io"
	"net/netip"
	"time"

	"mxward/internal/mail"
)

// Handler begins a Session for each connection that a Server accepts.
type Handler interface {
	// NewSession is called before anything is sent. With a Greeting whose Reply is not
	// positive the reply is sent, the connection is closed and the Session may be nil.
	// ctx lasts as long as the connection.
	NewSession(ctx context.Context, c Conn) (Session, Greeting)
}

// Refuser is a Handler that is told of the connections that the Server turns away by itself
// with 421: too many at once, too many of one client, or a server that is stopping. The
// client has knocked all the same. Refused must not wait; c has no ID.
type Refuser interface {
	Refused(c Conn)
}

// Session is the policy of one connection. Its methods are called one at a time, in the
// order in which the client's commands make sense: the Server refuses the others by
// itself (RFC 5321 §4.1.4). A reply of code 421 closes the connection after it is sent.
type Session interface {
	// Hello is called for each EHLO and HELO, and so again after STARTTLS.
	Hello(ctx context.Context, h Hello) mail.Reply
	// Mail begins a transaction; env has no recipients yet. It is also the only sign that
	// an earlier transaction was given up by RSET or a new EHLO.
	Mail(ctx context.Context, env mail.Envelope) mail.Reply
	// Rcpt adds a recipient. "<postmaster>" comes with no domain (RFC 5321 §4.5.1).
	Rcpt(ctx context.Context, r mail.Recipient) mail.Reply
	// Data takes the message: lines that end in CRLF, dots unstuffed, whether it came by
	// DATA or BDAT. The reader's error is ErrTooLarge where the message passes the limit
	// of size, ErrBareLine where it has a bare CR or LF, and another where the client was
	// lost (never io.EOF or io.ErrUnexpectedEOF); the Server then answers by itself and the Reply is ignored, so a message whose
	// reader did not end in io.EOF must not be kept. What is not read is thrown away. A
	// NUL is an octet like others; an unfinished last line, which only BDAT can bring, is
	// finished. The 354 goes out with the first Read: a Session that refuses before it
	// answers the DATA command itself, and the client keeps its message.
	Data(ctx context.Context, body io.Reader) mail.Reply
	// End is called once, last, whatever happened.
	End(e End)
}

// Conn is what is known of a connection before a word was said.
type Conn struct {
	ID            string // of this connection, for logs: another process or start has others
	Remote, Local netip.AddrPort
	Began         time.Time
}

// Greeting is how a connection is met.
type Greeting struct {
	Reply mail.Reply // 220 and text; other codes refuse

	// Pace is the pause before each octet sent, for clients that deserve to wait; 0: none.
	Pace time.Duration
	// Soft makes the server's own 5yz replies to 4yz (a trap never refuses for good).
	Soft bool
}

// Hello is an EHLO or HELO.
type Hello struct {
	Extended bool   // EHLO
	Name     string // as sent, not verified; printable ASCII only
	TLS      *tls.ConnectionState
}

// Protocol gives the word of the Received header's "with" clause (RFC 3848, RFC 6531 §4.3).
func (h Hello) Protocol(utf8 bool) string {
	switch {
	case !h.Extended:
		return "SMTP"
	case utf8 && h.TLS != nil:
		return "UTF8SMTPS"
	case utf8:
		return "UTF8SMTP"
	case h.TLS != nil:
		return "ESMTPS"
	}
	return "ESMTP"
}

// End tells how a connection ended.
type End struct {
	Stage     mail.Stage // the furthest stage that was reached: connect, hello, mail, rcpt, data, dot
	Quit      bool       // the client said QUIT
	Err       error      // why it ended otherwise: a time-out, a reset, a limit; nil after QUIT
	EarlyTalk bool       // the client spoke before the greeting
	BareLine  bool       // a bare CR or LF was seen
	Took      time.Duration
}
