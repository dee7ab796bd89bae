package audit

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/mailauth/spf"
	"mxward/internal/site"
)

// maxOwn is how many of the site's addresses SPF is asked about; ours.
const maxOwn = 32

// oldKey is for how long a DKIM key may be in use: a year, and a month to change it in; ours.
const oldKey = 396 * 24 * time.Hour

// Planned is what a site's plan wants of a domain, and what the world sees of it.
type Planned struct {
	Err    error // the plan's zones cannot be read
	Sets   []PlannedSet
	Zoned  bool           // the plan has the domain's zone
	Policy *mtasts.Policy // that mxward serves; nil for none
	Own    []Covered      // the addresses from which the site sends
	Sends  bool           // the site sends in the domain's name by itself: its reports
	// Keys are those of the plan, by their selectors.
	Keys map[string]dkim.Key
	// Written is the age of that with which the site signs; the zero time where that is not known.
	Written time.Time
	signer  string // its selector
	// Closed are the MX hosts at which the plan wants no mail taken.
	Closed map[dns.Name]site.Role
	// Copies are the networks that the domain's SPF record has in place of includes; Passed is all
	// that it passes, where there are any.
	Copies []Copied
	Passed spf.Networks
	// Accounts are those with which certificates are asked for.
	Accounts []site.Account
	// Sending are the addresses of the plan's hosts from which mail may leave.
	Sending map[netip.Addr]bool
}

// OwnKey is the public half of a key that the site itself signs with.
type OwnKey struct {
	dkim.Key
	Written time.Time // its file, last; the key is no younger. Zero where that is not known
}

// PlannedSet is the records of one name and type, as the plan wants them and as they are.
type PlannedSet struct {
	site.Want
	Live Fact[string]
}

// Covered is what the domain's SPF says of one address of the site.
type Covered struct {
	Host    dns.Name
	Addr    netip.Addr
	Verdict spf.Verdict
}

// plan asks for all that the plan wants.
func (g *gatherer) plan(ctx context.Context) {
	p := g.facts.Plan
	if p == nil {
		return
	}
	do := []func(context.Context){}
	for i := range p.Sets {
		s := &p.Sets[i]
		do = append(do, func(ctx context.Context) { s.Live = fact(site.Values(ctx, g.rec, s.Name, s.Type)) })
	}
	for i := range p.Own {
		o := &p.Own[i]
		do = append(do, func(ctx context.Context) {
			o.Verdict = spf.Check(ctx, g.rec, spf.Session{Client: o.Addr, Helo: o.Host.String(), From: "postmaster@" + g.facts.Domain.String()})
		})
	}
	g.all(ctx, do...)
}

// newPlanned takes from the plan what is about the domain; nil without a plan that has it.
func (a *Auditor) newPlanned(domain dns.Name) *Planned {
	if a.Plan == nil {
		return nil
	}
	d, ok := a.Plan.Domain(domain)
	if !ok {
		return nil
	}
	p := &Planned{Zoned: a.Plan.Serves(domain), Keys: map[string]dkim.Key{}, Sends: a.Plan.Reports.From.Domain == domain, Closed: closedRungs(a.Plan, d), Sending: sending(a.Plan)}
	p.Accounts = a.Plan.Accounts
	for _, c := range d.Flattened {
		p.Copies = append(p.Copies, Copied{Flattened: c})
	}
	if policy, ok := d.Policy(); ok {
		p.Policy = &policy
	}
	if p.Sends && a.PlanKey != nil {
		p.Keys[strings.ToLower(a.Plan.Reports.DKIMSelector)] = a.PlanKey.Key
		p.Written, p.signer = a.PlanKey.Written, strings.ToLower(a.Plan.Reports.DKIMSelector)
	}
	all, err := a.Plan.Wants(domain)
	if err != nil {
		p.Err = err
	}
	for _, w := range all {
		if selector, ok := selectorOf(w.Name, domain); ok && w.Type == dns.TypeTXT && len(w.Values) == 1 {
			if key, err := dkim.ParseKey(w.Values[0]); err == nil {
				p.Keys[selector] = key
				continue // dkim.missing and dkim.mismatch-with-plan look at it
			}
		}
		p.Sets = append(p.Sets, PlannedSet{Want: w})
	}
	p.own(a.Plan)
	return p
}

