package dnsdiff

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// explanations are the differences that are known and meant. Each has a bound, in
// questions of 10,000, so that a row cannot swallow what it was not written for.
var explanations = []struct {
	why   string
	bound int

	patience bool // the question has to be asked again first
	holds    func(d difference) bool
}{
	{
		why: "the name of a server is an alias (RFC 2181 §10.3): BIND gives up, Unbound follows it, and so do we", bound: 250,
		holds: func(d difference) bool {
			return d.bind.failed() && same(d.ours, d.unbound) && d.touches(dnstest.NSIsAlias)
		},
	}, {
		why: "BIND leaves AD out on a negative answer that it has from its cache; Unbound and we set it", bound: 5,
		patience: true,
		holds: func(d difference) bool {
			return len(d.bind.answer) == 0 && !d.bind.ad && d.unbound.ad && d.bind.rcode == d.ours.rcode && same(d.ours, d.unbound)
		},
	}, {
		why: "Unbound or BIND gave no reply at all within our patience, twice; the other one and we agree", bound: 60,
		patience: true,
		holds: func(d difference) bool {
			return d.unbound.rcode == noReply && same(d.ours, d.bind) || d.bind.rcode == noReply && same(d.ours, d.unbound)
		},
	}, {
		why: "one of two servers is dark: Unbound gives up while it finds that out, BIND and we ask the other one", bound: 20,
		patience: true,
		holds: func(d difference) bool {
			return d.unbound.failed() && same(d.ours, d.bind) && d.touches(dnstest.DarkOne)
		},
	}, {
		why: "NS of a zone whose parent names others: BIND may still have the parent's (RFC 2181 §5.4.1 prefers the child's)", bound: 10,
		holds: func(d difference) bool {
			return d.q.Type == dns.TypeNS && same(d.ours, d.unbound) && d.touches(dnstest.NSMismatch, dnstest.NSMismatchOne)
		},
	}, {
		why: "ANY and RRSIG get what somebody happens to have (RFC 8482 §4): a cache has more or less than a server, and BIND follows no alias", bound: 220,
		holds: func(d difference) bool {
			collects := d.q.Type == dns.TypeANY || d.q.Type == dns.Type(wire.TypeRRSIG)
			return collects && (!d.ours.failed() || d.unbound.failed() || d.bind.failed())
		},
	}, {
		why: "NSEC of its own: BIND gives the parent's where it has that, and takes an alias there for an error; Unbound follows an alias that it knows, though NSEC stands beside it (RFC 4035 §2.5)", bound: 60,
		holds: func(d difference) bool {
			return d.q.Type == dns.Type(wire.TypeNSEC) && (same(d.ours, d.unbound) || same(d.ours, d.bind))
		},
	}, {
		why: "CNAME below a DNAME is the one that the DNAME makes (RFC 6672 §3.1): BIND and we end there, Unbound goes on to the target's", bound: 40,
		holds: func(d difference) bool {
			made := slices.ContainsFunc(d.ours.answer, func(rr string) bool { return strings.Contains(rr, " in dname ") })
			return d.q.Type == dns.TypeCNAME && made && (same(d.ours, d.bind) || d.touches(dnstest.NSIsAlias))
		},
	}, {
		why: "a wildcard's own name is no expansion (RFC 4592 §2.3) and needs no proof: BIND may add one", bound: 10,
		holds: func(d difference) bool {
			without := d.bind
			without.proofs = d.ours.proofs
			return strings.HasPrefix(d.q.Name.FQDN(), "*.") && same(d.ours, d.unbound) && same(d.ours, without)
		},
	}, {
		why: "NSEC3 with more iterations than anybody follows (RFC 9276 §3.2) proves nothing: BIND may leave it out, Unbound and we hand it on", bound: 5,
		holds: func(d difference) bool {
			without := d.bind
			without.proofs = d.ours.proofs
			return same(d.ours, d.unbound) && same(d.ours, without) && d.touches(dnstest.ManyHashes)
		},
	}, {
		why: "Unbound or BIND failed twice, as they do on a machine that is too busy for all they have in hand; the other one and we agree", bound: 10,
		patience: true,
		holds: func(d difference) bool {
			return d.unbound.failed() && same(d.ours, d.bind) || d.bind.failed() && same(d.ours, d.unbound)
		},
	},
}

// difference is one question that was not answered alike.
type difference struct {
	q                   question
	ours, unbound, bind reply
	zones               []dnstest.ZoneInfo // of the name, and of the aliases in all answers
}

// touches reports whether the answer has to do with a zone that has one of the faults.
func (d difference) touches(faults ...dnstest.Fault) bool {
	return slices.ContainsFunc(d.zones, func(z dnstest.ZoneInfo) bool { return slices.Contains(faults, z.Fault) })
}

// verdicts counts what was agreed upon and what was not.
type verdicts struct {
	zones       map[dns.Name]dnstest.ZoneInfo
	agreed      int
	authentic   int // of those agreed on
	failed      int
	absent      int
	retried     int
	explained   map[string]int
	unexplained map[string][]string // by kind
	tooLong     []string
}

