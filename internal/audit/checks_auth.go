package audit

import (
	"errors"
	"fmt"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/lint"
	"mxward/internal/mailauth/spf"
)

// below is a question about a name below the domain.
func (f *Facts) below(label string, t dns.Type) dns.Question {
	name, err := dns.ParseName(label + "." + f.Domain.FQDN())
	if err != nil {
		return f.q(t)
	}
	return dns.Question{Name: name, Type: t}
}

// spfText is the domain's own record.
func spfText(f *Facts) survey {
	s := spfTree(f)
	s.err = nil
	if errors.Is(f.SPF.Err, spf.ErrTemporary) {
		s.err = f.SPF.Err
	}
	return s
}

// spfTree is the record with all that it includes.
func spfTree(f *Facts) survey { return f.once("spfTree", spfTreeAnew) }

func spfTreeAnew(f *Facts) survey {
	s := survey{findings: f.SPF.Findings(), err: f.SPF.Undetermined(), theirs: ZoneServers, asked: []dns.Question{f.q(dns.TypeTXT)}}
	if f.TXT.Err == nil {
		s.findings = append(s.findings, almostSPF(f)...)
	}
	var e *dns.Error
	if errors.As(s.err, &e) && !f.inZone(e.Question.Name) {
		s.theirs, s.asked = ThirdParty, append(s.asked, bare(e.Question))
	}
	if errors.Is(f.SPF.Err, spf.ErrNotSPF) {
		s.none = "there is no SPF record"
	}
	if f.MX.Err == nil && len(f.MX.Records) == 0 && len(f.Own.addrs()) == 0 && s.none != "" {
		s.change = func(found lint.Finding) []Change {
			return []Change{{"add", f.Domain.FQDN() + ` TXT "v=spf1 -all"`}}
		}
	}
	return s
}

// almostSPF finds the texts that were meant to be a record and are none, such as v=spf10: the
// tree sees no record there.
func almostSPF(f *Facts) []lint.Finding {
	if f.SPF.Record != "" {
		return nil
	}
	var all []lint.Finding
	for _, found := range spf.LintTexts(f.TXT.Records) {
		if found.ID == "spf.syntax" {
			found.Domain = f.Domain.String()
			all = append(all, found)
		}
	}
	return all
}

func (f *Facts) inZone(name dns.Name) bool {
	if f.Zone.Name.IsZero() {
		return name.In(f.Domain)
	}
	return name.In(f.Zone.Name)
}

func spfChecks() []Check {
	const rfc = "RFC 7208 "
	return []Check{
		row(spfText, "spf.missing", "there is no SPF record", Warning, rfc+"§4.5"),
		row(spfTree, "spf.multiple", "there are several SPF records", Error, rfc+"§4.5"),
		row(spfTree, "spf.syntax", "the SPF record has a mistake", Error, rfc+"§4.6", rfc+"§12"),
		row(spfTree, "spf.lookups-exceeded", "SPF needs more than ten look-ups", Error, rfc+"§4.6.4"),
		row(spfTree, "spf.lookups-near", "SPF needs almost ten look-ups", Notice, rfc+"§4.6.4"),
		row(spfTree, "spf.void-exceeded", "SPF looks for too many names that are gone", Error, rfc+"§4.6.4"),
		row(spfTree, "spf.mx-too-many", "SPF's mx has too many hosts", Error, rfc+"§4.6.4"),
		row(spfTree, "spf.loop", "SPF includes itself", Error, rfc+"§4.6.4"),
		row(spfTree, "spf.include-none", "SPF includes a domain without a policy", Error, rfc+"§5.2"),
		row(spfTree, "spf.include-nxdomain", "SPF includes a domain that does not exist", Error, rfc+"§5.2"),
		{"spf.include-unregistered", "SPF includes a domain that anybody can register", Critical, []string{rfc + "§5.2", rfc + "§11.1"}, spfUnregistered},
		row(spfText, "spf.redirect-ignored", "SPF's redirect does nothing", Notice, rfc+"§6.1"),
		row(spfText, "spf.after-all", "terms stand behind SPF's all", Warning, rfc+"§5.1"),
		row(spfText, "spf.no-all", "SPF does not say what of everybody else", Warning, rfc+"§4.7"),
		row(spfText, "spf.plus-all", "SPF lets the whole world send", Error, rfc+"§11.4"),
		row(spfText, "spf.neutral-all", "SPF says nothing about the rest of the world", Warning, rfc+"§8.2"),
		row(spfText, "spf.ptr", "SPF uses ptr", Warning, rfc+"§5.5"),
		{"spf.type99", "SPF stands in a record of the old type", Notice, []string{rfc + "§3.1"}, spfOldType},
		row(spfText, "spf.oversize", "the SPF record is long", Warning, rfc+"§3.4"),
		row(spfText, "spf.too-broad", "SPF lets very many strangers send", Warning, rfc+"§11.4"),
		row(spfText, "spf.private-range", "SPF names addresses from which no mail comes", Warning, "RFC 1918 §5", "RFC 5737"),
		row(spfText, "spf.duplicate-term", "SPF says something twice", Notice, rfc+"§4.6"),
		{"spf.own-ip-not-covered", "SPF does not let a host send that does", Error, []string{rfc + "§4.6"}, spfOwn},
		{"spf.helo-missing", "an MX host's name has no SPF record", Info, []string{rfc + "§2.3", rfc + "§10.1.3"}, spfHelo},
		{"spf.flatten-stale", "SPF names networks that an include has left", Warning, []string{rfc + "§5.2", rfc + "§5.6"}, needPlan(flattenStale)},
		{"spf.parked-not-deny", "a domain without mail lets others send in its name", Warning, []string{rfc + "§10.1.2"}, spfParked},
	}
}

