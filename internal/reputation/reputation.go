// Package reputation remembers who knocked where, and judges it: contacts with the rungs
// of the MX ladder, in which order (no standard; RFC 5321 §5.1 says in which order senders
// should come).
//
// Not yet here: scores, listings and forgiveness. OutOfOrder is the first, pure piece of
// the judgement.
package reputation

import (
	"context"
	"net/netip"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

// Contact is one knock of a client at one of our MX hosts.
type Contact struct {
	Client  netip.Addr
	Host    dns.Name   // the MX host that was reached
	Stage   mail.Stage // the furthest stage of this contact
	When    time.Time
	Session string // the connection's id; "" for a refused SYN

	// Known only from RCPT on; the order of a ladder is a domain's.
	Domain dns.Name
	From   string // the envelope sender
	Helo   string
}

// Store keeps contacts.
type Store interface {
	// Record keeps contacts. They are evidence, not mail: it may return before stable
	// storage.
	Record(ctx context.Context, contacts []Contact) error
	// Contacts gives a client group's contacts since a time, oldest first.
	Contacts(ctx context.Context, client netip.Prefix, since time.Time) ([]Contact, error)
	// Forget removes what is older.
	Forget(ctx context.Context, before time.Time) error
}
