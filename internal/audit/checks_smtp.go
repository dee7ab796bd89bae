package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/mailauth/tlsa"
	"mxward/internal/probe"
)

// What counts as long, or as soon; ours.
const (
	patientMS      = 10000               // silence that is shorter than this is nobody's
	expiringWithin = 14 * 24 * time.Hour // and within a quarter of a certificate's life
	enoughControls = 2                   // hosts elsewhere that say whether port 25 is shut
)

// errNotVisited stands for sessions that nobody asked for.
var errNotVisited = fmt.Errorf("mail servers were not to be visited: %w", errNotAsked)

func smtpChecks() []Check {
	const smtp, tls = "RFC 5321 ", "RFC 3207 "
	return []Check{
		{"smtp.unreachable", "an MX host does not answer", Critical, []string{smtp + "§5.1"}, smtpUnreachable},
		{"smtp.banner-missing", "an MX host does not greet", Error, []string{smtp + "§3.1"}, connected(bannerMissing)},
		{"smtp.banner-mismatch", "an MX host greets with another name", Info, []string{smtp + "§4.3.1"}, greeted(bannerMismatch)},
		{"smtp.helo-unresolvable", "an MX host says a name that has no address", Warning, []string{smtp + "§2.3.5"}, greeted(heloUnresolvable)},
		{"smtp.helo-ptr-mismatch", "an MX host says another name than its address has", Notice, []string{smtp + "§4.1.4"}, greeted(heloPTR)},
		{"smtp.starttls-missing", "an MX host offers no TLS, or none that works", Warning, []string{tls + "§4", "RFC 8461 §4.2", "RFC 7672 §2.2"}, listening(starttlsMissing)},
		{"smtp.tls-old", "an MX host's TLS is old", Warning, []string{"RFC 8996 §2", "RFC 9325 §3.1.1"}, encrypted(tlsOld)},
		{"smtp.cert-name", "an MX host's certificate has another name", Warning, []string{"RFC 8461 §4.2", "RFC 9525 §6"}, certified(certName)},
		{"smtp.cert-chain", "an MX host's certificate has no known issuer", Warning, []string{"RFC 8461 §4.2", "RFC 5280 §6"}, certified(certChain)},
		{"smtp.cert-expired", "an MX host's certificate has expired", Warning, []string{"RFC 8461 §4.2", "RFC 5280 §4.1.2.5"}, certified(certExpired)},
		{"smtp.cert-expiring", "an MX host's certificate expires soon", Warning, []string{"RFC 5280 §4.1.2.5"}, certified(certExpiring)},
		{"smtp.open-relay", "an MX host takes mail for anybody", Critical, []string{"RFC 2505 §2.1", smtp + "§7.8"}, listening(openRelay)},
		{"smtp.tarpit", "an MX host answers slowly on purpose", Info, []string{smtp + "§4.5.3.2"}, connected(smtpTarpit)},
		{"smtp.temp-reject", "an MX host defers strangers", Info, []string{"RFC 6647 §2"}, greeted(tempReject)},
		{"smtp.slow", "an MX host is slow", Warning, []string{smtp + "§4.5.3.2"}, connected(smtpSlow)},
	}
}

// NeedsSMTP reports whether any of the checks looks at the sessions with MX hosts.
func NeedsSMTP(checks []Check) bool {
	others := []string{"net.port25-blocked", "dane.mismatch", "dane.rollover-unsafe", "dane.name-mismatch", "plan.rung-mismatch"}
	return slices.ContainsFunc(checks, func(c Check) bool { return c.Area() == "smtp" || slices.Contains(others, c.ID) })
}

// needVisits: hosts were visited.
func needVisits(judge func(*Facts, []Visit) []verdict) func(*Facts) []verdict {
	return needHosts(func(f *Facts) []verdict {
		if f.SMTP == nil {
			return []verdict{unknown(f, errNotVisited, MXHost)}
		}
		visits := slices.DeleteFunc(slices.Clone(f.SMTP.Visits), func(v Visit) bool { return v.Unasked })
		if len(visits) == 0 {
			if trouble := f.hostTrouble(); trouble != nil {
				return trouble
			}
			if len(f.SMTP.Rungs) > 0 {
				return na("by the plan no MX host takes mail: plan.rung-mismatch")
			}
			return na("no MX host has an address to connect to")
		}
		return judge(f, visits)
	})
}

