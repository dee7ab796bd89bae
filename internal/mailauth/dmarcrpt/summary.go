package dmarcrpt

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Summary is what many reports say together.
type Summary struct {
	Reports  int
	Begin    time.Time // of the earliest period; zero where none is known
	End      time.Time // of the latest
	Domains  []string  // the policy domains
	Messages int64
	Sources  []Source // the one with the most messages first
}

// Source is what one address, or one group of addresses, sent.
type Source struct {
	Name       string // the address, or the group's name; "" where it could not be read
	Addresses  int    // different ones, at most MaxAddresses
	HeaderFrom []string
	Reporters  []string // who saw it
	Tally
}

// MaxAddresses is how many addresses of one group are told apart, and how many domains and
// reporters are named; ours.
const MaxAddresses = 1000

// Tally counts messages.
type Tally struct {
	Messages    int64
	Pass        int64 // DMARC: at least one of the next two
	DKIM        int64 // an aligned signature passed
	SPF         int64 // an aligned SPF passed
	Quarantined int64
	Rejected    int64
	Overridden  int64 // there is a reason why the disposition is not the policy's
}

func (t *Tally) add(r Record) {
	t.Messages += r.Count
	for _, c := range []struct {
		to *int64
		is bool
	}{
		{&t.Pass, r.Pass()}, {&t.DKIM, r.DKIM == "pass"}, {&t.SPF, r.SPF == "pass"},
		{&t.Quarantined, r.Disposition == "quarantine"}, {&t.Rejected, r.Disposition == "reject"}, {&t.Overridden, len(r.Reasons) > 0},
	} {
		if c.is {
			*c.to += r.Count
		}
	}
}

// Summarize sums reports up by source. Group names the group of an address, such as the
// organizational domain of its PTR; nil, or the name "", leaves the address by itself.
// The same report twice, by organization and ID, counts once (RFC 9990 §3.5.4).
func Summarize(reports iter.Seq[Report], group func(netip.Addr) string) Summary {
	var s Summary
	sources := map[string]*gathered{}
	domains, known := map[string]bool{}, map[[3]string]bool{}
	for r := range reports {
		id := [3]string{r.Org, r.ID, r.Policy.Domain}
		if r.ID != "" && known[id] {
			continue
		}
		known[id] = true
		s.Reports++
		domains[r.Policy.Domain] = true
		if !r.Begin.IsZero() && (s.Begin.IsZero() || r.Begin.Before(s.Begin)) {
			s.Begin = r.Begin
		}
		if r.End.After(s.End) {
			s.End = r.End
		}
		for _, record := range r.Records {
			s.Messages += record.Count
			name := nameOf(record.Source, group)
			g := sources[name]
			if g == nil {
				g = &gathered{name: name, from: map[string]bool{}, by: map[string]bool{}, addrs: map[netip.Addr]bool{}}
				sources[name] = g
			}
			g.tally.add(record)
			note(g.from, record.HeaderFrom)
			note(g.by, r.Org)
			note(g.addrs, record.Source)
		}
	}
	s.Domains = slices.Sorted(maps.Keys(domains))
	for _, g := range sources {
		s.Sources = append(s.Sources, Source{g.name, len(g.addrs), slices.Sorted(maps.Keys(g.from)), slices.Sorted(maps.Keys(g.by)), g.tally})
	}
	slices.SortFunc(s.Sources, func(a, b Source) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Name, b.Name))
	})
	return s
}

type gathered struct {
	name     string
	from, by map[string]bool
	addrs    map[netip.Addr]bool
	tally    Tally
}

func note[K comparable](set map[K]bool, k K) {
	if len(set) < MaxAddresses {
		set[k] = true
	}
}

func nameOf(a netip.Addr, group func(netip.Addr) string) string {
	if !a.IsValid() {
		return ""
	}
	if group != nil {
		if name := group(a); name != "" {
			return name
		}
	}
	return a.String()
}
