package store

import "time"

// SetTimeout lets a test wait less for a server that does not answer.
func (p *Postgres) SetTimeout(d time.Duration) { p.timeout = d }

// SetAhead makes this process believe that its clock differs so much from the server's.
func (p *Postgres) SetAhead(d time.Duration) {
	p.clock.mu.Lock()
	defer p.clock.mu.Unlock()
	p.clock.ahead, p.clock.measured = d, time.Now()
}