// far makes the judge of a row for the sessions that came far enough; of the others nothing is
// known.
func far(enough func(probe.Session) bool) func(func(*Facts, Visit) []verdict) func(*Facts) []verdict {
	return func(judge func(*Facts, Visit) []verdict) func(*Facts) []verdict {
		return needVisits(func(f *Facts, visits []Visit) (all []verdict) {
			other := slices.ContainsFunc(visits, func(v Visit) bool { return enough(v.Session) })
			for _, v := range visits {
				verdicts := []verdict{f.tooShort(v, other)}
				if enough(v.Session) {
					verdicts = judge(f, v)
				}
				for _, one := range verdicts {
					all = append(all, v.at(one))
				}
			}
			return all
		})
	}
}

func connected(judge func(*Facts, Visit) []verdict) func(*Facts) []verdict {
	return far(probe.Session.Connected)(judge)
}

func greeted(judge func(*Facts, Visit) []verdict) func(*Facts) []verdict {
	return far(probe.Session.Greeted)(judge)
}

func listening(judge func(*Facts, Visit) []verdict) func(*Facts) []verdict {
	return far(func(s probe.Session) bool { return s.Listens() || s.OffersTLS() })(judge)
}

// encrypted: where there is no TLS, that has a finding of its own.
func encrypted(judge func(*Facts, Visit) []verdict) func(*Facts) []verdict {
	return listening(func(f *Facts, v Visit) []verdict {
		if v.TLS == nil {
			return na("there was no TLS: smtp.starttls-missing")
		}
		return judge(f, v)
	})
}

// certified: a certificate that DANE-EE records mean need not be anything else (RFC 7671 §5.1),
// unless MTA-STS wants it too.
func certified(judge func(*Facts, Visit) []verdict) func(*Facts) []verdict {
	return byName(func(f *Facts, v Visit) []verdict {
		if !f.enforced() && f.pinned(v) {
			return na("a TLSA record means the very key (RFC 7671 §5.1)")
		}
		return judge(f, v)
	})
}

// byName makes the judge of a row about certificates: of each address, and of the other names that
// it has, to which it may show others (RFC 6066 §3).
func byName(judge func(*Facts, Visit) []verdict) func(*Facts) []verdict {
	first := encrypted(judge)
	return func(f *Facts) []verdict {
		all := first(f)
		if f.SMTP == nil {
			return all
		}
		for _, v := range f.SMTP.Named {
			verdicts := f.unshown(v)
			if v.TLS != nil {
				verdicts = judge(f, v)
			}
			for _, one := range verdicts {
				one = v.at(one)
				one.target, one.detail = v.Host.String(), "at "+v.Address.Addr().String()+": "+one.detail
				all = append(all, one)
			}
		}
		return all
	}
}

// unshown: the certificate for another name of an address was not seen, which nobody is accused of.
// Where there is no TLS at all, that is said of the address.
func (f *Facts) unshown(v Visit) []verdict {
	switch end := v.End(); {
	case v.Unasked:
		return []verdict{{status: Unknown, blame: Nobody, detail: "the address was not asked for its certificate by this name", aside: true}}
	case end.Trouble == probe.Stopped:
		return []verdict{{status: Unknown, blame: Nobody, detail: clip(end.Error), aside: true}}
	case !slices.ContainsFunc(f.SMTP.Visits, func(o Visit) bool { return o.Address == v.Address && o.TLS != nil }):
		return nil
	}
	return []verdict{f.tooShort(v, false)}
}

// hostsAt gives the MX hosts that have an address.
func (f *Facts) hostsAt(addr netip.Addr) (names []dns.Name) {
	for _, h := range f.Hosts {
		if slices.Contains(h.addrs(), addr) {
			names = append(names, h.Name)
		}
	}
	return names
}

// at says of which address a verdict is, and shows the session.
func (v Visit) at(one verdict) verdict {
	addr := v.Address.Addr()
	if one.target == "" {
		one.target = addr.String()
	}
	one.asked = append(one.asked, visitQuestion(addr))
	if one.confidence == "" {
		one.confidence = Single
	}
	return one
}

