package audit

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/blocklist"
	"mxward/internal/dns/dnssec"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/resolver"
	"mxward/internal/dns/zone"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/probe"
	"mxward/internal/probe/probetest"
	"mxward/internal/site"
)

// The places of the zoo's small internet.
const (
	rootAt     = "192.0.2.1"
	comAt      = "192.0.2.2"
	netAt      = "192.0.2.3"
	ns1At      = "192.0.2.53"
	ns2At      = "198.51.100.53"
	resolverAt = "203.0.113.53"
	plainAt    = "203.0.113.7"
)

const zooRoot = `
$TTL 86400
@    SOA ns.root.example. hostmaster.root.example. 1 14400 3600 604800 3600
@    NS  ns.root.example.
ns.root.example. A 192.0.2.1
com. NS  ns.com.
net. NS  ns.net.
in-addr.arpa. NS ns.net.
ip6.arpa. NS ns.net.
ns.com. A 192.0.2.2
ns.net. A 192.0.2.3
`

const zooTop = "$TTL 86400\n@ SOA ns hostmaster.example.net. 1 14400 3600 604800 3600\n@ NS ns\n"

// zooDelegation is how com delegates example.com where a case does not say otherwise.
const zooDelegation = `
example     NS ns1.example
example     NS ns2.example
ns1.example A  192.0.2.53
ns2.example A  198.51.100.53
`

// zooZone is a zone without fault.
const zooZone = `
@     SOA ns1 hostmaster 1 14400 3600 604800 3600
@     NS  ns1
@     NS  ns2
ns1   A   192.0.2.53
ns2   A   198.51.100.53
@     MX  10 mx1
@     MX  20 mx2
mx1   A   192.0.2.25
mx1   AAAA 2001:db8::25
mx2   A   198.51.100.25
mx1   TXT "v=spf1 a -all"
mx2   TXT "v=spf1 a -all"
@     TXT "v=spf1 mx -all"
_dmarc TXT "v=DMARC1; p=reject; rua=mailto:dmarc@example.com"
_smtp._tls TXT "v=TLSRPTv1; rua=mailto:tls@example.com"
default._bimi TXT "v=BIMI1; l=https://example.com/logo.svg; a=https://example.com/logo.pem"
@     CAA 0 issue "ca.example.net"
s1._domainkey TXT "v=DKIM1; k=ed25519; p=gJqa580Xk5Zevw/xdKKftoCJ8VIhv2xckvLH7XmqGiY="
_imaps._tcp SRV 0 1 993 mx1
autoconfig A 203.0.113.80
autodiscover A 203.0.113.80
`

const zooPTR = `
25.2.0.192      PTR mx1.example.com.
25.100.51.198   PTR mx2.example.com.
`

const zooPTR6 = "5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 300 PTR mx1.example.com.\n"

// animal is one domain of the zoo, by what makes it differ from one without fault.
type animal struct {
	why  string
	drop []string // lines of the zone that begin so are left out
	add  string   // lines that come in

	delegation   string // "" is zooDelegation
	com, net     string // more lines of these
	arpa         string // "" is zooPTR
	second       string // lines by which the second server's zone differs
	turn         func(q dns.Question, a *dns.Answer)
	hosts        map[string]dnstest.Behaviour // of the servers there
	open         bool                         // the first server offers recursion
	six          bool                         // the second server answers at 2001:db8::53 too
	alone        bool                         // nobody but the resolver can be reached
	rtt          time.Duration                // of each server
	dark         bool                         // this host has no network
	astray       string                       // routers know no host there; * is everywhere
	alsoAt       string                       // and there
	noTCP        string                       // this one takes no TCP
	slow         time.Duration                // of the resolver
	secondDrop   string
	anyMore      bool // other ids may fail too, but not these
	passes       string
	signed       *zone.Signing // with keys of the zoo's own
	lasts        time.Duration // of the zone's signatures from now
	strips       bool          // the resolver takes signatures away
	credulous    bool          // it validates nothing
	oldAlgorithm bool
	oldSignature bool // by such a key
	noDS         bool
	ds           string
	selectors    []string
	profile      Profile // "" is Mail
	plan         string  // a site's plan
	planKey      *dkim.Key
	keyAge       time.Duration // since its file was written; 0: nobody knows
	message      string
	policy       http.Handler      // the web server of MTA-STS
	web          map[string]string // what is served for mail programs, by URL; nil: nobody looks
	noWeb        error             // why it cannot be connected to
	badCert      bool
	issuer       string       // of its certificate
	forward      dns.Resolver // the resolver is this one, behind an address
	forwardHow   dnstest.Behaviour
	forwarded    bool
	lists        []blocklist.List
	certs        CertSource
	plain        string            // the zone plain.com, which is never signed
	domain       string            // "" is example.com
	asker        func(Asker) Asker // what stands between us and servers
	bogus        string            // a name whose signatures are wrong
	senders      []string
	origins      bool                                               // origin.example.net and origin6.example.net know networks
	registered   time.Duration                                      // how long the registration lasts from now
	registry     error                                              // what it says instead
	between      func(dns.Resolver) dns.Resolver                    // what it makes of answers
	refuses      string                                             // what the resolver says SERVFAIL to
	rootLasts    time.Duration                                      // of the root's signatures from now
	smtp         func(*probetest.Authority) probetest.Net           // the MX hosts, where they are visited
	tlsa         func(ca *x509.Certificate, n probetest.Net) string // more lines, by their certificates
	controls     string                                             // domains

	// fails are the ids that fail, besides those of any domain here (usual); gone are those
	// of the usual that do not.
	fails, gone string
	// unknown are ids with the blame: "spf.missing@zone-ns". Others may be unknown too.
	unknown string
	// blamed are fails with the blame and the target: "deleg.lame@zone-ns@192.0.2.53".
	blamed string
}

