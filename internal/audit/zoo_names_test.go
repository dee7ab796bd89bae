package audit

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"syscall"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// noPrograms is what fails besides for a name without anything for mail programs.
const noPrograms = " autoconf.autoconfig-missing autoconf.autodiscover-missing autoconf.srv-missing"

// aliased makes a name an alias for who asks for this type.
func aliased(name string, t dns.Type, target string) func(dns.Question, *dns.Answer) {
	return func(q dns.Question, a *dns.Answer) {
		if q.Type == t && q.Name == dns.MustName(name) {
			*a = dns.Answer{Authoritative: true, Answer: []dns.RR{rr(name + " 300 CNAME " + target + ".")}}
		}
	}
}

func zoneZoo() []animal {
	mx := []string{"@ MX"}
	long := strings.Repeat("@ TXT \"service-proof="+strings.Repeat("x", 200)+"%d\"\n", 1)
	var many strings.Builder
	for i := range 6 {
		fmt.Fprintf(&many, long, i)
	}
	return []animal{
		{why: "an alias at the apex", turn: aliased("example.com", dns.TypeA, "mx1.example.com"), fails: "zone.cname-at-apex", anyMore: true, blamed: "zone.cname-at-apex@zone@example.com"},
		{why: "a name inside a zone may be an alias", domain: "news.example.com", add: "news CNAME example.com.\n_dmarc.news TXT \"v=DMARC1; p=reject\"\n", anyMore: true},
		{why: "an alias beside other records", turn: aliased("mx1.example.com", dns.TypeAAAA, "mx2.example.com"), fails: "zone.cname-coexistence mx.cname mx.no-ipv6", anyMore: true, blamed: "zone.cname-coexistence@zone@mx1.example.com"},
		{why: "a wildcard with MX records", add: "* MX 10 mx1\n", fails: "zone.wildcard-mail", blamed: "zone.wildcard-mail@zone@example.com"},
		{why: "a wildcard with an address", add: "* A 192.0.2.25\n", fails: "zone.wildcard-mail"},
		{why: "a wildcard with a null MX", add: "* MX 0 .\n* A 192.0.2.25\n"},
		{why: "a wildcard of other things", add: "* TXT \"x\"\n", anyMore: true},
		{why: "an alias to a name that is gone", add: "mail CNAME old.example.net.\n", net: "ns.example A 192.0.2.3\n", fails: "zone.dangling-cname", blamed: "zone.dangling-cname@zone@mail.example.com"},
		{why: "an alias into a domain that anybody can register", add: "mail CNAME old.gone.net.\n", fails: "zone.dangling-cname"},
		{why: "an alias to a name without addresses", add: "mail CNAME text\ntext TXT \"x\"\n", fails: "zone.dangling-cname"},
		{why: "an alias that leads somewhere", add: "mail CNAME mx1\n"},
		{why: "an alias whose servers are silent", add: "mail CNAME mail.lost.com.\n", com: "lost NS ns.lost\nns.lost A 192.0.2.99\n", hosts: map[string]dnstest.Behaviour{"192.0.2.99": dnstest.Silent}, unknown: "zone.dangling-cname@third-party"},
		{why: "MX records of a minute", drop: mx, add: "@ 60 MX 10 mx1\n@ 60 MX 20 mx2\n", fails: "zone.ttl-low"},
		{why: "MX records of ten days", drop: mx, add: "@ 864000 MX 10 mx1\n@ 864000 MX 20 mx2\n", fails: "zone.ttl-high"},
		{why: "many proofs of ownership", add: many.String(), fails: "zone.txt-oversize"},
	}
}

// certOf makes servers that all have one certificate, and shake hands.
func certOf(name string, ends time.Duration) *CertLook {
	return &CertLook{Dial: func(context.Context, string, string) (net.Conn, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(ends)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			return nil, err
		}
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			shake := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
			if shake.Handshake() == nil {
				_, _ = io.Copy(io.Discard, shake)
			}
		}()
		return client, nil
	}}
}

