package scan

import (
	"context"
	"sync"
)

// turn gives results to a sink in the order of their lines. So many lines may be under way.
type turn struct {
	sink Sink
	room chan struct{}

	mu    sync.Mutex
	next  []int // lines that were taken and not given yet, in their order
	ready map[int]*Result
}

func newTurn(sink Sink, most int) *turn {
	return &turn{sink: sink, room: make(chan struct{}, most), ready: map[int]*Result{}}
}

// take waits until there is room for one more line.
func (t *turn) take(ctx context.Context, line int) error {
	select {
	case t.room <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next = append(t.next, line)
	return nil
}

func (t *turn) put(r Result) error { return t.is(r.Line, &r) }

// skip says that a line has its result already.
func (t *turn) skip(line int) error { return t.is(line, nil) }

func (t *turn) is(line int, r *Result) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ready[line] = r
	for len(t.next) > 0 {
		r, ok := t.ready[t.next[0]]
		if !ok {
			return nil
		}
		delete(t.ready, t.next[0])
		t.next = t.next[1:]
		<-t.room
		if r == nil {
			continue
		}
		if err := t.sink.Put(*r); err != nil {
			return err
		}
	}
	return nil
}
