package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Profile is what a domain is for. It says which rows apply, and how bad some of them are.
type Profile string

// The profiles.
const (
	Mail    Profile = "mail"    // it takes mail and sends it: the table as it stands
	Receive Profile = "receive" // it takes mail and sends none
	Send    Profile = "send"    // it sends mail and takes none
	Parked  Profile = "parked"  // it does neither, and nobody shall in its name
	Bulk    Profile = "bulk"    // it sends so much that the large mailbox providers want more of it
	Strict  Profile = "strict"  // what is recommended is expected
)

// Profiles gives all of them, the default first.
func Profiles() []Profile { return []Profile{Mail, Receive, Send, Parked, Bulk, Strict} }

// ParseProfile reads the name of a profile.
func ParseProfile(s string) (Profile, error) {
	if p := Profile(s); slices.Contains(Profiles(), p) {
		return p, nil
	}
	return "", fmt.Errorf("expected mail, receive, send, parked, bulk or strict, got %q", s)
}

// outside is the severity of a row that a profile does not look at.
const outside Severity = ""

// outsideProfile is what such a row says.
const outsideProfile = "this is no matter of the profile"

// weights says what differs from the table, by id or area; an id counts before its area.
func (p Profile) weights() map[string]Severity {
	// These are about what only some domains want.
	weights := map[string]Severity{
		"mx.parked-not-null": outside, "spf.parked-not-deny": outside, "dmarc.parked-not-reject": outside,
		"dane.missing": outside, "dmarc.not-reject": outside,
	}
	maps.Copy(weights, map[Profile]map[string]Severity{
		Receive: {
			"dkim": outside, "bimi": outside, "spf.helo-missing": outside, "spf.own-ip-not-covered": outside, "dmarc.spf-only-reject": outside, "dmarc.unaligned": outside,
			// Who sends nothing is not refused for the names of its addresses.
			"ptr": Warning, "ptr.multiple": Notice, "smtp.helo-unresolvable": Notice, "smtp.helo-ptr-mismatch": Info,
			"dnsbl.listed-ip": Warning, "dnsbl.listed-policy": Notice,
		},
		Send: {
			"mx.missing": outside, "mx.implicit": outside, "mx.null": outside, "mx.no-ipv6": outside,
			"mtasts": outside, "tlsrpt": outside, "dane": outside,
			"smtp.unreachable": outside, "smtp.starttls-missing": outside, "smtp.tls-old": outside,
			"smtp.cert-name": outside, "smtp.cert-chain": outside, "smtp.cert-expired": outside, "smtp.cert-expiring": outside,
		},
		Parked: {
			"mx.parked-not-null": Warning, "spf.parked-not-deny": Warning, "dmarc.parked-not-reject": Warning,
			// These three take the place of:
			"mx.missing": outside, "mx.implicit": outside, "mx.null": outside, "mx.null-but-sends": outside, "spf.missing": outside, "dmarc.missing": outside, "dmarc.weak-none": outside,
			// No mail, no hosts, no keys, no reports:
			"mx.no-ipv6": outside, "mx.same-address": outside, "mx.too-many": outside, "ptr": outside, "smtp": outside, "dnsbl": outside, "dkim": outside, "dkim.private-key": Critical,
			"mtasts": outside, "tlsrpt": outside, "dane": outside, "bimi": outside, "autoconf": outside,
			"spf.helo-missing": outside, "spf.own-ip-not-covered": outside, "dmarc.rua-missing": outside, "dmarc.spf-only-reject": outside, "dmarc.unaligned": outside,
		},
		// What Google and Yahoo (since February 2024) and Microsoft (since May 2025) want of who
		// sends thousands of messages a day: SPF and DKIM, DMARC with alignment, names of addresses
		// that lead back, TLS. Unsubscribing by one click is a matter of the message alone.
		Bulk: {
			"spf.missing": Error, "spf.include-unregistered": Critical, "dmarc.missing": Error, "dmarc.p-missing": Error,
			"dkim.no-selector-known": Error, "dkim.unsigned": Error, "dmarc.unaligned": Error,
			"ptr.generic": Error, "ptr.temperror": Error, "smtp.starttls-missing": Error,
		},
		Strict: {
			"dmarc.weak-none": Error, "dmarc.testing": Error, "dmarc.not-reject": Error,
			"mtasts.txt-missing": Error, "mtasts.mode-testing": Error, "mtasts.mode-none": Error,
			"tlsrpt.missing": Error, "dnssec.insecure": Error, "dane.missing": Error, "dane.missing-partial": Error,
		},
	}[p])
	return weights
}

// weigh gives the severity that a row has in the profile, and whether the profile names it.
func (p Profile) weigh(c Check, weights map[string]Severity) (s Severity, named bool) {
	if s, named = weights[c.ID]; named {
		return s, true
	}
	if s, named = weights[c.Area()]; named && (s == outside || c.Severity.AtLeast(s)) {
		return s, true // of a whole area only what is worse is made milder
	}
	return p.harden(c.Severity), false
}

// harden: to be strict, warnings are errors.
func (p Profile) harden(s Severity) Severity {
	if p == Strict && s == Warning {
		return Error
	}
	return s
}

// Checks gives the table as the profile has it. A row that it does not look at has no
// severity, and its findings are not applicable.
func (p Profile) Checks() []Check {
	out, weights := table(), p.weights()
	for i, c := range out {
		now, named := p.weigh(c, weights)
		out[i].Severity = now
		if named || p == Strict {
			out[i].judge = p.reweighed(c, now, named)
		}
	}
	return out
}

// reweighed gives a row's verdicts another weight. A named one that is worse holds for all of
// them; a milder one only bounds them.
func (p Profile) reweighed(c Check, now Severity, named bool) func(*Facts) []verdict {
	worse := now.AtLeast(c.Severity)
	return func(f *Facts) []verdict {
		verdicts := c.judge(f)
		for i, v := range verdicts {
			was := cmp.Or(v.severity, c.Severity)
			switch {
			case v.status != Fail: // it has no weight, and may be other rows' as well: see survey.open
			case !named:
				verdicts[i].severity = p.harden(was)
			case worse || was.AtLeast(now):
				verdicts[i].severity = now
			}
		}
		return verdicts
	}
}
