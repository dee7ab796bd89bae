package dnssec

import (
	"encoding/base64"
	"slices"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// Trust anchors that follow their zone's keys (RFC 5011). Each key signing key of the zone
// goes through these states, at each look at the zone's DNSKEY set, which the anchors of
// the moment have validated:
//
//	state    in the set          not in the set   revoked in it, signed by itself
//	(new)    pending             –                –
//	pending  valid after 30 days forgotten        forgotten
//	valid    valid               missing          revoked
//	missing  valid               missing          revoked
//	revoked  revoked; after 30 days removed, whatever the set has
//	removed  removed, for ever: a key that was given up never comes back
//
// Keys that are valid or missing are anchors. One that an anchor of the operator's vouches
// for is valid at first sight.

// holdDown is the time for which a new key has to be seen, so that who has stolen a key
// cannot add his own unnoticed, and for which a revoked key is remembered
// (RFC 5011 §2.4.1, §2.4.2).
const holdDown = 30 * 24 * time.Hour

// maxTracked bounds the keys of one zone that are followed, the removed ones apart.
const maxTracked = 16

// KeyState is where a key stands.
type KeyState string

// The states of RFC 5011 §4.1, but for Start: a key of which nothing is known.
const (
	KeyPending KeyState = "pending"
	KeyValid   KeyState = "valid"
	KeyMissing KeyState = "missing"
	KeyRevoked KeyState = "revoked"
	KeyRemoved KeyState = "removed"
)

// TrackedKey is a key signing key of a zone.
type TrackedKey struct {
	Algorithm uint8     `json:"algorithm"`
	Flags     uint16    `json:"flags"` // without REVOKE
	PublicKey string    `json:"public_key"`
	State     KeyState  `json:"state"`
	Since     time.Time `json:"since"` // when the state began
	// Until is when a pending key may become valid, or a revoked one is removed.
	Until time.Time `json:"until,omitzero"`
}

// Tracked is what is known of a zone's keys. It is a value, as JSON as well.
type Tracked struct {
	Zone dns.Name     `json:"zone"`
	Keys []TrackedKey `json:"keys"`
}

// record gives the key as the zone publishes it while it is not revoked.
func (k TrackedKey) record(zone dns.Name) *wire.DNSKEY {
	return &wire.DNSKEY{
		Hdr:   wire.RR_Header{Name: zone.FQDN(), Rrtype: wire.TypeDNSKEY, Class: wire.ClassINET},
		Flags: k.Flags, Protocol: protocolDNSSEC, Algorithm: k.Algorithm, PublicKey: k.PublicKey,
	}
}

func (k TrackedKey) is(rr *wire.DNSKEY) bool {
	return k.Algorithm == rr.Algorithm && k.Flags == rr.Flags&^wire.REVOKE && k.PublicKey == canonicalKey(rr)
}

// canonicalKey spells a key in one way.
func canonicalKey(rr *wire.DNSKEY) string {
	raw, err := base64.StdEncoding.DecodeString(rr.PublicKey)
	if err != nil {
		return rr.PublicKey
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// Next gives the states after a look at the zone's DNSKEY set, which must have been
// validated. Configured are the operator's anchors, as DS records.
func (t Tracked) Next(now time.Time, configured []dns.RR, set Set, work *Work) Tracked {
	next := Tracked{Zone: t.Zone}
	var seen []Key
	for _, k := range ParseKeys(set.Records) {
		if k.Supported() && k.Record.Flags&wire.SEP != 0 && k.Record.Flags&wire.ZONE != 0 {
			seen = append(seen, k)
		}
	}
	for _, k := range t.Keys {
		if after, keep := t.step(k, now, seen, set, work); keep {
			next.Keys = append(next.Keys, after)
		}
	}
	for _, k := range seen {
		known := slices.ContainsFunc(next.Keys, func(old TrackedKey) bool { return old.is(k.Record) })
		if known || k.Revoked() || next.followed() >= maxTracked {
			continue
		}
		next.Keys = append(next.Keys, t.first(k, now, configured, set))
	}
	return next
}

// followed counts the keys that may still change.
func (t Tracked) followed() int {
	n := 0
	for _, k := range t.Keys {
		if k.State != KeyRemoved {
			n++
		}
	}
	return n
}

// first is the state of a key at first sight.
func (t Tracked) first(k Key, now time.Time, configured []dns.RR, set Set) TrackedKey {
	fresh := TrackedKey{Algorithm: k.Algorithm, Flags: k.Record.Flags, PublicKey: canonicalKey(k.Record), State: KeyPending, Since: now}
	if vouched, _ := vouchedFor(t.Zone, usable(t.Zone, configured), []Key{k}); len(vouched) > 0 {
		fresh.State = KeyValid
		return fresh
	}
	// RFC 5011 §2.4.1: the hold-down, or the TTL of the set if that is longer.
	fresh.Until = now.Add(max(holdDown, time.Duration(originalTTL(set))*time.Second))
	return fresh
}

func originalTTL(set Set) uint32 {
	var ttl uint32
	for _, sig := range set.Sigs {
		ttl = max(ttl, sig.OrigTtl)
	}
	return ttl
}

// step is one row of the table.
func (t Tracked) step(k TrackedKey, now time.Time, seen []Key, set Set, work *Work) (after TrackedKey, keep bool) {
	present, revoked := false, false
	for _, s := range seen {
		if !k.is(s.Record) {
			continue
		}
		if s.Revoked() {
			revoked = revoked || t.selfSigned(s, set, now, work)
		} else {
			present = true
		}
	}
	to := func(state KeyState) TrackedKey {
		if k.State != state {
			k.State, k.Since, k.Until = state, now, time.Time{}
		}
		return k
	}
	switch k.State {
	case KeyPending:
		if !present {
			return k, false
		}
		if !now.Before(k.Until) {
			return to(KeyValid), true
		}
		return k, true
	case KeyValid, KeyMissing:
		switch {
		case revoked:
			gone := to(KeyRevoked)
			gone.Until = now.Add(holdDown)
			return gone, true
		case present:
			return to(KeyValid), true
		}
		return to(KeyMissing), true
	case KeyRevoked:
		if !now.Before(k.Until) {
			return to(KeyRemoved), true
		}
		return k, true
	case KeyRemoved:
		return k, true
	}
	return k, false // no state of ours
}

// selfSigned reports whether a revoked key has signed the set: nobody else may revoke it
// (RFC 5011 §2.1).
func (t Tracked) selfSigned(k Key, set Set, now time.Time, work *Work) bool {
	for i, sig := range set.Sigs {
		if i == maxSigsTried {
			break
		}
		if sig.KeyTag != k.Tag || sig.Algorithm != k.Algorithm {
			continue
		}
		self := &Zone{Name: t.Zone, Keys: []Key{k}, revoked: true}
		if _, err := self.try(set, sig, now, work); err == nil {
			return true
		}
	}
	return false
}

// Anchors gives the DS records to trust now: the configured ones whose keys were not
// revoked, and those of the keys that have proved themselves.
func (t Tracked) Anchors(configured []dns.RR) []dns.RR {
	var anchors []dns.RR
	for _, rr := range configured {
		if !t.gaveUp(rr) {
			anchors = append(anchors, rr)
		}
	}
	for _, k := range t.Keys {
		if key := parseKey(k.record(t.Zone)); (k.State == KeyValid || k.State == KeyMissing) && key.Supported() {
			if ds := digestOf(t.Zone, key); !slices.ContainsFunc(anchors, func(rr dns.RR) bool { return wire.IsDuplicate(rr, ds) }) {
				anchors = append(anchors, ds)
			}
		}
	}
	return anchors
}

// gaveUp reports whether a configured anchor is of a key that was revoked.
func (t Tracked) gaveUp(rr dns.RR) bool {
	for _, k := range t.Keys {
		if k.State != KeyRevoked && k.State != KeyRemoved {
			continue
		}
		if vouched, _ := vouchedFor(t.Zone, usable(t.Zone, []dns.RR{rr}), []Key{parseKey(k.record(t.Zone))}); len(vouched) > 0 {
			return true
		}
	}
	return false
}

// Same reports whether two looks came to the same states.
func (t Tracked) Same(other Tracked) bool {
	return t.Zone == other.Zone && slices.EqualFunc(t.Keys, other.Keys, func(a, b TrackedKey) bool {
		return a.PublicKey == b.PublicKey && a.Algorithm == b.Algorithm && a.Flags == b.Flags && a.State == b.State
	})
}