// tooShort is the verdict on what a session ended before. Where nobody could connect, that is a
// finding already, and another host that could be looked at leaves nothing open.
func (f *Facts) tooShort(v Visit, other bool) verdict {
	return verdict{status: Unknown, blame: f.sideOfEnd(v), detail: "the session ended at " + clip(v.Because()), aside: other && !v.Connected()}
}

// sideOfEnd is whose it is that a session ended early. A host that refuses us may not refuse
// others.
func (f *Facts) sideOfEnd(v Visit) Blame {
	end := v.End()
	switch {
	case end.Trouble == probe.NoWay && !f.way(v.Address.Addr()):
		return LocalNetwork
	case end.Trouble == probe.NoWay, end.Trouble == probe.Stopped: // others were met: it may be the way, or the host
		return Nobody
	case end.Stage == mail.StageConnect && !f.way(v.Address.Addr()):
		return LocalNetwork
	case end.Trouble == probe.TimedOut && end.TookMS < patientMS, end.Code/100 == 5, end.Mute():
		return Nobody
	}
	return MXHost
}

// way reports whether port 25 is known to be open for us in the family of an address: somebody
// was met there. A refusal is somebody's, unless every control is refused too.
func (f *Facts) way(addr netip.Addr) bool {
	refused := false
	for _, v := range f.SMTP.Visits {
		if v.Unasked || !probe.SameFamily(addr, v.Address.Addr()) {
			continue
		}
		if v.Connected() {
			return true
		}
		refused = refused || v.End().Trouble == probe.Refused
	}
	for _, r := range f.SMTP.Rungs {
		if probe.SameFamily(addr, r.Addr) && r.open() {
			return true
		}
		refused = refused || probe.SameFamily(addr, r.Addr) && r.Trouble == probe.Refused
	}
	controls, open := 0, len(f.SMTP.Controls) == 0 && f.SMTP.ControlErr == nil
	for _, k := range f.SMTP.Controls {
		same := probe.SameFamily(addr, k.Addr)
		if same && k.Trouble == "" {
			return true
		}
		if same {
			controls++
		}
		open = open || k.Trouble == ""
	}
	return refused && controls == 0 && open
}

// smtpUnreachable is about connections alone: what a host says is its word, whatever it is.
func smtpUnreachable(f *Facts) []verdict {
	return needVisits(func(f *Facts, visits []Visit) (all []verdict) {
		for _, v := range visits {
			if one := f.connection(v, visits); one.status != "" {
				all = append(all, v.at(one))
			}
		}
		return append(all, f.leftOut()...)
	})(f)
}

func (f *Facts) connection(v Visit, visits []Visit) verdict {
	end := v.End()
	others := slices.ContainsFunc(visits, func(v Visit) bool { return v.Connected() })
	switch {
	case v.Connected() && (v.Listens() || end.Code/100 != 5 && !(end.Stage == mail.StageHello && end.Trouble != "")):
		return verdict{} // what else is wrong has other ids
	case v.Connected():
		// One place cannot tell whether it is so for everybody.
		return verdict{status: Unknown, blame: Nobody, detail: "it may be so for this host alone: " + clip(v.Because())}
	case f.sideOfEnd(v) != MXHost:
		return verdict{status: Unknown, blame: f.sideOfEnd(v), detail: clip(v.Because()), aside: others}
	}
	text, severity := fmt.Sprintf("%s at %s: %s", v.Host, v.Address, end.Error), f.reach(v, visits)
	if end.Trouble == probe.Unreachable { // its word may be about the way from here alone
		text, severity = text+", says a router on the way, which leads elsewhere", milder(severity, Error)
	}
	return fail(clip(text), addrQuestions(v.Host)...).as(severity).by(MXHost).mend("see that something listens there and that no filter is before it, or drop the address")
}

func milder(a, b Severity) Severity {
	if a.AtLeast(b) {
		return b
	}
	return a
}

// reach is how bad it is that one address does not answer.
func (f *Facts) reach(v Visit, visits []Visit) Severity {
	alike := func(same bool) bool {
		return slices.ContainsFunc(visits, func(other Visit) bool { return other.Connected() && (!same || other.Host == v.Host) })
	}
	sure := f.SMTP.Left == 0 && !slices.ContainsFunc(visits, func(other Visit) bool { return f.sideOfEnd(other) != MXHost })
	switch {
	case alike(true), len(f.MX.Records) == 0: // nobody has said that it takes mail: mx.implicit
		return Warning
	case alike(false), !sure:
		return Error
	}
	return Critical
}

