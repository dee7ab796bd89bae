package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/attach"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/dmarcrpt"
	"mxward/internal/queue"
)

// Limits and times of sending, all ours.
const (
	MaxDestinations = 10          // URIs of a policy that are served (RFC 9990 §3.5 leaves it to the receiver)
	maxMessage      = 10 << 20    // octets of a report's message; most hosts take that much
	maxSplits       = 8           // how often a report that is too large is halved
	sendWorkers     = 4           // reports in the making at once: they wait for the DNS
	sendEach        = time.Minute // how often a worker looks for what is due
	claimTime       = 15 * time.Minute
	handleTime      = 12 * time.Minute // of one report: below the lease
	giveUp          = 72 * time.Hour   // after the day's end: nobody waits longer for DNS trouble to end
	firstRetry      = 15 * time.Minute
	longestRetry    = 4 * time.Hour
	maxAttempts     = 50 // more than retries take: each of them ended without a word
	settleTime      = 10 * time.Second
	CountAge        = 8 * day // how long counts are kept, for people to look at
)

// Queue is what sending needs of the queue's store.
type Queue interface {
	Enqueue(ctx context.Context, now time.Time, m queue.Message) error
	queue.Bodies
}

// Sender makes the reports of days that have ended and hands them to the queue. Several of
// them, in several processes, share the work by the store's claims.
type Sender struct {
	Days     Days
	Queue    Queue
	Resolver dns.Resolver
	By       dmarcrpt.Reporter
	From     mail.Address // whose domain the reports are aligned with
	Sign     *dkim.Signer // nil: SPF alone makes them authentic (RFC 9990 §3.5.2 wants an aligned pass)
	Wake     func()       // after each message for the queue; may be nil
	Logger   *slog.Logger

	sent, postponed, dropped atomic.Int64
}

// Outcomes tells how many days' reports were sent since the start, put off, and given up.
func (s *Sender) Outcomes() (sent, postponed, dropped int64) {
	return s.sent.Load(), s.postponed.Load(), s.dropped.Load()
}

// Run sends what is due until ctx ends.
func (s *Sender) Run(ctx context.Context) {
	for ctx.Err() == nil {
		s.sendAll(ctx)
		pause(ctx, sendEach/2+rand.N(sendEach))
	}
}

// sendAll sends what is due now; where that is more than one, several at once.
func (s *Sender) sendAll(ctx context.Context) {
	found := false
	s.guard("send reports", func() { found = s.one(ctx, time.Now()) })
	if !found {
		return
	}
	var workers sync.WaitGroup
	for range sendWorkers {
		workers.Go(func() { s.guard("send reports", func() { s.Send(ctx, time.Now()) }) })
	}
	workers.Wait()
}

