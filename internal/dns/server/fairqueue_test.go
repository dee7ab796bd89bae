package server

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestFairQueue: who asks little comes first, of equals who asked last.
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
		{"and stays so, also with a question more", "a1 a2 a3 a4 a5 b1 b2 /4", "b2 b1 a5 a4"},
		{"and where the flood has many sources", "a1 a2 b1 b2 c1 c2 d1 a3 /2", "d1 c2"},
		{"two floods share", "a1 a2 a3 b1 b2 b3 /4", "b3 b2 b1 a3"},
		{"more are taken than are there", "a1 b1 /9 /9 a2 /9", "b1 a1 a2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f fairQueue
			var got []string
			clock := time.Unix(0, 0)
			for event := range strings.FieldsSeq(tt.events) {
				if event[0] != '/' {
					clock = clock.Add(1)
					port := uint16(event[0])
					f.add(waiting{packet: []byte(event), from: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), came: clock})
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
			if len(f.sources) != 0 || len(f.order) != 0 {
				t.Errorf("%d sources are remembered that wait for nothing", len(f.sources))
			}
		})
	}
}
