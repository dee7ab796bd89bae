package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/bimi"
)

// endsSoon is when a signature should have been made anew: Zonemaster's DS08.
const endsSoon = 12 * time.Hour

// The numbers of IANA's DNSSEC registries that nobody may use any more (RFC 9904, RFC 8624 §3).
var (
	deprecatedAlgorithms = []uint8{1, 3, 5, 6, 7, 12} // RSA/MD5, DSA and SHA-1 in all forms, GOST
	digestSHA1           = uint8(1)
)

func dnssecChecks() []Check {
	return []Check{
		{"dnssec.bogus", "DNSSEC validation fails", Critical, []string{"RFC 4035 §5"}, dnssecBogus},
		{"dnssec.insecure", "the zone is not signed", Info, []string{"RFC 4033 §5"}, needReferral(func(f *Facts) []verdict {
			if len(f.Zone.Referral.DS) > 0 {
				return nil
			}
			side, fix := ZoneData, "sign the zone, and then have the registrar set the DS record"
			if len(f.Zone.Keys.Records) > 0 { // dnssec.key-without-ds
				side, fix = ParentZone, "have the registrar set the DS record"
			}
			return []verdict{fail("its parent has no DS record for it", f.soaAt(f.Domain)).by(side).mend(fix)}
		})},
		{"dnssec.ds-without-key", "the parent's DS records mean no key of the zone", Critical, []string{"RFC 4035 §2.4"}, needKeys(func(f *Facts, keys []dns.Key) []verdict {
			for _, ds := range f.Zone.Referral.DS {
				if slices.ContainsFunc(keys, func(k dns.Key) bool { return k.KeyTag == ds.KeyTag && k.Algorithm == ds.Algorithm }) {
					return nil
				}
			}
			if len(f.Zone.Referral.DS) == 0 {
				return na("the parent has no DS record")
			}
			return []verdict{fail("receivers that validate cannot resolve the domain", f.keyQuestion(), f.soaAt(f.Domain)).mend("have the registrar set the DS record of the key in use, or drop it")}
		})},
		{"dnssec.key-without-ds", "the zone has keys and its parent has no DS record", Notice, []string{"RFC 4035 §2.4"}, needKeys(func(f *Facts, keys []dns.Key) []verdict {
			if len(keys) == 0 || len(f.Zone.Referral.DS) > 0 {
				return nil
			}
			return []verdict{fail("it is signed, and nobody can know", f.keyQuestion(), f.soaAt(f.Domain)).by(ParentZone).mend("have the registrar add the DS record")}
		})},
		{"dnssec.rrsig-expiring", "a signature ends soon", Warning, []string{"RFC 6781 §4.4.2"}, needSignatures(func(f *Facts, s dns.Signature) []verdict {
			left := s.Ends.Sub(f.When)
			if left < 0 || left > endsSoon {
				return nil
			}
			return []verdict{fail(fmt.Sprintf("that of %s %s ends in %s", s.Name, s.Covers, left.Round(time.Minute)), f.soaQuestion()).mend("sign the zone anew, and see why its signer does not")}
		})},
		{"dnssec.rrsig-expired", "a signature has ended", Critical, []string{"RFC 4035 §5.3.1"}, needSignatures(func(f *Facts, s dns.Signature) []verdict {
			if !s.Ends.Before(f.When) {
				return nil
			}
			return []verdict{fail(fmt.Sprintf("that of %s %s ended at %s", s.Name, s.Covers, s.Ends.Format(time.RFC3339)), f.soaQuestion()).mend("sign the zone anew, and see why its signer does not")}
		})},
		{"dnssec.algo-deprecated", "the zone is signed with an algorithm of the past", Error, []string{"RFC 9904", "RFC 8624 §3.1"}, needKeys(func(f *Facts, keys []dns.Key) []verdict {
			var old []string
			for _, k := range keys {
				if slices.Contains(deprecatedAlgorithms, k.Algorithm) {
					old = append(old, fmt.Sprintf("%d (algorithm %d)", k.KeyTag, k.Algorithm))
				}
			}
			if len(old) == 0 {
				return nil
			}
			return []verdict{fail("keys: "+strings.Join(old, ", "), f.keyQuestion()).mend("roll to algorithm 13 or 15")}
		})},
		{"dnssec.digest-sha1", "the parent's DS record has a SHA-1 digest alone", Warning, []string{"RFC 9904", "RFC 8624 §3.3"}, needReferral(func(f *Facts) []verdict {
			ds := f.Zone.Referral.DS
			if len(ds) == 0 || slices.ContainsFunc(ds, func(d dns.DS) bool { return d.DigestType != digestSHA1 }) {
				return nil
			}
			return []verdict{fail("many receivers take such a zone for one that is not signed", f.soaAt(f.Domain)).by(ParentZone).mend("have the registrar set a DS record with SHA-256")}
		})},
		{"dnssec.nsec3-iterations", "the zone's proofs are hashed more than once", Warning, []string{"RFC 9276 §3.1"}, needSigned(dnssecIterations)},
		{"dnssec.key-size", "a key of the zone is short", Warning, []string{"RFC 6781 §3.4.2", "NIST SP 800-57"}, needSigned(dnssecKeySize)},
		{"dnssec.cds-inconsistent", "the zone asks its parent for other keys than it has", Warning, []string{"RFC 7344 §4.1"}, needSigned(dnssecCDS)},
	}
}

