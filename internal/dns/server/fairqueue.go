package server

import (
	"container/list"
	"net/netip"
	"slices"
	"time"
)

// fairQueue gives each who asks its turn, as routers do with flows (RFC 970): a program that
// asks for thousands of names is in nobody's way but its own. Who asked last is the next, and
// whoever was served is the last until it asks again; of one source's questions the newest comes
// first. So most of them hardly wait, and the others wait as they would anyway, until they
// are told that it takes too long (waitingRoom.overdue).
type fairQueue struct {
	sources map[netip.AddrPort]*list.Element
	turns   list.List // of *source; the first is the next
}

// source is who asks, with at least one question that waits.
type source struct {
	from      netip.AddrPort
	questions []waiting
}

// add lets a question wait.
func (f *fairQueue) add(w waiting) {
	if f.sources == nil {
		f.sources = map[netip.AddrPort]*list.Element{}
	}
	e, known := f.sources[w.from]
	if !known {
		e = f.turns.PushFront(&source{from: w.from})
		f.sources[w.from] = e
	}
	s := e.Value.(*source)
	s.questions = append(s.questions, w)
	f.turns.MoveToFront(e)
}

// take takes up to n questions.
func (f *fairQueue) take(n int) (some []waiting) {
	for e := f.turns.Front(); e != nil && len(some) < n; e = f.turns.Front() {
		s := e.Value.(*source)
		newest := len(s.questions) - 1
		some = append(some, s.questions[newest])
		s.questions[newest] = waiting{} // its packet is not held
		s.questions = s.questions[:newest]
		f.turns.MoveToBack(e)
		f.forget(e)
	}
	return some
}

// before takes all that came before a time.
func (f *fairQueue) before(then time.Time) (some []waiting) {
	for e := f.turns.Front(); e != nil; {
		s, next := e.Value.(*source), e.Next()
		n := 0
		for n < len(s.questions) && s.questions[n].came.Before(then) {
			n++
		}
		some = append(some, s.questions[:n]...)
		s.questions = slices.Delete(s.questions, 0, n)
		f.forget(e)
		e = next
	}
	return some
}

// forget a source that waits for nothing.
func (f *fairQueue) forget(e *list.Element) {
	if s := e.Value.(*source); len(s.questions) == 0 {
		f.turns.Remove(e)
		delete(f.sources, s.from)
	}
}
