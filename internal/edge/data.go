package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth"
	"mxward/internal/queue"
	"mxward/internal/smtp"
)

const (
	// maxHops is how many Received fields a message may have: RFC 5321 §6.3 wants a limit
	// of at least 100.
	maxHops = 100
	// enqueueTimeout bounds the wait for stable storage. Clients wait 10 minutes (RFC 5321
	// §4.5.3.2.6), the hasty ones 60 s; a reply within their time avoids duplicates (RFC 1047).
	enqueueTimeout = 50 * time.Second
)

// What may go wrong while a message is received.
var (
	errHops  = errors.New("too many Received fields")
	errStore = errors.New("keep the message")
)

// copyOf is the message for those recipients that share one lifetime in the queue.
type copyOf struct {
	message queue.Message
	spool   *queue.Spool
}

// Data takes the message.
func (s *session) Data(ctx context.Context, body io.Reader) mail.Reply {
	defer s.forget()
	if len(s.env.Recipients) == 0 {
		return s.refuse(mail.StageData, verdict(554, 5, 1, NoRecipients, "there is no recipient; give RCPT first"), "")
	}
	s.reached(mail.StageData)
	name := s.name.wait(ctx)
	copies := s.copies(ctx, name)
	results, err := s.receive(ctx, name, body, copies)
	if err == nil {
		err = s.enqueue(ctx, copies, results)
	}
	if !errors.Is(err, errStore) {
		// A store that failed, by a time-out for example, may still be reading the buffers.
		// Those are left to the garbage collector: the next message must not get them.
		discard(copies)
	}
	switch {
	case err == nil:
		s.reached(mail.StageDot)
		return mail.NewReply(250, 0, 0, "queued as "+ids(copies)) // RFC 5321 §6.1: responsible from here on
	case errors.Is(err, errHops):
		return s.refuse(mail.StageDot, verdict(554, 4, 6, LoopHops, "the message goes round in circles; look at its Received fields"), "")
	case errors.Is(err, mail.ErrHeaderTooLarge):
		return s.refuse(mail.StageDot, verdict(552, 3, 4, HeaderLarge, "the header of the message is too large"), "")
	case errors.Is(err, errStore):
		s.host.gate.log.storeFailed(s, err)
		return s.refuse(mail.StageDot, verdict(451, 3, 0, StoreDown, "the message could not be stored; please try again in some minutes"), "")
	}
	// The reader failed: the server answers by itself, or there is nobody to answer.
	switch {
	case errors.Is(err, smtp.ErrTooLarge):
		s.host.gate.log.refused(s, mail.StageDot, verdict(552, 3, 4, SizeExceeded, "the message is too large"), "")
	case errors.Is(err, smtp.ErrBareLine):
		s.host.gate.log.refused(s, mail.StageDot, verdict(550, 6, 0, LineBare, "a bare CR or LF in the message"), "")
	default:
		s.host.gate.log.lost(s, err)
	}
	return mail.NewReply(451, 4, 2, "the message did not arrive whole")
}

// copies splits the transaction by lifetime: mail that is held for a better rung waits
// longer than other mail. Nearly always there is one copy.
func (s *session) copies(ctx context.Context, name dns.Name) []copyOf {
	now := time.Now()
	var copies []copyOf
	for _, backup := range []bool{false, true} {
		env := s.env
		env.Recipients = nil
		for i, r := range s.env.Recipients {
			if s.backup[i] == backup {
				env.Recipients = append(env.Recipients, r)
			}
		}
		if len(env.Recipients) == 0 {
			continue
		}
		id := queue.NewID()
		copies = append(copies, copyOf{
			message: queue.Message{
				ID: id, Envelope: env, Received: now, Expires: queue.Expires(now, backup),
				Backup: backup, Client: tcpInfo(name, s.client),
			},
			spool: queue.NewSpool(ctx, s.host.gate.Queue, id),
		})
	}
	return copies
}

// receive writes the message into the copies and judges it on the way.
func (s *session) receive(ctx context.Context, name dns.Name, body io.Reader, copies []copyOf) (mailauth.Results, error) {
	check := s.host.gate.judge.Start(ctx, mailauth.Session{
		Client: s.client, Name: name, Helo: s.hello.Name, From: s.env.From.String(),
		Receiver: s.host.name.String(), UTF8: s.env.UTF8,
	}, spools(copies))
	defer check.Stop()
	if _, err := io.Copy(&sink{check: check}, body); err != nil {
		return mailauth.Results{}, fmt.Errorf("receive the message: %w", err)
	}
	results, err := check.Finish()
	if err != nil {
		return mailauth.Results{}, fmt.Errorf("receive the message: %w", err)
	}
	for _, f := range results.Faults {
		s.host.gate.log.faulted(s, f)
	}
	return results, nil
}

// sink counts hops on the way.
type sink struct {
	check io.Writer
	hops  hopCounter
}

func (s *sink) Write(p []byte) (int, error) {
	if s.hops.count(p) > maxHops {
		return 0, errHops
	}
	return s.check.Write(p)
}

// spools writes a message into its copies.
type spools []copyOf