func (f *Facts) keyQuestion() dns.Question {
	return dns.Question{Name: f.Zone.Name, Type: dns.TypeDNSKEY}
}

// dnssecBogus looks at what was asked about the zone and not answered.
func dnssecBogus(f *Facts) []verdict {
	var errs []error
	for _, err := range []error{f.MX.Err, f.TXT.Err, f.Own.A.Err, f.Own.AAAA.Err, f.TLSRPT.Err, f.BIMI.Err, f.CAA.Err, f.DMARC.Err} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	for _, err := range errs {
		if f.bogus(err) && f.skew() != "" {
			return []verdict{f.clockUnknown(f.q(dns.TypeMX))}
		}
		if f.bogus(err) {
			v := fail(clip(err.Error()), f.q(dns.TypeMX), f.q(dns.TypeTXT))
			if f.Server.IsValid() {
				v.detail = "the resolver answers only where it need not validate: " + v.detail
			}
			return []verdict{v.mend("see that the DS record at the parent means a key in use, and that signatures are fresh")}
		}
	}
	if len(errs) > 0 && f.MX.Err != nil {
		return []verdict{unknown(f, f.MX.Err, ZoneServers, f.q(dns.TypeMX))}
	}
	return nil
}

func needKeys(judge func(*Facts, []dns.Key) []verdict) func(*Facts) []verdict {
	return needReferral(func(f *Facts) []verdict {
		switch {
		case f.live() == 0:
			return []verdict{f.zoneUnknown(f.keyQuestion())}
		case f.Zone.Keys.Err != nil:
			return []verdict{unknown(f, f.Zone.Keys.Err, ZoneServers, f.keyQuestion())}
		}
		return judge(f, f.Zone.Keys.Records)
	})
}

func needSignatures(judge func(*Facts, dns.Signature) []verdict) func(*Facts) []verdict {
	return needLive(func(f *Facts) []verdict {
		if f.skew() != "" {
			return []verdict{f.clockUnknown(f.soaQuestion())}
		}
		if f.Zone.Signed.Err != nil {
			return []verdict{unknown(f, f.Zone.Signed.Err, ZoneServers, f.soaQuestion())}
		}
		signatures := dns.Signatures(f.Zone.Signed.Said.Answer)
		if len(signatures) == 0 {
			return na("the zone is not signed")
		}
		var all []verdict
		for _, s := range signatures {
			all = append(all, judge(f, s)...)
		}
		return all
	})
}

func bimiRecord(f *Facts) survey { return f.once("bimiRecord", bimiRecordAnew) }

func bimiRecordAnew(f *Facts) survey {
	s := survey{err: f.BIMI.Err, theirs: ZoneServers, asked: []dns.Question{f.below("default._bimi", dns.TypeTXT)}}
	if s.err != nil {
		return s
	}
	policy := bimi.DMARC{Percent: 100}
	if f.DMARC.Err == nil {
		policy.Policy, policy.Subdomains, policy.Testing = string(f.DMARC.Policy), string(f.DMARC.Record.SP), f.DMARC.Record.Testing
	}
	s.findings = bimi.Lint(f.BIMI.Records, policy)
	if len(f.BIMI.Records) == 0 {
		s.none = "there is no BIMI record"
	}
	return s
}

// bimiPolicy needs DMARC's word too.
func bimiPolicy(f *Facts) survey {
	s := bimiRecord(f)
	if dmarcDoubt := dmarcRecord(f); s.none == "" && s.err == nil && dmarcDoubt.err != nil {
		s.findings, s.err = nil, dmarcDoubt.err
	}
	return s
}

func bimiChecks() []Check {
	const draft = "draft-brand-indicators-for-message-identification "
	return []Check{
		row(bimiRecord, "bimi.missing", "there is no BIMI record", Info, draft+"§4"),
		row(bimiRecord, "bimi.multiple", "there are several BIMI records", Warning, draft+"§4"),
		row(bimiRecord, "bimi.syntax", "the BIMI record has a mistake", Warning, draft+"§4"),
		row(bimiRecord, "bimi.declined", "the domain wants no BIMI image", Info, draft+"§4"),
		row(bimiPolicy, "bimi.dmarc-not-enforced", "BIMI shows nothing without an enforced DMARC policy", Warning, draft+"§3"),
		row(bimiRecord, "bimi.svg-location", "the BIMI image's URL is not that of an SVG", Warning, draft+"§4"),
		row(bimiRecord, "bimi.cert-missing", "the BIMI record has no certificate", Notice, draft+"§4"),
	}
}