// dmarcRecord is the record that applies, and what stands in its place.
func dmarcRecord(f *Facts) survey { return f.once("dmarcRecord", dmarcRecordAnew) }

func dmarcRecordAnew(f *Facts) survey {
	s := survey{findings: f.DMARC.Findings, theirs: ZoneServers, asked: []dns.Question{f.below("_dmarc", dns.TypeTXT)}}
	for _, step := range f.DMARC.Steps {
		if name, err := step.Domain.Child("_dmarc"); err == nil && len(step.Records) > 0 {
			s.asked = append(s.asked, dns.Question{Name: name, Type: dns.TypeTXT})
		}
	}
	switch {
	case errors.Is(f.DMARC.Err, dmarc.ErrTemporary):
		s.err = f.DMARC.Err
	case errors.Is(f.DMARC.Err, dmarc.ErrNotDMARC):
		s.none = "no DMARC policy applies"
	}
	s.change = func(found lint.Finding) []Change {
		if found.ID != "dmarc.missing" {
			return nil
		}
		return []Change{{"add", fmt.Sprintf(`_dmarc.%s TXT "v=DMARC1; p=none; rua=mailto:dmarc@%s"`, f.Domain.FQDN(), f.Domain)}}
	}
	return s
}

// dmarcReports is whether reports arrive.
func dmarcReports(f *Facts) survey {
	s := dmarcRecord(f)
	if err := f.DMARC.Undetermined(); err != nil && s.err == nil {
		s.err, s.theirs = err, ThirdParty
	}
	return s
}