// usual is what fails in the zoo where nothing is wrong: nobody signs, and MTA-STS is a matter
// of cases of its own.
const usual = "dnssec.insecure mtasts.txt-missing"

// audit gathers the facts of an animal and judges them.
func (a animal) audit(t *testing.T) (facts *Facts, findings []Finding) {
	if a.policy != nil { // the web server has a socket: no bubble
		return a.visit(t)
	}
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		facts, findings = a.visit(t)
	})
	return facts, findings
}

func (a animal) visit(t *testing.T) (*Facts, []Finding) {
	t.Helper()
	domain := "example.com"
	if a.domain != "" {
		domain = a.domain
	}
	auditor := a.world(t)
	facts := auditor.Gather(t.Context(), dns.MustName(domain))
	return facts, Judge(facts, cmp.Or(a.profile, Mail).Checks())
}

// world puts the servers at their places.
func (a animal) world(t *testing.T) *Auditor {
	t.Helper()
	return a.worldOn(t, new(dnstest.Net))
}

func (a animal) worldOn(t *testing.T, n *dnstest.Net) *Auditor {
	t.Helper()
	ca := probetest.NewAuthority(t)
	var mailNet probetest.Net
	if a.smtp != nil {
		mailNet = a.smtp(ca)
	}
	if a.tlsa != nil {
		a.add += a.tlsa(ca.Cert(), mailNet)
	}
	key := func(seed uint64) *zone.Key {
		k, err := zone.SeededKey(zone.ECDSAP256SHA256, seed)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	sign := func(z *zone.Zone, how zone.Signing) *zone.Zone {
		if a.signed == nil {
			return z
		}
		signed, err := z.Sign(how)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	rootKey, comKey, zoneKey := key(1), key(2), key(3)
	rootText, comText := zooRoot, zooTop+"ns A 192.0.2.2\n"
	if a.delegation == "" {
		a.delegation = zooDelegation
	}
	comText += a.delegation + a.com
	if a.signed != nil {
		rootText += comKey.DS(dns.MustName("com"), 3600).String() + "\n"
		switch {
		case a.ds != "":
			comText += a.ds
		case !a.noDS:
			comText += zoneKey.DS(dns.MustName("example.com"), 3600).String() + "\n"
		}
	}
	put := func(at string, r dns.Resolver) {
		n.Set(at, dnstest.Host{Resolver: r, Behaviour: a.hosts[at], Recursion: a.open && at == ns1At, Delay: a.rtt})
	}
	if a.plain != "" {
		comText += "plain NS ns1.plain\nns1.plain A " + plainAt + "\n"
		n.Serve(plainAt, dnstest.Zone(t, "plain.com", a.plain))
	}
	put(rootAt, sign(dnstest.Zone(t, ".", rootText), a.rooted(rootKey)))
	put(comAt, sign(dnstest.Zone(t, "com", comText), zone.Signing{Keys: []*zone.Key{comKey}}))
	arpa := a.arpa
	if arpa == "" {
		arpa = zooPTR
	}
	put(netAt, &dns.Mux{Zones: map[dns.Name]dns.Resolver{
		dns.MustName("net"):          dnstest.Zone(t, "net", zooTop+"ns A 192.0.2.3\n"+a.net),
		dns.MustName("in-addr.arpa"): dnstest.Zone(t, "in-addr.arpa", "$TTL 300\n@ SOA ns.net. hostmaster.example.net. 1 14400 3600 604800 3600\n@ NS ns.net.\n"+arpa),
		dns.MustName("ip6.arpa"):     dnstest.Zone(t, "ip6.arpa", "$TTL 300\n@ SOA ns.net. hostmaster.example.net. 1 14400 3600 604800 3600\n@ NS ns.net.\n"+zooPTR6),
	}})
	zoneText := func(more, less string) string {
		text := "$TTL 3600\n"
		for line := range strings.Lines(zooZone) {
			if less != "" && strings.HasPrefix(strings.Join(strings.Fields(line), " "), less) {
				continue
			}
			if !slices.ContainsFunc(a.drop, func(p string) bool { return strings.HasPrefix(strings.Join(strings.Fields(line), " "), p) }) {
				text += line
			}
		}
		return text + a.add + more
	}
	how := zone.Signing{Keys: []*zone.Key{zoneKey}}
	if a.signed != nil {
		how.NSEC3 = a.signed.NSEC3
	}
	if a.signed != nil && len(a.signed.Keys) > 0 {
		how.Keys = a.signed.Keys
	}
	if a.lasts != 0 {
		how.Inception, how.Expiration = time.Now().Add(-48*time.Hour), time.Now().Add(a.lasts)
	}
	one, two := sign(dnstest.Zone(t, "example.com", zoneText("", "")), how), sign(dnstest.Zone(t, "example.com", zoneText(a.second, a.secondDrop)), how)
	put(ns1At, a.turned(one))
	put(ns2At, a.turned(two))
	if a.six {
		put("2001:db8::53", a.turned(two))
	}
	if a.alsoAt != "" {
		put(a.alsoAt, a.turned(two))
	}
	for at, how := range a.hosts {
		if !slices.Contains([]string{rootAt, comAt, netAt, ns1At, ns2At}, at) {
			n.Set(at, dnstest.Host{Behaviour: how})
		}
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == "tcp" && a.noTCP != "" && address == a.noTCP+":53" {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		if a.dark || a.alone && !strings.HasPrefix(address, resolverAt) {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ENETUNREACH}
		}
		if a.astray == "*" || a.astray != "" && strings.HasPrefix(address, a.astray+":") {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.EHOSTUNREACH}
		}
		return n.Dial(ctx, network, address)
	}

	own := func() *resolver.Resolver {
		r := &resolver.Resolver{
			Hints: []resolver.Hint{{Name: dns.MustName("ns.root.example"), Addr: netip.MustParseAddr(rootAt)}}, Dial: dial, StaleFor: -1,
		}
		if a.signed != nil {
			anchor, err := dnssec.AnchorOf(rootKey.DS(dns.Root, 3600))
			if err != nil {
				t.Fatal(err)
			}
			r.TrustAnchors, r.NoValidation = []dnssec.Anchor{anchor}, a.credulous
		}
		return r
	}
	auditor := &Auditor{Resolver: own(), Asker: own(), Roots: []netip.AddrPort{netip.MustParseAddrPort(rootAt + ":53")}, Selectors: a.selectors, Lists: a.lists, Certs: a.certs}
	if a.planKey != nil {
		auditor.PlanKey = &OwnKey{Key: *a.planKey}
		if a.keyAge != 0 {
			auditor.PlanKey.Written = time.Now().Add(-a.keyAge)
		}
	}
	if a.web != nil {
		auditor.Web = &WebLook{Wrap: func(http.RoundTripper) http.RoundTripper { return site80(a.web) }}
	}
	if a.plan != "" {
		p, err := site.Parse([]byte(a.plan), "mxward.toml")
		if err != nil {
			t.Fatal(err)
		}
		auditor.Plan = p
	}
	if a.message != "" {
		m, err := ReadMessage(strings.NewReader(a.message))
		if err != nil {
			t.Fatal(err)
		}
		auditor.Message = &m
	}
	if a.forwarded {
		r := a.forward
		if r == nil {
			r = own()
		}
		if a.strips {
			r = stripped(r)
		}
		if a.between != nil {
			r = a.between(r)
		}
		if a.refuses != "" {
			r = refusing(r, dns.MustName(a.refuses))
		}
		n.Set(resolverAt, dnstest.Host{Resolver: r, Behaviour: a.forwardHow, Recursion: true, Delay: a.slow})
		auditor.Server = netip.MustParseAddrPort(resolverAt + ":53")
		auditor.Resolver = &resolver.Forwarder{Server: auditor.Server, Dial: dial}
	}
	if a.asker != nil {
		auditor.Asker = a.asker(auditor.Asker)
	}
	if a.bogus != "" {
		auditor.Bogus = dns.MustName(a.bogus)
	}
	if a.origins {
		auditor.Origins = Origins{dns.MustName("origin.example.net"), dns.MustName("origin6.example.net")}
	}
	if a.registered != 0 || a.registry != nil {
		auditor.Registry = func(context.Context, dns.Name) (time.Time, error) { return time.Now().Add(a.registered), a.registry }
	}
	for _, s := range a.senders {
		auditor.Senders = append(auditor.Senders, netip.MustParseAddr(s))
	}
	if mailNet != nil {
		auditor.SMTP = &probe.Prober{Hello: "check.example.net", Dial: mailNet.Dial, Roots: ca.Roots()}
		for _, name := range strings.Fields(a.controls) {
			auditor.Controls = append(auditor.Controls, dns.MustName(name))
		}
	}
	auditor.MTASTS = &mtasts.Fetcher{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, cmp.Or(a.noWeb, io.EOF) }}
	if a.policy != nil {
		auditor.MTASTS = webServer(t, a.policy, a.badCert, a.issuer)
	}
	return auditor
}

