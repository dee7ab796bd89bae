package deliver

import (
	"context"
	"sync"
	"time"

	"mxward/internal/mail"
)

// maxGraves bounds what is remembered; beyond it dead addresses are not remembered.
const maxGraves = 10_000

// memory knows which addresses did not answer a moment ago (RFC 5321 §4.5.4.1 lets a
// client keep such a list), so that a thousand messages do not each wait for the same dead
// host. All messages share it.
//
// A dead address is left alone for deadFor, or for as long as it took to find it dead if
// that was longer: a host that hangs for minutes costs at most half of a worker's time.
// Then one message, the canary, knocks, while the others still take the address for dead;
// what the canary finds decides for all.
type memory struct {
	deadFor time.Duration // negative: remember nothing

	mu     sync.Mutex
	graves map[string]*grave
}

type grave struct {
	said   mail.Outcome // how it was last found dead
	until  time.Time    // nobody knocks before
	canary *visit       // who knocks now; nil: nobody
}

// visit is the leave to knock at an address. Whoever has it ends it by alive, dead or
// unknown; after the first the others do nothing.
type visit struct {
	memory  *memory
	address string
	began   time.Time
	over    chan struct{}
	ended   bool
}

// enter gives leave to knock at an address, or says how it was found dead.
func (m *memory) enter(address string) (*visit, mail.Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := &visit{memory: m, address: address, began: time.Now(), over: make(chan struct{})}
	g := m.graves[address]
	if g == nil {
		return v, mail.Outcome{}
	}
	if g.canary != nil || v.began.Before(g.until) {
		return nil, g.said
	}
	g.canary = v
	return v, mail.Outcome{}
}

// alive: the address answers, so it is dead for nobody.
func (v *visit) alive() {
	v.end(func(m *memory) {
		if g := m.graves[v.address]; g != nil {
			delete(m.graves, v.address)
			if g.canary != nil && g.canary != v {
				close(g.canary.over)
				g.canary.ended = true
			}
		}
	})
}

// dead: the address did not answer, or turned us away.
func (v *visit) dead(said mail.Outcome) {
	v.end(func(m *memory) {
		if m.deadFor < 0 {
			return
		}
		now := time.Now()
		g := m.graves[v.address]
		if g == nil {
			if g = m.dig(v.address, now); g == nil {
				return
			}
		}
		g.said, g.until = said, now.Add(max(m.deadFor, now.Sub(v.began)))
	})
}

// unknown: the visit ended for reasons of our own.
func (v *visit) unknown() { v.end(func(*memory) {}) }

func (v *visit) end(learn func(*memory)) {
	m := v.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if v.ended {
		return
	}
	learn(m)
	if g := m.graves[v.address]; g != nil && g.canary == v {
		g.canary = nil
	}
	v.ended = true
	close(v.over)
}

// dig makes a grave, if there is room. The caller holds the lock.
func (m *memory) dig(address string, now time.Time) *grave {
	if len(m.graves) >= maxGraves {
		for a, g := range m.graves {
			if g.canary == nil && now.After(g.until) {
				delete(m.graves, a)
			}
		}
		if len(m.graves) >= maxGraves {
			return nil
		}
	}
	if m.graves == nil {
		m.graves = map[string]*grave{}
	}
	g := &grave{}
	m.graves[address] = g
	return g
}

// await waits for the canary that is at an address, if there is one, and reports whether
// the address may be knocked at after it.
func (m *memory) await(ctx context.Context, address string) bool {
	m.mu.Lock()
	g := m.graves[address]
	var canary *visit
	if g != nil {
		canary = g.canary
	}
	m.mu.Unlock()
	switch {
	case g == nil:
		return true // it has answered somebody since
	case canary == nil:
		return false
	}
	select {
	case <-canary.over:
	case <-ctx.Done():
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.graves[address] == nil
}
