package scan

import (
	"sync"
	"time"
)

// away is for how long the second look waits for our own side to come back; ours.
const away = 2 * time.Minute

// ownSide is what the looks at domains have shown of the resolver and the network here. One that
// never worked is not waited for.
type ownSide struct {
	mu     sync.Mutex
	worked bool      // for any domain
	gone   time.Time // since when it does not; zero while it does
}

// seen takes what a look has shown.
func (o *ownSide) seen(isAway bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !isAway:
		o.worked, o.gone = true, time.Time{}
	case o.gone.IsZero():
		o.gone = time.Now()
	}
}

// isGone reports whether it was not there when a look ended last.
func (o *ownSide) isGone() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.gone.IsZero()
}

// hasWorked reports whether what it failed at is worth a second look.
func (o *ownSide) hasWorked() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.worked
}

// mayComeBack reports whether it is worth while to wait for it.
func (o *ownSide) mayComeBack() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.worked && (o.gone.IsZero() || time.Since(o.gone) < away)
}