func newVerdicts(in *dnstest.Internet) *verdicts {
	v := &verdicts{zones: map[dns.Name]dnstest.ZoneInfo{}, explained: map[string]int{}, unexplained: map[string][]string{}}
	for _, z := range in.Zones {
		v.zones[z.Name] = z
	}
	return v
}

// zonesOf gives the zone that a name is in, and those above it, since a name in a healthy
// zone cannot be found if the way there is broken.
func (v *verdicts) zonesOf(name dns.Name) (found []dnstest.ZoneInfo) {
	for at, ok := name, true; ok; at, ok = at.Parent() {
		if z, is := v.zones[at]; is {
			found = append(found, z)
		}
	}
	return found
}

func (d difference) agreed() bool { return same(d.ours, d.unbound) && same(d.ours, d.bind) }

// why gives the reason in the table, or nothing; those that need patience count at the
// second try only.
func (d difference) why(second bool) string {
	for _, e := range explanations {
		if (second || !e.patience) && e.holds(d) {
			return e.why
		}
	}
	return ""
}

// difference puts together what there is to know of three replies.
func (v *verdicts) difference(q question, ours, unbound, bind reply) difference {
	d := difference{q: q, ours: ours, unbound: unbound, bind: bind, zones: v.zonesOf(q.Name)}
	for _, r := range []reply{ours, unbound, bind} {
		for _, target := range r.targets {
			d.zones = append(d.zones, v.zonesOf(target)...)
		}
	}
	return d
}

func (v *verdicts) judge(d difference) {
	if d.agreed() {
		v.agreed++
		if d.ours.ad {
			v.authentic++
		}
		if d.ours.failed() {
			v.failed++
		}
		if d.ours.rcode == "NXDOMAIN" {
			v.absent++
		}
		return
	}
	if why := d.why(true); why != "" {
		v.explained[why]++
		return
	}
	kind := fmt.Sprintf("Unbound differs in %v, BIND in %v, zone %s", differing(d.ours, d.unbound), differing(d.ours, d.bind), d.fault())
	v.unexplained[kind] = append(v.unexplained[kind], fmt.Sprintf("%v\n   ours    %v\n   unbound %v\n   bind    %v", d.q, d.ours, d.unbound, d.bind))
}

// lasting notes what would stay in caches longer than its zone wants.
func (v *verdicts) lasting(d difference) {
	for _, rr := range d.ours.tooLong {
		v.tooLong = append(v.tooLong, fmt.Sprintf("%v: %s", d.q, rr))
	}
}

// differing says what two replies differ in.
func differing(a, b reply) (in []string) {
	if same(a, b) {
		return nil
	}
	for what, differs := range map[string]bool{
		"rcode": a.rcode != b.rcode, "answer": !slices.Equal(a.answer, b.answer), "ad": a.ad != b.ad,
		"soa": a.soa != b.soa, "proofs": a.proofs != b.proofs,
	} {
		if differs {
			in = append(in, what)
		}
	}
	slices.Sort(in)
	return in
}

// fault names the zones that the answer has to do with.
func (d difference) fault() string {
	var all []string
	for _, z := range d.zones {
		if z.Fault != dnstest.Healthy && !slices.Contains(all, string(z.Fault)) {
			all = append(all, string(z.Fault))
		}
	}
	return strings.Join(all, " + ")
}

// shown bounds what a failure prints of each kind.
const shown = 5

func (v *verdicts) report(t *testing.T, total int) {
	t.Logf("%d questions: %d agreed (%d authentic, %d NXDOMAIN, %d failed), %d asked again", total, v.agreed, v.authentic, v.absent, v.failed, v.retried)
	if validating && v.authentic < total/10 || v.absent < total/20 || v.failed < total/20 {
		t.Errorf("the questions do not try enough")
	}
	for _, e := range explanations {
		n := v.explained[e.why]
		t.Logf("%5d explained: %s", n, e.why)
		if n > max(1, e.bound*total/10000) {
			t.Errorf("%d differences, at most %d of 10,000 questions allowed: %s", n, e.bound, e.why)
		}
	}
	if len(v.tooLong) > 0 {
		t.Errorf("%d TTLs above the zone's, such as %q", len(v.tooLong), v.tooLong[:min(shown, len(v.tooLong))])
	}
	for _, kind := range slices.Sorted(maps.Keys(v.unexplained)) {
		list := v.unexplained[kind]
		t.Errorf("%d not explained: %s", len(list), kind)
		for _, text := range list[:min(shown, len(list))] {
			t.Logf("      %s", text)
		}
	}
}

// targets gives where the aliases of an answer lead.
func targets(answer []wire.RR) (out []dns.Name) {
	for _, rr := range answer {
		if alias, ok := rr.(*wire.CNAME); ok {
			out = append(out, dns.NameOf(alias.Target))
		}
	}
	return out
}
