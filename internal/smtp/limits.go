package smtp

import "time"

// The defaults of a Server's limits.
const (
	defaultMaxSize       = 50 << 20
	defaultMaxRecipients = 100 // RFC 5321 §4.5.3.1.8 wants at least as many
	defaultMaxSessions   = 5000
	defaultMaxPerClient  = 50
)

// Limits of lines and replies.
const (
	// RFC 5321 §4.5.3.1.4 says 512, and that extensions add their parameters' room; a
	// RCPT with a long ORCPT needs the most.
	maxCommandLine = 2048
	maxReplyLine   = 512  // RFC 5321 §4.5.3.1.5, of what we send, with the CRLF
	maxReplyLines  = 100  // of what we send
	maxPeerLine    = 4096 // of the replies that we read; RFC 5321 §4.5.3.1.5 says 512
	maxPeerLines   = 200
	maxPeerText    = 4096 // of a reply's text, kept
	maxPending     = 4096 // octets of replies that wait to be sent together
)

// Limits of a client's patience with us.
const (
	maxErrors    = 20      // commands that are malformed, unknown or out of sequence
	maxJunk      = 100     // commands that bring no message nearer: NOOP, VRFY, RSET, …
	maxOverlong  = 1 << 16 // octets of one overlong command line that are read and thrown away
	refusedRatio = 10      // refused RCPT between two messages, for each recipient that a message may have
	maxRefusing  = 100     // connections over MaxSessions that are told so at the same time
)

// bodyBuffer is what is read at a time while a message comes in. Between messages a
// connection keeps maxCommandLine octets only, since most of them are idle.
const bodyBuffer = 32 << 10

// RFC 5321 §4.5.3.2, one by one, and what it leaves to us.
const (
	greetingTimeout = 5 * time.Minute  // RFC 5321 §4.5.3.2.1
	commandTimeout  = 5 * time.Minute  // RFC 5321 §4.5.3.2.2, .3 and .7
	dataTimeout     = 2 * time.Minute  // RFC 5321 §4.5.3.2.4
	blockTimeout    = 3 * time.Minute  // RFC 5321 §4.5.3.2.5
	dotTimeout      = 10 * time.Minute // RFC 5321 §4.5.3.2.6
	tlsTimeout      = time.Minute
	messageTimeout  = time.Hour
	sessionTimeout  = 2 * time.Hour
	quitTimeout     = 5 * time.Second
)

// Pauses of our own.
const (
	maxPacedReply = 4 * time.Minute        // a paced reply ends before clients give up (RFC 5321 §4.5.3.2)
	earlyWait     = time.Millisecond       // for early talk, where the connection cannot be asked without waiting
	lingerTime    = 500 * time.Millisecond // for the client to read our last words
	lingerOctets  = 1 << 16
	refusalWait   = time.Second // to get a refusal out to a client beyond our limits
)

// Timeouts are the waits of a Server or a Client; the zero value of each is the value of
// RFC 5321 §4.5.3.2, or ours where it names none.
type Timeouts struct {
	Greeting time.Duration // client: for the 220 (RFC 5321 §4.5.3.2.1)
	Command  time.Duration // server: for the next command (§4.5.3.2.7); client: for the reply to EHLO, STARTTLS, MAIL, RCPT, RSET (§4.5.3.2.2, .3)
	Data     time.Duration // client: for the 354 (RFC 5321 §4.5.3.2.4)
	Block    time.Duration // both: for each block of a message (RFC 5321 §4.5.3.2.5)
	Dot      time.Duration // client: for the reply to the whole message (RFC 5321 §4.5.3.2.6)
	TLS      time.Duration // both: for the handshake
	Message  time.Duration // server: for one whole message
	Session  time.Duration // server: for one whole connection
	Quit     time.Duration // client: for the reply to QUIT
}

func (t Timeouts) withDefaults() Timeouts {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.Greeting, greetingTimeout},
		{&t.Command, commandTimeout},
		{&t.Data, dataTimeout},
		{&t.Block, blockTimeout},
		{&t.Dot, dotTimeout},
		{&t.TLS, tlsTimeout},
		{&t.Message, messageTimeout},
		{&t.Session, sessionTimeout},
		{&t.Quit, quitTimeout},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return t
}