// leftOut is what was not visited for the sake of the limits.
func (f *Facts) leftOut() []verdict {
	if f.SMTP.Left == 0 {
		return nil
	}
	return []verdict{{status: Unknown, blame: Nobody, detail: fmt.Sprintf("%d more addresses were not visited", f.SMTP.Left), aside: true}}
}

func bannerMissing(f *Facts, v Visit) []verdict {
	step, ok := v.At(mail.StageGreeting)
	switch {
	case !ok || step.Trouble == "" && step.Code/100 != 2:
		return nil // it says why not: smtp.temp-reject, or smtp.unreachable
	case step.Trouble == probe.Closed && !step.Mute() || step.Trouble == probe.Protocol || step.Trouble == "" && step.Code != 220:
		text := step.Error
		if text == "" {
			text = "it says " + step.Reply() + " in place of 220"
		}
		return []verdict{fail(clip(text)).by(MXHost).mend("let the mail server greet with 220 and its name")}
	case step.Trouble != "":
		// RFC 5321 §4.5.3.2.1: senders wait for five minutes.
		return []verdict{f.tooShort(v, false)}
	}
	return nil
}

func bannerMismatch(_ *Facts, v Visit) []verdict {
	step, _ := v.At(mail.StageGreeting)
	if step.Code != 220 || sameName(step.Calls(), v.Host) {
		return nil
	}
	return []verdict{fail(fmt.Sprintf("%s greets as %s; receivers do not mind", v.Host, quoted(clip(step.Calls())))).by(MXHost)}
}

func sameName(word string, host dns.Name) bool {
	name, err := dns.ParseName(word)
	return err == nil && name == host
}

func heloUnresolvable(f *Facts, v Visit) []verdict {
	said, ok := v.At(mail.StageHello)
	if !ok || said.Code != 250 {
		said, _ = v.At(mail.StageGreeting)
	}
	own := v.Own
	switch {
	case said.Code/100 != 2 || strings.HasPrefix(said.Calls(), "["):
		return nil // it gives no name, or its address (RFC 5321 §4.1.3)
	case own.Name.IsZero():
		return []verdict{fail(quoted(clip(said.Calls())) + " is no full host name").by(MXHost).mend("let the server call itself by the name of its address")}
	case len(own.addrs()) > 0:
		return nil
	case own.err() != nil:
		return []verdict{unknown(f, own.err(), MXHost, addrQuestions(own.Name)...)}
	}
	return []verdict{fail(own.Name.String()+" has no address", addrQuestions(own.Name)...).by(MXHost).mend("give it one, or let the server call itself by the name of its address")}
}

func heloPTR(f *Facts, v Visit) []verdict {
	if v.Own.Name.IsZero() {
		return nil // smtp.helo-unresolvable
	}
	for _, r := range f.Reverse {
		switch {
		case r.Addr != v.Address.Addr():
		case r.PTR.Err != nil:
			return []verdict{unknown(f, r.PTR.Err, ThirdParty, r.question())}
		case len(r.PTR.Records) > 0 && !slices.Contains(r.PTR.Records, v.Own.Name):
			return []verdict{fail(fmt.Sprintf("it says %s, and its address has the name %s", v.Own.Name, names(r.PTR.Records)), r.question()).by(MXHost).
				mend("if it sends mail too, give both the same name", Change{"replace", dns.ReverseName(r.Addr).FQDN() + " PTR " + v.Own.Name.FQDN()})}
		}
	}
	return nil
}

// enforced: senders that heed MTA-STS want a valid certificate.
func (f *Facts) enforced() bool {
	s := f.MTASTS
	return s != nil && s.RecordErr == nil && s.PolicyErr == nil && s.Fetched.Policy.Mode == mtasts.Enforce
}

// wanted is how bad it is when TLS or a certificate is not what MTA-STS wants.
func (f *Facts) wanted() Severity {
	if f.enforced() {
		return Error
	}
	return Warning
}

