package audit

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/spf"
)

// What a resolver may fail at that others answer, before it is called bad; ours.
const (
	fewFailures  = 3
	failureShare = 10 // one in so many of what it is asked
)

// resolverFails counts what the resolver had no answer to, and the zone's servers had.
func resolverFails(f *Facts) []verdict {
	if err := f.Control.Resolver.Err; err != nil {
		return []verdict{unknown(f, err, LocalResolver, rootNS)}
	}
	asked := 0
	var failed []dns.Question
	for _, x := range f.Log {
		if x.Transport != "" || x.question.CheckingDisabled {
			continue
		}
		asked++
		if x.err != nil && f.answeredDirectly(x.err) && !f.hidden(x.err) {
			failed = append(failed, x.question)
		}
	}
	if len(failed) < fewFailures || len(failed)*failureShare < asked {
		return nil
	}
	return []verdict{fail(fmt.Sprintf("of %d questions it failed at %d that the zone's servers answer", asked, len(failed)), failed[:fewFailures]...).by(LocalResolver).mend(ownResolver)}
}

// resolverTakesForged: a resolver that validates gives no data that it cannot trust. One that
// does not validate at all is resolver.no-dnssec.
func resolverTakesForged(f *Facts) []verdict {
	validates := f.Control.Signed.Err == nil && f.Control.Signed.Said.Authentic
	if c := f.Control.Forged; c != nil && c.Proved {
		validates = validates || c.Addrs.Err != nil
	}
	switch {
	case f.Control.Resolver.Err != nil:
		return []verdict{unknown(f, f.Control.Resolver.Err, LocalResolver, rootNS)}
	case !validates:
		return na("nothing shows that the resolver validates at all")
	case !f.Zone.unmeant():
		return na("the domain's signatures are not wrong, and so there is nothing to take")
	case f.MX.Err != nil:
		return nil
	}
	return []verdict{fail("it refuses other forged names, and gives this domain's records, though the DS records above mean no key of the zone", f.q(dns.TypeMX), f.keyQuestion()).by(LocalResolver).mend("look for exceptions from validation in its configuration, and compare its trust anchor with IANA's")}
}

// intercepted: root servers have authority over the root. Who answers in their place with none,
// and would ask others for us, is none of them.
func (f *Facts) intercepted() bool {
	return slices.ContainsFunc(f.Control.Roots, func(h Heard) bool {
		return h.Err == nil && h.Said.Rcode == dns.NoError && len(h.Said.Answer.Answer) > 0 && !h.Said.Authoritative && h.Said.Recursion
	})
}

func resolverIntercepted(f *Facts) []verdict {
	switch {
	case f.intercepted():
		return []verdict{fail("what comes back from root servers has no authority and offers recursion: a resolver on the way answers for them", rootSOA).by(LocalNetwork).
			mend("let this host's questions to port 53 out, or ask that resolver with --server and take what is unknown for so")}
	case !f.rootsHeard():
		return []verdict{{status: Unknown, blame: LocalNetwork, detail: "no root server could be asked", asked: []dns.Question{rootSOA}}}
	}
	return nil
}

// skew says how this host's clock is wrong, "" where it is not: all root servers that sign give a
// signature that has ended, or that begins later.
func (f *Facts) skew() string {
	text := ""
	for _, h := range f.Control.Roots {
		if !h.serves() {
			continue
		}
		for _, s := range dns.Signatures(h.Said.Answer) {
			switch {
			case f.When.Before(s.Begins):
				text = fmt.Sprintf("here it is %s, and the root's signatures begin at %s", f.When.Format("2006-01-02 15:04"), s.Begins.Format("2006-01-02 15:04"))
			case f.When.After(s.Ends):
				text = fmt.Sprintf("here it is %s, and the root's signatures end at %s", f.When.Format("2006-01-02 15:04"), s.Ends.Format("2006-01-02 15:04"))
			default:
				return ""
			}
		}
	}
	return text
}

func netClock(f *Facts) []verdict {
	switch skew := f.skew(); {
	case skew != "":
		return []verdict{fail(skew+": signatures and certificates cannot be judged", rootSOA).by(LocalNetwork).mend("set the clock, and see why it is not kept")}
	case !f.rootsHeard():
		return []verdict{{status: Unknown, blame: LocalNetwork, detail: "no root server could be asked", asked: []dns.Question{rootSOA}}}
	case !f.rootSigned():
		return na("the root that is asked is not signed")
	}
	return nil
}

