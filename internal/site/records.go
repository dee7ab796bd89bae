package site

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/dns/zone"
	"mxward/internal/mailauth/mtasts"
)

// maxWants bounds the records of one domain that are compared with the world's; a zone may
// have millions of others.
const maxWants = 200

// Want is what the plan wants a name to have of one type.
type Want struct {
	Name   dns.Name
	Type   dns.Type
	Values []string // as Values writes them, in order
	Closed bool     // and no others
	Alias  bool     // the plan itself has an alias there
}

// Wants gives the records by which mail for a domain of the plan goes, as the world should see
// them. Where the plan has a zone for them, all that stands there; else what follows from the
// ladder, the hosts and the MTA-STS policy.
func (p *Plan) Wants(domain dns.Name) ([]Want, error) {
	d, ok := p.Domain(domain)
	if !ok {
		return nil, fmt.Errorf("the plan has no [[domain]] %s", domain)
	}
	zones, err := p.readZones()
	if err != nil {
		return nil, err
	}
	w := wants{zones: zones}
	w.ladder(p, d)
	w.policy(d)
	w.mail(domain)
	return w.list, nil
}

// Serves reports whether the plan has the zone that a name is in.
func (p *Plan) Serves(name dns.Name) bool {
	return slices.ContainsFunc(p.DNS.Zones, func(z Zone) bool { return name.In(z.Name) })
}

// readZones reads the plan's zone files anew; Load has found them fit.
func (p *Plan) readZones() ([]served, error) {
	var zones []served
	for _, z := range p.DNS.Zones {
		f, err := os.Open(z.File)
		if err != nil {
			return nil, err
		}
		parsed, err := zone.Parse(f, z.Name, z.File)
		f.Close()
		if err != nil {
			return nil, err
		}
		zones = append(zones, served{Zone: parsed, name: z.Name, file: z.File})
	}
	return zones, nil
}

// wants gathers a list in which each name and type stands once.
type wants struct {
	zones []served
	list  []Want
}

// ladder: the MX records, and the addresses of the hosts.
func (w *wants) ladder(p *Plan, d Domain) {
	var mx []string
	for _, r := range d.Ladder {
		mx = append(mx, showRecord(dns.MX{Preference: r.Preference, Host: r.Host}))
	}
	// Where all rungs are backups, the better ones are somebody else's.
	w.add(Want{Name: d.Name, Type: dns.TypeMX, Values: mx, Closed: d.has(Gate)})
	for _, r := range d.Ladder {
		host, _ := p.Host(r.Host)
		var four, six []string
		for _, a := range host.Addresses {
			if a.Is4() {
				four = append(four, a.String())
			} else {
				six = append(six, a.String())
			}
		}
		w.add(Want{Name: host.Name, Type: dns.TypeA, Values: four, Closed: true})
		w.add(Want{Name: host.Name, Type: dns.TypeAAAA, Values: six, Closed: true})
	}
}

// policy: the record of the MTA-STS policy that mxward serves.
func (w *wants) policy(d Domain) {
	policy, ok := d.Policy()
	name, err := mtasts.RecordName(d.Name)
	if !ok || err != nil {
		return
	}
	if z, served := nearestZone(w.zones, name); served && z.says(name) {
		return // then the zone has the record, or lacks it
	}
	w.add(Want{Name: name, Type: dns.TypeTXT, Values: []string{mtasts.Record{ID: policy.ID()}.String()}, Closed: true})
}

// mail: what the plan's zones have at the names that mail asks for.
func (w *wants) mail(domain dns.Name) {
	w.zoned(domain, dns.TypeTXT, dns.TypeCAA)
	for _, label := range []string{"_dmarc", "_mta-sts", "_smtp._tls", "default._bimi"} {
		if name, err := dns.ParseName(label + "." + domain.FQDN()); err == nil {
			w.zoned(name, dns.TypeTXT)
		}
	}
	z, ok := nearestZone(w.zones, domain)
	if !ok {
		return
	}
	for _, rr := range z.Records() {
		name := dns.NameOf(rr.Header().Name)
		labels := name.Labels()
		switch {
		case len(w.list) >= maxWants:
			return
		case name.In(domain) && slices.Contains(labels, "_domainkey"):
			w.zoned(name, dns.TypeTXT)
		case len(labels) > 2 && labels[0] == "_25" && labels[1] == "_tcp":
			w.zoned(name, dns.TypeTLSA)
		}
	}
}

