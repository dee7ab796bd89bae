// Package deliver finds the route of a mail domain (RFC 5321 §5.1, null MX by RFC 7505)
// and delivers along it, host by host and stage by stage. Finding asks the DNS and does
// nothing else; delivering speaks SMTP or LMTP, or writes a Maildir.
//
// Not implemented yet: MTA-STS and DANE (RFC 8461, RFC 7672). TLS is opportunistic
// (RFC 7435): used where offered, certificates unverified, plain text where the handshake
// fails.
//
// # What happens at a host, and what then
//
//	no connection, or none in time               next host
//	a greeting of 4yz or 5yz, or none in time    next host
//	the same at EHLO                             next host
//	trouble with STARTTLS                        the same host again, in plain text
//	  and then 530, or 5.7.10: it wants TLS      next host
//	4yz at MAIL, DATA or the dot                 next host
//	4yz at RCPT                                  next host, for this recipient
//	452 4.5.3 at RCPT beside accepted ones       the same host again (RFC 5321 §4.5.3.1.10)
//	5yz at MAIL, DATA or the dot                 failed
//	5yz at RCPT                                  this recipient failed
//	connection lost before the dot               next host
//	connection lost after the dot                deferred: the host may have the message,
//	                                             and the next would make two of it (RFC 1047)
//
// A greeting of 5yz says nothing about the message, and very often means that we are not
// liked today; so where no host does better, the message is deferred, as Postfix does it.
package deliver

import (
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"mxward/internal/mail"
	"mxward/internal/smtp"
)

// What a Deliverer does when it is not told otherwise.
const (
	defaultPort    = 25
	defaultConnect = 30 * time.Second // for one address; what Postfix and mox wait
	defaultDead    = 30 * time.Second // less than the first retry, so that each retry is a real one
	defaultIdle    = 5 * time.Second
)

// Bounds of one attempt. Each step of a session has the time-outs of RFC 5321 §4.5.3.2.
const (
	maxTries          = 20               // addresses that are knocked at
	patience          = 30 * time.Minute // after which no further address is tried
	maxPerTransaction = 100              // RFC 5321 §4.5.3.1.8: every host takes as many recipients
)

// Deliverer delivers messages by MX, or to fixed targets. It is safe for use by several
// goroutines, which share its connections and what it knows of dead hosts. Set the fields
// before its first use.
type Deliverer struct {
	Finder  *Finder
	Targets func(mail.Address) (Target, bool) // where mail for an address goes instead of its MX; nil: none

	Hello   string        // our name in EHLO
	Port    uint16        // of MX hosts; 0: 25
	TLS     *tls.Config   // for STARTTLS, always opportunistic; nil: certificates unverified
	Connect time.Duration // for one address; 0: 30 s
	Session smtp.Timeouts // of the steps of a session

	// DeadFor is how long, at least, an address that did not answer is taken for dead:
	// nobody knocks then, and after it one message only, until it answers. 0: 30 s;
	// negative: never.
	DeadFor time.Duration
	// IdleFor is how long a connection is kept for the next message. 0: 5 s; negative:
	// not at all.
	IdleFor time.Duration

	Dial   func(ctx context.Context, network, address string) (net.Conn, error) // nil: net.Dialer
	Logger *slog.Logger                                                         // nil: no log

	once   sync.Once
	pool   pool
	memory memory
	log    *slog.Logger
}

func (d *Deliverer) init() {
	d.once.Do(func() {
		d.pool.idleFor = cmp.Or(d.IdleFor, defaultIdle)
		d.memory.deadFor = cmp.Or(d.DeadFor, defaultDead)
		d.log = cmp.Or(d.Logger, slog.New(slog.DiscardHandler))
	})
}

// Close closes the connections that are kept. A Deliverer that is still in use keeps none
// from then on.
func (d *Deliverer) Close() error {
	d.init()
	d.pool.close()
	return nil
}

// Deliver tries to deliver a message once, to recipients that share a destination. The
// outcomes are in the recipients' order; one that is not delivered has the reply of the
// furthest stage that was reached at any host, and of the last such host. open is called
// once for each transaction that gets as far as the body.
func (d *Deliverer) Deliver(ctx context.Context, env mail.Envelope, open func() io.ReadCloser) (outcomes []mail.Outcome) {
	d.init()
	a := newAttempt(d, env, open)
	defer func() {
		if p := recover(); p != nil {
			d.logPanic(p, debug.Stack())
			a.deferAll(mail.Outcome{Stage: mail.StageDeliver, Reply: mail.NewReply(451, 3, 0, "internal trouble")})
		}
		outcomes = a.finish()
	}()
	if len(env.Recipients) == 0 {
		return
	}
	to := env.Recipients[0].Address
	if d.Targets != nil {
		if target, ok := d.Targets(to); ok {
			a.toTarget(ctx, target)
			return
		}
	}
	a.byMX(ctx, to)
	return
}

// Scheme is how a Target is spoken to.
type Scheme string

// The schemes.
const (
	ToSMTP    Scheme = "smtp"
	ToLMTP    Scheme = "lmtp"
	ToMaildir Scheme = "maildir"
)

// Target is a fixed place that mail goes to instead of an MX. A host's name is looked up
// as this machine does it, /etc/hosts included, not by the Finder.
type Target struct {
	Scheme Scheme
	Host   string // smtp, lmtp: a name or an address
	Port   uint16
	Path   string // maildir: the root; lmtp without Host: a socket
}

// place is where to knock. It is comparable.
type place struct {
	network, address string // for Dial
	host             string // its name, or its address where it has none
	lmtp             bool
}

// String names the place as outcomes and logs do: "mx.example.com [192.0.2.1]:25".
func (p place) String() string {
	if p.network == "unix" {
		return p.address
	}
	host, port, err := net.SplitHostPort(p.address)
	switch {
	case err != nil:
		return p.address
	case host == p.host && net.ParseIP(host) == nil:
		return p.address
	case host == p.host:
		return "[" + host + "]:" + port
	}
	return p.host + " [" + host + "]:" + port
}

func (d *Deliverer) placeOf(h Hop) place {
	p := place{network: "tcp", address: net.JoinHostPort(h.Addr.String(), strconv.Itoa(int(cmp.Or(d.Port, defaultPort)))), host: h.Host.String()}
	if p.host == "" {
		p.host = h.Addr.String()
	}
	return p
}

func (t Target) place() place {
	if t.Scheme == ToLMTP && t.Host == "" {
		return place{network: "unix", address: t.Path, host: "localhost", lmtp: true}
	}
	return place{network: "tcp", address: net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))), host: t.Host, lmtp: t.Scheme == ToLMTP}
}