// guard ends a panic at the boundary of one piece of work; what was claimed comes again when
// the lease ends.
func (s *Sender) guard(work string, do func()) {
	defer func() {
		if value := recover(); value != nil {
			newEvents(s.Logger).panicked(work, value)
		}
	}()
	do()
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Send sends all that is due at a time, and tells how many days it dealt with.
func (s *Sender) Send(ctx context.Context, now time.Time) (days int) {
	for began := time.Now(); s.one(ctx, now.Add(time.Since(began))); days++ {
	}
	return days
}

// one deals with the day that is longest due; false where there is none.
func (s *Sender) one(ctx context.Context, now time.Time) bool {
	c, ok, err := s.Days.ClaimDay(ctx, now, now.Add(claimTime))
	if err != nil && ctx.Err() == nil {
		newEvents(s.Logger).counts(0, err)
	}
	if err != nil || !ok {
		return false
	}
	o := s.report(ctx, now, c)
	if ctx.Err() != nil && len(o.Sent) == len(c.Sent) {
		return false // nothing has happened, and the lease ends by itself
	}
	// What is in the queue is noted, though the program is about to end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	s.settle(ctx, c, o)
	return true
}

// settle records an outcome and tells of it.
func (s *Sender) settle(ctx context.Context, c Claim, o outcome) {
	err := s.Days.SettleDay(ctx, c, o.Settlement)
	if err != nil {
		newEvents(s.Logger).unsettled(c, o, err)
		return
	}
	switch {
	case !o.Next.IsZero():
		s.postponed.Add(1)
	case len(o.Sent) == 0:
		s.dropped.Add(1)
	default:
		s.sent.Add(1)
	}
	newEvents(s.Logger).settled(c, o)
}

// outcome is a Settlement and what the log tells besides.
type outcome struct {
	Settlement
	failed   bool // else nobody wants the report, or who was named has not agreed to get it
	id       string
	messages int64
}

// report makes the report of a day and hands it to the queue.
func (s *Sender) report(ctx context.Context, now time.Time, c Claim) outcome {
	// A report that ends the gate each time, or whose end the store does not note, must not be
	// made, and sent, every quarter of an hour for days.
	if c.Attempt > maxAttempts {
		return outcome{Settlement: Settlement{Sent: c.Sent, Outcome: fmt.Sprintf("given up after %d attempts", maxAttempts)}, failed: true}
	}
	ctx, cancel := context.WithTimeout(ctx, handleTime)
	defer cancel()
	d := s.destinations(ctx, c.Domain)
	o := outcome{Settlement: Settlement{Sent: c.Sent}}
	to := slices.DeleteFunc(d.to, func(a mail.Address) bool { return slices.Contains(c.Sent, a.String()) })
	if len(to) > 0 {
		id, messages, err := s.enqueue(ctx, c, to)
		o.id, o.messages = id, messages
		switch {
		case errors.Is(err, errNothing):
			o.failed, d.troubles = true, append(d.troubles, err.Error())
		case err != nil:
			d.temporary, d.troubles = true, append(d.troubles, err.Error())
		default:
			for _, a := range to {
				o.Sent = append(o.Sent, a.String())
			}
		}
	}
	o.Outcome = strings.Join(d.troubles, "; ")
	switch {
	case o.Outcome != "":
	case len(o.Sent) == 0:
		o.Outcome = "nobody takes it by mail"
	default:
		o.Outcome = "sent"
	}
	if d.temporary {
		o.failed, o.Next = true, next(c, now)
	}
	return o
}

// next gives the time of the next attempt, zero where there shall be none.
func next(c Claim, now time.Time) time.Time {
	wait := min(firstRetry<<min(c.Attempt-1, 10), longestRetry)
	// With jitter: DNS trouble that many domains share must not bring them all back at once.
	at := now.Add(wait/2 + rand.N(wait))
	if end := c.Day.Add(day + giveUp); at.After(end) {
		return time.Time{}
	}
	return at
}

// errNothing: trying again is no use.
var errNothing = errors.New("there is no report")

// enqueue hands the report to the queue, as one message for all.
func (s *Sender) enqueue(ctx context.Context, c Claim, to []mail.Address) (id string, messages int64, err error) {
	rows, overflow, err := s.Days.DayCounts(ctx, c.Day, c.Domain)
	if err != nil {
		return "", 0, err
	}
	reports := dmarcrpt.Build(s.By, s.observations(rows))
	if len(reports) != 1 {
		return "", 0, fmt.Errorf("%w: of %d messages none could be told apart", errNothing, overflow)
	}
	r := reports[0]
	if overflow > 0 {
		r.Errors = append(r.Errors, fmt.Sprintf("%d messages more are not in this report: there was no room to tell them apart", overflow))
	}
	for _, record := range r.Records {
		messages += record.Count
	}
	return r.ID, messages, s.mail(ctx, r, to, maxSplits)
}

// observations reads the rows; one that cannot be read is left out, and told of.
func (s *Sender) observations(rows []Count) iter.Seq[dmarcrpt.Observation] {
	return func(yield func(dmarcrpt.Observation) bool) {
		for _, row := range rows {
			o, err := row.Observation()
			if err != nil {
				newEvents(s.Logger).counts(row.Messages, err)
				continue
			}
			if !yield(o) {
				return
			}
		}
	}
}

// mail writes, signs and enqueues a report, in parts where it is too large.
func (s *Sender) mail(ctx context.Context, r dmarcrpt.Report, to []mail.Address, splits int) error {
	var text bytes.Buffer
	err := r.WriteMessage(&text, dmarcrpt.Envelope{Receiver: s.By.Receiver, From: s.From, To: to, Date: time.Now(), Limit: maxMessage})
	if errors.Is(err, attach.ErrTooLarge) && splits > 0 {
		first, second, ok := r.Split()
		if ok {
			return errors.Join(s.mail(ctx, first, to, splits-1), s.mail(ctx, second, to, splits-1))
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNothing, err)
	}
	signature := ""
	if s.Sign != nil {
		if signature, err = dkim.Sign(bytes.NewReader(text.Bytes()), *s.Sign); err != nil {
			return fmt.Errorf("%w: %w", errNothing, err)
		}
	}
	return s.hand(ctx, []byte(signature), text.Bytes(), to)
}

// hand enqueues a message. Its envelope's sender is the report's: that SPF has something
// aligned to say (RFC 9990 §3.5.2). Who does not take it need not tell: reports to nobody are
// common, and their bounces would be counted, and reported, in their turn.
func (s *Sender) hand(ctx context.Context, head, text []byte, to []mail.Address) error {
	env := mail.Envelope{From: mail.Path{Address: s.From}}
	for _, a := range to {
		env.Recipients = append(env.Recipients, mail.Recipient{Address: a, Notify: mail.Notify{Never: true}})
		env.UTF8 = env.UTF8 || !a.IsASCII()
	}
	if err := Enqueue(ctx, s.Queue, env, head, text); err != nil {
		return fmt.Errorf("enqueue a report: %w", err)
	}
	if s.Wake != nil {
		s.Wake()
	}
	return nil
}

// where is where a report goes.
type where struct {
	to        []mail.Address
	temporary bool     // the DNS could not say all of it
	troubles  []string // why somebody does not get it, for people
}

// destinations asks the policy anew, and whoever is named by it. It is the policy of now
// that counts, not the one that each message found (RFC 9990 §3.3 leaves the choice): who has
// taken his rua back since, or has mended it, means that for the reports still to come.
func (s *Sender) destinations(ctx context.Context, domain string) (w where) {
	trouble := func(format string, args ...any) { w.troubles = append(w.troubles, fmt.Sprintf(format, args...)) }
	policy, err := dns.ParseName(domain)
	if err != nil {
		trouble("%v", err)
		return w
	}
	record := dmarc.Discover(ctx, s.Resolver, policy).Steps[0] // its own, whatever stands above
	switch {
	case errors.Is(record.Err, dmarc.ErrTemporary):
		w.temporary = true
		trouble("the policy: %v", record.Err)
		return w
	case record.Err != nil || !record.Found():
		trouble("%s has no DMARC policy any more", domain)
		return w
	case !slices.ContainsFunc(record.Record.RUA, isMailbox):
		trouble("%s wants no reports by mail any more", domain)
		return w
	}
	uris := slices.DeleteFunc(record.Record.RUA, func(u dmarc.URI) bool { return !isMailbox(u) })
	for _, uri := range uris[:min(len(uris), MaxDestinations)] {
		a := dmarc.Authorised(ctx, s.Resolver, policy, uri) // RFC 9990 §4
		switch {
		case a.Err != nil:
			w.temporary = true
			trouble("%s", a)
		case !a.Allowed:
			trouble("%s", a)
		case a.RUA != nil:
			w.add(a.RUA...)
		default:
			w.add(uri)
		}
	}
	return w
}

// add takes mailboxes, each once.
func (w *where) add(uris ...dmarc.URI) {
	for _, u := range uris {
		a, ok := u.Mailbox()
		if ok && !slices.Contains(w.to, a) && len(w.to) < MaxDestinations {
			w.to = append(w.to, a)
		}
	}
}
