// Package mail is the vocabulary of SMTP mail (RFC 5321, RFC 3461 for DSN parameters,
// RFC 3463 and RFC 5248 for enhanced status codes, RFC 6531 for internationalised
// addresses, RFC 5322 for headers): addresses and paths, envelopes, replies, the outcome
// for a recipient, and the fields of a header as they were received.
//
// It reads and prints, and does nothing else: no network, no policy. What stands in a
// field, and MIME, are not here.
package mail

import (
	"time"
)

// Path is a reverse-path: an Address, or the null sender "<>" (RFC 5321 §4.5.5), which is
// the zero Path.
type Path struct{ Address Address }

// IsNull reports whether p is the null sender.
func (p Path) IsNull() bool { return p.Address.IsZero() }

// String gives the path without angle brackets; the null sender is "".
func (p Path) String() string { return p.Address.String() }

// Wire gives the path as MAIL and RCPT write it, in angle brackets.
func (p Path) Wire() string { return "<" + p.Address.String() + ">" }

// MarshalText gives String, for JSON.
func (p Path) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what String gives.
func (p *Path) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = Path{}
		return nil
	}
	return p.Address.UnmarshalText(text)
}

// Body is the value of the BODY parameter (RFC 6152, RFC 3030 §3); "" where none was given.
type Body string

// The bodies.
const (
	Body7Bit       Body = "7BIT"
	Body8BitMIME   Body = "8BITMIME"
	BodyBinaryMIME Body = "BINARYMIME" // never offered, so never accepted
)

// Return is the value of the RET parameter (RFC 3461 §4.3); "" where none was given.
type Return string

// The returns.
const (
	ReturnFull    Return = "FULL"
	ReturnHeaders Return = "HDRS"
)

// Notify is the value of the NOTIFY parameter of a recipient (RFC 3461 §4.1). The zero
// Notify means that none was given: the sender is told of failures and, at the MTA's
// choice, of delays.
type Notify struct {
	Never, Success, Failure, Delay bool
}

// IsZero reports whether no NOTIFY was given.
func (n Notify) IsZero() bool { return n == Notify{} }

// WantsFailure reports whether a DSN for a failure is due.
func (n Notify) WantsFailure() bool { return n.IsZero() || n.Failure }

// Recipient is one RCPT command.
type Recipient struct {
	Address  Address
	Notify   Notify
	Original string // ORCPT as received, xtext kept: "rfc822;user@example.com" (RFC 3461 §4.2)
}

// Envelope is what travels beside a message.
type Envelope struct {
	From       Path
	Recipients []Recipient
	UTF8       bool   // SMTPUTF8 (RFC 6531 §3.4)
	Body       Body   // BODY
	Return     Return // RET
	ID         string // ENVID, xtext kept (RFC 3461 §4.4)
	Size       int64  // SIZE as declared, octets; 0 where none was (RFC 1870)
}

// Stage is the point of a session at which something was said or happened.
type Stage string

// The stages, in their order.
const (
	StageRoute    Stage = "route"    // the DNS, before any connection
	StageConnect  Stage = "connect"  // TCP
	StageGreeting Stage = "greeting" // waiting for 220
	StageHello    Stage = "hello"    // EHLO or HELO
	StageStartTLS Stage = "starttls" // STARTTLS and the handshake
	StageMail     Stage = "mail"     // MAIL FROM
	StageRcpt     Stage = "rcpt"     // RCPT TO
	StageData     Stage = "data"     // DATA, or the chunks of BDAT
	StageDot      Stage = "dot"      // the reply to the whole message
	StageQuit     Stage = "quit"
	StageDeliver  Stage = "deliver" // the last step where it is no SMTP: a Maildir
)

// Status is what became of one recipient.
type Status string

// The statuses.
const (
	Delivered Status = "delivered" // somebody else is responsible now
	Deferred  Status = "deferred"  // try again later
	Failed    Status = "failed"    // never try again
)

// Outcome is what became of one recipient in one attempt.
type Outcome struct {
	Recipient Address
	Status    Status
	Stage     Stage
	Host      string // the host that said so, "mx.example.com [192.0.2.1]:25"; "" where none was reached
	Remote    bool   // Reply is Host's own words; otherwise ours
	DSN       bool   // Host took the recipient's NOTIFY (RFC 3461), so it tells the sender of a success
	Reply     Reply
	When      time.Time
}
