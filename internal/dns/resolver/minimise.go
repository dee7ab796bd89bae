package resolver

import (
	"strings"
	"sync"
	"time"

	"mxward/internal/dns"
)

// QNAME minimisation (RFC 9156): the servers of a zone see no more of a name than they need
// to say where to go on, one label beyond their zone. It is relaxed: whatever odd is said
// about a part of the name, the same server is asked for all of it, since many servers
// know nothing of names that only have others below them.
const (
	maxMinimised = 10 // questions with a part of the name (RFC 9156 §2.3: MAX_MINIMISE_COUNT)
	oneLabelEach = 4  // of them, those with one label more each (MINIMISE_ONE_LAB)
)

// The memory of names where no zone begins.
const (
	uncutFor = time.Hour
	maxUncut = 10_000
)

// minimiser is the state of one walk.
type minimiser struct {
	asked int // questions with a part of the name
	shown int // labels of the name that the servers of the zone are known to serve themselves
	full  bool
}

// minimises reports whether parts of a name may be asked of a zone's servers. A stub's
// servers and those below are asked for full names only: block lists deny the names that
// lie between.
func (r *Resolver) minimises(a ask, cut *delegation) bool {
	return !r.NoMinimisation && len(cut.fixed) == 0 && !r.stubbed(a)
}

// show gives what to ask the servers of cut on the way to a: a part of the name as type A
// (RFC 9156 §2.1), or a itself.
func (r *Resolver) show(a ask, cut *delegation, m *minimiser) ask {
	if m.full || !r.minimises(a, cut) {
		return a
	}
	m.shown = max(m.shown, cut.zone.CountLabels())
	for {
		part := m.part(a.name)
		if part == a.name {
			return a
		}
		if m.asked >= maxMinimised {
			r.counts.limits[limitMinimisation].Add(1)
			return a
		}
		shorter := ask{name: part, typ: dns.TypeA, dnssec: a.dnssec}
		if !r.uncut.holds(part) && !r.exists(shorter) {
			m.asked++
			return shorter
		}
		m.shown = part.CountLabels()
	}
}

// part gives the next part of the name: one label more, or several once the name has proved
// to be long. Labels that begin with an underscore are no border (RFC 9156 §2.3).
func (m *minimiser) part(name dns.Name) dns.Name {
	labels, step := name.CountLabels(), 1
	if m.asked >= oneLabelEach {
		step = max(1, (labels-m.shown)/(maxMinimised-oneLabelEach))
	}
	part := name
	for ; labels > m.shown+step; labels-- {
		parent, ok := name.Parent()
		if !ok {
			break
		}
		name = parent
		if !strings.HasPrefix(name.String(), "_") {
			part = name
		}
	}
	return part
}

// exists reports whether the cache has seen that a name is there.
func (r *Resolver) exists(a ask) bool {
	p := r.cache.find(a, time.Now())
	return p != nil && p.rcode == dns.NoError && p.target.IsZero()
}

// learn takes the reply to a part of the name that led nowhere: no zone begins there.
func (m *minimiser) learn(r *Resolver, part ask) {
	m.shown = part.name.CountLabels()
	r.uncut.add(part.name)
}

// odd reports whether what was said about a part of the name may have nothing to do with
// the whole of it: a denial from a server that does not know empty non-terminals
// (RFC 8020), an alias, a refusal.
func odd(found finding, err error) bool {
	if err != nil {
		se, ok := err.(*serverError)
		return ok && (se.fault == faultFailed || se.fault == faultLame || se.fault == faultMalformed)
	}
	return len(found.pieces) > 1 || len(found.pieces) == 1 && (found.pieces[0].rcode != dns.NoError || !found.pieces[0].target.IsZero())
}

// uncut remembers names where no zone begins, so that they are not asked about again for
// every name below them. It only saves questions: if a zone does begin there by now, the
// question with the full name is answered with the referral.
type uncut struct {
	mu sync.Mutex
	m  map[dns.Name]time.Time // until when
}

func (u *uncut) holds(name dns.Name) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.m[name].After(time.Now())
}

func (u *uncut) add(name dns.Name) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.m == nil {
		u.m = map[dns.Name]time.Time{}
	}
	for old := range u.m { // any one: the order of a map is random
		if len(u.m) < maxUncut {
			break
		}
		delete(u.m, old)
	}
	u.m[name] = time.Now().Add(uncutFor)
}

func (u *uncut) flush(name dns.Name) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for n := range u.m {
		if n.In(name) {
			delete(u.m, n)
		}
	}
}