// The properties that authorities know (RFC 8659 §4, RFC 9495 §3, RFC 8657).
var caaTags = []string{"issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone"}

func caaChecks() []Check {
	return []Check{
		{"caa.missing", "any authority may issue certificates for the domain", Info, []string{"RFC 8659 §3"}, needCAA(func(f *Facts) []verdict {
			if len(f.CAA.Records) > 0 {
				return nil
			}
			return []verdict{fail("neither the domain nor one above it has CAA records", f.q(dns.TypeCAA)).mend("name the authority that you use: " + f.Domain.FQDN() + ` CAA 0 issue "…", with the name that it gives for this; no other may issue then`)}
		})},
		{"caa.syntax", "a CAA record has a mistake", Error, []string{"RFC 8659 §4.2"}, eachCAA(func(set CAA, c dns.CAA) []verdict {
			fault := caaFault(c)
			if fault == "" {
				return nil
			}
			return []verdict{fail(fmt.Sprintf("%s %s: %s", c.Tag, quoted(c.Value), fault), set.question()).at(set.At.String()).mend("correct the value: as long as it is wrong, authorities may take it for a ban")}
		})},
		{"caa.critical-unknown", "a CAA record forbids every authority to issue", Error, []string{"RFC 8659 §4.1"}, eachCAA(func(set CAA, c dns.CAA) []verdict {
			if !c.Critical || slices.Contains(caaTags, c.Tag) {
				return nil
			}
			return []verdict{fail(quoted(c.Tag)+" is critical, and authorities do not know it", set.question()).at(set.At.String()).mend("write the flags as 0, or correct the tag")}
		})},
		{"caa.forbids-issuer", "the CAA records forbid the authority that issued a certificate in use", Error, []string{"RFC 8659 §3"}, caaForbids},
		{"caa.servfail", "authorities cannot ask whether they may issue", Error, []string{"RFC 8659 §3"}, func(f *Facts) (all []verdict) {
			for _, c := range f.caaSets() {
				judge := inDoubt(func(*Facts) ([]dns.Question, error) { return []dns.Question{c.question()}, c.Err }, "certificates cannot be renewed")
				for _, v := range judge(f) {
					all = append(all, v.at(c.Host.String()))
				}
			}
			return all
		}},
		{"caa.account-mismatch", "the CAA records name another account", Error, []string{"RFC 8657 §3"}, needPlan(caaAccount)},
	}
}

func (c CAA) question() dns.Question { return dns.Question{Name: c.At, Type: dns.TypeCAA} }

func needCAA(judge func(*Facts) []verdict) func(*Facts) []verdict {
	return func(f *Facts) []verdict {
		if f.CAA.Err != nil {
			return []verdict{unknown(f, f.CAA.Err, ZoneServers, f.CAA.question())}
		}
		return judge(f)
	}
}

// eachCAA looks at the records of the domain and of its hosts.
func eachCAA(judge func(CAA, dns.CAA) []verdict) func(*Facts) []verdict {
	return func(f *Facts) []verdict {
		var all []verdict
		none := true
		for _, set := range f.caaSets() {
			if set.Err != nil {
				all = append(all, unknown(f, set.Err, ZoneServers, set.question()).at(set.Host.String()))
			}
			none = none && set.Err == nil && len(set.Records) == 0
			for _, c := range set.Records {
				all = append(all, judge(set, c)...)
			}
		}
		if none {
			return na("there are no CAA records")
		}
		return all
	}
}

// caaFault says what is wrong with the value of an issue property: a domain, then parameters
// (RFC 8659 §4.2), or with an iodef URL (§4.4).
func caaFault(c dns.CAA) string {
	switch c.Tag {
	case "issue", "issuewild", "issuemail", "issuevmc":
		domain, parameters, _ := strings.Cut(c.Value, ";")
		if domain = strings.TrimSpace(domain); domain != "" {
			if name, err := dns.ParseName(domain); err != nil || !hostName(name) {
				return "it begins with the authority's domain, or is \";\""
			}
		}
		for p := range strings.SplitSeq(parameters, ";") {
			if name, _, ok := strings.Cut(strings.TrimSpace(p), "="); strings.TrimSpace(p) != "" && (!ok || strings.ContainsAny(strings.TrimSpace(name), " \t")) {
				return "a parameter is name=value"
			}
		}
	case "iodef":
		if !strings.HasPrefix(c.Value, "mailto:") && !strings.HasPrefix(c.Value, "https://") && !strings.HasPrefix(c.Value, "http://") {
			return "it is a URL: mailto:, https: or http:"
		}
	}
	return ""
}
