package resolver

import (
	"context"
	"errors"
	"sync"
	"time"
)

// flights lets several askers of one thing share one piece of work. The work belongs to
// nobody in particular: it goes on as long as one asker waits, and stops when the last
// one has gone.
type flights[K comparable, V any] struct {
	most int // who may wait for one piece of work; 0 for any number

	mu sync.Mutex
	m  map[K]*flight[V]
}

// errCrowded is the error of who comes when most wait already.
var errCrowded = errors.New("too many wait for the same answer")

type flight[V any] struct {
	waiters int
	cancel  context.CancelFunc
	done    chan struct{}
	value   V
	err     error
}

// do gives the result of work, which is started unless it runs already. The work has a
// context of its own that ends after limit, or when it calls the function that goes with it;
// do returns ctx's error if ctx ends first. Work must not panic.
func (g *flights[K, V]) do(ctx context.Context, key K, limit time.Duration, work func(context.Context, context.CancelFunc) (V, error)) (V, error) {
	if err := ctx.Err(); err != nil {
		var none V
		return none, err
	}
	f := g.join(ctx, key, limit, work)
	if f == nil {
		var none V
		return none, errCrowded
	}
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		g.leave(key, f)
		var none V
		return none, ctx.Err()
	}
}

// here is do for work that is short: who asks first does it itself, which spares a
// goroutine. It stays with the work, though its own ctx ends, for as long as others wait; the
// hangup tells it when all have gone.
func (g *flights[K, V]) here(ctx context.Context, key K, work func(*hangup) (V, error)) (V, error) {
	var none V
	if err := ctx.Err(); err != nil {
		return none, err
	}
	h := &hangup{}
	f, first := g.board(key, h.now)
	if !first {
		select {
		case <-f.done:
			return f.value, f.err
		case <-ctx.Done():
			g.leave(key, f)
			return none, ctx.Err()
		}
	}
	stay := context.AfterFunc(ctx, func() { g.leave(key, f) })
	f.value, f.err = work(h)
	g.mu.Lock()
	g.remove(key, f)
	g.mu.Unlock()
	close(f.done)
	if !stay() {
		return none, ctx.Err()
	}
	return f.value, f.err
}

// hangup ends, from another goroutine, work that waits. It is a context without what a
// question to one server has no use for. The zero value is ready.
type hangup struct {
	mu   sync.Mutex
	done bool
	end  func()
}

// with says what ends the work from here on.
func (h *hangup) with(end func()) {
	h.mu.Lock()
	h.end = end
	done := h.done
	h.mu.Unlock()
	if done {
		end()
	}
}

// now ends the work, also what has not begun.
func (h *hangup) now() {
	h.mu.Lock()
	h.done = true
	end := h.end
	h.mu.Unlock()
	if end != nil {
		end()
	}
}

// err gives the error of work that was ended, nil for other work.
func (h *hangup) err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done {
		return context.Canceled
	}
	return nil
}

// board gives the flight for key, and whether it begins now.
func (g *flights[K, V]) board(key K, cancel context.CancelFunc) (f *flight[V], first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.m[key]; f != nil {
		f.waiters++
		return f, false
	}
	if g.m == nil {
		g.m = map[K]*flight[V]{}
	}
	f = &flight[V]{waiters: 1, cancel: cancel, done: make(chan struct{})}
	g.m[key] = f
	return f, true
}

func (g *flights[K, V]) join(ctx context.Context, key K, limit time.Duration, work func(context.Context, context.CancelFunc) (V, error)) *flight[V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.m[key]; f != nil {
		if g.most > 0 && f.waiters >= g.most {
			return nil
		}
		f.waiters++
		return f
	}
	if g.m == nil {
		g.m = map[K]*flight[V]{}
	}
	// The first asker's values are kept, its end is not.
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	f := &flight[V]{waiters: 1, cancel: cancel, done: make(chan struct{})}
	g.m[key] = f
	go func() {
		defer cancel()
		f.value, f.err = work(own, cancel)
		g.mu.Lock()
		g.remove(key, f)
		g.mu.Unlock()
		close(f.done)
	}()
	return f
}

func (g *flights[K, V]) leave(key K, f *flight[V]) {
	g.mu.Lock()
	f.waiters--
	last := f.waiters == 0
	if last {
		g.remove(key, f) // who comes now starts afresh, not with work that is being stopped
	}
	g.mu.Unlock()
	if last {
		f.cancel() // it may wait for a connection
	}
}

// remove takes f out, unless another flight has taken its place.
func (g *flights[K, V]) remove(key K, f *flight[V]) {
	if g.m[key] == f {
		delete(g.m, key)
	}
}
