package dnssec_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
)

// TestRollover plays RFC 5011 §4.2 and §6 in time of its own: what is published on which
// day, by whom it is signed, and where each key stands then.
func TestRollover(t *testing.T) {
	org := dns.MustName("example.org")
	keys := map[string]pair{"a": newPair(1), "b": newPair(2), "c": newPair(3)}
	configured := []dns.RR{keys["a"].record(false).ToDS(wire.SHA256)}
	type day struct {
		day       int
		published string // keys; capitals: revoked
		signed    string // by whom
		states    string
		anchors   int
	}
	for name, days := range map[string][]day{
		"a new key, then the old one given up": {
			{0, "a", "a", "a valid", 1},
			{1, "ab", "a", "a valid, b pending", 1},
			{30, "ab", "a", "a valid, b pending", 1}, // 29 days
			{31, "ab", "a", "a valid, b valid", 2},
			{40, "Ab", "Ab", "a revoked, b valid", 1},
			{41, "b", "b", "a revoked, b valid", 1},
			{71, "b", "b", "a removed, b valid", 1},
			{72, "ab", "ab", "a removed, b valid", 1}, // it never comes back
		},
		"a new key that goes away while it waits": {
			{0, "ab", "a", "a valid, b pending", 1},
			{20, "a", "a", "a valid", 1},
			{21, "ab", "a", "a valid, b pending", 1}, // from the beginning
			{40, "ab", "a", "a valid, b pending", 1},
			{51, "ab", "a", "a valid, b valid", 2},
		},
		"a pending key with the revoke bit": {
			{0, "ab", "a", "a valid, b pending", 1},
			{20, "aB", "aB", "a valid", 1},
		},
		"missing and back": {
			{0, "ab", "a", "a valid, b pending", 1},
			{30, "ab", "a", "a valid, b valid", 2},
			{31, "a", "a", "a valid, b missing", 2},
			{90, "ab", "a", "a valid, b valid", 2},
		},
		"missing, then revoked": {
			{0, "ab", "a", "a valid, b pending", 1},
			{30, "ab", "a", "a valid, b valid", 2},
			{31, "a", "a", "a valid, b missing", 2},
			{40, "aB", "aB", "a valid, b revoked", 1},
		},
		"revoked by somebody else": { // the bit without the key's own signature says nothing
			{0, "ab", "a", "a valid, b pending", 1},
			{30, "ab", "a", "a valid, b valid", 2},
			{31, "Ab", "b", "a missing, b valid", 2},
		},
		"a stolen key cannot add another at once": {
			{0, "a", "a", "a valid", 1},
			{1, "abc", "a", "a valid, b pending, c pending", 1},
			{2, "ab", "a", "a valid, b pending", 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			state := dnssec.Tracked{Zone: org}
			for _, d := range days {
				now := start.AddDate(0, 0, d.day)
				set := published(t, keys, d.published, d.signed, now)
				state = state.Next(now, configured, set, &dnssec.Work{})
				// It goes through a store in between.
				text, err := json.Marshal(state)
				var again dnssec.Tracked
				if err != nil || json.Unmarshal(text, &again) != nil || !again.Same(state) {
					t.Fatalf("day %d: %s, %v", d.day, text, err)
				}
				state = again
				var got []string
				for name, k := range keys {
					for _, tracked := range state.Keys {
						if tracked.PublicKey == k.record(false).PublicKey {
							got = append(got, fmt.Sprintf("%s %s", name, tracked.State))
						}
					}
				}
				slices.Sort(got)
				if text := strings.Join(got, ", "); text != d.states || len(state.Keys) != len(got) {
					t.Errorf("day %d: %s, want %s", d.day, text, d.states)
				}
				if anchors := state.Anchors(configured); len(anchors) != d.anchors {
					t.Errorf("day %d: %d anchors, want %d: %v", d.day, len(anchors), d.anchors, anchors)
				}
			}
		})
	}
}

// published makes a DNSKEY set. A capital stands for a key with the revoke bit.
func published(t *testing.T, keys map[string]pair, names, signers string, now time.Time) dnssec.Set {
	t.Helper()
	org := dns.MustName("example.org")
	set := dnssec.Set{Name: org, Type: dns.Type(wire.TypeDNSKEY)}
	for _, c := range names {
		set.Records = append(set.Records, keys[strings.ToLower(string(c))].record(c < 'a'))
	}
	for _, c := range signers {
		set.Sigs = append(set.Sigs, keys[strings.ToLower(string(c))].sign(t, c < 'a', set.Records, now))
	}
	return set
}

// pair is an Ed25519 key signing key that can be revoked: the bit changes the tag, which is
// signed.
type pair struct{ ed25519.PrivateKey }

func newPair(seed byte) pair {
	return pair{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))}
}

func (p pair) record(revoked bool) *wire.DNSKEY {
	rr := &wire.DNSKEY{
		Hdr:   wire.RR_Header{Name: "example.org.", Rrtype: wire.TypeDNSKEY, Class: wire.ClassINET, Ttl: 3600},
		Flags: wire.ZONE | wire.SEP, Protocol: 3, Algorithm: wire.ED25519,
		PublicKey: base64.StdEncoding.EncodeToString(p.Public().(ed25519.PublicKey)),
	}
	if revoked {
		rr.Flags |= wire.REVOKE
	}
	return rr
}

func (p pair) sign(t *testing.T, revoked bool, records []dns.RR, now time.Time) *wire.RRSIG {
	t.Helper()
	sig := &wire.RRSIG{
		Algorithm: wire.ED25519, KeyTag: p.record(revoked).KeyTag(), SignerName: "example.org.",
		Inception: uint32(now.Add(-time.Hour).Unix()), Expiration: uint32(now.Add(time.Hour).Unix()),
	}
	if err := sig.Sign(p.PrivateKey, records); err != nil {
		t.Fatal(err)
	}
	return sig
}

// TestRolloverBound: a zone cannot make us remember ever more keys.
func TestRolloverBound(t *testing.T) {
	org := dns.MustName("example.org")
	now := time.Now()
	state := dnssec.Tracked{Zone: org}
	set := dnssec.Set{Name: org, Type: dns.Type(wire.TypeDNSKEY)}
	for i := range 100 {
		set.Records = append(set.Records, newPair(byte(i)).record(false))
	}
	state = state.Next(now, nil, set, &dnssec.Work{})
	if len(state.Keys) > 16 || len(state.Anchors(nil)) != 0 {
		t.Errorf("%d keys", len(state.Keys))
	}
}
