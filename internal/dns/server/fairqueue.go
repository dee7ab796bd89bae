package server

import (
	"container/heap"
	"net/netip"
	"time"
)

// fairQueue gives who asks little its turn before those who ask much, as routers do with flows
// (RFC 970): a program that asks for thousands of names is in nobody's way but its own. Among
// equals, and of one source's questions, the newest comes first: so most of them hardly wait,
// and the others wait as they would anyway.
type fairQueue struct {
	sources map[netip.AddrPort]*source
	order   byQuestions
}

// source is who asks, with at least one question that waits.
type source struct {
	questions []waiting
	place     int // in the order
}

// add lets a question wait.
func (f *fairQueue) add(w waiting) {
	s, known := f.sources[w.from]
	if !known {
		if f.sources == nil {
			f.sources = map[netip.AddrPort]*source{}
		}
		s = &source{}
		f.sources[w.from] = s
		heap.Push(&f.order, s)
	}
	s.questions = append(s.questions, w)
	heap.Fix(&f.order, s.place)
}

// take takes up to n questions.
func (f *fairQueue) take(n int) (some []waiting) {
	for len(f.order) > 0 && len(some) < n {
		s := f.order[0]
		newest := len(s.questions) - 1
		w := s.questions[newest]
		some = append(some, w)
		s.questions[newest] = waiting{} // its packet is not held
		s.questions = s.questions[:newest]
		if newest > 0 {
			heap.Fix(&f.order, 0)
			continue
		}
		heap.Pop(&f.order)
		delete(f.sources, w.from)
	}
	return some
}

// newest is when the last question came that waits.
func (s *source) newest() time.Time {
	if len(s.questions) == 0 {
		return time.Time{}
	}
	return s.questions[len(s.questions)-1].came
}

// byQuestions is a heap of sources: first those with the fewest questions, and of these who
// asked last.
type byQuestions []*source

func (h byQuestions) Len() int { return len(h) }

func (h byQuestions) Less(i, k int) bool {
	if a, b := len(h[i].questions), len(h[k].questions); a != b {
		return a < b
	}
	return h[i].newest().After(h[k].newest())
}

func (h byQuestions) Swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	h[i].place, h[k].place = i, k
}

func (h *byQuestions) Push(s any) {
	s.(*source).place = len(*h)
	*h = append(*h, s.(*source))
}

func (h *byQuestions) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return s
}