// rooted is how the root is signed.
func (a animal) rooted(key *zone.Key) zone.Signing {
	how := zone.Signing{Keys: []*zone.Key{key}}
	if a.rootLasts != 0 {
		how.Inception, how.Expiration = time.Now().Add(-48*time.Hour), time.Now().Add(a.rootLasts)
	}
	return how
}

func (a animal) turned(z *zone.Zone) dns.Resolver {
	if a.oldAlgorithm { // nobody here makes such keys, and the question is only whether they are seen
		old := rr("example.com. 3600 DNSKEY 257 3 7 AwEAAcMnWBKLuvG/LwnPVykcmpvnntwxfshHlHRhlY0F3oz8AMcuF8gw")
		signature := rr("example.com. 3600 RRSIG SOA 7 2 3600 20380101000000 20260101000000 1 example.com. AAAA")
		a.turn = func(q dns.Question, answer *dns.Answer) {
			switch {
			case q.Type == dns.TypeDNSKEY:
				answer.Answer = append(answer.Answer[:len(answer.Answer):len(answer.Answer)], old)
			case a.oldSignature && q.Type == dns.TypeSOA && q.DNSSEC && q.Name == dns.MustName("example.com"):
				answer.Answer = append(answer.Answer[:len(answer.Answer):len(answer.Answer)], signature)
			}
		}
	}
	if a.turn == nil {
		return z
	}
	return dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		answer, err := z.Resolve(ctx, q)
		a.turn(q, &answer)
		return answer, err
	})
}

// refusing is a resolver that says SERVFAIL to questions about one name.
func refusing(r dns.Resolver, name dns.Name) dns.Resolver {
	return dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		if q.Name == name {
			return dns.Answer{Rcode: dns.ServFail}, nil
		}
		return r.Resolve(ctx, q)
	})
}

// stripped is a resolver that takes signatures away.
func stripped(r dns.Resolver) dns.Resolver {
	return dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		answer, err := r.Resolve(ctx, q)
		answer.Answer = slices.DeleteFunc(slices.Clone(answer.Answer), func(rr dns.RR) bool { return dns.Type(rr.Header().Rrtype).String() == "RRSIG" })
		return answer, err
	})
}

// webServer is an HTTPS server to which each connection leads.
func webServer(t *testing.T, h http.Handler, bad bool, issuer string) *mtasts.Fetcher {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name := "mta-sts.example.com"
	if bad {
		name = "www.example.com"
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{issuer}}, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return &mtasts.Fetcher{Roots: roots, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}}
}
