package mtasts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
)

// world is a domain as a sender sees it.
type world struct {
	mu                sync.Mutex
	record            string // the id, or "none", "trouble", "broken"
	policy            Policy
	fails             error
	asked, fetched    int
	slow              time.Duration
	panics, storeDown bool
}

func (w *world) Record(context.Context, dns.Name) (Record, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	switch w.record {
	case "none":
		return Choose(nil)
	case "trouble":
		return Record{}, &Error{Class: ErrTemporary, Fault: "ask", Err: &dns.Error{Trouble: dns.NoReply}}
	case "broken":
		return Parse("v=STSv1; id=a-b")
	}
	return Record{w.record}, nil
}

func (w *world) Fetch(context.Context, dns.Name) (Fetched, error) {
	if w.panics {
		panic("test")
	}
	time.Sleep(w.slow)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fetched++
	return Fetched{Policy: w.policy}, w.fails
}

func (w *world) set(record string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.record = record
}

func (w *world) fetches() int {
	synctest.Wait() // a refresh may be on its way
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fetched
}

var errStore = errors.New("the store is down")

// downStore is a Store that may fail.
type downStore struct {
	Memory
	w *world
}

func (s *downStore) Policy(ctx context.Context, d dns.Name) (Entry, bool, error) {
	if s.w.storeDown {
		return Entry{}, false, errStore
	}
	return s.Memory.Policy(ctx, d)
}

func testPolicy(mode Mode) Policy {
	return Policy{Mode: mode, MX: []Pattern{{dns.MustName("mx1.example.com"), false}}, MaxAge: 10 * 24 * time.Hour}
}

// A domain's life, as its senders see it.
func TestCache(t *testing.T) {
	fetchFails := &Error{Class: ErrTemporary, ID: "mtasts.https-error", Fault: "no"}
	type step struct {
		wait    time.Duration
		change  func(w *world)
		want    Mode // "" for no policy
		fetched int  // in all, so far
		trouble bool
		why     string
	}
	for _, life := range [][]step{
		{
			{0, func(w *world) { w.record = "none" }, "", 0, false, "a domain without MTA-STS"},
			{0, func(w *world) { w.record = "1" }, Enforce, 1, false, "the policy is found"},
			{time.Hour, nil, Enforce, 1, false, "the same id: it is not fetched again"},
			{0, func(w *world) { w.record, w.policy = "2", testPolicy(Testing) }, Testing, 2, false, "another id: it is"},
			{0, func(w *world) { w.record, w.fails = "3", fetchFails }, Testing, 3, true, "a fetch that fails keeps the old one"},
			{time.Minute, nil, Testing, 3, true, "and is not repeated at once"},
			{5 * time.Minute, nil, Testing, 4, true, "but later"},
			{0, func(w *world) { w.record = "none" }, Testing, 4, true, "the record vanished: the policy holds"},
			{0, func(w *world) { w.record = "trouble" }, Testing, 4, true, "trouble of the DNS: the policy holds"},
			{0, func(w *world) { w.record = "broken" }, Testing, 4, true, "a broken record: the policy holds"},
			{11 * 24 * time.Hour, func(w *world) { w.record = "trouble" }, "", 4, true, "until its max_age has passed"},
			{0, func(w *world) { w.record = "none" }, "", 4, false, "then there is none"},
		},
		{
			{0, func(w *world) { w.record, w.fails = "1", fetchFails }, "", 1, true, "a record and no policy: as if there were no MTA-STS"},
			{0, func(w *world) { w.record = "2"; w.fails = nil }, Enforce, 2, false, "another id is another try"},
			{0, func(w *world) { w.record, w.policy = "3", Policy{Mode: None, MaxAge: time.Hour} }, None, 3, false, "the policy is taken back"},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{policy: testPolicy(Enforce)}
			c := &Cache{Source: w, Store: &Memory{}}
			for _, s := range life {
				time.Sleep(s.wait)
				if s.change != nil {
					s.change(w)
				}
				got, err := c.Policy(t.Context(), exampleCom)
				if err != nil || got.Policy.Mode != s.want || got.Known != (s.want != "") || w.fetched != s.fetched || (got.Trouble != nil) != s.trouble {
					t.Errorf("%s: %+v, %v, fetched %d", s.why, got, err, w.fetched)
				}
			}
		})
	}
}

