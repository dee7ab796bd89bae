package store

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// clockEach is how often a process compares its clock with the server's.
	clockEach = 10 * time.Minute
	// clockSlack is a difference that does not matter beside leases of a minute.
	clockSlack = time.Second
)

// serverClock turns this process's time into the server's. What is due when, leases above
// all, is kept in the server's time: several gates share it, and one whose own clock runs
// ahead would otherwise take jobs from the hands of others, and deliver them twice.
type serverClock struct {
	pool *pgxpool.Pool

	mu       sync.Mutex
	ahead    time.Duration // how far the server's clock is ahead of ours
	measured time.Time     // when; zero: never
}

// at gives t in the server's time; the zero time stays what it is. Where the server cannot
// be asked, the last comparison holds, and the call that needs it fails by itself.
func (c *serverClock) at(ctx context.Context, t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.measured) > clockEach {
		c.measure(ctx)
	}
	return t.Add(c.ahead)
}

// measure compares the clocks. Half of the round trip is the way to the server; the error
// is at most that, far below any lease.
func (c *serverClock) measure(ctx context.Context) {
	began := time.Now()
	var theirs time.Time
	if err := c.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&theirs); err != nil {
		return
	}
	took := time.Since(began)
	c.measured = time.Now()
	c.ahead = theirs.Sub(began.Add(took / 2))
	if c.ahead.Abs() < clockSlack {
		c.ahead = 0
	}
}
