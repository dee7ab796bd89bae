package mtasts

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/mailauth/lint"
)

const zoneText = `
$TTL 300
@        SOA ns host 1 2 3 4 5
@        NS  ns.example.net.
@        MX  10 mx1
@        MX  20 mx2
_mta-sts TXT "v=STSv1; " "id=1;"
mta-sts  CNAME web
web      A   192.0.2.80
web      AAAA 2001:db8::80
mta-sts.local A 127.0.0.1
mta-sts.local AAAA fe80::1
_mta-sts.inside TXT "v=STSv1; id=1;"
mta-sts.inside A 10.0.0.5
mta-sts.inside A 100.64.0.5
mta-sts.inside AAAA fd00::5
mta-sts.alone A 192.0.2.80
_mta-sts.stale CNAME _mta-sts
`

const goodPolicy = "version: STSv1\r\nmode: enforce\r\nmx: mx1.example.com\r\nmx: mx2.example.com\r\nmax_age: 2419200\r\n"

var exampleCom = dns.MustName("example.com")

// certFor makes a self-signed certificate, which is its own root.
func certFor(t *testing.T, until time.Duration, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: names, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(until),
		IsCA: true, BasicConstraintsValid: true,
	}, &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(until)}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// webServer is an HTTPS server that a Fetcher comes to, whatever the address.
func webServer(t *testing.T, cert tls.Certificate, roots *x509.CertPool, h http.Handler) *Fetcher {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return &Fetcher{
		Resolver: dnstest.Zone(t, "example.com", zoneText), Roots: roots,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
		},
	}
}

func TestFetch(t *testing.T) {
	reply := func(code int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
			w.Write([]byte(body))
		}
	}
	for _, row := range []struct {
		handler http.Handler
		names   string
		until   time.Duration
		id      string
		class   error
		why     string
	}{
		{reply(200, "text/plain", goodPolicy), "mta-sts.example.com", time.Hour, "", nil, "as it should be"},
		{reply(200, "text/html", goodPolicy), "mta-sts.example.com", time.Hour, "", nil, "the type is only a warning"},
		{reply(200, "text/plain", goodPolicy), "*.example.com", time.Hour, "", nil, "a wildcard is valid for the name (RFC 8461 §3.3)"},
		{reply(200, "text/plain", goodPolicy), "web.example.com", time.Hour, "mtasts.cert", ErrPermanent, "the name of the CNAME's end is not enough"},
		{reply(200, "text/plain", goodPolicy), "mta-sts.example.com", -time.Hour, "mtasts.cert", ErrPermanent, "expired"},
		{reply(301, "text/plain", goodPolicy), "mta-sts.example.com", time.Hour, "mtasts.redirect", ErrPermanent, "no redirect is followed"},
		{reply(307, "text/plain", goodPolicy), "mta-sts.example.com", time.Hour, "mtasts.redirect", ErrPermanent, "of no kind"},
		{reply(404, "text/plain", goodPolicy), "mta-sts.example.com", time.Hour, "mtasts.status", ErrPermanent, "not there"},
		{reply(206, "text/plain", goodPolicy), "mta-sts.example.com", time.Hour, "mtasts.status", ErrPermanent, "200 and nothing else"},
		{reply(503, "text/plain", goodPolicy), "mta-sts.example.com", time.Hour, "mtasts.status", ErrTemporary, "the server is ill"},
		{reply(200, "text/plain", goodPolicy+"x: "+strings.Repeat("a", maxPolicy)), "mta-sts.example.com", time.Hour, "mtasts.too-large", ErrPermanent, "over 64 KiB"},
		{reply(200, "text/plain", goodPolicy+"x: "+strings.Repeat("a", maxPolicy-len(goodPolicy)-3)), "mta-sts.example.com", time.Hour, "", nil, "exactly 64 KiB"},
		{reply(200, "text/plain", "<html>"), "mta-sts.example.com", time.Hour, "mtasts.policy-syntax", ErrPermanent, "no policy"},
		{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("version: STSv1\n"))
		}),
			"mta-sts.example.com", time.Hour, "mtasts.https-error", ErrTemporary, "cut off"},
		{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 2*16<<10)) }),
			"mta-sts.example.com", time.Hour, "mtasts.https-error", ErrTemporary, "an endless header"},
		{http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
			"mta-sts.example.com", time.Hour, "mtasts.https-error", ErrTemporary, "hung up"},
		{Handler(map[dns.Name]Policy{exampleCom: {Mode: None}}), "mta-sts.example.com", time.Hour, "", nil, "our own handler"},
	} {
		cert, roots := certFor(t, row.until, row.names)
		got, err := webServer(t, cert, roots, row.handler).Fetch(t.Context(), exampleCom)
		var e *Error
		errors.As(err, &e)
		if (row.class == nil) != (err == nil) || !errors.Is(err, row.class) || e != nil && e.ID != row.id {
			t.Errorf("%s: %v", row.why, err)
		}
		if err == nil && (got.Policy.Mode == "" || got.Body == "" || len(got.TLS.PeerCertificates) != 1) {
			t.Errorf("%s: %+v", row.why, got)
		}
	}
}