// clockUnknown is the verdict of what a wrong clock makes doubtful.
func (f *Facts) clockUnknown(asked ...dns.Question) verdict {
	return verdict{status: Unknown, blame: LocalNetwork, detail: "this host's clock is wrong: " + f.skew(), asked: asked}
}

func delegTransfer(f *Facts, s Server) []verdict {
	heard := f.Transfers[s.Addr]
	switch {
	case stopped(heard.Err): // else whoever hangs up, or says nothing, gives nothing away
		return []verdict{unknown(f, heard.Err, ZoneServers, dns.Question{Name: f.Zone.Name, Type: dns.TypeAXFR}).at(s.Addr.String())}
	case heard.Err != nil || !dns.Opens(heard.Said.Answer):
		return nil
	}
	return []verdict{fail(s.Name.String()+" gives the zone to whoever asks: all names in it are known", dns.Question{Name: f.Zone.Name, Type: dns.TypeAXFR}).at(s.Addr.String()).by(ZoneServers).mend("allow transfers to your secondaries alone")}
}

func mxUnregistered(f *Facts, mx dns.MX) []verdict {
	i := slices.IndexFunc(f.Hosts, func(h Host) bool { return h.Name == mx.Host })
	if i >= 0 && f.Hosts[i].A.Err != nil && f.Hosts[i].AAAA.Err != nil && !f.inZone(mx.Host) {
		return []verdict{unknown(f, f.Hosts[i].A.Err, MXHost, addrQuestions(mx.Host)...).at(mx.Host.String())}
	}
	return f.unregistered(mx.Host, "Whoever registers it gets the domain's mail", f.q(dns.TypeMX), Change{"delete", fmt.Sprintf("%s MX %d %s", f.Domain.FQDN(), mx.Preference, mx.Host.FQDN())})
}

// spfUnregistered looks at what the policy includes.
func spfUnregistered(f *Facts) []verdict {
	s := spfTree(f)
	var all []verdict
	for _, name := range f.SPF.Gone() {
		all = append(all, f.unregistered(name, "Whoever registers it may send in the domain's name", f.q(dns.TypeTXT))...)
	}
	return s.orElse(f, all)
}

// unregistered judges a name that a record gives: others holds those that do not exist.
func (f *Facts) unregistered(name dns.Name, harm string, from dns.Question, changes ...Change) []verdict {
	org, ok := organization(name)
	z, gone := f.Others[org]
	switch {
	case !ok || !gone:
		return nil
	case z.Err != nil:
		v := unknown(f, z.Err, ThirdParty, from, f.soaAt(org)).at(org.String())
		if v.status == Unknown && !f.rootsHeard() {
			v.blame = LocalNetwork
		}
		return []verdict{v}
	case !z.free():
		return nil
	}
	return []verdict{fail(fmt.Sprintf("%s leads to %s, which the servers of %s deny: nobody has it, or its registration is suspended. %s", name, org, zoneText(z.Parent), harm), from, f.soaAt(org)).at(org.String()).sure(Confirmed).
		mend("drop it now, or register the domain", changes...)}
}

func spfOldType(f *Facts) []verdict {
	switch {
	case f.OldSPF.Err != nil:
		return []verdict{unknown(f, f.OldSPF.Err, ZoneServers, f.q(dns.TypeSPF))}
	case len(f.OldSPF.Records) == 0:
		return nil
	}
	return []verdict{fail("receivers look at TXT records alone", f.q(dns.TypeSPF)).mend("drop it", Change{"delete", f.Domain.FQDN() + " SPF"})}
}

