package scan

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
)

// slow is an Asker that takes a while, and knows how many ask at once.
type slow struct {
	takes     time.Duration
	quick     netip.AddrPort // answers at once
	now, most atomic.Int64
	asked     atomic.Int64
}

func (s *slow) Ask(_ context.Context, server netip.AddrPort, _ string, _ dns.Question) (dns.Said, error) {
	if server == s.quick {
		return dns.Said{}, nil
	}
	s.most.Store(max(s.most.Load(), s.now.Add(1)))
	s.asked.Add(1)
	time.Sleep(s.takes)
	s.now.Add(-1)
	return dns.Said{}, nil
}

// TestPace: one server is asked at its rate and so many at once, another one meanwhile at once.
func TestPace(t *testing.T) {
	one, other := netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("192.0.2.2:53")
	for _, row := range []struct {
		takes time.Duration
		least time.Duration // for a thousand questions
		most  int64         // at once
	}{
		{time.Millisecond, 9 * time.Second, 10},           // the rate: 100 a second
		{5 * time.Second, 40 * time.Second, serverAtOnce}, // those at once
		{500 * time.Millisecond, 9 * time.Second, 60},     // the rate, and a burst
	} {
		synctest.Test(t, func(t *testing.T) {
			asker := &slow{takes: row.takes, quick: other}
			p := &Pace{Asker: asker, Rate: 100}
			var all sync.WaitGroup
			began := time.Now()
			for range 1000 {
				all.Go(func() { p.Ask(t.Context(), one, "udp", dns.Question{}) })
			}
			time.Sleep(time.Millisecond)
			fast := time.Now()
			p.Ask(t.Context(), other, "udp", dns.Question{})
			if time.Since(fast) > 0 {
				t.Errorf("another server waits %s", time.Since(fast))
			}
			all.Wait()
			if took := time.Since(began); took < row.least || asker.most.Load() > row.most+1 {
				t.Errorf("%s: %s, %d at once", row.takes, took, asker.most.Load())
			}
		})
	}
}

// TestPaceStops: who waits for a turn does not wait beyond ctx, and gives its place back.
func TestPaceStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pace{Asker: &slow{}, Rate: 1}
		server := netip.MustParseAddrPort("192.0.2.1:53")
		p.Ask(t.Context(), server, "udp", dns.Question{})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := p.Ask(ctx, server, "udp", dns.Question{}); err != context.DeadlineExceeded {
			t.Error(err)
		}
		if g := p.gate(server.Addr()); len(g.room) != 0 {
			t.Errorf("%d places are taken", len(g.room))
		}
	})
}
