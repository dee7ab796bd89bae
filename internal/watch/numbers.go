package watch

import (
	"maps"
	"slices"
	"strings"
	"time"

	"mxward/internal/audit"
	"mxward/internal/audit/render"
	"mxward/internal/dns"
)

// Number is what the last look at a domain has counted.
type Number struct {
	Domain   dns.Name
	When     time.Time
	Findings map[audit.Severity]int // that failed
	Unknown  map[audit.Blame]int
	Clocks   []render.Clock
}

func newNumber(r render.Report) Number {
	n := Number{Domain: r.Domain, When: r.When, Findings: map[audit.Severity]int{}, Unknown: map[audit.Blame]int{}, Clocks: earliest(r.Clocks)}
	for _, f := range r.Findings {
		switch {
		case f.Ignored != "":
		case f.Status == audit.Fail:
			n.Findings[f.Severity]++
		case f.Status == audit.Unknown:
			n.Unknown[f.Blame]++
		}
	}
	return n
}

// count notes a look and what came of it.
func (w *Watcher) count(r render.Report, changes []Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.numbers == nil {
		w.numbers, w.changes = map[dns.Name]Number{}, map[Turn]int64{}
	}
	w.numbers[r.Domain] = newNumber(r)
	for _, c := range changes {
		w.changes[c.Turn]++
	}
	w.unsent = len(w.state.Unsent)
}

// waiting notes how many changes wait to be sent.
func (w *Watcher) waiting(changes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unsent = changes
}

// clear forgets the numbers: another gate has newer ones.
func (w *Watcher) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.numbers, w.unsent = nil, 0
}

// Numbers gives the last look at each domain since the start, by name; nothing while another gate
// watches.
func (w *Watcher) Numbers() []Number {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.SortedFunc(maps.Values(w.numbers), func(a, b Number) int { return strings.Compare(a.Domain.String(), b.Domain.String()) })
}

// Changes gives how many changes there were since the start, by turn, and how many wait to be
// sent.
func (w *Watcher) Changes() (all map[Turn]int64, unsent int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.changes), w.unsent
}