func autoconfZoo() []animal {
	srv := func(why, lines, fails string) animal {
		return animal{why: why, drop: []string{"_imaps._tcp"}, add: lines, fails: fails}
	}
	cert := func(why string, c *CertLook, fails string) animal { return animal{why: why, certs: c, fails: fails} }
	const imap = "_imaps._tcp SRV 0 1 993 "
	refuses := &CertLook{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, io.ErrUnexpectedEOF }}
	closed := cert("a server that hangs up", refuses, "")
	closed.unknown = "autoconf.srv-cert@mx-host@mx1.example.com:993"
	unreached := cert("no way to the server", &CertLook{Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ENETUNREACH}
	}}, "")
	unreached.unknown = "autoconf.srv-cert@local-network@mx1.example.com:993"
	return []animal{
		srv("no SRV records", "", "autoconf.srv-missing"),
		srv("a service that is not offered", "_imap._tcp SRV 0 0 0 .\n", ""),
		srv("a service that is not offered, and is", imap+"mx1\n_imaps._tcp SRV 0 0 0 .\n", "autoconf.srv-target"),
		srv("an SRV record that names an alias", imap+"imap\nimap CNAME mx1\n", "autoconf.srv-target"),
		srv("an SRV record that names nothing", imap+"nosuch\n", "autoconf.srv-target"),
		srv("an SRV record that names a host without an address", imap+"text\ntext TXT \"x\"\n", "autoconf.srv-target"),
		{why: "no autoconfig", drop: []string{"autoconfig"}, fails: "autoconf.autoconfig-missing"},
		{why: "no autodiscover", drop: []string{"autodiscover"}, fails: "autoconf.autodiscover-missing"},
		{why: "autodiscover by SRV", drop: []string{"autodiscover"}, add: "_autodiscover._tcp SRV 0 0 443 mx1\n"},
		{why: "a domain without mailboxes needs none of it", drop: []string{"@ MX", "@ TXT", "_imaps._tcp", "autoconfig", "autodiscover"}, add: "@ MX 0 .\n@ TXT \"v=spf1 -all\"\n", fails: "mx.null dmarc.rua-no-mail", gone: "mtasts.txt-missing"},
		{why: "the servers fail at the SRV records", drop: []string{"_imaps._tcp"}, turn: failing(dns.TypeSRV, "_pop3._tcp.example.com"), unknown: "autoconf.srv-missing@zone-ns"},
		cert("a certificate of the host", certOf("mx1.example.com", time.Hour), ""),
		cert("a certificate of the domain", certOf("example.com", time.Hour), ""),
		cert("a certificate of another", certOf("mx1.example.net", time.Hour), "autoconf.srv-cert"),
		cert("a certificate that has ended", certOf("mx1.example.com", -time.Hour), "autoconf.srv-cert"),
		closed, unreached,
	}
}

func acmeZoo() []animal {
	lost := map[string]dnstest.Behaviour{"192.0.2.99": dnstest.Lame}
	return []animal{
		{why: "a challenge that was left behind", add: "_acme-challenge TXT \"proof\"\n", fails: "acme.stale-challenge", blamed: "acme.stale-challenge@zone@_acme-challenge.example.com"},
		{why: "challenges of an MX host", add: "_acme-challenge.mx1 TXT \"one\"\n_acme-challenge.mx1 TXT \"two\"\n", fails: "acme.stale-challenge", blamed: "acme.stale-challenge@zone@_acme-challenge.mx1.example.com"},
		{why: "a challenge of the policy host", add: "_acme-challenge.mta-sts TXT \"one\"\n", fails: "acme.stale-challenge"},
		{why: "an alias to a server that keeps old values", add: "_acme-challenge CNAME id.acme.example.net.\n", net: "id.acme.example TXT \"old\"\n"},
		{why: "an alias to a name that is there only when needed", add: "_acme-challenge CNAME id.acme.example.net.\n", net: "ns.example A 192.0.2.3\n"},
		{why: "an alias into a domain that nobody has", add: "_acme-challenge CNAME id.gone.net.\n", fails: "acme.delegation-dangling", blamed: "acme.delegation-dangling@zone@_acme-challenge.example.com"},
		{why: "a delegation to a server that does not serve it", add: "_acme-challenge NS acme\nacme A 192.0.2.99\n", hosts: lost, fails: "acme.delegation-dangling", blamed: "acme.delegation-dangling@zone-ns@_acme-challenge.example.com"},
		{why: "a delegation to a server that is silent", add: "_acme-challenge NS acme\nacme A 192.0.2.99\n", hosts: map[string]dnstest.Behaviour{"192.0.2.99": dnstest.Silent}, unknown: "acme.delegation-dangling@zone-ns"},
	}
}
