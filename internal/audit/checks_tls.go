package audit

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"mxward/internal/dns"
	"mxward/internal/mailauth/fetch"
	"mxward/internal/mailauth/lint"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/mailauth/tlsa"
	"mxward/internal/mailauth/tlsrpt"
)

// stsRecord is the record alone.
func stsRecord(f *Facts) survey {
	s := stsAll(f)
	s.err = nil
	if f.MTASTS != nil && errors.Is(f.MTASTS.RecordErr, mtasts.ErrTemporary) {
		s.err = f.MTASTS.RecordErr
	}
	return s
}

// stsPolicy is the policy, and how it fits the record and the MX hosts.
func stsPolicy(f *Facts) survey {
	s := stsAll(f)
	if f.MTASTS != nil && errors.Is(f.MTASTS.RecordErr, mtasts.ErrTemporary) && f.MTASTS.PolicyErr != nil {
		s.findings = nil // whether there should be a policy is not known
	}
	if f.MTASTS != nil && errors.Is(f.MTASTS.RecordErr, mtasts.ErrNone) && f.MTASTS.PolicyErr != nil {
		s.err, s.none = nil, "the domain has no MTA-STS"
	}
	return s
}

func stsAll(f *Facts) survey { return f.once("stsAll", stsAllAnew) }

func stsAllAnew(f *Facts) survey {
	s := survey{theirs: ZoneServers, asked: []dns.Question{f.below("_mta-sts", dns.TypeTXT)}}
	if f.MTASTS == nil {
		s.err = errNotAsked
		return s
	}
	for _, found := range f.MTASTS.Findings {
		// What could not be had is no finding here.
		if !errors.Is(f.MTASTS.PolicyErr, mtasts.ErrTemporary) || !temporaryID(found, f.MTASTS.PolicyErr) {
			s.findings = append(s.findings, found)
		}
	}
	s.err = f.MTASTS.Undetermined()
	if errors.Is(s.err, mtasts.ErrTemporary) && s.err == f.MTASTS.PolicyErr && !errors.Is(f.MTASTS.RecordErr, mtasts.ErrTemporary) {
		s.theirs = PolicyHost
		host := f.below("mta-sts", dns.TypeA)
		s.asked = append(s.asked, addrQuestions(host.Name)...)
	}
	s.change = func(found lint.Finding) []Change {
		if found.ID != "mtasts.txt-multiple" && found.ID != "mtasts.id-invalid" && found.ID != "mtasts.txt-syntax" && found.ID != "mtasts.policy-without-txt" {
			return nil
		}
		return []Change{{"replace", fmt.Sprintf(`%s TXT "v=STSv1; id=%s"`, f.below("_mta-sts", dns.TypeTXT).Name.FQDN(), f.When.Format("20060102150405"))}}
	}
	return s
}

// temporaryID reports whether a finding is only the trouble in getting the policy.
func temporaryID(found lint.Finding, trouble error) bool {
	var e *mtasts.Error
	return errors.As(trouble, &e) && e.ID == found.ID && found.Severity == lint.Warning
}

// stsHTTPS: what the policy host does, seen from here; one try is not enough to condemn it.
func stsHTTPS(f *Facts) []verdict {
	s := stsPolicy(f)
	var e *mtasts.Error
	switch {
	case f.MTASTS == nil:
		return []verdict{unknown(f, errNotAsked, PolicyHost, s.asked...)}
	case s.none != "":
		return na(s.none)
	case errors.Is(f.MTASTS.RecordErr, mtasts.ErrTemporary): // whether there should be a policy is not known
		return s.orElse(f, nil)
	case !errors.As(f.MTASTS.PolicyErr, &e) || e.ID != "mtasts.https-error":
		return s.orElse(f, nil)
	case errors.Is(e, ErrNotRecorded):
		return []verdict{unknown(f, e, PolicyHost, s.asked...)}
	case !f.outsideHeard(), fetch.Wayless(e), errors.Is(e, fetch.ErrNoRoots):
		return []verdict{unknown(f, e, PolicyHost, s.asked...).by(LocalNetwork)}
	}
	return []verdict{fail(clip(e.Error()), s.asked...).by(PolicyHost).mend("let the web server of mta-sts." + f.Domain.String() + " answer on port 443")}
}

// outsideHeard: something on the internet answers this host, the resolver not counted.
func (f *Facts) outsideHeard() bool { return f.outside() && f.Control.Resolver.Err == nil }

// stsStatus: an answer of the server's own, whatever it is.
func stsStatus(f *Facts) []verdict {
	var e *mtasts.Error
	s := stsPolicy(f)
	switch {
	case f.MTASTS != nil && s.none == "" && errors.As(f.MTASTS.PolicyErr, &e) && e.ID == "mtasts.status":
		return []verdict{fail(clip(e.Fault), s.asked...).by(PolicyHost).mend(cmp.Or(e.Fix, usualFix(e.ID)))}
	}
	return linted("mtasts.status", stsPolicy)(f)
}

