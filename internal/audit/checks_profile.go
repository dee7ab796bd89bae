package audit

import (
	"errors"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/spf"
	"mxward/internal/mailauth/tlsa"
)

// profileChecks are the rows that only some profiles look at (profile.go), besides those of
// parked domains among the rows of SPF and DMARC.
func profileChecks() []Check {
	return []Check{
		{"mx.parked-not-null", "a domain without mail does not say that it takes none", Warning, []string{"RFC 7505 §3"}, needMX(func(f *Facts, records []dns.MX) []verdict {
			if null(records) {
				return nil
			}
			do := "replace"
			if len(records) == 0 {
				do = "add"
			}
			return []verdict{fail("it has no null MX: senders of mail to it try for days", f.q(dns.TypeMX)).
				mend("say so", Change{do, f.Domain.FQDN() + " MX 0 ."})}
		})},
		{"dmarc.not-reject", "the DMARC policy does not have all forged mail refused", Notice, []string{"RFC 9989 §4.7"}, dmarcNotReject},
		{"dane.missing", "no MX host has DANE", Notice, []string{"RFC 7672 §2.2"}, needHosts(daneMissing)},
	}
}

// spfParked: the only policy of a domain without mail is that nobody sends.
func spfParked(f *Facts) []verdict {
	switch {
	case errors.Is(f.SPF.Err, spf.ErrTemporary):
		return []verdict{unknown(f, f.SPF.Err, ZoneServers, f.q(dns.TypeTXT))}
	case deniesAll(f.SPF):
		return nil
	}
	return []verdict{fail("it does not say that nobody sends", f.q(dns.TypeTXT)).mend("say so", f.denyAll())}
}

// dmarcParked: as spfParked.
func dmarcParked(f *Facts) []verdict {
	asked := f.below("_dmarc", dns.TypeTXT)
	switch {
	case errors.Is(f.DMARC.Err, dmarc.ErrTemporary):
		return []verdict{unknown(f, f.DMARC.Err, ZoneServers, asked)}
	case f.DMARC.Err == nil && f.DMARC.Policy == dmarc.Reject:
		return nil
	}
	do := "add"
	if f.DMARC.Domain == f.Domain {
		do = "replace"
	}
	return []verdict{fail("the policy is not reject", asked).mend("refuse all, and keep rua where there is one", Change{do, asked.Name.FQDN() + ` TXT "v=DMARC1; p=reject"`})}
}

func dmarcNotReject(f *Facts) []verdict {
	asked := f.below("_dmarc", dns.TypeTXT)
	switch {
	case errors.Is(f.DMARC.Err, dmarc.ErrTemporary):
		return []verdict{unknown(f, f.DMARC.Err, ZoneServers, asked)}
	case f.DMARC.Err != nil:
		return na("no DMARC policy applies")
	case f.DMARC.Policy == dmarc.Reject:
		return nil
	}
	return []verdict{fail("it is "+string(f.DMARC.Policy), asked).mend("write p=reject, once the reports show that all of your own mail passes")}
}

func daneMissing(f *Facts) []verdict {
	for _, h := range f.DANE.Hosts {
		if h.State == tlsa.Secure {
			return nil
		}
	}
	switch s := daneHosts(f); {
	case s.err != nil:
		return []verdict{unknown(f, s.err, s.theirs, s.asked...)}
	default:
		return []verdict{fail("senders cannot tell the host from whoever stands in between", s.asked...).mend("sign the zone, and publish a TLSA record for each MX host (mxward dane)")}
	}
}

// evidentlyParked adds to what is said of a null MX: a domain may be told that it looks like one
// without mail, and is never judged so unless asked for.
func (f *Facts) evidentlyParked() string {
	if !deniesAll(f.SPF) {
		return ""
	}
	return ", and by SPF that nobody sends: --profile parked judges it as a domain without mail"
}
