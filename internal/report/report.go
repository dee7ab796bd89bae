// Package report is the counts that a gate keeps of the mail it saw, from which the
// aggregate reports of DMARC are made (RFC 9990): by day, policy domain, and what was
// the same for several messages.
//
// Not implemented: sending the reports, and keeping those that others send.
package report

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"mxward/internal/mailauth/dmarcrpt"
)

// MaxWhat is how many octets tell messages apart; ours.
const MaxWhat = 16 << 10

// Limits bound what is kept of one day: strangers choose the domains, and all that tells
// messages apart.
type Limits struct {
	Domains int64
	Rows    int64 // of a domain
}

// Usual are the limits of a gate.
func Usual() Limits { return Limits{Domains: 10_000, Rows: 10_000} }

// Count is a number of messages for which all but the time was the same.
type Count struct {
	Day      time.Time // its begin, UTC
	Domain   string    // the policy domain
	What     string    // the observation without its time, JSON; "" where it was too large to tell
	Messages int64
}

// Of gives the count of one message.
func Of(o dmarcrpt.Observation) (Count, error) {
	c := Count{Day: Day(o.Time), Domain: o.Policy.Domain, Messages: 1}
	o.Time = time.Time{}
	what, err := json.Marshal(o)
	if err != nil {
		return Count{}, fmt.Errorf("counting a message for a report: %w", err)
	}
	if len(what) <= MaxWhat {
		c.What = string(what)
	}
	return c, nil
}

// Observation gives back what was counted; its time is the begin of the day.
func (c Count) Observation() (o dmarcrpt.Observation, err error) {
	if err := json.Unmarshal([]byte(c.What), &o); err != nil {
		return dmarcrpt.Observation{}, fmt.Errorf("reading a count of %s: %w", c.Domain, err)
	}
	o.Time = c.Day
	return o, nil
}

// Day gives the begin of the day (UTC).
func Day(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// Store keeps counts.
type Store interface {
	// AddCounts adds to what is kept, all or nothing. Rows beyond the limit of a domain, and
	// those without What, are added to its overflow; lost is the number of messages of
	// domains beyond theirs, or without one. A crash of the machine may lose the last counts.
	AddCounts(ctx context.Context, limits Limits, counts []Count) (lost int64, err error)
	// CountedDomains gives the domains of a day, in order.
	CountedDomains(ctx context.Context, day time.Time) ([]string, error)
	// Counts gives the rows of a day and domain, in the order of What, and how many more
	// messages there were.
	Counts(ctx context.Context, day time.Time, domain string) (rows []Count, overflow int64, err error)
	// ForgetCounts removes the days before one.
	ForgetCounts(ctx context.Context, before time.Time) error
}
