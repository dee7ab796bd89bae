package audit

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"mxward/internal/dns"
)

// The limits of what is asked for the sake of mail programs; ours. What a server sends in a
// handshake is bounded by crypto/tls.
const (
	maxTargets  = 10 // hosts that SRV records name
	maxCerts    = 6  // of them, those whose certificates are looked at
	maxCertAddr = 2  // addresses of one that are tried
	certTimeout = 10 * time.Second
)

// Programs is what a domain tells mail programs (RFC 6186, RFC 8314 §5).
type Programs struct {
	Asked        bool // the domain has hosts that take mail
	Services     []Service
	Autodiscover Service
	Targets      []Host
	Certs        []Cert
	CertsAsked   bool
	Pages        []Page // where the file of autoconfig may be; none where nobody was to look
}

// Service is the SRV records of one service.
type Service struct {
	Label string // _imaps
	Name  dns.Name
	Fact[dns.SRV]
}

// question is the one that was asked for it.
func (s Service) question() dns.Question { return dns.Question{Name: s.Name, Type: dns.TypeSRV} }

// there reports whether the records name a server.
func (s Service) there() bool {
	return slices.ContainsFunc(s.Records, func(r dns.SRV) bool { return r.Target != dns.Root })
}

// Cert is the certificate of a server that an SRV record names.
type Cert struct {
	Service string
	Target  dns.Name
	Port    uint16
	Addr    netip.Addr
	Leaf    *x509.Certificate
	Err     error
}

// services are those of mail; whether they begin with TLS.
func services() map[string]bool {
	return map[string]bool{"_submissions": true, "_submission": false, "_imaps": true, "_imap": false, "_pop3s": true, "_pop3": false}
}

// CertLook gets certificates.
type CertLook struct {
	Dial func(ctx context.Context, network, address string) (net.Conn, error) // nil: the network's
}

// programs asks for the SRV records of the services that people use to read and send mail.
func (g *gatherer) programs(ctx context.Context) {
	f := g.facts
	if len(f.Hosts) == 0 {
		return
	}
	p := &f.Programs
	p.Asked = true
	for _, label := range []string{"_submissions", "_submission", "_imaps", "_imap", "_pop3s", "_pop3"} {
		p.Services = append(p.Services, Service{Label: label})
	}
	do := []func(context.Context){func(ctx context.Context) { p.Autodiscover = g.service(ctx, "_autodiscover") }}
	for i, s := range p.Services {
		do = append(do, func(ctx context.Context) { p.Services[i] = g.service(ctx, s.Label) })
	}
	g.all(ctx, do...)
	for _, s := range p.Services {
		for _, r := range s.Records {
			known := slices.ContainsFunc(p.Targets, func(h Host) bool { return h.Name == r.Target })
			if r.Target != dns.Root && !known && len(p.Targets) < maxTargets {
				p.Targets = append(p.Targets, Host{Name: r.Target})
			}
		}
	}
	do = nil
	for i, h := range p.Targets {
		do = append(do, func(ctx context.Context) { p.Targets[i] = g.host(ctx, dns.MX{Host: h.Name}) })
	}
	g.all(ctx, do...)
	g.certs(ctx)
}

func (g *gatherer) service(ctx context.Context, label string) Service {
	s := Service{Label: label}
	name, err := dns.ParseName(label + "._tcp." + g.facts.Domain.FQDN())
	if err != nil {
		return s // a name that cannot be has no records
	}
	s.Name = name
	s.Fact = fact(dns.LookupSRV(ctx, g.rec, name))
	return s
}

// certs gets the certificates of the servers where TLS comes first.
func (g *gatherer) certs(ctx context.Context) {
	p := &g.facts.Programs
	if g.Certs == nil {
		return
	}
	p.CertsAsked = true
	for _, s := range p.Services {
		for _, r := range s.Records {
			known := slices.ContainsFunc(p.Certs, func(c Cert) bool { return c.Target == r.Target && c.Port == r.Port })
			if services()[s.Label] && r.Target != dns.Root && !known && len(p.Certs) < maxCerts {
				p.Certs = append(p.Certs, Cert{Service: s.Label, Target: r.Target, Port: r.Port})
			}
		}
	}
	do := make([]func(context.Context), len(p.Certs))
	for i := range p.Certs {
		do[i] = func(ctx context.Context) { g.cert(ctx, &p.Certs[i]) }
	}
	g.all(ctx, do...)
}

// errNoWay stands for a server without an address that can be reached from here.
var errNoWay = errors.New("it has no address to connect to")

func (g *gatherer) cert(ctx context.Context, c *Cert) {
	var first error // over IPv4, where there is such an address
	tried := 0
	for _, h := range g.facts.Programs.Targets {
		for _, addr := range h.addrs() {
			if h.Name != c.Target || !g.allowed(addr) || tried == maxCertAddr {
				continue
			}
			tried++
			c.Addr = addr
			if c.Leaf, c.Err = g.Certs.Leaf(ctx, netip.AddrPortFrom(addr, c.Port), c.Target); c.Err == nil {
				return
			}
			first = cmp.Or(first, c.Err)
		}
	}
	c.Err = cmp.Or(first, errNoWay)
}

// Leaf shakes hands with a server and gives its certificate, whatever it is.
func (c *CertLook) Leaf(ctx context.Context, at netip.AddrPort, name dns.Name) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, certTimeout)
	defer cancel()
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("connect to %s (%s): %w", name, at, err)
	}
	defer conn.Close()
	// It is judged afterwards, for more than one name: nothing is said or believed here.
	shake := tls.Client(conn, &tls.Config{ServerName: name.String(), InsecureSkipVerify: true})
	if err := shake.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("speak TLS with %s (%s): %w", name, at, err)
	}
	certs := shake.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return nil, fmt.Errorf("speak TLS with %s (%s): it has no certificate", name, at)
	}
	return certs[0], nil
}