// spfHelo: bounces have no sender, and SPF is asked for the name that the host says in HELO.
func spfHelo(f *Facts) []verdict {
	if trouble := f.hostTrouble(); len(f.HostTXT) == 0 && trouble != nil {
		return trouble
	}
	if len(f.HostTXT) == 0 {
		return na("no MX host has a name in the domain's zone")
	}
	var all []verdict
	for _, h := range f.ownHosts() {
		if len(h.A.Aliases)+len(h.AAAA.Aliases) > 0 {
			continue // an alias has no records of its own (mx.cname)
		}
		texts := f.HostTXT[h.Name]
		asked := dns.Question{Name: h.Name, Type: dns.TypeTXT}
		switch {
		case texts.Err != nil:
			all = append(all, unknown(f, texts.Err, ZoneServers, asked).at(h.Name.String()))
		case !slices.ContainsFunc(texts.Records, spf.IsRecord):
			all = append(all, fail("anybody may say that name in HELO", asked).at(h.Name.String()).
				mend("if the host says its name in HELO, let it alone send with it", Change{"add", h.Name.FQDN() + ` TXT "v=spf1 a -all"`}))
		}
	}
	return all
}

// spfOwn holds the addresses that were named, and those of the plan's hosts, against the policy.
func spfOwn(f *Facts) []verdict {
	var all []verdict
	switch {
	case f.Plan != nil:
		all = spfCoversPlan(f)
	case len(f.Senders) == 0:
		return []verdict{{status: Skipped, detail: "no sending address was named, and there is no plan"}}
	}
	for _, s := range f.Senders {
		switch {
		case s.SPF.Result == spf.TempError:
			all = append(all, unknown(f, s.SPF.Err, ZoneServers, f.q(dns.TypeTXT)).at(s.Addr.String()))
		case s.SPF.Result != spf.Pass:
			fix := "name it in the policy, before all"
			if s.SPF.Result == spf.PermError {
				fix = "mend the policy: it is an error for every sender"
			}
			all = append(all, fail(fmt.Sprintf("SPF says %s of it", s.SPF.Result), f.q(dns.TypeTXT)).at(s.Addr.String()).mend(fix))
		}
	}
	return all
}

// dmarcOnSPF: forwarded mail passes by DKIM alone. That there is no key is only sure where no name
// exists below _domainkey; a message that was shown says more.
func dmarcOnSPF(f *Facts) []verdict {
	if f.Shown != nil {
		return spfOnlyReject(f)
	}
	asked := []dns.Question{f.below("_dmarc", dns.TypeTXT), f.below("_domainkey", dns.TypeTXT)}
	switch {
	case errors.Is(f.DMARC.Err, dmarc.ErrTemporary):
		return []verdict{unknown(f, f.DMARC.Err, ZoneServers, asked...)}
	case !f.rejects():
		return na("the policy is not reject")
	case deniesAll(f.SPF):
		return na("nobody sends in the domain's name")
	case f.signs():
		return nil
	case f.BelowDKIM.Err != nil:
		return []verdict{unknown(f, f.BelowDKIM.Err, ZoneServers, asked...)}
	case f.DMARC.Org != f.Domain && !f.DMARC.Record.StrictDKIM:
		return na("it may sign as its organizational domain")
	case !f.BelowDKIM.Exists && len(f.BelowDKIM.Aliases) == 0:
		v := fail("no name exists below _domainkey, so there is no DKIM key: forwarded mail and that of mailing lists is refused", asked...).mend("sign with DKIM before you ask for reject")
		if !f.DMARC.Record.StrictDKIM {
			v = v.as(Notice)
			v.detail += ", unless a subdomain's key signs it"
		}
		return []verdict{v}
	case len(f.DKIM) == 0:
		return []verdict{{status: Skipped, detail: "no selector was named"}}
	}
	return []verdict{{status: Skipped, detail: "none of the selectors that were named has a key, and there may be others"}}
}

func (f *Facts) rejects() bool { return f.DMARC.Err == nil && f.DMARC.Policy == dmarc.Reject }

// signs reports whether a key is known that somebody may sign with.
func (f *Facts) signs() bool {
	return slices.ContainsFunc(f.DKIM, func(s Selector) bool { return len(s.Survey.Key.Public) > 0 })
}

