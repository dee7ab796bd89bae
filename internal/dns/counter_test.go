package dns

import (
	"context"
	"errors"
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
				return Answer{}, &Error{Question: q, Trouble: NoReply}
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
		want := Lookups{Asked: 4, Cached: 1, Failed: 1, Packets: 6, Took: 50 * time.Millisecond}
		if got := c.Lookups(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if got, want := c.Lookups().String(), "4 asked, 1 cached, 6 packets, 50ms, 1 failed"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}
