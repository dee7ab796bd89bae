package dns

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// What is asked through a Counter, at the same time or not, and what it comes to.
func TestCounter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Counter{Resolver: ResolverFunc(func(_ context.Context, q Question) (Answer, error) {
			switch q.Name.String() {
			case "cached.example.com":
				return Answer{}, nil
			case "broken.example.com":
				time.Sleep(30 * time.Millisecond)
				return Answer{}, fmt.Errorf("look up: %w", &Error{Question: q, Trouble: NoReply, Packets: 4})
			case "stale.example.com":
				rr, err := ParseRecord(q.Name, "MX 10 mx1.example.com")
				return Answer{Extended: 3, Answer: []RR{rr}}, err
			}
			time.Sleep(10 * time.Millisecond)
			return Answer{Rcode: NXDomain, Packets: 3}, nil
		})}
		if _, err := LookupAddrs(t.Context(), c, MustName("new.example.com")); err != nil {
			t.Error(err)
		}
		if _, err := LookupMX(t.Context(), c, MustName("cached.example.com")); err != nil {
			t.Error(err)
		}
		var e *Error
		if _, err := LookupMX(t.Context(), c, MustName("broken.example.com")); !errors.As(err, &e) {
			t.Errorf("the error does not come through: %v", err)
		}
		if set, err := LookupMX(t.Context(), c, MustName("stale.example.com")); err != nil || !set.Stale || len(set.Records) != 1 {
			t.Errorf("%+v, %v", set, err)
		}
		want := Lookups{Asked: 5, Cached: 2, Failed: 1, Packets: 10, Stale: 1, Took: 50 * time.Millisecond}
		if got := c.Lookups(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if got, want := c.Lookups().String(), "5 asked, 2 cached, 10 packets, 50ms, 1 failed, 1 stale"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}
