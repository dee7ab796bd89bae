package report_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/dmarcrpt"
	"mxward/internal/mailauth/spf"
	"mxward/internal/report"
)

func seen() dmarcrpt.Observation {
	return dmarcrpt.Observation{
		Time: time.Date(2026, 5, 4, 23, 59, 59, 0, time.UTC), Source: netip.MustParseAddr("192.0.2.1"),
		HeaderFrom: "example.com", EnvelopeFrom: "example.net",
		Policy: dmarcrpt.Policy{Domain: "example.com", P: "reject"},
		SPF:    dmarcrpt.SPFResult{Domain: "example.net", Scope: "mfrom", Result: "pass"},
		DKIM:   []dmarcrpt.DKIMResult{{Domain: "example.com", Selector: "s1", Result: "pass"}}, DKIMAligned: true,
	}
}

// TestCount: all that was counted comes back.
func TestCount(t *testing.T) {
	o := seen()
	c, err := report.Of(o)
	if err != nil {
		t.Fatal(err)
	}
	o.Messages = 1
	if got, err := c.Observation(); err != nil || !reflect.DeepEqual(got, o) {
		t.Errorf("got %+v, %v, want %+v", got, err, o)
	}
	if c.Domain != "example.com" || !c.Day.Equal(time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC)) || c.Messages != 1 {
		t.Errorf("counted as %+v", c)
	}
}

// TestSame: messages that differ in nothing but the time of the day are one row.
func TestSame(t *testing.T) {
	for _, test := range []struct {
		why    string
		change func(*dmarcrpt.Observation)
		same   bool
	}{
		{"an hour earlier", func(o *dmarcrpt.Observation) { o.Time = o.Time.Add(-time.Hour) }, true},
		{"the same moment elsewhere", func(o *dmarcrpt.Observation) { o.Time = o.Time.In(time.FixedZone("", 3600)) }, true},
		{"the next day", func(o *dmarcrpt.Observation) { o.Time = o.Time.Add(time.Second) }, false},
		{"another client", func(o *dmarcrpt.Observation) { o.Source = o.Source.Next() }, false},
		{"another result", func(o *dmarcrpt.Observation) { o.SPF.Result = "fail" }, false},
	} {
		a, errA := report.Of(seen())
		changed := seen()
		test.change(&changed)
		b, errB := report.Of(changed)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if same := a.Day.Equal(b.Day) && a.Domain == b.Domain && a.What == b.What; same != test.same {
			t.Errorf("%s: %+v and %+v", test.why, a, b)
		}
	}
}

// TestTooLarge: what is too large to tell is counted all the same.
func TestTooLarge(t *testing.T) {
	o := seen()
	o.PolicyError = strings.Repeat("x", report.MaxWhat)
	if c, err := report.Of(o); err != nil || c.What != "" || c.Messages != 1 {
		t.Errorf("got %d octets, %d messages, %v", len(c.What), c.Messages, err)
	}
}

// TestDue: reports are spread over hours after the day's end, and each has its time.
func TestDue(t *testing.T) {
	monday := time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC)
	times := map[time.Time]bool{}
	for i := range 1000 {
		domain := fmt.Sprintf("d%d.example", i)
		at := report.Due(monday, domain, "gate.example.com")
		if !at.Equal(report.Due(monday, domain, "gate.example.com")) {
			t.Errorf("%s has two times", domain)
		}
		if after := at.Sub(monday.Add(24 * time.Hour)); after < 30*time.Minute || after > 7*time.Hour {
			t.Errorf("%s is due %s after the day", domain, after)
		}
		times[at.Truncate(time.Minute)] = true
	}
	if len(times) < 200 {
		t.Errorf("1000 reports go out in %d minutes", len(times))
	}
	if report.Due(monday, "example.com", "a.example").Equal(report.Due(monday, "example.com", "b.example")) {
		t.Error("two reporters come at the same time")
	}
}

// message is one that was taken, of a@example.com, with the policy.
func message(policy string, at time.Time, client netip.Addr) report.Message {
	record, err := dmarc.Parse(policy)
	com := dns.MustName("example.com")
	m := report.Message{Time: at, Client: client, EnvelopeFrom: "a@Bounce.example.com"}
	m.Results = mailauth.Results{
		SPF:  spf.Verdict{Result: spf.Pass, Domain: "Bounce.example.com"},
		DKIM: []dkim.Signature{{Result: dkim.Fail, Domain: com, Selector: "s1"}},
		DMARC: dmarc.Verdict{
			Result: dmarc.Pass, Disposition: dmarc.None, Author: com,
			Discovery: dmarc.Discovery{Domain: com, Record: record, Policy: record.P, Err: err},
			Checks:    []dmarc.Check{{Identifier: dmarc.Identifier{Method: dmarc.MethodSPF, Result: "pass", Domain: "bounce.example.com"}, Aligned: true}},
		},
	}
	return m
}

