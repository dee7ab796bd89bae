package dns

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	wire "github.com/miekg/dns"
)

// Counter is a Resolver that counts what one piece of work asks: one delivery of a message,
// one check of a domain. Its Resolver does the work.
type Counter struct {
	Resolver Resolver

	mu    sync.Mutex
	count Lookups
}

// Lookups is what a piece of work has asked.
type Lookups struct {
	Asked   int           // questions
	Cached  int           // of these, those that cost no packet
	Failed  int           // of these, those without an answer
	Packets int           // sent to servers
	Stale   int           // questions answered with what had expired
	Took    time.Duration // all together, though some may have run at the same time
}

// Resolve implements Resolver.
func (c *Counter) Resolve(ctx context.Context, q Question) (Answer, error) {
	began := time.Now()
	answer, err := c.Resolver.Resolve(ctx, q)
	took := time.Since(began)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count.Asked++
	c.count.Took += took
	c.count.Packets += answer.Packets
	if answer.Extended == wire.ExtendedErrorCodeStaleAnswer {
		c.count.Stale++
	}
	var failed *Error
	if errors.As(err, &failed) {
		c.count.Packets += failed.Packets
	}
	switch {
	case err != nil:
		c.count.Failed++
	case answer.Packets == 0:
		c.count.Cached++
	}
	return answer, err
}

// Lookups gives the count so far.
func (c *Counter) Lookups() Lookups {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// String is for a log line: "7 asked, 5 cached, 6 packets, 41ms".
func (l Lookups) String() string {
	text := fmt.Sprintf("%d asked, %d cached, %d packets, %s", l.Asked, l.Cached, l.Packets, l.Took.Round(time.Millisecond))
	if l.Failed > 0 {
		text += fmt.Sprintf(", %d failed", l.Failed)
	}
	if l.Stale > 0 {
		text += fmt.Sprintf(", %d stale", l.Stale)
	}
	return text
}
