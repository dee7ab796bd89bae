package audit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"mxward/internal/dns"
)

func autoconfChecks() []Check {
	return []Check{
		{"autoconf.srv-missing", "mail programs find no servers", Info, []string{"RFC 6186 §3", "RFC 8314 §5.1"}, needPrograms(srvMissing)},
		{"autoconf.srv-target", "an SRV record leads nowhere", Warning, []string{"RFC 2782", "RFC 6186 §3.4"}, needServices(srvTarget)},
		{"autoconf.srv-cert", "the certificate of a server for mail programs does not fit", Warning, []string{"RFC 6186 §6", "RFC 8314 §5.1"}, needServices(srvCert)},
		{"autoconf.autoconfig-missing", "there is no autoconfig", Info, []string{"draft-ietf-mailmaint-autoconfig"}, needPrograms(autoconfigMissing)},
		{"autoconf.autodiscover-missing", "there is no autodiscover", Info, []string{"MS-OXDISCO"}, needPrograms(autodiscoverMissing)},
	}
}

// needPrograms: the domain has mailboxes.
func needPrograms(judge func(*Facts) []verdict) func(*Facts) []verdict {
	return needMX(func(f *Facts, records []dns.MX) []verdict {
		if !f.Programs.Asked {
			return na("no host takes mail for the domain")
		}
		return judge(f)
	})
}

// needServices: there are SRV records for mail programs.
func needServices(judge func(*Facts) []verdict) func(*Facts) []verdict {
	return needPrograms(func(f *Facts) []verdict {
		for _, s := range f.Programs.Services {
			if len(s.Records) > 0 {
				return judge(f)
			}
		}
		if asked, err := f.Programs.trouble(); err != nil {
			return []verdict{unknown(f, err, ZoneServers, asked)}
		}
		return na("there are no SRV records for mail programs")
	})
}

// trouble gives the first service that could not be asked for.
func (p Programs) trouble() (dns.Question, error) {
	for _, s := range p.Services {
		if s.Err != nil {
			return s.question(), s.Err
		}
	}
	return dns.Question{}, nil
}

func srvMissing(f *Facts) []verdict {
	var asked []dns.Question
	for _, s := range f.Programs.Services {
		if len(s.Records) > 0 { // also one that says that there is none
			return nil
		}
		asked = append(asked, s.question())
	}
	if asked, err := f.Programs.trouble(); err != nil {
		return []verdict{unknown(f, err, ZoneServers, asked)}
	}
	return []verdict{fail("people have to type in the names of their servers", asked...).
		mend("name the servers, such as _imaps._tcp and _submissions._tcp, by SRV records with the ports 993 and 465")}
}

func srvTarget(f *Facts) []verdict {
	var all []verdict
	for _, s := range f.Programs.Services {
		for _, r := range s.Records {
			if v, bad := f.srvTarget(s, r); bad {
				all = append(all, v)
			}
		}
	}
	return all
}

func (f *Facts) srvTarget(s Service, r dns.SRV) (verdict, bool) {
	at, line := s.Name.String(), fmt.Sprintf("%s SRV %d %d %d %s", s.Name.FQDN(), r.Priority, r.Weight, r.Port, r.Target.FQDN())
	if r.Target == dns.Root {
		return fail("a record that there is no such service stands beside others", s.question()).at(at).mend("drop it", Change{"delete", line}), len(s.Records) > 1
	}
	i := slices.IndexFunc(f.Programs.Targets, func(h Host) bool { return h.Name == r.Target })
	if i < 0 {
		return verdict{status: Skipped, detail: fmt.Sprintf("%s was not looked at: no more than %d are", r.Target, maxTargets)}.at(at), true
	}
	h := f.Programs.Targets[i]
	asked := append(addrQuestions(h.Name), s.question())
	switch {
	case len(h.A.Aliases)+len(h.AAAA.Aliases) > 0:
		return fail(fmt.Sprintf("%s is an alias of %s, and must be a host itself", h.Name, canonical(h)), asked...).at(at).
			mend("name the host itself", Change{"replace", strings.TrimSuffix(line, r.Target.FQDN()) + canonical(h).FQDN()}), true
	case len(h.addrs()) > 0:
		return verdict{}, false
	case h.err() != nil:
		return unknown(f, h.err(), f.sideOf(h.Name), asked...).at(at), true
	case !h.A.Exists && !h.AAAA.Exists:
		return fail(fmt.Sprintf("%s does not exist", h.Name), asked...).at(at).mend("correct the name, or drop the record", Change{"delete", line}), true
	}
	return fail(fmt.Sprintf("%s has no address", h.Name), asked...).at(at).mend("give it an A or AAAA record"), true
}

