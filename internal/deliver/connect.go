package deliver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"mxward/internal/mail"
	"mxward/internal/smtp"
)

// connect makes a connection to a place and takes it through greeting, EHLO and STARTTLS.
// If that fails, the Outcome says why; it has no recipient.
func (d *Deliverer) connect(ctx context.Context, at place) (*link, mail.Outcome) {
	began := time.Now()
	l, err := d.handshake(ctx, at, d.tlsConfig(at), d.dial)
	if tlsFault(err) && ctx.Err() == nil {
		// RFC 7435 §3: without TLS rather than not at all. The connection is spoilt.
		d.logPlain(at, err)
		if l, err = d.handshake(ctx, at, nil, d.dial); err == nil {
			l.plain = true
		}
	}
	if err != nil {
		o := failure(at, err)
		d.logUnreachable(at, o, time.Since(began))
		return nil, o
	}
	state, secure := l.client.TLSState()
	d.logConnected(at, secure, state, time.Since(began))
	return l, mail.Outcome{}
}

func tlsFault(err error) bool {
	var failed *smtp.Error
	return errors.As(err, &failed) && failed.Stage == mail.StageStartTLS
}

// dialFunc is the shape of Deliverer.Dial.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func (d *Deliverer) handshake(ctx context.Context, at place, secure *tls.Config, dial dialFunc) (*link, error) {
	conn, err := dial(ctx, at.network, at.address)
	if err != nil {
		return nil, &smtp.Error{Stage: mail.StageConnect, Err: err}
	}
	client, err := smtp.Handshake(ctx, conn, smtp.ClientConfig{
		Hello:    d.Hello,
		Host:     at.String(),
		LMTP:     at.lmtp,
		TLS:      secure,
		Timeouts: d.Session,
	})
	if err != nil {
		return nil, err // conn is closed
	}
	return &link{at: at, client: client}, nil
}

func (d *Deliverer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(d.Connect, defaultConnect))
	defer cancel()
	if d.Dial != nil {
		return d.Dial(ctx, network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// tlsConfig: a certificate that nobody verifies still hides the mail from who only listens
// (RFC 7435 §1.2). A socket of this machine needs no TLS.
func (d *Deliverer) tlsConfig(at place) *tls.Config {
	if at.network == "unix" {
		return nil
	}
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} // RFC 8996
	if d.TLS != nil {
		config = d.TLS.Clone()
	}
	if _, err := netip.ParseAddr(at.host); err != nil || !config.InsecureSkipVerify {
		config.ServerName = cmp.Or(config.ServerName, at.host)
	}
	return config
}

// failure tells what a connection's failure means for a message: try again, here or
// elsewhere. Not even a greeting of 5yz is about the message.
func failure(at place, err error) mail.Outcome {
	o := mail.Outcome{Status: mail.Deferred, Stage: mail.StageConnect, Host: at.String(), When: time.Now()}
	var failed *smtp.Error
	if errors.As(err, &failed) {
		o.Stage = failed.Stage
		if failed.Err == nil {
			o.Remote, o.Reply = true, failed.Reply
			return o
		}
		err = failed.Err
	}
	detail := 2 // RFC 3463 §3.5: bad connection
	if o.Stage == mail.StageConnect || timedOut(err) {
		detail = 1 // no answer from host
	}
	o.Reply = mail.NewReply(451, 4, detail, "no connection: "+reason(err))
	return o
}

func timedOut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// reason gives an error's words without the addresses, which stand beside it already.
func reason(err error) string {
	if timedOut(err) {
		return "timed out"
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err.Error()
}