func (s spools) Write(p []byte) (int, error) {
	for _, c := range s {
		if n, err := c.spool.Write(p); err != nil {
			return n, fmt.Errorf("%w: %w", errStore, err)
		}
	}
	return len(p), nil
}

// enqueue returns nil only after all copies are on stable storage. If one fails, the
// client is told to come again with all: better twice than not at all.
func (s *session) enqueue(ctx context.Context, copies []copyOf, results mailauth.Results) error {
	// A client that hangs up now must not make the fate of the message unknown.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), enqueueTimeout)
	defer cancel()
	for _, c := range copies {
		m := c.message
		var err error
		if m.Chunks, m.Tail, err = c.spool.Body(s.head(m, results)); err != nil {
			return fmt.Errorf("%w: %w", errStore, err)
		}
		m.Size = c.spool.Size()
		m.Envelope.Size = m.Size // RFC 1870 §6.1: what the next host is told
		if err := s.host.gate.Queue.Enqueue(ctx, time.Now(), m); err != nil {
			return fmt.Errorf("%w: %w", errStore, err)
		}
		s.accepted++
		s.host.gate.log.accepted(s, m, results)
	}
	if s.host.gate.Wake != nil {
		s.host.gate.Wake()
	}
	if s.host.gate.Observer != nil {
		s.observe(ctx, copies[0].message.Received, results)
	}
	return nil
}

// observe tells of a message that is stored: whatever happens here, it is answered 250.
func (s *session) observe(ctx context.Context, received time.Time, results mailauth.Results) {
	defer s.host.gate.log.survive("observe a message")
	s.host.gate.Observer.Observe(ctx, s.observation(received, results))
}

// head gives what stands above a message: our trace field, and below it what we found out
// (RFC 8601 §4.1).
func (s *session) head(m queue.Message, r mailauth.Results) []byte {
	head := s.received(m)
	if r.Judged {
		head += r.Header(s.host.gate.judge.ID)
	}
	return []byte(head)
}

func discard(copies []copyOf) {
	for _, c := range copies {
		c.spool.Discard()
	}
}

func ids(copies []copyOf) string {
	parts := make([]string, len(copies))
	for i, c := range copies {
		parts[i] = string(c.message.ID)
	}
	return strings.Join(parts, " and ")
}

// received gives the trace field (RFC 5321 §4.4), with CRLF. The recipient is named only
// if there is one, so that nobody learns of the others (RFC 5321 §7.2).
func (s *session) received(m queue.Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Received: from %s (%s)\r\n", heloText(s.hello.Name), m.Client)
	fmt.Fprintf(&b, "\tby %s with %s id %s", s.host.name, s.hello.Protocol(m.Envelope.UTF8), m.ID)
	if len(s.env.Recipients) == 1 {
		fmt.Fprintf(&b, "\r\n\tfor <%s>", s.env.Recipients[0].Address)
	}
	if s.hello.TLS != nil { // RFC 8314 §4.3
		fmt.Fprintf(&b, "\r\n\ttls %s", tls.CipherSuiteName(s.hello.TLS.CipherSuite))
	}
	fmt.Fprintf(&b, ";\r\n\t%s\r\n", m.Received.Format("Mon, 2 Jan 2006 15:04:05 -0700")) // RFC 5322 §3.3
	return b.String()
}

// heloText gives a HELO name as it may stand in a header: whatever is neither a domain nor
// an address literal would break the field's grammar.
func heloText(name string) string {
	if name == "" {
		return "unknown"
	}
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune(".-_:[]", r):
			return r
		}
		return '?'
	}, name)
}

// tcpInfo gives a client as TCP-info (RFC 5321 §4.4): its name, if it has one, and its
// address literal.
func tcpInfo(name dns.Name, client netip.Addr) string {
	literal := mail.Address{Literal: client}.Host()
	if name.IsZero() {
		return literal
	}
	return name.String() + " " + literal
}

// hopCounter counts the Received fields of a header that comes in pieces.
type hopCounter struct {
	hops int
	line []byte // the beginning of the current line; no longer than is needed
	done bool   // the header has ended
}

// receivedName is the field's name; a space may stand before the colon (RFC 5322 §4.5).
const receivedName = "received"

// maxFieldStart is how much of a line tells whether it is a Received field.
const maxFieldStart = len(receivedName) + 8

// count takes the next piece and gives the number so far.
func (h *hopCounter) count(piece []byte) int {
	for len(piece) > 0 && !h.done {
		line, rest, ended := bytes.Cut(piece, []byte{'\n'})
		h.line = append(h.line, line[:min(len(line), maxFieldStart-len(h.line))]...)
		if !ended {
			break
		}
		piece = rest
		start := bytes.TrimSuffix(h.line, []byte{'\r'})
		h.done = len(start) == 0
		if isReceived(start) {
			h.hops++
		}
		h.line = h.line[:0]
	}
	return h.hops
}

func isReceived(line []byte) bool {
	if len(line) < len(receivedName) || !bytes.EqualFold(line[:len(receivedName)], []byte(receivedName)) {
		return false
	}
	return bytes.HasPrefix(bytes.TrimLeft(line[len(receivedName):], " \t"), []byte{':'})
}
