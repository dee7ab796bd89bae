package resolver

import (
	"context"
	"errors"
	"sync"
	"time"
)

// flights lets several askers of one thing share one piece of work. Who asks first does it,
// in a goroutine that is there already and has a stack; the others wait.
type flights[K comparable, V any] struct {
	most int // who may ask for one piece of work; 0 for any number

	mu sync.Mutex
	m  map[K]*flight[V]
}

// errCrowded is the error of who comes when most have asked already.
var errCrowded = errors.New("too many wait for the same answer")

type flight[V any] struct {
	waiters int
	cancel  context.CancelFunc
	done    chan struct{}
	value   V
	err     error
	left    bool // whose work it was went away before the end
}

// do gives the result of work, which the first asker does. It has a context of its own that
// ends after limit, with the asker's ctx (as if cancelled: that the asker had little time says
// nothing of the work), or when it calls the function that goes with it. If the asker goes
// away while others wait, the next of them begins anew: what was found out by then is in the
// cache. do returns ctx's error if ctx ends first. Work must not panic.
func (g *flights[K, V]) do(ctx context.Context, key K, limit time.Duration, work func(context.Context, context.CancelFunc) (V, error)) (V, error) {
	var none V
	for ctx.Err() == nil {
		f, first := g.enter(key)
		switch {
		case f == nil:
			return none, errCrowded
		case first:
			return g.lead(ctx, key, f, limit, work)
		}
		select {
		case <-f.done:
			if !f.left {
				return f.value, f.err
			}
		case <-ctx.Done():
			g.mu.Lock()
			f.waiters--
			g.mu.Unlock()
		}
	}
	return none, ctx.Err()
}

// enter is board for no more than most.
func (g *flights[K, V]) enter(key K) (f *flight[V], first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.m[key]; f != nil && g.most > 0 && f.waiters >= g.most {
		return nil, false
	}
	return g.board(key, nil)
}

func (g *flights[K, V]) lead(ctx context.Context, key K, f *flight[V], limit time.Duration, work func(context.Context, context.CancelFunc) (V, error)) (V, error) {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	stay := context.AfterFunc(ctx, cancel)
	f.value, f.err = work(own, cancel)
	f.left = !stay() && f.err != nil
	g.mu.Lock()
	g.remove(key, f)
	g.mu.Unlock()
	close(f.done)
	if f.left {
		var none V
		return none, ctx.Err()
	}
	return f.value, f.err
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
	g.mu.Lock()
	f, first := g.board(key, h.now)
	g.mu.Unlock()
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

// board gives the flight for key, and whether it begins now. The lock is held.
func (g *flights[K, V]) board(key K, cancel context.CancelFunc) (f *flight[V], first bool) {
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
