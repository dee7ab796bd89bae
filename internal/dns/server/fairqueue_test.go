package server

import (
	"net/netip"
	"strings"
	"testing"
)

// TestFairQueue: each who asks has a turn, the newest first, and so of each one's questions.
func TestFairQueue(t *testing.T) {
	for _, tt := range []struct {
		name string
		// what comes ("a1" is the question 1 of a), and what is taken ("/2": two)
		events string
		want   string
	}{
		{"nothing is there", "/2", ""},
		{"one source: the newest first", "a1 a2 a3 /2 a4 /2", "a3 a2 a4 a1"},
		{"many with one question each: the newest first", "a1 b1 c1 /2 d1 /3", "c1 b1 d1 a1"},
		{"who comes into a flood is the next, whatever was there", "a1 a2 a3 a4 a5 b1 /3", "b1 a5 a4"},
		{"and while the flood goes on it is so after one question", "a1 a2 a3 a4 a5 b1 a6 /3", "a6 b1 a5"},
		{"who was served is the last", "a1 a2 b1 b2 c1 c2 /1 /1 /1 /1 /1", "c2 b2 a2 c1 b1"},
		{"until it asks again", "a1 a2 b1 b2 c1 c2 /1 c3 /1 /1", "c2 c3 b2"},
		{"who had all its answers and comes again is new", "a1 a2 a3 b1 /1 b2 /1 b3 /1", "b1 b2 b3"},
		{"more are taken than are there", "a1 b1 /9 /9 a2 /9", "b1 a1 a2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f fairQueue
			var got []string
			for event := range strings.FieldsSeq(tt.events) {
				if event[0] != '/' {
					port := uint16(event[0])
					f.add(waiting{packet: []byte(event), from: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)})
					continue
				}
				n := int(event[1] - '0')
				some := f.take(n)
				if len(some) > n {
					t.Errorf("%d were taken, where %d may be", len(some), n)
				}
				for _, w := range some {
					got = append(got, string(w.packet))
				}
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("taken: %s; want %s", got, tt.want)
			}
			f.take(100)
			if len(f.sources) != 0 || f.turns.Len() != 0 {
				t.Errorf("%d sources are remembered that wait for nothing", len(f.sources))
			}
		})
	}
}