// stsCertificate: by a wrong clock, none is valid.
func stsCertificate(f *Facts) []verdict {
	verdicts := linted("mtasts.cert", stsPolicy)(f)
	if f.skew() != "" && slices.ContainsFunc(verdicts, func(v verdict) bool { return v.status == Fail }) {
		return []verdict{f.clockUnknown()}
	}
	return verdicts
}

func mtastsChecks() []Check {
	const rfc = "RFC 8461 "
	return receiving([]Check{
		row(stsRecord, "mtasts.txt-missing", "there is no MTA-STS record", Info, rfc+"§3.1"),
		row(stsRecord, "mtasts.txt-multiple", "there are several MTA-STS records", Error, rfc+"§3.1"),
		row(stsRecord, "mtasts.txt-syntax", "the MTA-STS record has a mistake", Error, rfc+"§3.1"),
		row(stsRecord, "mtasts.id-invalid", "the MTA-STS record has no id", Error, rfc+"§3.1"),
		row(stsPolicy, "mtasts.host-unresolvable", "the host of the MTA-STS policy has no address", Error, rfc+"§3.2"),
		{"mtasts.https-error", "the MTA-STS policy cannot be fetched", Error, []string{rfc + "§3.3"}, stsHTTPS},
		row(stsPolicy, "mtasts.redirect", "the MTA-STS policy is a redirect, which nobody follows", Error, rfc+"§3.3"),
		{"mtasts.status", "the MTA-STS policy is not there", Error, []string{rfc + "§3.3"}, stsStatus},
		row(stsPolicy, "mtasts.content-type", "the MTA-STS policy is not text/plain", Warning, rfc+"§3.2"),
		row(stsPolicy, "mtasts.too-large", "the MTA-STS policy is too large", Error, rfc+"§3.3"),
		{"mtasts.cert", "the certificate of the MTA-STS policy's host is not valid", Error, []string{rfc + "§3.3"}, stsCertificate},
		row(stsPolicy, "mtasts.policy-syntax", "the MTA-STS policy has a mistake", Error, rfc+"§3.2"),
		row(stsPolicy, "mtasts.mode-none", "the MTA-STS policy is taken back", Info, rfc+"§8.3"),
		row(stsPolicy, "mtasts.mode-testing", "the MTA-STS policy is being tried out", Notice, rfc+"§5"),
		row(stsPolicy, "mtasts.mx-not-covered", "the MTA-STS policy leaves out an MX host", Error, rfc+"§4.1"),
		row(stsPolicy, "mtasts.pattern-unused", "the MTA-STS policy names a host that is none", Notice, rfc+"§4.1"),
		row(stsPolicy, "mtasts.max-age-low", "the MTA-STS policy is forgotten soon", Warning, rfc+"§3.2"),
		row(stsPolicy, "mtasts.max-age-range", "the MTA-STS policy's age is out of range", Error, rfc+"§3.2"),
		{"mtasts.id-stale", "the MTA-STS policy has changed and its id has not", Error, []string{rfc + "§3.1"}, stsStale},
		row(stsPolicy, "mtasts.policy-without-txt", "there is an MTA-STS policy and no record", Error, rfc+"§3.1"),
	})
}

// receiving makes rows about mail's way in, which is no matter of a domain that takes none.
func receiving(rows []Check) []Check {
	for i, c := range rows {
		rows[i].judge = func(f *Facts) []verdict {
			if f.takesNone() {
				return na("no host takes mail for the domain")
			}
			return c.judge(f)
		}
	}
	return rows
}

func tlsReports(f *Facts) survey { return f.once("tlsReports", tlsReportsAnew) }

func tlsReportsAnew(f *Facts) survey {
	q := f.below("_smtp._tls", dns.TypeTXT)
	s := survey{err: f.TLSRPT.Err, theirs: ZoneServers, asked: []dns.Question{q}}
	if s.err == nil {
		s.findings = tlsrpt.LintTexts(f.TLSRPT.Records)
	}
	s.change = func(found lint.Finding) []Change {
		if found.ID != "tlsrpt.missing" {
			return nil
		}
		return []Change{{"add", fmt.Sprintf(`%s TXT "v=TLSRPTv1; rua=mailto:tls-reports@%s"`, q.Name.FQDN(), f.Domain)}}
	}
	return s
}