// dkimReused: who breaks or loses one key has both.
func dkimReused(f *Facts) []verdict {
	if len(f.DKIM) < 2 {
		return []verdict{{status: Skipped, detail: "fewer than two selectors were named"}}
	}
	by := map[string][]string{}
	var all []verdict
	var asked []dns.Question
	for _, s := range f.DKIM {
		q := dns.Question{Name: s.Survey.Name, Type: dns.TypeTXT}
		asked = append(asked, q)
		switch {
		case s.Err != nil:
		case s.Survey.Err != nil:
			all = append(all, unknown(f, s.Survey.Err, ZoneServers, q).at(s.Survey.Name.String()))
		case len(s.Survey.Key.Public) > 0:
			key := string(s.Survey.Key.Public)
			if !slices.Contains(by[key], s.Name) {
				by[key] = append(by[key], s.Name)
			}
		}
	}
	for _, selectors := range by {
		if len(selectors) > 1 {
			slices.Sort(selectors)
			all = append(all, fail("the same key stands at "+clip(strings.Join(selectors, ", ")), asked...).mend("give each selector a key of its own, and take old ones back"))
		}
	}
	return all
}

// needSigned: the zone has keys.
func needSigned(judge func(*Facts) []verdict) func(*Facts) []verdict {
	return needLive(func(f *Facts) []verdict {
		switch {
		case f.Zone.Keys.Err != nil:
			return []verdict{unknown(f, f.Zone.Keys.Err, ZoneServers, f.keyQuestion())}
		case len(f.Zone.Keys.Records) == 0:
			return na("the zone is not signed")
		}
		return judge(f)
	})
}

func dnssecIterations(f *Facts) []verdict {
	q := dns.Question{Name: f.Zone.Name, Type: dns.TypeNSEC3PARAM}
	if f.Zone.Hashing.Err != nil {
		return []verdict{unknown(f, f.Zone.Hashing.Err, ZoneServers, q)}
	}
	for _, h := range f.Zone.Hashing.Records {
		if h.Iterations > 0 {
			return []verdict{fail(fmt.Sprintf("%d times more: resolvers take a zone with many for one that is not signed, or fail", h.Iterations), q).mend("set the iterations to 0, and leave the salt empty")}
		}
	}
	return nil
}

// enoughRSA is the length of an RSA key that nobody breaks before 2030 (NIST SP 800-57).
const enoughRSA = 2048

func dnssecKeySize(f *Facts) []verdict {
	var short []string
	for _, k := range f.Zone.Keys.Records {
		if k.RSABits > 0 && k.RSABits < enoughRSA {
			short = append(short, fmt.Sprintf("%d (%d bits)", k.KeyTag, k.RSABits))
		}
	}
	if len(short) == 0 {
		return nil
	}
	return []verdict{fail("RSA keys: "+strings.Join(short, ", "), f.keyQuestion()).mend("roll to algorithm 13, or to RSA with 2048 bits")}
}

// dnssecCDS: a parent that heeds the records would set DS records of keys that are not there.
func dnssecCDS(f *Facts) []verdict {
	cds, cdnskey := dns.Question{Name: f.Zone.Name, Type: dns.TypeCDS}, dns.Question{Name: f.Zone.Name, Type: dns.TypeCDNSKEY}
	for _, half := range []struct {
		err error
		q   dns.Question
	}{{f.Zone.CDS.Err, cds}, {f.Zone.CDNSKEY.Err, cdnskey}} {
		if half.err != nil {
			return []verdict{unknown(f, half.err, ZoneServers, half.q)}
		}
	}
	type key struct {
		tag       uint16
		algorithm uint8
	}
	there, wanted, wantedKeys := map[key]bool{}, map[key]bool{}, map[key]bool{}
	for _, k := range f.Zone.Keys.Records {
		there[key{k.KeyTag, k.Algorithm}] = true
	}
	for _, d := range f.Zone.CDS.Records {
		if d.Algorithm != 0 { // RFC 8078 §4: "drop them all"
			wanted[key{d.KeyTag, d.Algorithm}] = true
		}
	}
	for _, k := range f.Zone.CDNSKEY.Records {
		if k.Algorithm != 0 {
			wantedKeys[key{k.KeyTag, k.Algorithm}] = true
		}
	}
	var odd []string
	for _, set := range []map[key]bool{wanted, wantedKeys} {
		for k := range set {
			if !there[k] {
				odd = append(odd, fmt.Sprintf("key %d (algorithm %d) is asked for and not in the zone", k.tag, k.algorithm))
			}
		}
	}
	if len(f.Zone.CDS.Records) > 0 && len(f.Zone.CDNSKEY.Records) > 0 && !maps.Equal(wanted, wantedKeys) {
		odd = append(odd, "the CDS and the CDNSKEY records mean different keys")
	}
	if len(odd) == 0 {
		return nil
	}
	slices.Sort(odd)
	return []verdict{fail(strings.Join(slices.Compact(odd), "; "), cds, cdnskey, f.keyQuestion()).mend("publish CDS and CDNSKEY records of keys in use, or none")}
}

