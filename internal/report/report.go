// Package report is the reports that a gate sends and gets: the counts of the mail that it
// took, from which it makes the aggregate reports of DMARC (RFC 9990) and sends them through
// the queue to whoever the policy of the author's domain names; and, the other way, the
// reports that come to an address of ours, DMARC's, their failure reports (RFC 9991) and
// those of TLS (RFC 8460), which are read, stored and handed out to be summed up.
//
// Not implemented: sending TLS reports and failure reports; destinations other than mailto
// (RFC 9990 §3.5 knows no other).
//
// # A day
//
//	a message is taken          Counter.Add, in memory
//	some seconds later          AddCounts, without waiting for the disk
//	the day (UTC) has ended     the domain is due at a time of its own in the hours after
//	a gate claims the domain    ClaimDay, a lease: no other gate does it meanwhile
//	the policy is asked anew    DNS trouble: SettleDay, due again; after some days, given up
//	the report is in the queue  Enqueue, then SettleDay: done
//
// A crash loses the counts of the last seconds. One between Enqueue and SettleDay sends the
// report a second time, with the same ID and the same file name (RFC 9990 §3.5.2), by which
// whoever gets it knows.
package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"mxward/internal/mailauth/dmarcrpt"
)

// Limits bound what is kept of one day: strangers choose the domains, and all that tells
// messages apart.
type Limits struct {
	Domains int64
	Owned   int64 // domains of one Owner
	Rows    int64 // of a domain
	DayRows int64 // of all domains together
}

// The limits of a gate, all ours; the longest row is MaxWhat octets, and most have 400. With its
// day and domain, a row must fit into an index of PostgreSQL, which has 2,704 octets for one.
const (
	maxDomains = 10_000
	maxOwned   = 500 // else one wildcard in the DNS could take the place of all others
	maxRows    = 10_000
	maxDayRows = 200_000
	MaxWhat    = 2 << 10 // octets of what tells messages apart
)

// Usual are the limits of a gate.
func Usual() Limits {
	return Limits{Domains: maxDomains, Owned: maxOwned, Rows: maxRows, DayRows: maxDayRows}
}

// When a day's reports go out.
const (
	day       = 24 * time.Hour
	sendDelay = 30 * time.Minute // after the day's end: all gates have written their counts by then
	sendOver  = 6 * time.Hour    // the time over which the reports are spread
)

// Count is a number of messages for which all but the time was the same.
type Count struct {
	Day      time.Time // its begin, UTC
	Domain   string    // the policy domain
	What     string    // the observation without its time, JSON; "" where it was too large to tell
	Last     time.Time // of the last of them
	Messages int64
}

// Of gives the count of one message.
func Of(o dmarcrpt.Observation) (Count, error) {
	c := Count{Day: Day(o.Time), Domain: o.Policy.Domain, Last: o.Time, Messages: 1}
	o.Time = time.Time{}
	what, err := json.Marshal(o)
	if err != nil {
		return Count{}, fmt.Errorf("count a message for a report: %w", err)
	}
	if len(what) <= MaxWhat {
		c.What = string(what)
	}
	return c, nil
}

// Observation gives back what was counted. Its time is that of the last message, so that of
// several policies in a day the last one is told (RFC 9990 §3.1).
func (c Count) Observation() (dmarcrpt.Observation, error) {
	var o dmarcrpt.Observation
	if err := json.Unmarshal([]byte(c.What), &o); err != nil {
		return dmarcrpt.Observation{}, fmt.Errorf("read a count of %s: %w", c.Domain, err)
	}
	o.Time, o.Messages = c.Last, c.Messages
	return o, nil
}

// Day gives the begin of the day (UTC).
func Day(t time.Time) time.Time { return t.UTC().Truncate(day) }

// Due says when the report of a day to a domain goes out, which is always the same: not all
// at once, and not at the time at which other reporters send theirs to the same domain.
func Due(begin time.Time, domain, reporter string) time.Time {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%d", reporter, domain, begin.Unix())
	return begin.Add(day + sendDelay + time.Duration(h.Sum64()%uint64(sendOver)))
}

// Counts takes counts.
type Counts interface {
	// AddCounts adds to what is kept, all or nothing. Messages beyond the limits of rows, and
	// those without What, are added to their domain's overflow. Lost is the number of messages
	// of domains beyond their limits, without a name, or whose day is settled. A domain that is
	// new is due as the reporter's Due says. A crash of the machine may lose the last counts.
	AddCounts(ctx context.Context, limits Limits, reporter string, counts []Count) (lost int64, err error)
}

// Claim is a day of a domain that somebody reports, for as long as the lease holds.
type Claim struct {
	Day     time.Time
	Domain  string
	Token   int64
	Attempt int      // 1 at the first
	Sent    []string // addresses that have the report already
}

// Settlement is what came of a claim.
type Settlement struct {
	Next    time.Time // due again then; zero: the day is done
	Sent    []string  // addresses that have the report
	Outcome string    // for people
}

// ErrClaimLost: the lease has ended, and another gate has the day.
var ErrClaimLost = errors.New("the claim on a day's report was lost")

// Pending is a day of a domain as people see it.
type Pending struct {
	Day      time.Time
	Domain   string
	Rows     int64
	Overflow int64     // messages beyond the rows
	Due      time.Time // zero: done. While it is claimed, when the lease ends
	Attempts int
	Sent     []string
	Outcome  string // of the last attempt
}

// Days gives counts back, a day of a domain at a time.
type Days interface {
	// ClaimDay takes the day that is longest due, until the lease ends; false for none.
	ClaimDay(ctx context.Context, now, until time.Time) (Claim, bool, error)
	// DayCounts gives the rows of a day and domain, in the order of What, and how many more
	// messages there were.
	DayCounts(ctx context.Context, day time.Time, domain string) (rows []Count, overflow int64, err error)
	// SettleDay ends a claim, durably, or gives ErrClaimLost.
	SettleDay(ctx context.Context, c Claim, s Settlement) error
	// ForgetCounts removes the days before one, in small steps.
	ForgetCounts(ctx context.Context, before time.Time) error
	// PendingDays gives up to limit days, the newest first.
	PendingDays(ctx context.Context, limit int) ([]Pending, error)
}