func tlsrptChecks() []Check {
	const rfc = "RFC 8460 "
	return receiving([]Check{
		row(tlsReports, "tlsrpt.missing", "nobody gets TLS reports", Notice, rfc+"§3"),
		row(tlsReports, "tlsrpt.multiple", "there are several TLS-RPT records", Error, rfc+"§3"),
		row(tlsReports, "tlsrpt.syntax", "the TLS-RPT record has a mistake", Error, rfc+"§3"),
		row(tlsReports, "tlsrpt.rua-invalid", "an address for TLS reports is none", Error, rfc+"§3"),
	})
}

// daneHosts is the TLSA records of the MX hosts. Whether they count is only known where the
// resolver validates.
func daneHosts(f *Facts) survey { return f.once("daneHosts", daneHostsAnew) }

func daneHostsAnew(f *Facts) survey {
	s := survey{findings: f.DANE.Findings, err: f.DANE.Undetermined(), theirs: MXHost, asked: daneQuestions(f)}
	if f.DANE.HostsErr != nil {
		s.theirs = ZoneServers
	}
	secure := false
	for _, h := range f.DANE.Hosts {
		secure = secure || h.State == tlsa.Secure
	}
	switch {
	case f.Server.IsValid() && !secure && s.err == nil:
		s.err, s.theirs = errNotValidated, LocalResolver
	case !secure:
		s.none = "no MX host has DANE"
	}
	return s
}

var errNotValidated = errors.New("answers of another resolver are not validated here: ask without --server")

func daneQuestions(f *Facts) []dns.Question {
	asked := []dns.Question{f.q(dns.TypeMX)}
	for _, h := range f.DANE.Hosts {
		asked = append(asked, tlsaQuestion(h.Host))
	}
	return asked
}

// tlsaQuestion is about the records of a host, or about the host where it has too long a name
// to have any.
func tlsaQuestion(host dns.Name) dns.Question {
	name, err := dns.ParseName("_25._tcp." + host.FQDN())
	if err != nil {
		name = host
	}
	return dns.Question{Name: name, Type: dns.TypeTLSA}
}

// daneDenial fails where the trouble is not ours: DANE's senders keep mail back then.
func daneDenial(f *Facts) []verdict {
	if f.takesNone() {
		return na("no host takes mail for the domain")
	}
	var all []verdict
	for _, h := range f.DANE.Hosts {
		if h.State != tlsa.Trouble {
			continue
		}
		asked := tlsaQuestion(h.Host)
		side := f.blame(h.Err, f.sideOf(h.Host))
		if side.Ours() || side == Nobody || f.Server.IsValid() && !f.confirms(h.Err) {
			all = append(all, unknown(f, h.Err, f.sideOf(h.Host), asked).at(h.Host.String()))
			continue
		}
		all = append(all, fail("senders with DANE keep mail for this host back: "+clip(h.Err.Error()), asked).at(h.Host.String()).by(side).mend("mend the name servers' answers for "+asked.Name.String()))
	}
	if len(all) == 0 && f.DANE.HostsErr != nil {
		return []verdict{unknown(f, f.DANE.HostsErr, ZoneServers, f.q(dns.TypeMX))}
	}
	return all
}

func daneChecks() []Check {
	const rfc = "RFC 7672 "
	return []Check{
		row(daneHosts, "dane.missing-partial", "some MX hosts have no DANE", Notice, rfc+"§2.2"),
		row(daneHosts, "dane.insecure-zone", "the MX records are not signed, though hosts have DANE", Warning, rfc+"§2.2.1"),
		row(daneHosts, "dane.unusable", "a TLSA record cannot be used", Error, rfc+"§3.1"),
		{"dane.mismatch", "the TLSA records mean another certificate", Critical, []string{rfc + "§3.2"}, daneVisits(daneMismatch)},
		row(daneHosts, "dane.usage-pkix", "a TLSA record has a usage that SMTP does not know", Error, rfc+"§3.1.3"),
		{"dane.denial-broken", "nobody can tell whether there are TLSA records", Error, []string{rfc + "§2.1.2"}, daneDenial},
		{"dane.rollover-unsafe", "the next key has no TLSA record", Notice, []string{"RFC 7671 §8.1"}, daneVisits(daneRollover)},
		row(daneHosts, "dane.digest-length", "a TLSA digest has another length", Error, "RFC 6698 §2.1.4"),
		row(daneHosts, "dane.matching-full", "a TLSA record holds a whole certificate or key", Notice, "RFC 7671 §10.1.1"),
		row(daneHosts, "dane.digest-passed-over", "a TLSA record has a weaker digest than another", Notice, "RFC 7671 §9"),
		row(daneHosts, "dane.hosts-left-out", "there are more MX hosts than were looked at", Notice, rfc+"§2.2"),
		{"dane.name-mismatch", "the certificate that a TLSA record means has another name", Error, []string{rfc + "§3.2.2"}, daneVisits(daneName)},
	}
}
