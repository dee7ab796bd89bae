package audit

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"mxward/internal/dns"
)

// Origins are the zones in which the DNS says which autonomous systems announce an address, as
// origin.asn.cymru.com and origin6.asn.cymru.com do: a TXT record at the reversed address that
// begins with the numbers, "64496 64511 | 192.0.2.0/24 | …". It is nobody's standard.
type Origins struct{ V4, V6 dns.Name }

const (
	maxOrigins = 26 // addresses
	maxASNs    = 16 // of one address
)

// origins asks for the systems of the name servers' addresses.
func (g *gatherer) origins(ctx context.Context) {
	if g.Origins.V4.IsZero() && g.Origins.V6.IsZero() {
		return
	}
	f := g.facts
	f.Origins = map[netip.Addr]Fact[uint32]{}
	var mu sync.Mutex
	var do []func(context.Context)
	for _, s := range f.Zone.Servers[:min(maxOrigins, len(f.Zone.Servers))] {
		name, ok := g.Origins.name(s.Addr)
		if s.Unasked || !ok {
			continue
		}
		do = append(do, func(ctx context.Context) {
			found := Fact[uint32]{}
			set, err := dns.LookupTXT(ctx, g.rec, name)
			found.Err = err
			for _, text := range set.Records {
				found.Records = append(found.Records, parseOrigin(text)...)
			}
			mu.Lock()
			defer mu.Unlock()
			f.Origins[s.Addr] = found
		})
	}
	g.all(ctx, do...)
}

// name gives where the record of an address stands.
func (o Origins) name(a netip.Addr) (dns.Name, bool) {
	zone := o.V4
	if a.Is6() {
		zone = o.V6
	}
	if zone.IsZero() {
		return dns.Name{}, false
	}
	labels := dns.ReverseName(a).Labels()
	name, err := dns.ParseName(strings.Join(labels[:len(labels)-2], ".") + "." + zone.FQDN())
	return name, err == nil
}

// parseOrigin reads the numbers before the first bar.
func parseOrigin(text string) []uint32 {
	numbers, _, ok := strings.Cut(text, "|")
	if !ok {
		return nil
	}
	var all []uint32
	for word := range strings.FieldsSeq(numbers) {
		n, err := strconv.ParseUint(word, 10, 32)
		if err != nil || n == 0 || len(all) == maxASNs {
			return nil
		}
		all = append(all, uint32(n))
	}
	return all
}

// delegSameAS: when one operator's routes go, so do all servers.
func delegSameAS(f *Facts) []verdict {
	if f.Origins == nil {
		return []verdict{{status: Skipped, detail: "nobody was named who knows the networks of addresses"}}
	}
	return needZone(sameAS)(f)
}

func sameAS(f *Facts) []verdict {
	if len(f.Zone.Servers) < 2 {
		return nil // deleg.single-ns
	}
	systems := map[uint32]bool{}
	var asked []dns.Question
	for _, s := range f.Zone.Servers {
		origin, known := f.Origins[s.Addr]
		switch {
		case s.Unasked:
			continue
		case origin.Err != nil:
			return []verdict{unknown(f, origin.Err, ThirdParty)}
		case !known || len(origin.Records) == 0:
			return []verdict{{status: Unknown, blame: ThirdParty, detail: "nobody says which system announces " + s.Addr.String()}}
		}
		for _, n := range origin.Records {
			systems[n] = true
		}
		asked = append(asked, addrQuestions(s.Name)...)
	}
	if len(systems) != 1 {
		return nil
	}
	for n := range systems {
		return []verdict{fail(fmt.Sprintf("all are in AS%d", n), slices.Concat([]dns.Question{f.nsQuestion()}, asked)...).mend("put one elsewhere")}
	}
	return nil
}
