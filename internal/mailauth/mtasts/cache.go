package mtasts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"mxward/internal/dns"
)

// Times and sizes of the cache.
const (
	retryAfter   = 5 * time.Minute     // RFC 8461 §3.3: between fetches of one policy that fail
	refreshAfter = 24 * time.Hour      // RFC 8461 §3.3: once per day; a policy that ends sooner, at its half
	refreshAgain = time.Hour           // ours: after a refresh that failed
	unusedAfter  = 90 * 24 * time.Hour // ours: a policy that nobody needed is not refreshed
	refreshEach  = 10 * time.Minute    // ours: how often Run looks for work
	refreshBatch = 100                 // ours: policies refreshed each time
	maxFailures  = 10_000              // ours: failed fetches that are remembered
)

// Entry is a policy that was fetched. It holds until Expires, whatever becomes of the
// domain's record or web server (RFC 8461 §3.3).
type Entry struct {
	Domain  dns.Name
	ID      string // of the record when it was fetched
	Policy  Policy
	Fetched time.Time
	Used    time.Time // when somebody needed it, to a day
	Due     time.Time // when it is fetched again, or tried to be
}

// Expires is when the policy ends unless it is fetched anew.
func (e Entry) Expires() time.Time { return e.Fetched.Add(e.Policy.MaxAge) }

// Store keeps entries, one for each domain. Losing one early opens a door for whoever
// blocks the next fetch, so a store that can outlive the process is better.
type Store interface {
	// Policy gives the entry of a domain, an expired one too; false where there is none. An
	// error means that nobody knows.
	Policy(ctx context.Context, domain dns.Name) (Entry, bool, error)
	// SavePolicy puts an entry in place of the domain's.
	SavePolicy(ctx context.Context, e Entry) error
	// DuePolicies gives up to limit entries whose Due has come, the longest due first.
	DuePolicies(ctx context.Context, now time.Time, limit int) ([]Entry, error)
	// ForgetPolicies drops what has expired before a time.
	ForgetPolicies(ctx context.Context, now time.Time) error
}

// source is what a Cache needs of a Fetcher.
type source interface {
	Record(ctx context.Context, domain dns.Name) (Record, error)
	Fetch(ctx context.Context, domain dns.Name) (Fetched, error)
}

// Cache gives the policies of other domains. It is safe for use by several goroutines.
type Cache struct {
	Source source // a *Fetcher
	Store  Store
	Logger *slog.Logger // hears of refreshes that fail (RFC 8461 §3.3); nil: nobody does

	mu     sync.Mutex
	calls  map[dns.Name]*call
	failed map[attempt]time.Time
}

// Found is what is known of a domain.
type Found struct {
	Policy  Policy // the zero Policy where Known is false
	Known   bool
	ID      string
	Expires time.Time
	// Trouble is why nothing newer is known, or why nothing is: an *Error, or one of the
	// store. Mail goes on by Policy all the same, and without one as if there were no
	// MTA-STS (RFC 8461 §3.3).
	Trouble error
}

type attempt struct {
	domain dns.Name
	id     string
}

type call struct {
	done  chan struct{}
	found Found
	err   error
}

// Policy gives the policy that mail to a domain obeys now: the one that was kept, or a newer
// one if the domain's record has another id (RFC 8461 §5.1). The record is asked for each
// time, so that a change is seen before mail fails for good.
//
// The error means that nobody knows whether there is a policy that was promised to hold: the
// store failed, or ctx ended. Mail waits then.
func (c *Cache) Policy(ctx context.Context, domain dns.Name) (Found, error) {
	return c.share(ctx, domain, func(ctx context.Context) (Found, error) { return c.policy(ctx, domain, false) })
}

// share makes one call for all who ask for a domain at the same time. The call goes on if
// one of them gives up; its own time-outs end it.
func (c *Cache) share(ctx context.Context, domain dns.Name, run func(context.Context) (Found, error)) (Found, error) {
	c.mu.Lock()
	one, ok := c.calls[domain]
	if !ok {
		one = &call{done: make(chan struct{})}
		if c.calls == nil {
			c.calls = map[dns.Name]*call{}
		}
		c.calls[domain] = one
		go func() {
			// RFC 8461 §3.3 gives the fetch a minute; the DNS and the store have as much again.
			inner, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*fetchTimeout)
			defer cancel()
			one.found, one.err = guarded(func() (Found, error) { return run(inner) })
			c.mu.Lock()
			delete(c.calls, domain)
			c.mu.Unlock()
			close(one.done)
		}()
	}
	c.mu.Unlock()
	select {
	case <-one.done:
		return one.found, one.err
	case <-ctx.Done():
		return Found{}, fmt.Errorf("look for the MTA-STS policy of %s: %w", domain, ctx.Err())
	}
}

