package deliver

import (
	"sync"
	"time"

	"mxward/internal/smtp"
)

// Bounds of the connections that are kept for the next message.
const (
	maxIdle        = 200 // of all hosts
	maxIdlePerHost = 20  // as many as the queue uses at once for one destination
	maxPerLink     = 100 // messages; hosts tire of endless connections
)

// link is a connection that has been greeted.
type link struct {
	at     place
	client *smtp.Client
	plain  bool        // TLS is offered there, and did not work
	sent   int         // transactions so far
	timer  *time.Timer // ends its idleness
}

// pool keeps connections between messages, for a short while, and counts those that are
// open. Closing says QUIT and may take seconds, so it happens aside.
type pool struct {
	idleFor time.Duration // negative: keep none

	mu      sync.Mutex
	idle    map[place][]*link
	idling  int            // links in idle
	open    map[string]int // links by address, in use and idle
	closed  bool
	closing sync.WaitGroup
}

// add counts a new link, which is in use.
func (p *pool) add(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open = map[string]int{}
	}
	p.open[l.at.address]++
}

// has reports whether any link to the address is open.
func (p *pool) has(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open[address] > 0
}

// take gives an idle link, the one that was used last, or nil.
func (p *pool) take(at place) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	links := p.idle[at]
	for i := len(links) - 1; i >= 0; i-- {
		// A timer that has fired is about to close its link.
		if l := links[i]; l.timer.Stop() {
			p.remove(l)
			return l
		}
	}
	return nil
}

// remove takes a link out of the idle ones, if it is there. The caller holds the lock.
func (p *pool) remove(l *link) bool {
	links := p.idle[l.at]
	for i := range links {
		if links[i] != l {
			continue
		}
		p.idling--
		if len(links) == 1 {
			delete(p.idle, l.at)
			return true
		}
		p.idle[l.at] = append(links[:i:i], links[i+1:]...)
		return true
	}
	return false
}

// put takes a link back after use, to keep it or to close it.
func (p *pool) put(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.idleFor < 0 || !l.client.Usable() || l.sent >= maxPerLink ||
		p.idling >= maxIdle || len(p.idle[l.at]) >= maxIdlePerHost {
		p.drop(l)
		return
	}
	if p.idle == nil {
		p.idle = map[place][]*link{}
	}
	p.idle[l.at] = append(p.idle[l.at], l)
	p.idling++
	l.timer = time.AfterFunc(p.idleFor, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.remove(l) {
			p.drop(l)
		}
	})
}

// discard closes a link whose state is not known.
func (p *pool) discard(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(l)
}

// drop closes a link that is not idle. The caller holds the lock.
func (p *pool) drop(l *link) {
	if p.open[l.at.address]--; p.open[l.at.address] <= 0 {
		delete(p.open, l.at.address)
	}
	if p.closed {
		go l.client.Close() // close may be waiting already, and waits for those before it
		return
	}
	p.closing.Go(func() { l.client.Close() })
}

// close closes the idle links, keeps no more, and waits until all are closed.
func (p *pool) close() {
	p.mu.Lock()
	for _, links := range p.idle {
		for _, l := range links {
			l.timer.Stop()
			p.drop(l)
		}
	}
	p.idle, p.idling, p.closed = nil, 0, true
	p.mu.Unlock()
	p.closing.Wait()
}
