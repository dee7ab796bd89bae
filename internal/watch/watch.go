// Package watch looks at a site's own domains every so often, and tells what has changed: in
// the log, in numbers, and by mail (RFC 5322, RFC 3834). The looking is somebody else's
// (package audit); here is what was told already, what was seen only once, and what ends soon.
//
// What could not be asked is neither better nor worse, and trouble of our own side is no change
// of a domain. A change counts when two looks in a row have seen it; only what is critical and
// was confirmed in the first one is told at once.
//
// Not implemented: summaries of each day or week, and a way to stop what is told of by hand but
// for a baseline.
package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"mxward/internal/audit"
	"mxward/internal/audit/render"
	"mxward/internal/dns"
)

// Times of the watch; ours.
const (
	Interval  = time.Hour        // between two looks at a domain, where nothing else is said
	again     = 5 * time.Minute  // until the second look at what was seen once
	rest      = time.Minute      // the longest time without looking at what is to be done
	resend    = 5 * time.Minute  // after a message could not be sent
	sendTime  = 2 * time.Minute  // of one message, to the queue
	relayTime = 15 * time.Minute // to a relay, of whose time ten minutes are for the dot (RFC 5321 §4.5.3.2.6)
	storeTime = 20 * time.Second

	// leaseTime is how long a gate that shares its store watches without a sign of life; more
	// than a look and the sending after it take. settle is how long it waits to see whether
	// another took the watch in the same moment.
	leaseTime = 10 * time.Minute
	settle    = 3 * time.Second
)

// Watcher watches domains. Check and Domains must be set. Its state is one goroutine's, that of
// Run or Once; Numbers may be called from any.
type Watcher struct {
	Domains []dns.Name
	// Check looks at a domain. What a baseline names is marked in what it gives.
	Check    func(ctx context.Context, domain dns.Name) render.Report
	Known    audit.Baseline // that baseline: entries of it that match nothing are told
	Interval time.Duration  // 0: an hour
	Least    audit.Severity // what is milder is not told; "": a warning
	Store    Store          // nil: what is known ends with the process
	// Gate is this machine's name where several share the store, of which one watches.
	Gate   string
	Mail   *Mail // nil: nobody gets mail
	Logger *slog.Logger

	vain     vain
	state    *state // nil while this process does not watch
	met      met
	due      map[dns.Name]time.Time
	postFrom time.Time // no message is sent before

	mu      sync.Mutex // guards the rest
	numbers map[dns.Name]Number
	changes map[Turn]int64
	unsent  int
}

// Open reads the state, so that one that cannot be read is known before anything is done.
func (w *Watcher) Open(ctx context.Context) error {
	_, err := w.hold(ctx, time.Now())
	return err
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if wait := w.step(ctx); wait > 0 {
			pause(ctx, wait)
		}
	}
	w.release(ctx)
}