// caaSets gives the sets that hold for the names for which the domain needs certificates, each
// once.
func (f *Facts) caaSets() []CAA {
	sets := []CAA{f.CAA}
	for _, c := range f.HostCAA {
		if !slices.ContainsFunc(sets, func(s CAA) bool { return s.At == c.At }) {
			sets = append(sets, c)
		}
	}
	return sets
}

// authorities are the domains that the authorities name as theirs in CAA records, by the
// organization in the certificates that they issue. Who is not here is not judged.
var authorities = map[string][]string{
	"Let's Encrypt":         {"letsencrypt.org"},
	"Google Trust Services": {"pki.goog", "google.com"},
	"DigiCert Inc":          {"digicert.com", "digicert.ne.jp", "cybertrust.ne.jp", "symantec.com", "thawte.com", "geotrust.com", "rapidssl.com"},
	"Sectigo Limited":       {"sectigo.com", "comodo.com", "comodoca.com", "usertrust.com", "trust-provider.com"},
	"ZeroSSL":               {"zerossl.com", "sectigo.com", "comodo.com", "comodoca.com", "usertrust.com", "trust-provider.com"},
	"Amazon":                {"amazon.com", "amazontrust.com", "awstrust.com", "amazonaws.com"},
	"GlobalSign nv-sa":      {"globalsign.com"},
	"Buypass AS-983163327":  {"buypass.com", "buypass.no"},
	"SSL Corporation":       {"ssl.com"},
	"GoDaddy.com, Inc.":     {"godaddy.com", "starfieldtech.com"},
	"Entrust, Inc.":         {"entrust.net", "entrust.com", "affirmtrust.com"},
	"Actalis S.p.A.":        {"actalis.it"},
	"Hellenic Academic and Research Institutions CA": {"harica.gr"},
}

// caaForbids looks at the certificate that was seen: that of the MTA-STS policy's host.
func caaForbids(f *Facts) []verdict {
	if s := stsAll(f); s.err != nil && (f.MTASTS == nil || len(f.MTASTS.Fetched.TLS.PeerCertificates) == 0) {
		return s.orElse(f, nil)
	}
	if len(f.MTASTS.Fetched.TLS.PeerCertificates) == 0 {
		return na("no certificate of the domain's was seen")
	}
	host := f.below("mta-sts", dns.TypeCAA).Name
	i := slices.IndexFunc(f.HostCAA, func(c CAA) bool { return c.Host == host })
	if i < 0 {
		return na("no certificate of the domain's was seen")
	}
	set := f.HostCAA[i]
	asked := dns.Question{Name: set.At, Type: dns.TypeCAA}
	if set.Err != nil {
		return []verdict{unknown(f, set.Err, ZoneServers, asked).at(host.String())}
	}
	issuer := strings.Join(f.MTASTS.Fetched.TLS.PeerCertificates[0].Issuer.Organization, ", ")
	domains, known := authorities[issuer]
	switch {
	case !known:
		return na("which domain " + quoted(clip(issuer)) + " has in CAA records is not known here")
	case mayIssue(set.Records, domains):
		return nil
	}
	return []verdict{fail(fmt.Sprintf("its certificate is from %s, and the records at %s let it issue no other: it cannot be renewed", issuer, set.At), asked).at(host.String()).
		mend("let the authority issue, or get a certificate from one that may", Change{"add", fmt.Sprintf("%s CAA 0 issue %q", set.At.FQDN(), domains[0])})}
}

// mayIssue reports whether a set lets an authority issue for a name that is no wildcard: where
// there is no issue property, everybody may (RFC 8659 §4.2).
func mayIssue(records []dns.CAA, domains []string) bool {
	restricted := false
	for _, c := range records {
		if c.Tag != "issue" {
			continue
		}
		restricted = true
		domain, _, _ := strings.Cut(c.Value, ";")
		if slices.Contains(domains, strings.ToLower(strings.TrimSpace(domain))) {
			return true
		}
	}
	return !restricted
}
