package scan

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
)

// The defaults for one server's address; ours. Servers of many zones answer a hundred times as
// much, and a small one is seldom asked for more than one zone.
const (
	DefaultServerRate = 500 // questions a second
	serverAtOnce      = 100 // questions under way
	burst             = 50 * time.Millisecond
	maxGates          = 50_000 // servers that are remembered
)

// Pace holds back questions to single servers that were asked much lately. The resolver's own
// questions are not among them. They are about as many, and come with the others: each domain
// has its share of both, so that what is held back here slows the others too.
type Pace struct {
	audit.Asker
	Rate int // questions a second for each server's address; 0 is no bound

	mu    sync.Mutex
	gates map[netip.Addr]*gate
}

// gate is one server's.
type gate struct {
	next time.Time // when the next question may go, but for a burst
	room chan struct{}
}

// Ask implements audit.Asker.
func (p *Pace) Ask(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, error) {
	done, err := p.wait(ctx, server.Addr())
	if err != nil {
		return dns.Said{}, err
	}
	defer done()
	return p.Asker.Ask(ctx, server, network, q)
}

// wait waits until the server may be asked; done must be called when it was.
func (p *Pace) wait(ctx context.Context, server netip.Addr) (done func(), err error) {
	if p.Rate <= 0 {
		return func() {}, nil
	}
	g := p.gate(server)
	select {
	case g.room <- struct{}{}:
	default:
		defer audit.Hold(ctx)()
		select {
		case g.room <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	done = func() { <-g.room }
	if wait := p.turn(g); wait > 0 {
		defer audit.Hold(ctx)()
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			done()
			return nil, ctx.Err()
		}
	}
	return done, nil
}

// turn takes the next turn and gives how long it is until then.
func (p *Pace) turn(g *gate) time.Duration {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if early := now.Add(-burst); g.next.Before(early) {
		g.next = early
	}
	at := g.next
	g.next = at.Add(time.Second / time.Duration(p.Rate))
	return at.Sub(now)
}

func (p *Pace) gate(server netip.Addr) *gate {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.gates[server]
	if g == nil {
		p.forget()
		g = &gate{room: make(chan struct{}, serverAtOnce)}
		p.gates[server] = g
	}
	return g
}

// forget makes room: who has not been asked for a second may be asked at once anyway. It wants p.mu.
func (p *Pace) forget() {
	if p.gates == nil {
		p.gates = map[netip.Addr]*gate{}
	}
	if len(p.gates) < maxGates {
		return
	}
	before := time.Now().Add(-time.Second)
	for server, g := range p.gates {
		if len(g.room) == 0 && g.next.Before(before) {
			delete(p.gates, server)
		}
	}
}
