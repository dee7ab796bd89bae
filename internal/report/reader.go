package report

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/queue"
)

// Limits of the reading of reports, all ours.
const (
	// For the one reading at a time: reports of others may be large. Who waits has one of the
	// few attempts that the queue makes at once for a destination, and other mail goes there, too.
	slotWait = time.Second
	keepWait = 20 * time.Second
)

// Reader is a Deliverer in front of the true one: a message for one of the addresses to
// which reports come is read on its way, and delivered as any other. Whatever is in it, and
// whatever the store says, changes nothing of that; a message may wait for its turn to be
// read, and come again then. It is read again at each attempt, and stored once.
type Reader struct {
	Next      queue.Deliverer
	Reports   Reports
	Addresses []mail.Address
	ID        dns.Name // in whose name our results stand above the message (RFC 8601 §2.5)
	Logger    *slog.Logger

	once sync.Once
	slot chan struct{}

	kept, known, forged, full, share, unreadable, unkept atomic.Int64
}

// Counts tells what became of reports since the start: stored as authentic, or as perhaps
// forged, there already, without room, beyond their reporter's share of it, not to be read, and
// not taken by the store.
func (r *Reader) Counts() map[string]int64 {
	return map[string]int64{
		"kept": r.kept.Load(), "forged": r.forged.Load(), "known": r.known.Load(),
		"full": r.full.Load(), "share": r.share.Load(), "unreadable": r.unreadable.Load(), "failed": r.unkept.Load(),
	}
}

// Deliver implements queue.Deliverer.
func (r *Reader) Deliver(ctx context.Context, env mail.Envelope, open func() io.ReadCloser) []mail.Outcome {
	if r.isFor(env.Recipients) && !r.pass(ctx, env.From, open) {
		return busy(env.Recipients)
	}
	return r.Next.Deliver(ctx, env, open)
}

func (r *Reader) isFor(recipients []mail.Recipient) bool {
	for _, to := range recipients {
		if Contains(r.Addresses, to.Address) {
			return true
		}
	}
	return false
}

// Contains reports whether an address is one of ours, whose local parts do not differ by
// case alone.
func Contains(ours []mail.Address, a mail.Address) bool {
	for _, b := range ours {
		if a.Domain == b.Domain && strings.EqualFold(a.Local, b.Local) {
			return true
		}
	}
	return false
}

// pass reads a message; false where others are being read for too long.
func (r *Reader) pass(ctx context.Context, sender mail.Path, open func() io.ReadCloser) bool {
	r.once.Do(func() { r.slot = make(chan struct{}, 1) })
	timer := time.NewTimer(slotWait)
	defer timer.Stop()
	select {
	case r.slot <- struct{}{}:
	case <-timer.C:
		return false
	case <-ctx.Done():
		return false
	}
	defer func() { <-r.slot }()
	defer func() {
		if value := recover(); value != nil {
			r.unreadable.Add(1)
			newEvents(r.Logger).panicked("read a report", value)
		}
	}()
	r.read(ctx, sender, open)
	return true
}

func busy(recipients []mail.Recipient) []mail.Outcome {
	outcomes := make([]mail.Outcome, len(recipients))
	for i, to := range recipients {
		outcomes[i] = mail.Outcome{
			Recipient: to.Address, Status: mail.Deferred, Stage: mail.StageDeliver, When: time.Now(),
			Reply: mail.NewReply(451, 3, 2, "other reports are being read; this one waits for its turn"),
		}
	}
	return outcomes
}

// read stores the reports of a message.
func (r *Reader) read(ctx context.Context, sender mail.Path, open func() io.ReadCloser) {
	from, err := r.origin(sender, open)
	if err != nil {
		r.failed(from, err)
		return
	}
	body := open()
	defer body.Close()
	found, err := Parse(body)
	if err != nil {
		r.failed(from, err)
		return
	}
	now := time.Now()
	var all []Received
	take := func(one Received, err error) {
		if err != nil {
			r.failed(from, err)
			return
		}
		one.At = now
		all = append(all, one.by(from.domain, from.authentic))
	}
	for _, a := range found.Aggregate {
		take(newAggregate(a))
	}
	for _, t := range found.TLS {
		take(newTLS(t))
	}
	for _, f := range found.Failures {
		take(newFailure(f, now))
	}
	for _, one := range all {
		r.keep(ctx, one)
	}
}

func (r *Reader) keep(ctx context.Context, one Received) {
	ctx, cancel := context.WithTimeout(ctx, keepWait)
	defer cancel()
	kept, err := r.Reports.KeepReport(ctx, KeepUsual(), one)
	result := "kept"
	switch {
	case errors.Is(err, ErrFull):
		result = "full"
		r.full.Add(1)
	case errors.Is(err, ErrShare):
		result = "share"
		r.share.Add(1)
	case err != nil:
		result = "failed"
		r.unkept.Add(1)
	case !kept:
		result = "known"
		r.known.Add(1)
	case one.Authentic:
		r.kept.Add(1)
	default:
		r.forged.Add(1)
	}
	newEvents(r.Logger).received(one, result, err)
}

// failed counts a message without a report that can be read.
func (r *Reader) failed(from origin, err error) {
	r.unreadable.Add(1)
	newEvents(r.Logger).unread(from, err)
}

// origin is whose message it is, and whether that is sure.
type origin struct {
	domain    string
	authentic bool
}

// origin reads what the gate wrote above the message when it took it: the first
// Authentication-Results in our name, for those that came with a message were taken out.
// What has no Received on top was never taken from anybody: it is a report of our own, or a
// notice, which has the null sender, and may give back what a stranger wrote.
func (r *Reader) origin(sender mail.Path, open func() io.ReadCloser) (origin, error) {
	body := open()
	defer body.Close()
	header, err := mail.ReadHeader(bufio.NewReader(body))
	if err != nil {
		return origin{}, fmt.Errorf("read the header of a report: %w", err)
	}
	if len(header) > 0 && !header[0].Is("Received") {
		return origin{sender.Address.Domain.String(), !sender.IsNull()}, nil
	}
	for _, field := range header.All(mailauth.FieldName) {
		f, err := mailauth.Parse(field.Value())
		if err == nil && f.ID == r.ID.String() {
			return judged(f), nil
		}
	}
	return origin{}, nil
}

// judged takes what DMARC said.
func judged(f mailauth.Field) (o origin) {
	for _, info := range f.Infos {
		if info.Method != "dmarc" {
			continue
		}
		for _, p := range info.Properties {
			if p.Type == "header" && p.Name == "from" {
				o.domain = p.Value
			}
		}
		o.authentic = info.Result == string(dmarc.Pass) && o.domain != ""
	}
	return o
}
