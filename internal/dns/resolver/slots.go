package resolver

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// jostleAfter is how long a question runs before it gives way to a newer one, where there is
// no room for both: most names take less, and those of dead servers would fill all the room
// there is.
const jostleAfter = 200 * time.Millisecond

// waitersEach is how many questions may wait for each place; of more, those that have waited
// longest go without.
const waitersEach = 10

// crowd is how many questions wait for servers that are not heard before it is worth while to
// look whether one more would.
const crowd = 64

var (
	errJostled = errors.New("it gave way to a newer one")
	errNoRoom  = errors.New("no room")
)

// slots is the room for different questions at once. It has two lanes. A question begins in
// the fast one, and leaves it for the slow one before it waits for a server that has not been
// heard: so those of dead servers, however many, are only in each other's way.
//
// Who comes when a lane is full takes the place of its oldest question, if that has had its
// time, and otherwise waits, the newest first: under such a load those who have waited for
// long have often gone.
type slots struct {
	mu   sync.Mutex
	most int // in each lane
	fast lane
	slow lane
}

// lane is its questions, as *slot: those in front came first.
type lane struct{ running, waiting list.List }

// slot is a question's place. Its end ends the question.
type slot struct {
	end     context.CancelFunc
	began   time.Time     // when it had its first place
	lane    *lane         // where it runs or waits; nil before and after
	place   *list.Element // in running, or in waiting
	ready   chan struct{} // closed when the wait is over; nil while it runs
	gaveWay bool
}

// enter waits for a place in the fast lane. It reports false where there was none before the
// end of ctx, or too many others waited.
func (s *slots) enter(ctx context.Context, q *slot) bool {
	s.mu.Lock()
	return s.admit(ctx, q, &s.fast)
}

// slowDown moves a question into the slow lane, and waits for a place there. It may be there
// already, or have no place at all.
func (s *slots) slowDown(ctx context.Context, q *slot) bool {
	if q == nil {
		return true
	}
	s.mu.Lock()
	if q.lane != &s.fast {
		defer s.mu.Unlock()
		return !q.gaveWay
	}
	s.remove(q)
	return s.admit(ctx, q, &s.slow)
}

// crowd reports whether many questions wait for servers that are not heard.
func (s *slots) crowd() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slow.running.Len() >= crowd
}

// crowded reports whether a question that slows down would have to wait.
func (s *slots) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slow.running.Len() >= s.most
}

// leave makes room.
func (s *slots) leave(q *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(q)
}

// jostled reports whether a question was ended to make room.
func (s *slots) jostled(q *slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return q.gaveWay
}

// admit gives a question its place in a lane, or lets it wait for one. The lock is held, and
// given back.
func (s *slots) admit(ctx context.Context, q *slot, l *lane) bool {
	q.lane = l
	if l.running.Len() < s.most || s.jostle(l) {
		l.start(q)
		s.mu.Unlock()
		return true
	}
	ready := make(chan struct{})
	q.ready, q.place = ready, l.waiting.PushBack(q)
	if l.waiting.Len() > waitersEach*s.most {
		l.waiting.Remove(l.waiting.Front()).(*slot).giveWay()
	}
	s.mu.Unlock()
	select {
	case <-ready:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.ready != nil {
		s.remove(q)
		return false
	}
	return !q.gaveWay
}

// giveWay ends a question that has been taken out of its lane. The lock is held.
func (q *slot) giveWay() {
	q.lane, q.place, q.gaveWay = nil, nil, true
	if q.ready != nil {
		close(q.ready)
		q.ready = nil
	}
	q.end()
}

// jostle ends the oldest question of a lane if that has had its time. The lock is held.
func (s *slots) jostle(l *lane) bool {
	front := l.running.Front()
	if front == nil || time.Since(front.Value.(*slot).began) < jostleAfter {
		return false
	}
	l.running.Remove(front).(*slot).giveWay()
	return true
}

// start gives a question its place. The lock is held.
func (l *lane) start(q *slot) {
	if q.began.IsZero() {
		q.began = time.Now()
	}
	q.place = l.running.PushBack(q)
}

// next gives a place to the one who came last of those who wait. The lock is held.
func (l *lane) next() {
	q := l.waiting.Remove(l.waiting.Back()).(*slot)
	close(q.ready)
	q.ready = nil
	l.start(q)
}

// remove takes a question out of its lane, where it may have a place or wait for one. The
// lock is held.
func (s *slots) remove(q *slot) {
	l := q.lane
	if l == nil {
		return
	}
	place, waits := q.place, q.ready != nil
	q.lane, q.place, q.ready = nil, nil, nil
	if waits {
		l.waiting.Remove(place)
		return
	}
	l.running.Remove(place)
	if l.waiting.Len() > 0 && l.running.Len() < s.most {
		l.next()
	}
}
