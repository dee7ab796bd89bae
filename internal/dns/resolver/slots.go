package resolver

import (
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// jostleAfter is how long a question runs before it gives way to a newer one, where there
// is no room for both: most names take less, and those of dead servers would fill all the
// room there is.
const jostleAfter = 200 * time.Millisecond

var (
	errJostled = errors.New("it gave way to a newer one")
	errNoRoom  = errors.New("no room")
)

// slots is the room for different questions at once. Who comes when all of it is taken
// takes the place of the oldest question, if that has had its time, and otherwise waits,
// the newest first: under such a load those who have waited for long have often gone.
type slots struct {
	mu      sync.Mutex
	most    int
	running list.List // of *slot, the oldest in front
	waiting []*slot   // the newest last
}

type slot struct {
	began time.Time
	end   func(cause error)
	place *list.Element // in running; nil while it waits, and after it has left
	ready chan struct{}
}

// enter waits for room. End is called when the question has to give way; the function that
// enter gives makes room again.
func (s *slots) enter(ctx context.Context, end func(cause error)) (leave func(), err error) {
	mine := &slot{end: end, ready: make(chan struct{})}
	s.mu.Lock()
	if !s.jostle() {
		s.waiting = append(s.waiting, mine)
		s.mu.Unlock()
		select {
		case <-mine.ready:
		case <-ctx.Done():
			s.leave(mine)
			return nil, errNoRoom
		}
		return func() { s.leave(mine) }, nil
	}
	s.start(mine)
	s.mu.Unlock()
	return func() { s.leave(mine) }, nil
}

// jostle reports whether there is room, and makes some if it can. The lock is held.
func (s *slots) jostle() bool {
	if s.running.Len() < s.most {
		return true
	}
	oldest := s.running.Front().Value.(*slot)
	if time.Since(oldest.began) < jostleAfter {
		return false
	}
	s.running.Remove(oldest.place)
	oldest.place = nil
	oldest.end(errJostled)
	return true
}

// start gives a question its place. The lock is held.
func (s *slots) start(q *slot) {
	q.began = time.Now()
	q.place = s.running.PushBack(q)
}

// leave makes room, for the one who came last if somebody waits.
func (s *slots) leave(q *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.place == nil { // it waited in vain, or had to give way
		s.waiting = slices.DeleteFunc(s.waiting, func(w *slot) bool { return w == q })
		return
	}
	s.running.Remove(q.place)
	q.place = nil
	if n := len(s.waiting); n > 0 && s.running.Len() < s.most {
		next := s.waiting[n-1]
		s.waiting = s.waiting[:n-1]
		s.start(next)
		close(next.ready)
	}
}
