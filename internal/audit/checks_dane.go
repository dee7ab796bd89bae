package audit

import (
	"errors"
	"fmt"
	"slices"

	"mxward/internal/dns"
	"mxward/internal/mailauth/tlsa"
	"mxward/internal/probe"
)

// tlsa gives what was found of a host's TLSA records, if they count.
func (f *Facts) tlsa(host dns.Name) (tlsa.Result, bool) {
	if f.DANE == nil {
		return tlsa.Result{}, false
	}
	for _, r := range f.DANE.Hosts {
		if r.Host == host && r.State == tlsa.Secure {
			return r, true
		}
	}
	return tlsa.Result{}, false
}

// daneNames are those by which a host may call itself (RFC 7672 §3.2.2).
func (f *Facts) daneNames(r tlsa.Result) []dns.Name {
	if f.DANE.MXSecure {
		return []dns.Name{r.Base, f.Domain}
	}
	return []dns.Name{r.Base}
}

// pinned: a DANE-EE record means the host's key, so that nothing else of its certificate counts.
func (f *Facts) pinned(v Visit) bool {
	r, ok := f.tlsa(v.Host)
	return ok && slices.ContainsFunc(r.Records, func(one tlsa.Record) bool {
		return one.Usage == tlsa.DANEEE && one.Usable() == nil && v.TLS.DANE([]tlsa.Record{one}, v.Began, f.daneNames(r)...) == nil
	})
}

// daneVisits is a row about the certificates of hosts whose TLSA records authenticate them.
func daneVisits(judge func(*Facts, Visit, tlsa.Result) []verdict) func(*Facts) []verdict {
	return func(f *Facts) []verdict {
		records := daneHosts(f)
		switch {
		case f.SMTP == nil:
			return []verdict{unknown(f, errNotVisited, MXHost)}
		case records.err == nil && records.none != "":
			return na(records.none)
		case records.none != "", errors.Is(records.err, errNotValidated):
			return []verdict{unknown(f, records.err, records.theirs, records.asked...)}
		}
		all := byName(func(f *Facts, v Visit) []verdict {
			r, ok := f.tlsa(v.Host)
			if !ok || r.Duty() != tlsa.Authenticate {
				return na(v.Host.String() + " has no TLSA record that can be used")
			}
			verdicts := judge(f, v, r)
			for i := range verdicts {
				verdicts[i].asked = append(verdicts[i].asked, tlsaQuestion(r.Host))
			}
			return verdicts
		})(f)
		if records.err != nil { // of another host
			all = append(all, unknown(f, records.err, records.theirs, records.asked...))
		}
		return all
	}
}

func daneMismatch(f *Facts, v Visit, r tlsa.Result) []verdict {
	err := v.TLS.DANE(r.Records, v.Began, f.daneNames(r)...)
	if err == nil || errors.Is(err, probe.ErrName) {
		return nil
	}
	one := fail(fmt.Sprintf("senders with DANE do not deliver to %s: %s", v.Host, clip(err.Error()))).by(MXHost)
	if f.deliverable(v.Host) {
		one = one.as(Error)
	}
	leaf := v.TLS.Leaf()
	if leaf == nil {
		return []verdict{one}
	}
	at := tlsaQuestion(r.Base).Name
	return []verdict{one.mend("if the certificate is the host's own, and not of somebody in between, publish the record of its key, and leave the old one until its time is over", Change{"add", at.FQDN() + " TLSA " + tlsa.Of(leaf, tlsa.DANEEE, tlsa.SPKI, tlsa.SHA256).String()})}
}

// deliverable: senders with DANE can deliver to another MX host than this one.
func (f *Facts) deliverable(but dns.Name) bool {
	return slices.ContainsFunc(slices.Concat(f.SMTP.Visits, f.SMTP.Named), func(v Visit) bool {
		if v.Unasked || v.Host == but || !v.Listens() {
			return false
		}
		r, dane := f.tlsa(v.Host)
		return !dane || v.TLS != nil && v.TLS.DANE(r.Records, v.Began, f.daneNames(r)...) == nil
	})
}

func daneName(f *Facts, v Visit, r tlsa.Result) []verdict {
	err := v.TLS.DANE(r.Records, v.Began, f.daneNames(r)...)
	if !errors.Is(err, probe.ErrName) {
		return nil
	}
	return []verdict{fail(clip(err.Error())).by(MXHost).mend("get a certificate for " + r.Base.String() + " from the same authority, or publish 3 1 1")}
}

// daneRollover: a record that does not mean the key in use means the next one, and one that means
// an authority will do for any key.
func daneRollover(f *Facts, v Visit, r tlsa.Result) []verdict {
	used := 0
	for _, one := range r.Records {
		switch {
		case one.Usable() != nil:
		case one.Usage != tlsa.DANEEE, v.TLS.DANE([]tlsa.Record{one}, v.Began) != nil:
			return nil
		default:
			used++
		}
	}
	if used == 0 {
		return nil
	}
	return []verdict{fail("all records mean the key in use: on the day that it changes, mail waits until the new record is seen everywhere").by(MXHost).
		mend("publish the record of the next key, or of its authority, two TTLs before the change")}
}
