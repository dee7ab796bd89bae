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

// rolling follows the keys of the anchors' zones. Each time that a zone's keys come from
// its servers counts as a look (RFC 5011 §2.3 wants one at least every 15 days, and nothing
// is cached for longer than one).
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