// failed makes the message one that fails.
func failed(m report.Message, d dmarc.Policy) report.Message {
	m.Results.SPF.Result = spf.Fail
	m.Results.DMARC.Result, m.Results.DMARC.Disposition, m.Results.DMARC.Checks = dmarc.Fail, d, nil
	return m
}

func TestObserve(t *testing.T) {
	const policy = "v=DMARC1; p=reject; rua=mailto:r@example.com"
	at, client := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC), netip.MustParseAddr("::ffff:192.0.2.1")
	for _, test := range []struct {
		why    string
		m      report.Message
		wanted bool
		become string // disposition, reason
		passed string // spf, dkim
	}{
		{"it passes", message(policy, at, client), true, "pass", "pass fail"},
		{"it passes a policy that asks for nothing", message("v=DMARC1; p=none; rua=mailto:r@example.com", at, client), true, "none", "pass fail"},
		{"it fails, and is taken all the same", failed(message(policy, at, client), dmarc.Reject), true, "none local_policy", "fail fail"},
		{"it fails in a test", failed(message("v=DMARC1; p=quarantine; t=y; rua=mailto:r@example.com", at, client), dmarc.None), true, "none policy_test_mode", "fail fail"},
		{"nobody wants reports", message("v=DMARC1; p=reject", at, client), false, "", ""},
		{"nobody wants reports by mail", message("v=DMARC1; p=reject; rua=https://example.com/r", at, client), false, "", ""},
		{"there is no policy", report.Message{Time: at, Client: client}, false, "", ""},
		{"the policy is unknown for now", func() report.Message {
			m := message(policy, at, client)
			m.Results.DMARC.Discovery.Err = dmarc.ErrTemporary
			return m
		}(), false, "", ""},
	} {
		o, wanted := test.m.Observe()
		if wanted != test.wanted {
			t.Errorf("%s: wanted %t", test.why, wanted)
		}
		if !wanted {
			continue
		}
		reports := dmarcrpt.Build(dmarcrpt.Reporter{Receiver: dns.MustName("example.net"), Email: "r@example.net"}, func(yield func(dmarcrpt.Observation) bool) { yield(o) })
		if len(reports) != 1 || reports[0].Check() != nil {
			t.Errorf("%s: built %+v, %v", test.why, reports, reports[0].Check())
			continue
		}
		r := reports[0].Records[0]
		become := r.Disposition
		for _, reason := range r.Reasons {
			become += " " + reason.Type
		}
		if become != test.become || r.SPF+" "+r.DKIM != test.passed || r.EnvelopeFrom != "bounce.example.com" || r.EnvelopeTo != "" || r.Source.String() != "192.0.2.1" {
			t.Errorf("%s: %+v", test.why, r)
		}
	}
}

// countStore takes counts, or fails.
type countStore struct {
	mu     sync.Mutex
	fails  bool
	counts map[string]int64
	calls  int
}

func (s *countStore) AddCounts(_ context.Context, _ report.Limits, _ string, counts []report.Count) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.fails {
		return 0, errors.New("the store is away")
	}
	if s.counts == nil {
		s.counts = map[string]int64{}
	}
	for _, c := range counts {
		s.counts[c.What] += c.Messages
	}
	return 0, nil
}

func (s *countStore) total() (n int64) {
	for _, c := range s.counts {
		n += c
	}
	return n
}

const wanted = "v=DMARC1; p=none; rua=mailto:r@example.com"

// TestCounterBounded: of 100,000 sources at once some thousands are told apart in memory,
// the rest is a number, and nobody waits.
func TestCounterBounded(t *testing.T) {
	store := &countStore{fails: true}
	c := &report.Counter{Store: store, Reporter: dns.MustName("example.net"), Logger: slog.New(slog.DiscardHandler)}
	at, client := time.Now(), netip.MustParseAddr("2001:db8::")
	const sources = 100_000
	for range sources {
		client = client.Next()
		c.Add(message(wanted, at, client))
	}
	c.Flush(t.Context()) // it fails, and is kept
	if store.calls != 1 {
		t.Errorf("a store that is away was asked %d times", store.calls)
	}
	store.fails = false
	c.Flush(t.Context())
	counted, lost := c.Counted()
	if counted != sources || len(store.counts) != 20_000 || store.total()+lost != sources {
		t.Errorf("%d counted, %d rows of %d messages, %d lost", counted, len(store.counts), store.total(), lost)
	}
}

// TestCounterStop: many at once are counted right, and the last are written when it stops.
func TestCounterStop(t *testing.T) {
	store := &countStore{}
	c := &report.Counter{Store: store, Reporter: dns.MustName("example.net"), Logger: slog.New(slog.DiscardHandler)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); c.Run(ctx) }()
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			client := netip.MustParseAddr("192.0.2.0")
			for range 100 {
				client = client.Next()
				c.Add(message(wanted, time.Now(), client))
			}
		})
	}
	running.Wait()
	stop()
	<-ended
	if len(store.counts) != 100 || store.total() != 800 {
		t.Errorf("%d rows of %d messages", len(store.counts), store.total())
	}
}