func dmarcChecks() []Check {
	const rfc = "RFC 9989 "
	return []Check{
		row(dmarcRecord, "dmarc.missing", "no DMARC policy applies", Warning, rfc+"§4.10.1"),
		row(dmarcRecord, "dmarc.multiple-records", "there are several DMARC records", Error, rfc+"§4.10"),
		row(dmarcRecord, "dmarc.version-first", "a text was meant to be a DMARC record and is none", Error, rfc+"§4.7"),
		row(dmarcRecord, "dmarc.misplaced", "a DMARC record stands where nobody looks", Error, rfc+"§4.10"),
		row(dmarcRecord, "dmarc.syntax", "the DMARC record has a mistake", Error, rfc+"§4.8"),
		row(dmarcRecord, "dmarc.p-missing", "the DMARC record has no policy", Warning, rfc+"§4.7"),
		row(dmarcRecord, "dmarc.p-invalid", "the DMARC policy is none of the three", Error, rfc+"§4.7"),
		row(dmarcRecord, "dmarc.sp-invalid", "the DMARC policy for subdomains is none of the three", Error, rfc+"§4.7"),
		row(dmarcRecord, "dmarc.weak-none", "the DMARC policy lets forged mail through", Notice, rfc+"§4.7"),
		row(dmarcRecord, "dmarc.testing", "the DMARC policy is being tried out", Notice, rfc+"§4.7"),
		row(dmarcRecord, "dmarc.sp-weaker", "the DMARC policy is weaker for subdomains", Warning, rfc+"§4.7"),
		row(dmarcRecord, "dmarc.np-weaker", "the DMARC policy is weaker for names that do not exist", Warning, rfc+"§4.7"),
		row(dmarcRecord, "dmarc.obsolete-tag", "the DMARC record has a tag of the past", Notice, rfc+"§A.6"),
		row(dmarcRecord, "dmarc.pct-ignored", "the DMARC record has a percentage, which is ignored", Warning, rfc+"§A.6"),
		row(dmarcRecord, "dmarc.unknown-tag", "the DMARC record has a tag that nobody knows", Notice, rfc+"§4.7"),
		row(dmarcRecord, "dmarc.psd-misuse", "the DMARC record says wrongly whether it is a public suffix", Error, rfc+"§4.7"),
		row(dmarcRecord, "dmarc.rua-missing", "nobody gets DMARC reports", Warning, rfc+"§4.7"),
		row(dmarcRecord, "dmarc.rua-invalid", "an address for DMARC reports is none", Warning, rfc+"§4.7"),
		row(dmarcReports, "dmarc.rua-unauthorized", "who shall get DMARC reports has not agreed", Error, "RFC 9990 §4"),
		row(dmarcReports, "dmarc.rua-no-mail", "who shall get DMARC reports takes no mail", Error, "RFC 9990 §3"),
		row(dmarcReports, "dmarc.ruf-unauthorized", "who shall get failure reports has not agreed", Error, "RFC 9991 §3"),
		row(dmarcRecord, "dmarc.fo-without-ruf", "fo does nothing without ruf", Notice, rfc+"§4.7"),
		row(dmarcRecord, "dmarc.walk-differs-psl", "old and new receivers see different organizational domains", Warning, rfc+"§4.10.2", "RFC 7489 §3.2"),
		{"dmarc.spf-only-reject", "the DMARC policy is reject with SPF alone", Warning, []string{rfc + "§5", "RFC 8020 §2"}, dmarcOnSPF},
		{"dmarc.temperror", "whether there is a DMARC policy cannot be asked", Error, []string{rfc + "§4.10.1"}, inDoubt(func(f *Facts) ([]dns.Question, error) {
			if !errors.Is(f.DMARC.Err, dmarc.ErrTemporary) {
				return nil, nil
			}
			return []dns.Question{f.below("_dmarc", dns.TypeTXT)}, f.DMARC.Err
		}, "receivers defer mail, or take forged mail")},
		{"dmarc.parked-not-reject", "a domain without mail does not have forged mail refused", Warning, []string{rfc + "§4.7"}, dmarcParked},
	}
}

// dkimKeys is the keys of the selectors that were named.
func dkimKeys(f *Facts) survey {
	s := survey{theirs: ZoneServers}
	for _, sel := range f.DKIM {
		if sel.Err != nil {
			s.findings = append(s.findings, lint.Finding{ID: "dkim.missing", Severity: lint.Error, Domain: clip(sel.Name), Text: "this is no selector: " + sel.Err.Error()})
			continue
		}
		s.findings = append(s.findings, sel.found()...)
		s.asked = append(s.asked, dns.Question{Name: sel.Survey.Name, Type: dns.TypeTXT})
		if sel.Survey.Err != nil {
			s.err = sel.Survey.Err
		}
	}
	return s
}

// dkimRow is a row about keys: without selectors there is nothing to look at.
func dkimRow(id, title string, worst Severity, refs ...string) Check {
	c := row(dkimKeys, id, title, worst, refs...)
	judge := c.judge
	c.judge = func(f *Facts) []verdict {
		if len(f.DKIM) == 0 {
			return []verdict{{status: Skipped, detail: "no selector was named"}}
		}
		return judge(f)
	}
	return c
}