func starttlsMissing(f *Facts, v Visit) []verdict {
	fault := v.TLSFault()
	switch {
	case v.TLS != nil:
		return nil
	case fault == "" && v.OffersTLS():
		return []verdict{f.tooShort(v, false)}
	case fault == "" && v.Masked():
		return []verdict{{status: Unknown, blame: LocalNetwork, detail: "something on the way has put other characters over what the host says, and STARTTLS may have been below them"}}
	case fault == "":
		fault = "mail for it travels in plain text"
	case v.TLSLimit():
		return []verdict{{status: Unknown, blame: Nobody, detail: "mxward's own TLS may lack what the host wants: " + clip(fault)}}
	default:
		fault = "it is offered, and does not work: " + fault
	}
	step, _ := v.At(probe.StageTLS)
	if step.Trouble == probe.Stopped || step.Trouble == probe.TimedOut && step.TookMS < patientMS {
		return []verdict{f.tooShort(v, false)}
	}
	one := fail(clip(fault)).by(MXHost).as(f.wanted()).mend("give the server a certificate, and offer STARTTLS to everybody")
	dane := slices.ContainsFunc(f.hostsAt(v.Address.Addr()), func(name dns.Name) bool {
		r, ok := f.tlsa(name)
		return ok && r.Duty() != tlsa.Opportunistic
	})
	switch {
	case dane:
		one.severity, one.detail = Error, one.detail+"; its TLSA records say that there is TLS, so mail from senders with DANE waits"
	case f.enforced():
		one.detail += "; the MTA-STS policy wants TLS, so mail from senders that heed it waits"
	}
	return []verdict{one}
}

func tlsOld(_ *Facts, v Visit) []verdict {
	switch {
	case v.TLS.Old():
		return []verdict{fail("it chose " + v.TLS.Version + ", though it was offered TLS 1.3").by(MXHost).mend("let it speak TLS 1.2 and 1.3")}
	case v.TLS.Weak:
		return []verdict{fail("it chose the cipher suite " + v.TLS.Cipher).by(MXHost).mend("let it prefer suites with forward secrecy and AEAD")}
	}
	return nil
}

func certName(f *Facts, v Visit) []verdict {
	err := v.TLS.Name(v.Host)
	if err == nil {
		return nil
	}
	return []verdict{fail(fmt.Sprintf("%s: %s", v.Host, clip(err.Error()))).by(MXHost).as(f.wanted()).mend("get a certificate for the name that the MX record has")}
}

func certChain(f *Facts, v Visit) []verdict {
	switch v.TLS.Trust {
	case probe.Trusted:
		return nil
	case probe.NoRoots:
		return []verdict{{status: Unknown, blame: LocalNetwork, detail: "this host has no list of authorities"}}
	}
	return []verdict{fail(clip(v.TLS.TrustError)).by(MXHost).as(f.wanted()).mend("let the server send its certificate with all those between it and a public authority")}
}

func certExpired(f *Facts, v Visit) []verdict {
	err := v.TLS.Dates(v.Began)
	switch {
	case f.skew() != "":
		return []verdict{f.clockUnknown()}
	case err == nil:
		return nil
	}
	return []verdict{fail(err.Error()).by(MXHost).as(f.wanted()).mend("renew it, and let the server read the new one")}
}

func certExpiring(f *Facts, v Visit) []verdict {
	leaf := v.TLS.Leaf()
	switch {
	case f.skew() != "":
		return []verdict{f.clockUnknown()}
	case leaf == nil || v.TLS.Dates(v.Began) != nil:
		return nil // smtp.cert-expired
	}
	left, life := leaf.NotAfter.Sub(v.Began), leaf.NotAfter.Sub(leaf.NotBefore)
	if left > expiringWithin || left > life/4 {
		return nil
	}
	return []verdict{fail(fmt.Sprintf("it ends on %s, in %d days", leaf.NotAfter.UTC().Format(time.RFC3339), int(left.Hours()/24))).by(MXHost).mend("see why it was not renewed by now")}
}

