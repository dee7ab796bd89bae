package report

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/dmarcrpt"
)

// Limits of what is gathered in memory, all ours. Nobody waits for a count: what has no
// place is a number.
const (
	maxGathered  = 20_000 // different rows; 40 MB if all were as long as they may be, and 10 usually
	flushEach    = 10 * time.Second
	flushBatch   = 100 // rows of one transaction: mail waits for it
	flushTimeout = 10 * time.Second
	closeTimeout = 15 * time.Second // of what is left at the end

	maxSignatures = 10  // of a message; dmarc looks at as many
	maxName       = 255 // octets of a name that a stranger wrote (RFC 1035 §2.3.4)
)

// Message is a message that was taken.
type Message struct {
	Time         time.Time
	Client       netip.Addr
	EnvelopeFrom string // without angle brackets; "" is the null sender
	Results      mailauth.Results
}

// Observe gives what a report says of the message; false where nobody wants one: the author's
// domain has no policy, or the policy names nobody who would get it. What is not reported to
// anybody is not counted, so that it takes nobody's room.
//
// The recipient's domain is left out, as RFC 9990 §3.1.1.10 allows: it would tell a domain's
// owner whom his senders write to, and make more rows.
func (m Message) Observe() (dmarcrpt.Observation, bool) {
	v := m.Results.DMARC
	d := v.Discovery
	if d.Err != nil || d.Domain.IsZero() || v.Author.IsZero() || !slices.ContainsFunc(d.Record.RUA, isMailbox) {
		return dmarcrpt.Observation{}, false
	}
	o := dmarcrpt.Observation{
		Time: m.Time, Source: m.Client.Unmap().WithZone(""), HeaderFrom: v.Author.String(),
		EnvelopeFrom: name(m.EnvelopeFrom[strings.LastIndexByte(m.EnvelopeFrom, '@')+1:]),
		Policy:       published(d),
	}
	_, o.SPFAligned = v.Aligned(dmarc.MethodSPF)
	_, o.DKIMAligned = v.Aligned(dmarc.MethodDKIM)
	if s := m.Results.SPF; s.Result != "" && s.Domain != "" {
		o.SPF = dmarcrpt.SPFResult{Domain: name(s.Domain), Scope: "mfrom", Result: string(s.Result)}
	}
	for _, s := range m.Results.DKIM {
		if !s.Domain.IsZero() && len(o.DKIM) < maxSignatures {
			o.DKIM = append(o.DKIM, dmarcrpt.DKIMResult{Domain: s.Domain.String(), Selector: name(s.Selector), Result: string(s.Result)})
		}
	}
	// Nothing is refused here for DMARC; what programs behind the gate do is not known.
	switch {
	case v.Result != dmarc.Fail:
	case v.Disposition != dmarc.None:
		o.Disposition, o.Reasons = "none", []dmarcrpt.Reason{{Type: "local_policy"}}
	case d.Record.Testing && d.Policy != dmarc.None:
		o.Disposition, o.Reasons = "none", []dmarcrpt.Reason{{Type: "policy_test_mode"}}
	}
	return o, true
}

func isMailbox(u dmarc.URI) bool { _, ok := u.Mailbox(); return ok }

// name cuts what a stranger wrote.
func name(s string) string {
	if len(s) > maxName {
		s = s[:maxName]
	}
	return strings.ToLower(strings.ToValidUTF8(s, "?"))
}

// published gives the policy as it is reported (RFC 9990 §3.1.1.5).
func published(d dmarc.Discovery) dmarcrpt.Policy {
	r := d.Record
	p := dmarcrpt.Policy{
		Domain: d.Domain.String(), P: string(r.P), SP: string(r.SP), NP: string(r.NP), Discovery: "treewalk",
		ADKIM: strictness(r.StrictDKIM), ASPF: strictness(r.StrictSPF), Testing: "n",
	}
	if r.Testing {
		p.Testing = "y"
	}
	var options []string
	for _, o := range r.FO {
		options = append(options, string(o))
	}
	p.FO = cmp.Or(strings.Join(options, ":"), string(dmarc.FailureAll)) // the default, as for the others
	return p
}

func strictness(strict bool) string {
	if strict {
		return "s"
	}
	return "r"
}

// Counter counts what a gate took. Add is quick, and waits for nothing; Run writes what has
// been gathered, every few seconds.
type Counter struct {
	Store    Counts
	Reporter dns.Name // whose reports it will be
	Logger   *slog.Logger

	mu     sync.Mutex
	rows   map[counted]*Count
	unkept int64 // messages that found no place in rows since the last flush

	counted, lost atomic.Int64
}

// counted is what makes a row one.
type counted struct {
	day          int64
	domain, what string
}

// Counted tells how many messages were counted since the start, and how many of them no
// report will tell of, because of a limit or a store that failed. Those in the overflow of
// a domain are not among the lost: the report gives their number.
func (c *Counter) Counted() (counted, lost int64) { return c.counted.Load(), c.lost.Load() }

// Add counts a message.
func (c *Counter) Add(m Message) {
	o, wanted := m.Observe()
	if !wanted {
		return
	}
	c.counted.Add(1)
	count, err := Of(o)
	if err != nil {
		c.lost.Add(1)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.put(count) {
		c.unkept += count.Messages
	}
}

// put adds to what is gathered, where there is room. The caller holds the lock.
func (c *Counter) put(count Count) bool {
	at := counted{count.Day.Unix(), count.Domain, count.What}
	if row := c.rows[at]; row != nil {
		row.Messages += count.Messages
		if count.Last.After(row.Last) {
			row.Last = count.Last
		}
		return true
	}
	if len(c.rows) >= maxGathered {
		return false
	}
	if c.rows == nil {
		c.rows = map[counted]*Count{}
	}
	c.rows[at] = &count
	return true
}

// Run writes what is gathered until ctx ends, and then what is left.
func (c *Counter) Run(ctx context.Context) {
	for {
		// With jitter, so that gates that share a store do not come all at once.
		timer := time.NewTimer(flushEach/2 + rand.N(flushEach))
		select {
		case <-timer.C:
			c.Flush(ctx)
		case <-ctx.Done():
			timer.Stop()
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			defer cancel()
			c.Flush(last)
			return
		}
	}
}

// Flush writes what is gathered now. What a failing store does not take is kept for the
// next time, as far as there is room.
func (c *Counter) Flush(ctx context.Context) {
	defer func() {
		if value := recover(); value != nil {
			newEvents(c.Logger).panicked("write counts for reports", value)
		}
	}()
	c.mu.Lock()
	rows, lost := c.rows, c.unkept
	c.rows, c.unkept = nil, 0
	c.mu.Unlock()
	counts := make([]Count, 0, len(rows))
	for _, row := range rows {
		counts = append(counts, *row)
	}
	var failed error
	for batch := range slices.Chunk(counts, flushBatch) {
		if failed == nil {
			var n int64
			n, failed = c.write(ctx, batch)
			lost += n
		}
		if failed != nil {
			lost += c.putBack(batch)
		}
	}
	c.lost.Add(lost)
	if lost > 0 || failed != nil {
		newEvents(c.Logger).counts(lost, failed)
	}
}

func (c *Counter) write(ctx context.Context, batch []Count) (lost int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	return c.Store.AddCounts(ctx, Usual(), c.Reporter.String(), batch)
}

func (c *Counter) putBack(batch []Count) (lost int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, count := range batch {
		if !c.put(count) {
			lost += count.Messages
		}
	}
	return lost
}