// The environment's proxy is not asked, and a certificate that nobody vouches for is none.
func TestFetchTrustsNobody(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://192.0.2.99:3128")
	cert, roots := certFor(t, time.Hour, "mta-sts.example.com")
	f := webServer(t, cert, roots, Handler(map[dns.Name]Policy{exampleCom: {Mode: None}}))
	var dialled []string
	dial := f.Dial
	f.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled = append(dialled, address)
		if strings.HasPrefix(address, "[") {
			return nil, errors.New("no route")
		}
		return dial(ctx, network, address)
	}
	if _, err := f.Fetch(t.Context(), exampleCom); err != nil || strings.Join(dialled, " ") != "[2001:db8::80]:443 192.0.2.80:443" {
		t.Errorf("%v, dialled %v", err, dialled)
	}
	_, f.Roots = certFor(t, time.Hour, "mta-sts.example.com")
	if _, err := f.Fetch(t.Context(), exampleCom); !errors.Is(err, ErrPermanent) {
		t.Errorf("an unknown authority: %v", err)
	}
	f.Roots = x509.NewCertPool()
	if _, err := f.Fetch(t.Context(), exampleCom); !errors.Is(err, ErrTemporary) {
		t.Errorf("no authority is known here: %v", err)
	}
}

func TestFetchAddresses(t *testing.T) {
	broken := dns.ResolverFunc(func(_ context.Context, q dns.Question) (dns.Answer, error) {
		return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
	})
	zone := dnstest.Zone(t, "example.com", zoneText)
	for _, row := range []struct {
		resolver dns.Resolver
		domain   string
		class    error
		why      string
	}{
		{zone, "gone.example.com", ErrPermanent, "there is no such host"},
		{zone, "local.example.com", ErrPermanent, "nobody leads us to ourselves"},
		{zone, "inside.example.com", ErrPermanent, "nor into our own network"},
		{zone, strings.Repeat("a.", 125) + "b", ErrPermanent, "no room for the label"},
		{broken, "example.com", ErrTemporary, "could not ask is not is not there"},
	} {
		f := &Fetcher{Resolver: row.resolver, Dial: func(context.Context, string, string) (net.Conn, error) {
			t.Errorf("%s: dialled", row.why)
			return nil, errors.New("no")
		}}
		if _, err := f.Fetch(t.Context(), dns.MustName(row.domain)); !errors.Is(err, row.class) {
			t.Errorf("%s: %v", row.why, err)
		}
	}
	if _, err := (&Fetcher{Resolver: broken}).Record(t.Context(), exampleCom); !errors.Is(err, ErrTemporary) || dns.TroubleOf(err) != dns.NoReply {
		t.Errorf("trouble of the DNS: %v", err)
	}
}

