package watch

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"mxward/internal/mail"
	"mxward/internal/smtp"
)

// connectTime is how long a relay may take to take a connection; ours.
const connectTime = 30 * time.Second

// ErrRefused is the class of errors about a message that no recipient will ever have.
var ErrRefused = errors.New("it is refused for ever")

// Relay hands messages to one mail host, where there is no queue of our own. It says STARTTLS where
// that is offered, and verifies nobody: a certificate that nobody verifies still hides the mail from
// who only listens (RFC 7435 §1.2).
type Relay struct {
	Address string // host and port
	Hello   string // our name in EHLO (RFC 5321 §4.1.1.1)
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Logger  *slog.Logger
}

// Send hands a message on. It is sent when at least one recipient has it: who was refused would be
// refused again, and the others would have it twice.
func (r *Relay) Send(ctx context.Context, env mail.Envelope, text []byte) error {
	host, _, err := net.SplitHostPort(r.Address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", r.Address, err)
	}
	dial := r.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: connectTime}).DialContext
	}
	conn, err := dial(ctx, "tcp", r.Address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", r.Address, err)
	}
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} // RFC 8996
	if _, err := netip.ParseAddr(host); err != nil {
		config.ServerName = host
	}
	client, err := smtp.Handshake(ctx, conn, smtp.ClientConfig{Hello: r.Hello, Host: r.Address, TLS: config})
	if err != nil {
		return fmt.Errorf("hand a message to %s: %w", r.Address, err) // conn is closed
	}
	defer client.Close()
	return r.settle(client.Send(ctx, env, bytes.NewReader(text)))
}

func (r *Relay) settle(outcomes []mail.Outcome) error {
	var left []mail.Outcome
	for _, o := range outcomes {
		if o.Status != mail.Delivered {
			left = append(left, o)
		}
	}
	if len(left) < len(outcomes) {
		for _, o := range left {
			newEvents(r.Logger).refused(o)
		}
		return nil
	}
	if len(left) == 0 {
		return errors.New("the message has no recipient")
	}
	err := fmt.Errorf("hand a message for %s to %s: at %s: %s", left[0].Recipient, r.Address, left[0].Stage, left[0].Reply)
	if slices.ContainsFunc(left, func(o mail.Outcome) bool { return o.Status != mail.Failed }) {
		return err
	}
	return fmt.Errorf("%w: %w", err, ErrRefused)
}
