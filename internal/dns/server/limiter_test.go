package server

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	start := time.Now()
	at := func(d time.Duration) time.Time { return start.Add(d) }
	a, neighbour, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("198.51.100.1")
	l := newLimiter(3)
	steps := []struct {
		client netip.Addr
		at     time.Duration
		want   verdict
	}{
		{a, 0, pass},         // a bucket begins full
		{neighbour, 0, pass}, // the same /24 is the same client
		{netip.MustParseAddr("::ffff:192.0.2.9"), 0, pass}, // mapped or not
		{a, 0, slip},                                      // empty: every second gets TC,
		{a, 0, drop},                                      // the others nothing
		{a, 100 * time.Millisecond, slip},                 //
		{b, 0, pass},                                      // another network has its own bucket
		{a, 400 * time.Millisecond, pass},                 // a token in a third of a second
		{a, 400 * time.Millisecond, drop},                 // and no more than that
		{a, time.Hour, pass},                              // it fills up again,
		{a, time.Hour, pass},                              //
		{a, time.Hour, pass},                              //
		{a, time.Hour, slip},                              // to its depth
		{netip.MustParseAddr("2001:db8::1"), 0, pass},     // IPv6 counts by /64
		{netip.MustParseAddr("2001:db8::2:1"), 0, pass},   //
		{netip.MustParseAddr("2001:db8::ffff"), 0, pass},  //
		{netip.MustParseAddr("2001:db8::3"), 0, slip},     //
		{netip.MustParseAddr("2001:db8:0:1::1"), 0, pass}, //
		{netip.MustParseAddr("fe80::1%eth0"), 0, pass},    // a zone changes nothing
		{netip.Addr{}, 0, pass},                           // nor does no address
	}
	for i, s := range steps {
		if got := l.check(s.client, at(s.at)); got != s.want {
			t.Errorf("step %d: %s after %v: got %d, want %d", i, s.client, s.at, got, s.want)
		}
	}
	var none *limiter = newLimiter(-1)
	for range 5000 {
		if none.check(a, start) != pass {
			t.Fatal("a negative rate limits")
		}
	}
}

// TestLimiterTable: more networks than the table has places cost no memory; one that asks
// all the time keeps its bucket.
func TestLimiterTable(t *testing.T) {
	l := newLimiter(2)
	now := time.Now()
	busy := netip.MustParseAddr("203.0.113.1")
	passed := 0
	for i := range 4 * limiterSets * limiterWays {
		now = now.Add(time.Microsecond)
		forged := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		l.check(forged, now)
		if i%16 == 0 && l.check(busy, now) == pass {
			passed++
		}
	}
	if passed > 3 {
		t.Errorf("the busy network passed %d times, though it may twice a second", passed)
	}
	if got := fmt.Sprint(len(l.sets), len(l.sets[0])); got != fmt.Sprint(limiterSets, limiterWays) {
		t.Errorf("the table has grown: %s", got)
	}
}