// A server that accepts and says nothing is left after a minute, or when ctx ends.
func TestFetchTakesAMinute(t *testing.T) {
	zone := dnstest.Zone(t, "example.com", zoneText)
	for _, limit := range []time.Duration{0, 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			ctx, want := t.Context(), fetchTimeout
			if limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
				want = limit
			}
			f := &Fetcher{Resolver: zone, Dial: func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go func() {
					buf := make([]byte, 4096)
					for {
						if _, err := theirs.Read(buf); err != nil {
							return
						}
					}
				}()
				return ours, nil
			}}
			begin := time.Now()
			_, err := f.Fetch(ctx, exampleCom)
			if !errors.Is(err, ErrTemporary) || time.Since(begin) != want {
				t.Errorf("after %s: %v", time.Since(begin), err)
			}
		})
	}
}

func TestLook(t *testing.T) {
	cert, roots := certFor(t, time.Hour, "mta-sts.example.com", "mta-sts.alone.example.com")
	policies := map[dns.Name]Policy{exampleCom: {Mode: Enforce, MX: []Pattern{{dns.MustName("mx1.example.com"), false}}, MaxAge: 672 * time.Hour},
		dns.MustName("alone.example.com"): {Mode: None}}
	f := webServer(t, cert, roots, Handler(policies))
	for _, row := range []struct{ domain, want, hosts, why string }{
		{"example.com", "mtasts.mx-not-covered", "[{mx1.example.com true} {mx2.example.com false}]", "one MX host is forgotten"},
		{"gone.example.com", "mtasts.txt-missing", "[{gone.example.com false}]", "no MTA-STS"},
		{"alone.example.com", "mtasts.txt-missing mtasts.policy-without-txt mtasts.mode-none", "[{alone.example.com false}]", "a policy that nobody looks for"},
		{"stale.example.com", "mtasts.host-unresolvable", "[{stale.example.com false}]", "a record without a policy"},
	} {
		s := Look(t.Context(), f, dns.MustName(row.domain))
		var ids []string
		for _, finding := range s.Findings {
			ids = append(ids, finding.ID)
		}
		if got := strings.Join(ids, " "); got != row.want || s.Undetermined() != nil {
			t.Errorf("%s: %s (%v)", row.why, got, s.Undetermined())
		}
		if got := hostsText(s.Hosts); got != row.hosts {
			t.Errorf("%s: %s", row.why, got)
		}
	}
	f.Resolver = dns.ResolverFunc(func(_ context.Context, q dns.Question) (dns.Answer, error) {
		return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
	})
	if s := Look(t.Context(), f, exampleCom); s.Undetermined() == nil || s.Findings[0].Severity != lint.Warning {
		t.Errorf("%+v", s.Findings)
	}
}

func hostsText(hosts []Host) string {
	var all []string
	for _, h := range hosts {
		all = append(all, "{"+h.Name.String()+map[bool]string{true: " true}", false: " false}"}[h.Covered])
	}
	return "[" + strings.Join(all, " ") + "]"
}

func TestHandler(t *testing.T) {
	h := Handler(map[dns.Name]Policy{exampleCom: {Mode: Testing, MX: []Pattern{{dns.MustName("mx1.example.com"), false}}, MaxAge: time.Hour}})
	for _, row := range []struct {
		method, host, path string
		code               int
		why                string
	}{
		{"GET", "mta-sts.example.com", policyPath, 200, "the policy"},
		{"HEAD", "MTA-STS.Example.com.:8443", policyPath, 200, "any spelling, any port"},
		{"POST", "mta-sts.example.com", policyPath, 405, "it is only read"},
		{"GET", "mta-sts.example.com", "/", 404, "nothing else is there"},
		{"GET", "mta-sts.example.com", policyPath + "/", 404, "not even nearly"},
		{"GET", "example.com", policyPath, 404, "nor at another name"},
		{"GET", "mta-sts.example.net", policyPath, 404, "nor of another domain"},
		{"GET", "", policyPath, 404, "nor without a name"},
	} {
		r := httptest.NewRequest(row.method, "http://x"+row.path, nil)
		r.Host = row.host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != row.code {
			t.Errorf("%s: %d", row.why, w.Code)
		}
		if row.code == 200 && (!plainText(w.Header().Get("Content-Type")) || w.Body.String() != "version: STSv1\r\nmode: testing\r\nmx: mx1.example.com\r\nmax_age: 3600\r\n") {
			t.Errorf("%s: %v %q", row.why, w.Header(), w.Body)
		}
	}
}