// own gives the hosts that accept mail, and so send: bounces, reports, mail that goes on.
func (p *Planned) own(plan *site.Plan) {
	for _, d := range plan.Domains {
		for _, r := range d.Ladder {
			if r.Role != site.Gate && r.Role != site.Backup {
				continue
			}
			h, _ := plan.Host(r.Host)
			for _, addr := range h.Addresses {
				known := slices.ContainsFunc(p.Own, func(c Covered) bool { return c.Addr == addr })
				if !known && len(p.Own) < maxOwn {
					p.Own = append(p.Own, Covered{Host: h.Name, Addr: addr})
				}
			}
		}
	}
}

// selectorOf gives the selector that a name is the key of.
func selectorOf(name, domain dns.Name) (string, bool) {
	selector, ok := strings.CutSuffix(name.String(), "._domainkey."+domain.String())
	return selector, ok
}

// selectors gives the selectors of the plan's keys, in order.
func (p *Planned) selectors() (all []string) {
	if p == nil {
		return nil
	}
	for s := range p.Keys {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

func planChecks() []Check {
	return []Check{
		{"plan.drift", "the world sees another record than the plan has", Error, []string{"RFC 1034 §4.3.5"}, eachPlanned(func(f *Facts, s PlannedSet) []verdict {
			missing, extra := s.differ()
			if len(missing) == 0 || len(extra) == 0 {
				return nil
			}
			changes := s.changes("add", missing)
			for i := range changes[:min(len(extra), len(changes))] {
				changes[i].Do = "replace"
			}
			if len(extra) > len(missing) {
				changes = append(changes, s.changes("delete", extra[len(missing):])...)
			}
			return []verdict{s.fail("the plan has "+spelled(missing)+", and the world sees "+spelled(extra)).mend("publish what the plan has, or change the plan", changes...)}
		})},
		{"plan.missing-record", "a record of the plan is not there", Error, []string{"RFC 1034 §4.3.5"}, eachPlanned(func(f *Facts, s PlannedSet) []verdict {
			missing, extra := s.differ()
			if len(missing) == 0 || len(extra) > 0 {
				return nil
			}
			return []verdict{s.fail("the plan has "+spelled(missing)).mend("publish it", s.changes("add", missing)...)}
		})},
		{"plan.extra-record", "a record is there that the plan does not have", Notice, []string{"RFC 1034 §4.3.5"}, eachPlanned(func(f *Facts, s PlannedSet) []verdict {
			missing, extra := s.differ()
			if len(extra) == 0 || len(missing) > 0 {
				return nil
			}
			return []verdict{s.fail("the world sees "+spelled(extra)).mend("drop it, or add it to the plan", s.changes("delete", extra)...)}
		})},
		{"plan.foreign-record", "a record of the plan's names is somebody else's", Notice, []string{"RFC 1034 §3.6.2"}, eachPlanned(func(f *Facts, s PlannedSet) []verdict {
			if s.Alias || len(s.Values) == 0 || len(s.Live.Aliases) == 0 {
				return nil
			}
			return []verdict{s.fail("the plan has the record itself, and the world sees an alias of "+s.Live.Canonical.String()+", whose owner has the say").
				mend("publish the record itself", Change{"delete", s.Name.FQDN() + " CNAME"})}
		})},
		{"plan.unsafe-order", "a change of the plan would break mail for a while", Error, []string{"RFC 8461 §8.3", "RFC 5321 §5.1"}, needPlan(unsafeOrder)},
		{"plan.rung-mismatch", "an MX host that shall take no mail is not as the plan has it", Warning, []string{"RFC 5321 §5.1"}, needPlan(rungsAsPlanned)},
	}
}

// needPlan: there is a plan, and it has the domain.
func needPlan(judge func(*Facts) []verdict) func(*Facts) []verdict {
	return func(f *Facts) []verdict {
		switch {
		case f.Plan == nil:
			return []verdict{{status: Skipped, detail: "no plan with the domain was given"}}
		case f.Plan.Err != nil:
			return []verdict{{status: Unknown, blame: Nobody, detail: clip(f.Plan.Err.Error())}}
		}
		return judge(f)
	}
}

func eachPlanned(judge func(*Facts, PlannedSet) []verdict) func(*Facts) []verdict {
	return needPlan(func(f *Facts) (all []verdict) {
		for _, s := range f.Plan.Sets {
			if s.Live.Err != nil {
				all = append(all, unknown(f, s.Live.Err, f.sideOf(s.Name), s.question()).at(s.Name.String()))
				continue
			}
			for _, v := range judge(f, s) {
				all = append(all, v.at(s.Name.String()))
			}
		}
		return all
	})
}

func (s PlannedSet) question() dns.Question { return dns.Question{Name: s.Name, Type: s.Type} }

func (s PlannedSet) fail(detail string) verdict {
	return fail(s.Type.String()+": "+detail, s.question())
}

// differ gives what the plan has and the world does not see, and the other way round where that
// matters.
func (s PlannedSet) differ() (missing, extra []string) {
	missing = without(s.Values, s.Live.Records)
	if s.Closed {
		extra = without(s.Live.Records, s.Values)
	}
	return missing, extra
}

// without leaves out what is in less. A semicolon at a text's end means nothing in any record of
// mail.
func without(all, less []string) (rest []string) {
	bare := func(s string) string { return strings.TrimRight(s, "; ") }
	for _, v := range all {
		if !slices.ContainsFunc(less, func(other string) bool { return bare(v) == bare(other) }) {
			rest = append(rest, v)
		}
	}
	return rest
}

func (s PlannedSet) changes(do string, values []string) (all []Change) {
	for _, v := range values {
		if s.Type == dns.TypeTXT {
			v = texts(v)
		}
		all = append(all, Change{do, fmt.Sprintf("%s %s %s", s.Name.FQDN(), s.Type, v)})
	}
	return all
}

// texts writes a text as strings of a TXT record, of 255 octets at most (RFC 1035 §3.3.14).
func texts(s string) string {
	var parts []string
	for chunk := range slices.Chunk([]byte(s), 255) {
		text := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(string(chunk))
		parts = append(parts, `"`+text+`"`)
	}
	return strings.Join(parts, " ")
}

func spelled(values []string) string { return clip(strings.Join(values, ", ")) }

// unsafeOrder finds records that must not be published before others.
func unsafeOrder(f *Facts) (all []verdict) {
	live, known := f.Plan.set(f.Domain, dns.TypeMX)
	switch {
	case !known:
		return na("the plan has no MX records for it")
	case live.Live.Err != nil:
		return []verdict{unknown(f, live.Live.Err, ZoneServers, live.question())}
	}
	missing, _ := live.differ()
	for _, value := range missing {
		_, name, _ := strings.Cut(value, " ")
		host := dns.NameOf(name)
		if v := f.unaddressed(host); v != nil {
			all = append(all, *v)
		}
		if f.enforced() && !f.MTASTS.Fetched.Policy.Matches(host) {
			all = append(all, fail("senders keep an MTA-STS policy for "+f.MTASTS.Fetched.Policy.MaxAge.String()+" that does not name it, and take no host that is not named", f.q(dns.TypeMX), f.below("_mta-sts", dns.TypeTXT)).at(host.String()).
				mend("first serve a policy that names it, with another id, and wait for so long; then publish the MX record"))
		}
	}
	if f.enforced() && f.Plan.Zoned && f.Plan.Policy == nil && !f.Plan.wants(f.below("_mta-sts", dns.TypeTXT)) {
		all = append(all, fail("senders keep the MTA-STS policy for "+f.MTASTS.Fetched.Policy.MaxAge.String()+", and the plan has none any more", f.below("_mta-sts", dns.TypeTXT)).
			mend(`first serve a policy with the mode none (mta-sts = "none") for so long`))
	}
	return all
}

// unaddressed: an MX record of the plan is not out yet, and neither are its host's addresses.
func (f *Facts) unaddressed(host dns.Name) *verdict {
	for _, t := range []dns.Type{dns.TypeA, dns.TypeAAAA} {
		s, known := f.Plan.set(host, t)
		if known && (s.Live.Err != nil || len(s.Live.Records) > 0) {
			return nil // it has some, or that is not known, which is said elsewhere
		}
	}
	v := fail("its MX record is not published yet, and it has no address", append(addrQuestions(host), f.q(dns.TypeMX))...).at(host.String()).
		mend("publish the addresses first, and the MX record when all servers of the zone have them")
	return &v
}

func (p *Planned) set(name dns.Name, t dns.Type) (PlannedSet, bool) {
	i := slices.IndexFunc(p.Sets, func(s PlannedSet) bool { return s.Name == name && s.Type == t })
	if i < 0 {
		return PlannedSet{}, false
	}
	return p.Sets[i], true
}

// wants reports whether the plan has a record there.
func (p *Planned) wants(q dns.Question) bool {
	s, ok := p.set(q.Name, q.Type)
	return ok && len(s.Values) > 0
}

// keyOfPlan compares keys, and not how they are written.
func keyOfPlan(f *Facts) []verdict {
	if f.Plan == nil || len(f.Plan.Keys) == 0 {
		return needPlan(func(*Facts) []verdict { return na("the plan has no DKIM key of the domain") })(f)
	}
	var all []verdict
	for _, s := range f.DKIM {
		key, ok := f.Plan.Keys[strings.ToLower(s.Name)]
		asked := dns.Question{Name: s.Survey.Name, Type: dns.TypeTXT}
		switch {
		case !ok || s.At != f.Domain || s.Err != nil:
		case s.Survey.Err != nil:
			all = append(all, unknown(f, s.Survey.Err, ZoneServers, asked).at(s.Survey.Name.String()))
		case len(s.Survey.Records) > 0 && !bytes.Equal(s.Survey.Key.Public, key.Public): // else dkim.missing
			all = append(all, fail("receivers cannot verify what is signed with the plan's key", asked).at(s.Survey.Name.String()).
				mend("publish the plan's key", Change{"replace", s.Survey.Name.FQDN() + " TXT " + texts(key.String())}))
		}
	}
	return all
}

// keyAge: the DNS does not say since when a key is there, and a file that was not written since says
// how old its key is at least.
func keyAge(f *Facts) []verdict {
	if f.Plan.Written.IsZero() {
		return na("the plan has no DKIM key of the domain whose file has a date")
	}
	var all []verdict
	for _, s := range f.DKIM {
		asked := dns.Question{Name: s.Survey.Name, Type: dns.TypeTXT}
		switch {
		case strings.ToLower(s.Name) != f.Plan.signer || s.At != f.Domain || s.Err != nil:
		case s.Survey.Err != nil:
			all = append(all, unknown(f, s.Survey.Err, ZoneServers, asked).at(s.Survey.Name.String()))
		case !bytes.Equal(s.Survey.Key.Public, f.Plan.Keys[f.Plan.signer].Public): // dkim.missing, dkim.mismatch-with-plan
		case f.skew() != "":
			all = append(all, f.clockUnknown(asked).at(s.Survey.Name.String()))
		case f.When.Sub(f.Plan.Written) > oldKey:
			all = append(all, fail("the file of the plan's key was last written on "+f.Plan.Written.UTC().Format(time.DateOnly)+", and so old is the key at least", asked).at(s.Survey.Name.String()).
				mend("make a new key (mxward dkim key) at a new selector, publish it, and then sign with it; take the old one back a week later"))
		}
	}
	return all
}

// spfCoversPlan: it is an error only where the site sends in the domain's name by itself;
// mail that merely goes through its hosts has other authors.
func spfCoversPlan(f *Facts) []verdict {
	return needPlan(func(f *Facts) (all []verdict) {
		severity := Notice
		if f.Plan.Sends {
			severity = Error
		}
		for _, o := range f.Plan.Own {
			asked := f.q(dns.TypeTXT)
			switch o.Verdict.Result {
			case spf.Pass, spf.None, spf.PermError: // of the last two other rows tell
			case spf.TempError:
				all = append(all, unknown(f, o.Verdict.Err, ZoneServers, asked).at(o.Addr.String()))
			default:
				all = append(all, fail(fmt.Sprintf("it is %s's, and SPF says %s", o.Host, o.Verdict.Result), asked).as(severity).at(o.Addr.String()).
					mend("let SPF name the site's hosts, such as by mx"))
			}
		}
		return all
	})(f)
}

// stsStale: mxward makes the id from the policy, so that a policy that is the plan's has the
// plan's id, unless the record was left as it was.
func stsStale(f *Facts) []verdict {
	return needPlan(func(f *Facts) []verdict {
		s := stsAll(f)
		switch {
		case f.Plan.Policy == nil:
			return na("the plan has no MTA-STS policy of the domain")
		case s.err != nil:
			return []verdict{unknown(f, s.err, s.theirs, s.asked...)}
		case f.MTASTS.RecordErr != nil || f.MTASTS.PolicyErr != nil:
			return na("there is no record with a policy")
		case f.MTASTS.Fetched.Policy.String() != f.Plan.Policy.String() || f.MTASTS.Record.ID == f.Plan.Policy.ID():
			return nil
		}
		id := mtasts.Record{ID: f.Plan.Policy.ID()}
		return []verdict{fail("the policy is the plan's, and the id is that of another: senders keep the old one", s.asked...).
			mend("publish the id that goes with the policy (mxward plan records)", Change{"replace", fmt.Sprintf("%s TXT %q", f.below("_mta-sts", dns.TypeTXT).Name.FQDN(), id)})}
	})(f)
}
