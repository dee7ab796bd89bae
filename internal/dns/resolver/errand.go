package resolver

import (
	"context"
	"slices"
	"sync"
	"time"
)

// errand is the context of the work for one question. It ends with its time, with its asker (as
// if cancelled: that an asker had little time says nothing of the work), or when it is called
// back. Package context can do the same with a dozen allocations for each question, and six more
// for each packet.
type errand struct {
	context.Context // the asker's, for its values; its end is not ours
	deadline        time.Time

	mu      sync.Mutex
	err     error
	done    chan struct{} // made for the first who asks for it
	hangups []*hangup     // what waits now
}

// sendOut begins an errand; what it gives ends it, and must be called.
func sendOut(asker context.Context, limit time.Duration) (*errand, context.CancelFunc) {
	e := &errand{Context: asker, deadline: time.Now().Add(limit)}
	timer := time.AfterFunc(limit, func() { e.end(context.DeadlineExceeded) })
	stay := context.AfterFunc(asker, e.callBack)
	return e, func() {
		timer.Stop()
		stay()
		e.callBack()
	}
}

func (e *errand) callBack() { e.end(context.Canceled) }

func (e *errand) end(err error) {
	e.mu.Lock()
	if e.err != nil {
		e.mu.Unlock()
		return
	}
	e.err = err
	if e.done != nil {
		close(e.done)
	}
	hangups := e.hangups
	e.mu.Unlock()
	for _, h := range hangups {
		h.now()
	}
}

// tell has h told when the errand ends, or now if it has ended; quiet forgets it, and reports
// whether it was not told.
func (e *errand) tell(h *hangup) {
	e.mu.Lock()
	ended := e.err != nil
	if !ended {
		e.hangups = append(e.hangups, h)
	}
	e.mu.Unlock()
	if ended {
		h.now()
	}
}

func (e *errand) quiet(h *hangup) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.hangups, h)
	if e.err != nil || i < 0 {
		return false
	}
	e.hangups = slices.Delete(e.hangups, i, i+1)
	return true
}

// Deadline implements context.Context.
func (e *errand) Deadline() (time.Time, bool) { return e.deadline, true }

// Done implements context.Context.
func (e *errand) Done() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done == nil {
		e.done = make(chan struct{})
		if e.err != nil {
			close(e.done)
		}
	}
	return e.done
}

// Err implements context.Context.
func (e *errand) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// AfterFunc lets package context make contexts out of this one without a goroutine for each.
func (e *errand) AfterFunc(f func()) (stop func() bool) {
	h := &hangup{end: func() { go f() }}
	e.tell(h)
	return func() bool { return e.quiet(h) }
}