func dkimChecks() []Check {
	const rfc = "RFC 6376 "
	return []Check{
		{"dkim.no-selector-known", "the DKIM keys cannot be looked at without their selectors", Info, []string{rfc + "§3.1"}, func(f *Facts) []verdict {
			if len(f.DKIM) > 0 {
				return nil
			}
			if f.Shown != nil && len(f.Shown.Signatures) > 0 {
				return []verdict{{status: Unknown, blame: Nobody, detail: "the message that was shown has no signature in the domain's name, and selectors cannot be listed"}}
			}
			return []verdict{{status: Unknown, blame: Nobody, detail: "selectors cannot be listed: name them with --selector, or show a signed message with --message: it has them as s= in its DKIM-Signature"}}
		}},
		dkimRow("dkim.missing", "there is no DKIM key at a selector that was named", Error, rfc+"§3.6.2.1"),
		dkimRow("dkim.multiple-records", "a DKIM selector has several records", Error, rfc+"§3.6.2.2"),
		dkimRow("dkim.misplaced", "a DKIM key stands where nobody looks", Error, rfc+"§3.6.2.1"),
		dkimRow("dkim.syntax", "a DKIM key record has a mistake", Error, rfc+"§3.6.1"),
		dkimRow("dkim.revoked", "a DKIM key is revoked", Info, rfc+"§3.6.1"),
		dkimRow("dkim.key-too-short", "a DKIM key is too short", Error, "RFC 8301 §3.2"),
		dkimRow("dkim.key-weak", "a DKIM key is short", Warning, "RFC 8301 §3.2"),
		dkimRow("dkim.key-long", "a DKIM key is longer than some receivers take", Warning, "RFC 8301 §3.2"),
		dkimRow("dkim.key-malformed", "a DKIM key cannot be read", Error, rfc+"§3.6.1", "RFC 8463 §4"),
		dkimRow("dkim.private-key", "a PRIVATE key is published", Critical, rfc+"§8.2"),
		{"dkim.ed25519-only", "there is no RSA key beside Ed25519", Warning, []string{"RFC 8463 §5"}, dkimEd25519},
		dkimRow("dkim.sha1-only", "a DKIM key allows SHA-1 alone", Error, "RFC 8301 §3.1"),
		dkimRow("dkim.testing", "a DKIM key is being tried out", Notice, rfc+"§3.6.1"),
		dkimRow("dkim.unusable-service", "a DKIM key serves no mail", Error, rfc+"§3.6.1"),
		dkimRow("dkim.unknown-type", "a DKIM key is of no known type", Error, rfc+"§3.6.1"),
		dkimRow("dkim.obsolete-tag", "a DKIM key record has a tag of the past", Notice, rfc+"§C"),
		{"dkim.cname-dangling", "a DKIM selector is an alias that leads nowhere", Error, []string{rfc + "§3.6.2"}, func(f *Facts) []verdict {
			if len(f.DKIM) == 0 {
				return []verdict{{status: Skipped, detail: "no selector was named"}}
			}
			var all []verdict
			for _, s := range f.DKIM {
				asked := dns.Question{Name: s.Survey.Name, Type: dns.TypeTXT}
				switch {
				case s.Err != nil:
				case s.Survey.Err != nil:
					all = append(all, unknown(f, s.Survey.Err, ZoneServers, asked).at(s.Survey.Name.String()))
				case len(s.Survey.Aliases) > 0 && len(s.Survey.Records) == 0:
					severity := Error
					if s.Guessed { // perhaps nobody signs with it yet
						severity = Notice
					}
					all = append(all, fail("there is nothing at its end", asked).as(severity).at(s.Survey.Name.String()).mend("correct the alias", Change{"delete", s.Survey.Name.FQDN() + " CNAME"}))
				}
			}
			return all
		}},
		{"dkim.key-reused", "several selectors have one key", Notice, []string{"RFC 6376 §3.1"}, dkimReused},
		{"dkim.key-old", "a DKIM key is old", Notice, []string{rfc + "§3.1"}, needPlan(keyAge)},
		{"dkim.mismatch-with-plan", "a DKIM key is not the plan's", Error, []string{rfc + "§3.6.1"}, keyOfPlan},
	}
}

func dkimEd25519(f *Facts) []verdict {
	if len(f.DKIM) == 0 {
		return []verdict{{status: Skipped, detail: "no selector was named"}}
	}
	var asked []dns.Question
	ed := 0
	for _, s := range f.DKIM {
		asked = append(asked, dns.Question{Name: s.Survey.Name, Type: dns.TypeTXT})
		switch {
		case s.Survey.Err != nil:
			return []verdict{unknown(f, s.Survey.Err, ZoneServers, asked...)}
		case s.Err != nil || len(s.Survey.Key.Public) == 0:
		case strings.EqualFold(string(s.Survey.Key.Type), string(dkim.Ed25519)):
			ed++
		default:
			return nil
		}
	}
	if ed == 0 {
		return nil
	}
	return []verdict{fail("of the selectors that were named, none has an RSA key, and many receivers verify nothing else", asked...).mend("sign with an RSA key too")}
}
