package app

import (
	"fmt"
	"math"
	"net/netip"
	"os"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
	"mxward/internal/dns/resolver"
	"mxward/internal/dns/zone"
	"mxward/internal/site"
)

// Resolver is the resolver of a plan: its own zones first, since they answer even when the
// network is down, and Iterative for everything else.
type Resolver struct {
	dns.Mux
	Iterative *resolver.Resolver
}

// leastEntry is less than any name in the cache takes, so that its size is what bounds it.
const leastEntry = 64

// How many questions the resolver works on at once, and how many more may wait. A question
// gives way after 200 ms where there is no room, so that live names find room beside dead
// ones, as long as no more than maxQuestions come in that time: the listener must let them
// come so far.
const (
	maxQuestions = 4000
	maxAskers    = 16_000
)

// NewResolver reads the files that the plan names for its resolver. Iterative has not been
// used yet, so that its fields may still be set.
func NewResolver(plan *site.Plan) (*Resolver, error) {
	zones, err := readZones(plan.DNS.Zones)
	if err != nil {
		return nil, err
	}
	hints := resolver.RootHints()
	if file := plan.Resolver.RootHints; file != "" {
		if hints, err = ReadHints(file); err != nil {
			return nil, err
		}
	}
	r := &resolver.Resolver{
		Hints:                hints,
		AllowLoopback:        allLoopback(hints),
		NoValidation:         !plan.Resolver.Validate,
		NegativeTrustAnchors: plan.Resolver.NegativeTrustAnchors,
		RebindProtection:     plan.Resolver.RebindProtection,
		PrivateZones:         plan.Resolver.PrivateZones,
		Own:                  zones,
		MaxInFlight:          maxQuestions,
		CacheBytes:           int(min(plan.Resolver.CacheSize, math.MaxInt)),
		CacheEntries:         int(min(plan.Resolver.CacheSize/leastEntry, math.MaxInt)),
		StaleFor:             plan.Resolver.StaleFor,
	}
	if r.StaleFor == 0 {
		r.StaleFor = -1 // in a plan 0 is a number, not a default
	}
	if plan.Resolver.RootHints == "" {
		r.Hints = nil // the built-in ones, and with them the root's keys
	}
	for _, text := range plan.Resolver.TrustAnchors {
		anchor, err := dnssec.ParseAnchor(text)
		if err != nil {
			return nil, fmt.Errorf("trust anchor: %w", err)
		}
		r.TrustAnchors = append(r.TrustAnchors, anchor)
	}
	for _, s := range plan.Resolver.Stubs {
		r.Stubs = append(r.Stubs, resolver.Stub{Zone: s.Name, Servers: s.Servers})
	}
	for _, f := range plan.Resolver.Forwards {
		r.Forwards = append(r.Forwards, resolver.Forward{Zone: f.Name, Servers: f.Servers, TLS: f.TLS.On, ServerName: f.TLS.Name})
	}
	for _, l := range plan.Resolver.Local {
		data, err := localData(l)
		if err != nil {
			return nil, err
		}
		r.Local = append(r.Local, data)
	}
	return &Resolver{dns.Mux{Zones: zones, Default: r}, r}, nil
}

func readZones(named []site.Zone) (map[dns.Name]dns.Resolver, error) {
	zones := map[dns.Name]dns.Resolver{}
	for _, z := range named {
		text, err := os.Open(z.File)
		if err != nil {
			return nil, fmt.Errorf("read zone %s: %w", z.Name, err)
		}
		parsed, err := zone.Parse(text, z.Name, z.File)
		text.Close()
		if err != nil {
			return nil, fmt.Errorf("read zone %s: %w", z.Name, err)
		}
		zones[z.Name] = parsed
	}
	return zones, nil
}

// ReadHints reads a file like named.root.
func ReadHints(file string) ([]resolver.Hint, error) {
	text, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read root hints: %w", err)
	}
	defer text.Close()
	hints, err := resolver.ParseHints(text, file)
	if err != nil {
		return nil, fmt.Errorf("read root hints: %w", err)
	}
	return hints, nil
}

// allLoopback: a resolver whose very roots are on loopback is in a lab, and there alone
// name servers may be.
func allLoopback(hints []resolver.Hint) bool {
	for _, h := range hints {
		if !h.Addr.IsLoopback() {
			return false
		}
	}
	return len(hints) > 0
}

// localData makes records of what the plan says about a name.
func localData(l site.Local) (resolver.Data, error) {
	data := resolver.Data{Name: l.Name}
	texts := make([]string, 0, len(l.Addresses)+len(l.Records))
	for _, a := range l.Addresses {
		texts = append(texts, addressRecord(a))
	}
	for _, text := range append(texts, l.Records...) {
		rr, err := dns.ParseRecord(l.Name, text)
		if err != nil {
			return data, fmt.Errorf("local data of %s: %w", l.Name, err)
		}
		data.Records = append(data.Records, rr)
	}
	return data, nil
}

func addressRecord(a netip.Addr) string {
	if a.Is4() {
		return "A " + a.String()
	}
	return "AAAA " + a.String()
}