// Where the store fails, nobody knows what was promised: that is an error, and mail waits.
func TestCacheStoreFails(t *testing.T) {
	w := &world{record: "1", policy: testPolicy(Enforce), storeDown: true}
	c := &Cache{Source: w, Store: &downStore{w: w}}
	if got, err := c.Policy(t.Context(), exampleCom); !errors.Is(err, errStore) || got.Known {
		t.Errorf("%+v, %v", got, err)
	}
	w.storeDown, w.panics = false, true
	if _, err := c.Policy(t.Context(), exampleCom); err == nil {
		t.Error("a fault of ours went unseen")
	}
}

// Many who ask at once make one fetch, and who gives up does not spoil it for the others.
func TestCacheShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{record: "1", policy: testPolicy(Enforce), slow: 30 * time.Second}
		c := &Cache{Source: w, Store: &Memory{}}
		hasty, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := c.Policy(hasty, exampleCom); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the hasty one: %v", err)
			}
		})
		for range 10 {
			all.Go(func() {
				if got, err := c.Policy(t.Context(), exampleCom); err != nil || !got.Known {
					t.Errorf("%+v, %v", got, err)
				}
			})
		}
		all.Wait()
		if w.fetched != 1 || len(c.calls) != 0 {
			t.Errorf("fetched %d times, %d calls open", w.fetched, len(c.calls))
		}
	})
}

// Policies are fetched anew each day, so that they never end while the domain is well.
func TestCacheRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		w := &world{record: "1", policy: testPolicy(Enforce)}
		c := &Cache{Source: w, Store: &Memory{}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { c.Run(ctx) })
		if _, err := c.Policy(ctx, exampleCom); err != nil {
			t.Fatal(err)
		}
		look := func() Entry {
			e, _, _ := c.Store.Policy(ctx, exampleCom)
			return e
		}
		time.Sleep(20 * 24 * time.Hour)
		if left := time.Until(look().Expires()); left < 8*24*time.Hour || w.fetches() < 15 {
			t.Errorf("%s left, fetched %d times", left, w.fetches())
		}
		// The record is gone: the policy holds, ends, and somebody hears of it.
		w.set("none")
		time.Sleep(5*24*time.Hour + time.Minute)
		synctest.Wait()
		if got, err := c.Policy(ctx, exampleCom); err != nil || !got.Known {
			t.Errorf("%+v, %v", got, err)
		}
		time.Sleep(10 * 24 * time.Hour)
		if e := look(); !e.Domain.IsZero() {
			t.Errorf("it is still there: %+v", e)
		}
		// Nobody has mail for the domain any more: it is left alone after a while.
		w.set("1")
		if _, err := c.Policy(ctx, exampleCom); err != nil {
			t.Fatal(err)
		}
		time.Sleep(unusedAfter + 12*24*time.Hour)
		before := w.fetches()
		time.Sleep(30 * 24 * time.Hour)
		if w.fetches() != before {
			t.Error("a policy that nobody needs is fetched for ever")
		}
		stop()
		running.Wait()
		if !strings.Contains(log.String(), "domain=example.com") {
			t.Errorf("nobody heard of it: %q", log.String())
		}
	})
}

// A full Memory drops what was used longest ago.
func TestMemoryIsBounded(t *testing.T) {
	m, begin := &Memory{}, time.Now()
	name := func(i int) dns.Name { return dns.MustName(fmt.Sprintf("d%d.example", i)) }
	for i := range maxEntries + 3 {
		if err := m.SavePolicy(t.Context(), Entry{Domain: name(i), Used: begin.Add(time.Duration(i) * time.Second)}); err != nil {
			t.Fatal(err)
		}
	}
	_, first, _ := m.Policy(t.Context(), name(2))
	_, last, _ := m.Policy(t.Context(), name(maxEntries+2))
	if len(m.entries) != maxEntries || first || !last {
		t.Errorf("%d entries, the oldest %v, the newest %v", len(m.entries), first, last)
	}
	if due, err := m.DuePolicies(t.Context(), begin, 7); err != nil || len(due) != 7 {
		t.Errorf("%d due, %v", len(due), err)
	}
}

// What is remembered of failures is bounded too.
func TestFailuresAreBounded(t *testing.T) {
	c := &Cache{}
	for i := range maxFailures + 5 {
		c.noteFailure(attempt{exampleCom, fmt.Sprint(i)}, time.Now())
	}
	if len(c.failed) > maxFailures {
		t.Error(len(c.failed))
	}
}