// zoned adds what the plan's zones say of a name, if they have a say on it.
func (w *wants) zoned(name dns.Name, types ...dns.Type) {
	z, ok := nearestZone(w.zones, name)
	if !ok || !z.says(name) {
		return
	}
	for _, t := range types {
		if target, err := Values(context.Background(), z, name, dns.TypeCNAME); err == nil && len(target.Records) > 0 {
			w.add(Want{Name: name, Type: dns.TypeCNAME, Values: target.Records, Closed: true, Alias: true})
			continue
		}
		if set, err := Values(context.Background(), z, name, t); err == nil {
			w.add(Want{Name: name, Type: t, Values: set.Records, Closed: true})
		}
	}
}

func (w *wants) add(want Want) {
	if slices.ContainsFunc(w.list, func(x Want) bool { return x.Name == want.Name && x.Type == want.Type }) {
		return
	}
	slices.Sort(want.Values)
	want.Values = slices.Compact(want.Values)
	w.list = append(w.list, want)
}

// Values asks for the records of a name, each as the data in a zone file, in order: for a TXT
// record the text in one piece. It knows A, AAAA, MX, TXT, CAA, TLSA and CNAME.
func Values(ctx context.Context, r dns.Resolver, name dns.Name, t dns.Type) (dns.Set[string], error) {
	switch t {
	case dns.TypeA, dns.TypeAAAA:
		set, err := dns.LookupAddrsOf(ctx, r, name, t)
		return written(set, err)
	case dns.TypeMX:
		set, err := dns.LookupMX(ctx, r, name)
		return written(set, err)
	case dns.TypeTXT:
		set, err := dns.LookupTXT(ctx, r, name)
		return written(set, err)
	case dns.TypeCAA:
		set, err := dns.LookupCAA(ctx, r, name)
		return written(set, err)
	case dns.TypeTLSA:
		set, err := dns.LookupTLSA(ctx, r, name)
		return written(set, err)
	case dns.TypeCNAME:
		return alias(ctx, r, name)
	}
	return dns.Set[string]{}, fmt.Errorf("look up %s %s: records of this type are not compared", name, t)
}

func written[T any](set dns.Set[T], err error) (dns.Set[string], error) {
	out := dns.Set[string]{Exists: set.Exists, Canonical: set.Canonical, Aliases: set.Aliases, Authentic: set.Authentic, Stale: set.Stale, TTL: set.TTL}
	for _, v := range set.Records {
		out.Records = append(out.Records, showRecord(v))
	}
	slices.Sort(out.Records)
	out.Records = slices.Compact(out.Records)
	return out, err
}

// showRecord writes the data of a record.
func showRecord(v any) string {
	switch v := v.(type) {
	case dns.MX:
		return fmt.Sprintf("%d %s", v.Preference, v.Host.FQDN())
	case dns.CAA:
		flags := 0
		if v.Critical {
			flags = 128
		}
		return fmt.Sprintf("%d %s %q", flags, v.Tag, v.Value)
	case dns.TLSA:
		return fmt.Sprintf("%d %d %d %x", v.Usage, v.Selector, v.Matching, v.Data)
	}
	return fmt.Sprint(v)
}

func alias(ctx context.Context, r dns.Resolver, name dns.Name) (dns.Set[string], error) {
	q := dns.Question{Name: name, Type: dns.TypeCNAME}
	answer, err := r.Resolve(ctx, q)
	set := dns.Set[string]{Exists: answer.Rcode == dns.NoError}
	if err != nil || answer.Rcode != dns.NoError && answer.Rcode != dns.NXDomain {
		if err == nil {
			err = &dns.Error{Question: q, Trouble: dns.ServerFailed, Detail: answer.Rcode.String()}
		}
		return set, err
	}
	for _, rr := range answer.Answer {
		if h := rr.Header(); dns.NameOf(h.Name) == name && dns.Type(h.Rrtype) == dns.TypeCNAME {
			set.Records = append(set.Records, dns.NameOf(strings.TrimPrefix(rr.String(), h.String())).FQDN())
		}
	}
	return set, nil
}