// Once looks at each domain once, and gives what was found. The error is one of the state or of
// sending; ctx may have ended before all of them.
func (w *Watcher) Once(ctx context.Context) (all []render.Report, err error) {
	if held, err := w.hold(ctx, time.Now()); err != nil || !held {
		return nil, err
	}
	for _, domain := range w.Domains {
		if r, ok := w.look(ctx, domain); ok {
			all = append(all, r)
		}
		if w.state == nil {
			return all, errTaken
		}
	}
	if err := w.keep(ctx); err != nil {
		return all, err
	}
	return all, w.post(ctx)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// step does what is due, and gives how long there is nothing to do.
func (w *Watcher) step(ctx context.Context) time.Duration {
	now := time.Now()
	held, err := w.hold(ctx, now)
	if err != nil {
		newEvents(w.Logger).state(err)
	}
	if !held {
		return rest
	}
	domain, at := w.next()
	if wait := at.Sub(now); wait > 0 || domain.IsZero() {
		w.sendWaiting(ctx, now)
		return max(min(cmp.Or(wait, rest), rest), time.Millisecond)
	}
	_, ok := w.look(ctx, domain)
	if ctx.Err() != nil || w.state == nil {
		return 0
	}
	w.due[domain] = now.Add(jitter(w.interval()))
	if !ok {
		return 0
	}
	if w.state.domain(domain).soon {
		w.due[domain] = time.Now().Add(again)
	}
	if err := w.keep(ctx); err != nil {
		newEvents(w.Logger).state(err)
		w.lost()
		return 0
	}
	w.sendWaiting(ctx, time.Now())
	return 0
}

func (w *Watcher) interval() time.Duration { return cmp.Or(w.Interval, Interval) }

// jitter keeps looks from falling into step with what others do by the clock.
func jitter(d time.Duration) time.Duration { return d*9/10 + rand.N(d/5+1) }

// next gives the domain that is due first, and when.
func (w *Watcher) next() (domain dns.Name, at time.Time) {
	for _, d := range w.Domains {
		if domain.IsZero() || w.due[d].Before(at) {
			domain, at = d, w.due[d]
		}
	}
	return domain, at
}

// schedule spreads the domains over the interval. Those that were looked at before a restart
// wait for their time; of the others, those come first that wait longest.
func (w *Watcher) schedule(now time.Time) {
	w.due = map[dns.Name]time.Time{}
	looked := func(d dns.Name) time.Time { return w.state.domain(d).Looked }
	order := slices.SortedStableFunc(slices.Values(w.Domains), func(a, b dns.Name) int { return looked(a).Compare(looked(b)) })
	for i, d := range order {
		known := w.state.domain(d)
		wait := w.interval()
		if known.suspects() {
			wait = again
		}
		switch at := known.Looked.Add(wait); {
		case at.Before(now):
			w.due[d] = now.Add(w.interval() * time.Duration(i) / time.Duration(len(order)))
		case at.After(now.Add(wait)): // the clock was wrong then
			w.due[d] = now.Add(wait)
		default:
			w.due[d] = at
		}
	}
}

// look looks at a domain and notes what has changed; false where nothing came of it.
func (w *Watcher) look(ctx context.Context, domain dns.Name) (render.Report, bool) {
	report, ok := w.check(ctx, domain)
	if !ok || ctx.Err() != nil { // what is left would only be unknown
		return report, false
	}
	if w.Gate != "" && !time.Now().Before(w.state.Until) { // another may watch by now
		w.lost()
		return report, false
	}
	changes := w.state.domain(domain).take(report, cmp.Or(w.Least, audit.Warning))
	log := newEvents(w.Logger)
	log.looked(report)
	for _, e := range w.vain.take(w.Known, w.Domains, report, time.Now()) {
		log.inVain(w.Known.File, e)
	}
	for _, c := range changes {
		log.changed(c)
	}
	w.state.keep(changes, w.Mail != nil)
	w.count(report, changes)
	return report, true
}

// check ends a panic at the boundary of one look.
func (w *Watcher) check(ctx context.Context, domain dns.Name) (r render.Report, ok bool) {
	defer func() {
		if v := recover(); v != nil {
			newEvents(w.Logger).panicked(domain, fmt.Sprintf("%v\n%s", v, debug.Stack()))
			ok = false
		}
	}()
	return w.Check(ctx, domain), true
}

// sendWaiting sends what nobody was told yet, unless that has just failed.
func (w *Watcher) sendWaiting(ctx context.Context, now time.Time) {
	if now.Before(w.postFrom) {
		return
	}
	if err := w.post(ctx); err != nil && !errors.Is(err, ErrRefused) {
		w.postFrom = time.Now().Add(resend)
	}
}

// post sends one message with all that nobody was told yet, and forgets it then. What is
// forgotten was sent, or refused for ever: a crash in between sends it twice.
func (w *Watcher) post(ctx context.Context) error {
	if w.Mail == nil || len(w.state.Unsent) == 0 {
		return nil
	}
	log := newEvents(w.Logger)
	if err := w.owned(ctx); err != nil { // then another may have sent it
		log.state(err)
		return err
	}
	within := sendTime
	if w.Gate == "" { // no lease ends meanwhile
		within = relayTime
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	failed := w.Mail.send(ctx, time.Now(), w.state.Unsent, w.state.More)
	switch {
	case errors.Is(failed, ErrRefused):
		log.dropped(w.state.Unsent, failed)
		failed = fmt.Errorf("send what has changed, which is in the log alone now: %w", failed)
	case failed != nil:
		log.unsent(len(w.state.Unsent), failed)
		return fmt.Errorf("send what has changed: %w", failed)
	default:
		log.sent(len(w.state.Unsent), w.Mail.To)
	}
	w.state.Unsent, w.state.More = nil, 0
	w.waiting(0)
	if err := w.keep(ctx); err != nil {
		log.state(err)
	}
	return failed
}