func openRelay(_ *Facts, v Visit) []verdict {
	doubt := func(why string) []verdict {
		return []verdict{{status: Unknown, blame: Nobody, detail: why, aside: true}}
	}
	relays, known := v.Relays()
	step, _ := v.At(mail.StageRcpt)
	switch {
	case !known:
		return doubt("it did not say whether it would: " + clip(v.lastWord()))
	case !relays:
		return nil
	case v.Beside():
		return doubt("it takes mail for a stranger's domain from this host, which may be one that it relays for: it is beside it, or behind address translation that may be; ask from elsewhere")
	case v.Tarpit() != "":
		return doubt("it takes every recipient, and is slow on purpose, as traps are")
	}
	return []verdict{fail(fmt.Sprintf("from a stranger it took %s: %s; nothing was sent, so it may still refuse the message itself", strings.TrimPrefix(step.Said, "RCPT TO:"), clip(step.Reply()))).by(MXHost).
		mend("let it relay only for its own domains, and for who has logged in")}
}

// lastWord is what was said last before the session was brought to its end.
func (v Visit) lastWord() string {
	for _, step := range slices.Backward(v.Steps) {
		if step.Stage != mail.StageQuit && step.Stage != probe.StageReset {
			if step.Error != "" {
				return string(step.Stage) + ": " + step.Error
			}
			return string(step.Stage) + ": " + step.Reply()
		}
	}
	return "nothing was said"
}

func smtpTarpit(_ *Facts, v Visit) []verdict {
	if text := v.Tarpit(); text != "" {
		return []verdict{fail(text).by(MXHost)}
	}
	return nil
}

func tempReject(_ *Facts, v Visit) []verdict {
	step, grey, ok := v.Deferred()
	if !ok {
		return nil
	}
	how := "it says at " + string(step.Stage)
	if grey {
		how = "greylisting: " + how
	}
	return []verdict{fail(clip(how + ": " + step.Reply())).by(MXHost)}
}

func smtpSlow(_ *Facts, v Visit) []verdict {
	step, slow := v.Slow()
	if !slow {
		return nil
	}
	text := fmt.Sprintf("%s took %.0f s", step.Stage, step.TookMS/1000)
	if step.Trouble == probe.TimedOut {
		text = fmt.Sprintf("nothing came at %s for %.0f s, when we gave up", step.Stage, step.TookMS/1000)
	}
	return []verdict{fail(text).by(MXHost).mend("see what it waits for: often its own DNS questions about the client")}
}

// port25Blocked: where no MX host of the domain took a connection, hosts elsewhere are knocked at
// that are known to. If none of them can be reached either, while the DNS that named them works,
// then nothing leaves this network for port 25.
func port25Blocked(f *Facts) []verdict {
	s := f.SMTP
	if s == nil {
		return []verdict{unknown(f, errNotVisited, LocalNetwork)}
	}
	reached := func(v Visit) bool { return v.Connected() }
	open := slices.ContainsFunc(s.Controls, func(k Knock) bool { return k.Trouble == "" })
	tried := slices.DeleteFunc(slices.Clone(s.Controls), func(k Knock) bool {
		return k.Addr.Is6() && (k.Trouble == probe.NoWay || k.Trouble == probe.Unreachable)
	})
	switch visited := len(s.Rungs) > 0 || slices.ContainsFunc(s.Visits, func(v Visit) bool { return !v.Unasked }); {
	case !visited && f.hostTrouble() != nil:
		return f.hostTrouble()
	case !visited:
		return na("nobody was visited")
	case open || slices.ContainsFunc(s.Visits, reached) || slices.ContainsFunc(s.Rungs, Rung.open):
		return nil
	case slices.ContainsFunc(tried, func(k Knock) bool { return k.Trouble == probe.Stopped }):
		return []verdict{{status: Unknown, blame: Nobody, detail: "we stopped before it was known"}}
	case len(tried) >= enoughControls:
		return []verdict{fail(fmt.Sprintf("nobody can be reached at port 25, neither the MX hosts nor %d hosts elsewhere: %s", len(tried), clip(tried[0].Error))).by(LocalNetwork).
			mend("ask from another network, or leave out the mail servers (--no-smtp)")}
	case s.ControlErr != nil:
		return []verdict{unknown(f, s.ControlErr, ThirdParty)}
	}
	return []verdict{{status: Unknown, blame: LocalNetwork, detail: "no MX host took a connection, and there was nobody to compare with"}}
}
