package edge

import (
	"context"
	"net/netip"
	"slices"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/reputation"
	"mxward/internal/site"
	"mxward/internal/smtp"
)

const (
	// maxContacts bounds the domains of one session whose contacts are kept.
	maxContacts = 100
	// maxHelo bounds what is kept of a HELO name: no domain name is longer (RFC 1035 §2.3.4).
	maxHelo = 255
)

// session is the policy of one connection. Its methods are called one at a time.
type session struct {
	host   *host
	conn   smtp.Conn
	client netip.Addr
	hello  smtp.Hello
	name   *lookup // the client's name; nil until it was asked for

	// The transaction. Recipients of env are those that were taken; backup tells of each
	// whether it is held here for a better rung.
	env    mail.Envelope
	backup []bool

	contacts []reputation.Contact // one for each domain of ours
	recorded []mail.Stage         // the stage at which each was last recorded
	accepted int                  // messages
}

// Hello takes any name: many good senders do not know theirs.
func (s *session) Hello(_ context.Context, h smtp.Hello) mail.Reply {
	h.Name = h.Name[:min(len(h.Name), maxHelo)]
	s.hello = h
	s.forget()
	// The server says its name first (RFC 5321 §4.1.1.1). No enhanced code: RFC 2034 §4.
	return mail.Reply{Code: 250, Text: "hello " + tcpInfo(dns.Name{}, s.client) + s.tag()}
}

// Mail takes any sender. The null sender may have several recipients: a bounce has one,
// but other notices of a machine may have more, and no standard forbids it.
func (s *session) Mail(ctx context.Context, env mail.Envelope) mail.Reply {
	s.forget()
	s.env = env
	s.env.Recipients = nil
	if s.name == nil && !s.host.trap {
		s.name = s.host.gate.names.start(ctx, s.client)
	}
	return mail.NewReply(250, 1, 0, "the sender is fine")
}

// forget ends the transaction.
func (s *session) forget() { s.env, s.backup = mail.Envelope{}, nil }

// Rcpt judges one recipient.
func (s *session) Rcpt(_ context.Context, r mail.Recipient) mail.Reply {
	e := s.host.evidence(r.Address, s.conn.Local.Addr())
	if e.Ours {
		s.knock(e.Recipient.Domain)
	}
	v := Decide(e)
	if !v.Reply.Positive() {
		return s.refuse(mail.StageRcpt, v, e.Recipient.String())
	}
	r.Address = e.Recipient
	if !slices.Contains(s.env.Recipients, r) { // the same command twice is one recipient
		s.env.Recipients = append(s.env.Recipients, r)
		s.backup = append(s.backup, e.Role == site.Backup)
	}
	return v.Reply
}

// refuse logs a verdict and gives its reply with the session's id, by which the sender's
// postmaster and ours can talk about it.
func (s *session) refuse(stage mail.Stage, v Verdict, rcpt string) mail.Reply {
	v.Reply.Text += s.tag()
	s.host.gate.log.refused(s, stage, v, rcpt)
	return v.Reply
}

func (s *session) tag() string { return " (id " + s.conn.ID + ")" }

// knock records the first RCPT for a domain of ours, so that the order can be judged while
// the session is still open.
func (s *session) knock(d dns.Name) {
	if len(s.contacts) >= maxContacts ||
		slices.ContainsFunc(s.contacts, func(c reputation.Contact) bool { return c.Domain == d }) {
		return
	}
	c := s.contact(mail.StageRcpt)
	c.Domain, c.From = d, s.env.From.String()
	s.contacts = append(s.contacts, c)
	s.recorded = append(s.recorded, c.Stage)
	s.host.gate.recorder.put(c)
}

// contact gives this connection as a Contact. All contacts of a connection have the time
// at which it began: that is when the client chose the rung, however slow the talk was.
func (s *session) contact(stage mail.Stage) reputation.Contact {
	return reputation.Contact{
		Client:  s.client,
		Host:    s.host.name,
		Stage:   stage,
		When:    s.conn.Began,
		Session: s.conn.ID,
		Helo:    s.hello.Name,
	}
}

// reached notes how far the transaction's recipients came.
func (s *session) reached(stage mail.Stage) {
	for i, c := range s.contacts {
		if c.Stage != mail.StageDot && slices.ContainsFunc(s.env.Recipients, func(r mail.Recipient) bool { return r.Address.Domain == c.Domain }) {
			s.contacts[i].Stage = stage
		}
	}
}

// End records what has come of the contacts, or that somebody came and named no domain.
func (s *session) End(e smtp.End) {
	if len(s.contacts) == 0 {
		s.host.gate.recorder.put(s.contact(e.Stage))
	}
	for i, c := range s.contacts {
		if c.Stage != s.recorded[i] {
			s.host.gate.recorder.put(c)
		}
	}
	s.host.gate.log.ended(s, e)
}
