package resolver

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
)

// AnchorState keeps what was found out about the keys of the trust anchors' zones
// (RFC 5011) beyond the life of the process: a new key takes 30 days to be trusted.
type AnchorState interface {
	// LoadAnchors gives what SaveAnchors was given last, or nothing.
	LoadAnchors(ctx context.Context) ([]byte, error)
	SaveAnchors(ctx context.Context, state []byte) error
}

// anchorTimeout bounds a call of AnchorState.
const anchorTimeout = 5 * time.Second

// Active refresh (RFC 5011 §2.3): the keys of each anchor's zone are looked at after half of
// their TTL or of their signatures' time, and after a tenth of those where the last look
// failed, within these bounds.
const (
	minQueryInterval = time.Hour
	maxQueryInterval = 15 * 24 * time.Hour
	minRetryTime     = time.Hour
	maxRetryTime     = 24 * time.Hour
)

// rolling follows the keys of the anchors' zones. Each time that a zone's keys come from
// its servers counts as a look: those of FollowAnchors, and those that questions need.
type rolling struct {
	mu      sync.Mutex
	tracked map[dns.Name]dnssec.Tracked
}

// loadAnchors takes up where the last process ended.
func (r *Resolver) loadAnchors() *rolling {
	ro := &rolling{tracked: map[dns.Name]dnssec.Tracked{}}
	if r.AnchorState == nil || !r.validating() {
		return ro
	}
	ctx, cancel := context.WithTimeout(context.Background(), anchorTimeout)
	defer cancel()
	text, err := r.AnchorState.LoadAnchors(ctx)
	if err != nil || len(text) == 0 {
		r.logAnchors("load", err)
		return ro
	}
	var saved []dnssec.Tracked
	if err := json.Unmarshal(text, &saved); err != nil {
		r.logAnchors("read", err)
		return ro
	}
	for _, t := range saved {
		if len(r.trust.anchors[t.Zone]) > 0 {
			ro.tracked[t.Zone] = t
		}
	}
	return ro
}

// anchorsNow gives the DS records to trust for a zone that has anchors.
func (r *Resolver) anchorsNow(zone dns.Name) []dns.RR {
	r.rolling.mu.Lock()
	defer r.rolling.mu.Unlock()
	return r.rolling.tracked[zone].Anchors(r.trust.anchors[zone])
}

// rollover takes a look at the DNSKEY set of a zone that has anchors; it was validated just
// now.
func (r *Resolver) rollover(set dnssec.Set, now time.Time, led *ledger) {
	configured := r.trust.anchors[set.Name]
	if len(configured) == 0 {
		return
	}
	r.rolling.mu.Lock()
	before, known := r.rolling.tracked[set.Name]
	before.Zone = set.Name
	after := before.Next(now, configured, set, &led.work)
	r.rolling.tracked[set.Name] = after
	var all []dnssec.Tracked
	for _, t := range r.rolling.tracked {
		all = append(all, t)
	}
	r.rolling.mu.Unlock()
	if known && after.Same(before) {
		return
	}
	r.logRollover(after)
	if r.AnchorState == nil {
		return
	}
	text, err := json.Marshal(all)
	if err == nil {
		// The question goes on meanwhile, and may end before.
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), anchorTimeout)
			defer cancel()
			r.logAnchors("save", r.AnchorState.SaveAnchors(ctx, text))
		}()
	}
}

// FollowAnchors looks at the keys of the trust anchors' zones until ctx ends, whether or not
// anybody asks for anything: a new key has to be seen for 30 days, and a revoked one must not
// be missed (RFC 5011 §2.3). Without anchors it returns at once.
func (r *Resolver) FollowAnchors(ctx context.Context) {
	r.once.Do(r.start)
	var following sync.WaitGroup
	for zone := range r.trust.anchors { // the operator's, so that they are few
		following.Go(func() { r.followAnchor(ctx, zone) })
	}
	following.Wait()
}

func (r *Resolver) followAnchor(ctx context.Context, zone dns.Name) {
	retry := minRetryTime // until its signatures have told its own rhythm
	for {
		wait := retry
		if set, ok := r.lookAtKeys(ctx, zone); ok {
			wait, retry = queryInterval(set), retryTime(set)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// lookAtKeys asks the zone's servers for its keys, whatever the cache has; the validation of
// the answer takes the look.
func (r *Resolver) lookAtKeys(ctx context.Context, zone dns.Name) (set dnssec.Set, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	a := ask{name: zone, typ: typeDNSKEY, dnssec: true}
	var err error
	defer r.recovered(a.question(), &err)
	led := r.open(a, nil)
	led.renews = true
	pieces, err := r.step(ctx, led)
	if err != nil {
		r.logFailure(a.question(), err)
		return set, false
	}
	set = keySet(pieces[0])
	return set, pieces[0].secure && len(set.Sigs) > 0
}

// queryInterval is RFC 5011 §2.3's, which takes the half of the least time.
func queryInterval(set dnssec.Set) time.Duration {
	return min(max(leastTime(set)/2, minQueryInterval), maxQueryInterval)
}

// retryTime is RFC 5011 §2.3's, which takes a tenth of it.
func retryTime(set dnssec.Set) time.Duration {
	return min(max(leastTime(set)/10, minRetryTime), maxRetryTime)
}

// leastTime is the least of the set's TTL, as it was signed, and of the time that its
// signatures have been made for: the "expiration interval" of RFC 5011 §2.3.
func leastTime(set dnssec.Set) time.Duration {
	least := 2 * maxQueryInterval
	for _, sig := range set.Sigs {
		least = min(least, seconds(sig.OrigTtl), seconds(sig.Expiration-sig.Inception)) // serial (RFC 4034 §3.1.5)
	}
	return least
}
