package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// Limits of one transaction.
const (
	maxGroup      = 512     // calls
	maxGroupBytes = 8 << 20 // octets of bodies
)

// group gathers calls that come at the same time and has them executed together: this is
// the group commit. While a group is executed the next one gathers, so a lone call never
// waits and a busy store never commits for one call alone.
type group[T any] struct {
	calls   chan *call[T]
	execute func([]*call[T]) // sets err of every call
	quit    chan struct{}
	once    sync.Once
	workers sync.WaitGroup
	stopped chan struct{} // all workers have ended
}

// call is one waiting caller.
type call[T any] struct {
	arg   T
	bytes int
	err   error
	taken atomic.Bool // by a worker, or by a caller who gave up
	done  chan struct{}
}

// newGroup starts the workers; each executes one group at a time.
func newGroup[T any](workers int, execute func([]*call[T])) *group[T] {
	g := &group[T]{
		calls: make(chan *call[T], maxGroup), execute: execute,
		quit: make(chan struct{}), stopped: make(chan struct{}),
	}
	for range workers {
		g.workers.Go(g.work)
	}
	go func() { g.workers.Wait(); close(g.stopped) }()
	return g
}

// do has the call executed and waits for it. Where ctx ends before a worker took the
// call, nothing happens; afterwards do waits on, so that arg is the caller's again when
// it returns.
func (g *group[T]) do(ctx context.Context, arg T, bytes int) error {
	if err := ctx.Err(); err != nil {
		return err // below, a free place in the queue might win over it
	}
	c := &call[T]{arg: arg, bytes: bytes, done: make(chan struct{})}
	select {
	case <-g.quit:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	case g.calls <- c:
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		if c.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		<-c.done
		return c.err
	case <-g.stopped:
		if c.taken.CompareAndSwap(false, true) {
			return ErrClosed
		}
		<-c.done
		return c.err
	}
}

// close ends the group when the calls that were taken are executed.
func (g *group[T]) close() {
	g.once.Do(func() { close(g.quit) })
	<-g.stopped
}

func (g *group[T]) work() {
	batch := make([]*call[T], 0, maxGroup)
	for {
		select {
		case <-g.quit:
			return
		case c := <-g.calls:
			batch = g.gather(batch[:0], c)
		}
		if len(batch) > 0 {
			g.run(batch)
		}
		clear(batch)
	}
}

// gather takes what waits, without waiting for more. Callers who are about to call get
// the processor once: they were answered a moment ago and often have the next call.
func (g *group[T]) gather(batch []*call[T], c *call[T]) []*call[T] {
	bytes := 0
	yielded := false
	for {
		if c.taken.CompareAndSwap(false, true) {
			batch = append(batch, c)
			bytes += c.bytes
		}
		if len(batch) == maxGroup || bytes >= maxGroupBytes {
			return batch
		}
		select {
		case c = <-g.calls:
			continue
		default:
		}
		if yielded {
			return batch
		}
		yielded = true
		runtime.Gosched()
		select {
		case c = <-g.calls:
		default:
			return batch
		}
	}
}

var errPanic = errors.New("the store met a fault of its own")

// run executes a batch; the callers are told even after a panic, and of an error.
func (g *group[T]) run(batch []*call[T]) {
	defer func() {
		if p := recover(); p != nil {
			for _, c := range batch {
				c.err = fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack())
			}
		}
		for _, c := range batch {
			close(c.done)
		}
	}()
	g.execute(batch)
}