// srvCert: the certificate has the name of the server, or that of the domain, which is what
// programs know for certain (RFC 6186 §6).
func srvCert(f *Facts) []verdict {
	if !f.Programs.CertsAsked {
		return []verdict{{status: Skipped, detail: "no server for mail programs is connected to"}}
	}
	if len(f.Programs.Certs) == 0 {
		return na("no SRV record is for a service that begins with TLS")
	}
	var all []verdict
	for _, c := range f.Programs.Certs {
		if v, bad := f.srvCert(c); bad {
			all = append(all, v)
		}
	}
	return all
}

func (f *Facts) srvCert(c Cert) (verdict, bool) {
	at := fmt.Sprintf("%s:%d", c.Target, c.Port)
	asked := addrQuestions(c.Target)
	switch {
	case errors.Is(c.Err, errNoWay):
		return unknown(f, c.Err, f.sideOf(c.Target), asked...).at(at), true
	case c.Err != nil:
		return unknown(f, c.Err, f.sideOfConn(c.Err), asked...).at(at), true
	case c.Leaf.VerifyHostname(c.Target.String()) != nil && c.Leaf.VerifyHostname(f.Domain.String()) != nil:
		return fail(fmt.Sprintf("its certificate is for %s, and neither for it nor for %s", clipTo(quoted(strings.Join(c.Leaf.DNSNames, " ")), 200), f.Domain), asked...).
			at(at).by(MXHost).mend("get a certificate with the name that the SRV record has"), true
	case f.skew() != "":
		return f.clockUnknown(asked...).at(at), true
	case f.When.After(c.Leaf.NotAfter):
		return fail("its certificate has ended on "+c.Leaf.NotAfter.UTC().Format("2006-01-02"), asked...).at(at).by(MXHost).mend("renew it"), true
	case f.When.Before(c.Leaf.NotBefore):
		return fail("its certificate begins on "+c.Leaf.NotBefore.UTC().Format("2006-01-02"), asked...).at(at).by(MXHost).mend("see that the clocks are right"), true
	}
	return verdict{}, false
}

// sideOfConn says on whose side it lies that a server could not be spoken with. Whether silence is
// the server's, or of something on the way, cannot be told; that a router says that the host is not
// there is the host's, unless our own network leads to nobody.
func (f *Facts) sideOfConn(err error) Blame {
	var slow interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EHOSTUNREACH) && !f.outsideHeard():
		return LocalNetwork
	case errors.As(err, &slow) && slow.Timeout():
		return Nobody
	}
	return MXHost
}

// well gives what stands at a label below the domain.
func (n Names) well(label string) Alias {
	if i := slices.Index(wellNames(), label); i < len(n.Well) {
		return n.Well[i]
	}
	return Alias{}
}

// leads reports whether a name has an address.
func (a Alias) leads() bool { return len(a.addrs()) > 0 }

func (a Alias) questions() []dns.Question { return addrQuestions(a.Name) }

func autoconfigMissing(f *Facts) []verdict {
	a := f.Names.well("autoconfig")
	switch {
	case len(f.Programs.Pages) > 0:
		return autoconfigServed(f)
	case a.leads():
		return nil
	case a.err() != nil:
		return []verdict{unknown(f, a.err(), ZoneServers, a.questions()...)}
	}
	return []verdict{fail("autoconfig."+f.Domain.String()+" has no address, and only /.well-known/autoconfig/mail/config-v1.1.xml on the domain's own web server would do instead, which was not looked at", a.questions()...).
		mend("serve config-v1.1.xml there; SRV records do as well for newer programs")}
}

func autodiscoverMissing(f *Facts) []verdict {
	a, srv := f.Names.well("autodiscover"), f.Programs.Autodiscover
	asked := append(a.questions(), srv.question())
	switch {
	case a.leads(), srv.there():
		return nil
	case a.err() != nil:
		return []verdict{unknown(f, a.err(), ZoneServers, asked...)}
	case srv.Err != nil:
		return []verdict{unknown(f, srv.Err, ZoneServers, asked...)}
	}
	return []verdict{fail("Outlook asks autodiscover."+f.Domain.String()+" and _autodiscover._tcp, and finds nothing", asked...).mend("if people use Outlook, give that name an address, or publish the SRV record")}
}
