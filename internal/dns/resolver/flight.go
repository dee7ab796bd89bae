package resolver

import (
	"context"
	"errors"
	"sync"

	"mxward/internal/dns"
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
	done    chan struct{}
	value   V
	err     error
	left    bool // whose work it was went away before the end
}

// do gives the result of work, which the first asker does, and which has to end soon after
// ctx. If that asker goes away while others wait, the next of them begins anew: what was
// found out by then is in the cache. do returns ctx's error if ctx ends first. Work must not
// panic.
func (g *flights[K, V]) do(ctx context.Context, key K, work func() (V, error)) (V, error) {
	var none V
	for waited := false; ctx.Err() == nil; waited = true {
		f, first := g.board(key, waited)
		switch {
		case f == nil:
			return none, errCrowded
		case first:
			f.value, f.err = work()
			f.left = f.err != nil && ctx.Err() != nil
			g.land(key, f)
		default:
			select {
			case <-f.done:
			case <-ctx.Done():
				g.leave(f)
				return none, ctx.Err()
			}
		}
		if !f.left {
			return f.value, f.err
		}
	}
	return none, ctx.Err()
}

// board gives the flight for key, and whether it begins now; none where most are aboard. Who
// has waited for another has a seat.
func (g *flights[K, V]) board(key K, seated bool) (f *flight[V], first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.m[key]; f != nil {
		if g.most > 0 && f.waiters >= g.most && !seated {
			return nil, false
		}
		f.waiters++
		return f, false
	}
	if g.m == nil {
		g.m = map[K]*flight[V]{}
	}
	f = &flight[V]{waiters: 1, done: make(chan struct{})}
	g.m[key] = f
	return f, true
}

func (g *flights[K, V]) leave(f *flight[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.waiters--
}

// land ends the flight: who comes now starts afresh.
func (g *flights[K, V]) land(key K, f *flight[V]) {
	g.mu.Lock()
	delete(g.m, key)
	g.mu.Unlock()
	close(f.done)
}

// question is flights.do with a context of the work's own, which also ends when the work calls
// the function that goes with it.
func (r *Resolver) question(ctx context.Context, q dns.Question, work func(context.Context, context.CancelFunc) (dns.Answer, error)) (dns.Answer, error) {
	return r.questions.do(ctx, q, func() (dns.Answer, error) {
		own, end := sendOut(ctx, r.timeout())
		defer end()
		return work(own, own.callBack)
	})
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