// guarded keeps a fault of ours from ending the program.
func guarded(run func() (Found, error)) (f Found, err error) {
	defer func() {
		if p := recover(); p != nil {
			f, err = Found{}, fmt.Errorf("look for an MTA-STS policy: fault of the program: %v", p)
		}
	}()
	return run()
}

// policy is one look. With renew, a policy whose id has not changed is fetched too.
func (c *Cache) policy(ctx context.Context, domain dns.Name, renew bool) (Found, error) {
	entry, had, err := c.Store.Policy(ctx, domain)
	if err != nil {
		return Found{}, fmt.Errorf("look for the MTA-STS policy of %s: %w", domain, err)
	}
	now := time.Now()
	had = had && now.Before(entry.Expires())
	kept := Found{}
	if had {
		kept = Found{Policy: entry.Policy, Known: true, ID: entry.ID, Expires: entry.Expires()}
	}
	record, err := c.Source.Record(ctx, domain)
	switch {
	case errors.Is(err, ErrNone) && !had:
		return kept, nil
	case err != nil:
		kept.Trouble = err // and the policy holds, though the record has vanished
	case had && entry.ID == record.ID && !renew:
	case c.failedBefore(attempt{domain, record.ID}, now):
		kept.Trouble = &Error{Class: ErrTemporary, ID: "mtasts.https-error", Fault: "the policy could not be fetched a moment ago, and is not asked for again so soon"}
	default:
		got, err := c.Source.Fetch(ctx, domain)
		if err == nil {
			e := Entry{Domain: domain, ID: record.ID, Policy: got.Policy, Fetched: now, Used: now, Due: now.Add(min(refreshAfter, got.Policy.MaxAge/2))}
			if renew {
				e.Used = entry.Used
			}
			return Found{Policy: e.Policy, Known: true, ID: e.ID, Expires: e.Expires(), Trouble: c.Store.SavePolicy(ctx, e)}, nil
		}
		c.noteFailure(attempt{domain, record.ID}, now)
		kept.Trouble = err
	}
	// RFC 8461 §3.3 has no word for a policy whose record is gone: it holds, and ends.
	if had && renew {
		entry.Due = now.Add(refreshAgain)
		kept.Trouble = cmp.Or(kept.Trouble, c.Store.SavePolicy(ctx, entry))
	} else if had && now.Sub(entry.Used) > refreshAfter {
		entry.Used, entry.Due = now, now
		kept.Trouble = cmp.Or(kept.Trouble, c.Store.SavePolicy(ctx, entry))
	}
	return kept, nil
}

func (c *Cache) failedBefore(a attempt, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.failed[a]
	return ok && now.Sub(at) < retryAfter
}

func (c *Cache) noteFailure(a attempt, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil || len(c.failed) >= maxFailures {
		c.failed = map[attempt]time.Time{}
	}
	c.failed[a] = now
}

// Run refreshes policies before they end, so that nobody can wait for that moment
// (RFC 8461 §3.3), until ctx ends.
func (c *Cache) Run(ctx context.Context) {
	tick := time.NewTicker(refreshEach)
	defer tick.Stop()
	for {
		c.refresh(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (c *Cache) refresh(ctx context.Context) {
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	now := time.Now()
	if err := c.Store.ForgetPolicies(ctx, now); err != nil {
		log.Warn("mta-sts policies that have ended stay", "err", err)
	}
	due, err := c.Store.DuePolicies(ctx, now, refreshBatch)
	if err != nil {
		log.Warn("mta-sts policies are not refreshed", "err", err)
		return
	}
	for _, e := range due {
		if ctx.Err() != nil {
			return
		}
		if err := c.renew(ctx, e, now); err != nil && e.Policy.Mode != None {
			log.Warn("an mta-sts policy is not refreshed", "domain", e.Domain.String(), "expires", e.Expires(), "err", err)
		}
	}
}

// renew fetches a policy again; one that nobody needed for long is left until it ends.
func (c *Cache) renew(ctx context.Context, e Entry, now time.Time) error {
	if now.Sub(e.Used) > unusedAfter {
		e.Due = e.Expires()
		return c.Store.SavePolicy(ctx, e)
	}
	found, err := c.share(ctx, e.Domain, func(ctx context.Context) (Found, error) { return c.policy(ctx, e.Domain, true) })
	return cmp.Or(err, found.Trouble)
}
