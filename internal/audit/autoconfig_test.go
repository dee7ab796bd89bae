package audit

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/zone"
	"mxward/internal/mailauth/fetch"
)

// site80 is web servers by URL: a status with a place to go to or a body behind it, or "silent".
// Where there is none, connections are refused.
type site80 map[string]string

func (s site80) RoundTrip(request *http.Request) (*http.Response, error) {
	text, ok := s[request.URL.String()]
	status, rest, _ := strings.Cut(text, " ")
	code, _ := strconv.Atoi(status)
	switch {
	case !ok:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case text == "certificate":
		return nil, &tls.CertificateVerificationError{Err: errors.New("expired")}
	case text == "no roots":
		return nil, fetch.ErrNoRoots
	case text == "silent":
		return nil, context.DeadlineExceeded
	}
	response := &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(rest)), Request: request}
	if code/100 == 3 {
		response.Header.Set("Location", rest)
	}
	return response, nil
}

const (
	autoconfigAt = "autoconfig.example.com/mail/config-v1.1.xml"
	wellKnownAt  = "example.com/.well-known/autoconfig/mail/config-v1.1.xml"
	configFile   = "200 <?xml version=\"1.0\"?><clientConfig version=\"1.1\"/>"
)

func pageZoo() []animal {
	const (
		apex      = "@ A 203.0.113.80\n"
		elsewhere = "ns.example A 192.0.2.3\nthere.example A 203.0.113.80\nnear.example A 10.0.0.1\n"
	)
	nowhere := []string{"autoconfig"}
	page := func(why, fails string, web map[string]string) animal {
		return animal{why: why, fails: fails, add: apex, net: elsewhere, web: web}
	}
	open := func(why, unknown string, web map[string]string) animal {
		return animal{why: why, add: apex, net: elsewhere, web: web, unknown: unknown}
	}
	const missing = "autoconf.autoconfig-missing"
	return []animal{
		page("the file of autoconfig at the name for it", "", map[string]string{"https://" + autoconfigAt: configFile}),
		page("over HTTP alone", "", map[string]string{"http://" + autoconfigAt: configFile}),
		{why: "at the domain's own web server alone", drop: nowhere, add: apex, web: map[string]string{"https://" + wellKnownAt: configFile, "https://" + autoconfigAt: "404 "}},
		{why: "neither a name for autoconfig nor a web server", drop: nowhere, web: map[string]string{}, fails: missing},
		page("a name for autoconfig at which nobody has the file", missing, map[string]string{"https://" + autoconfigAt: "404 ", "http://" + autoconfigAt: "301 https://" + autoconfigAt, "https://" + wellKnownAt: "200 <html>welcome</html>"}),
		page("behind a redirect to a host elsewhere", "", map[string]string{"https://" + autoconfigAt: "302 https://there.example.net/a.xml", "https://there.example.net/a.xml": configFile}),
		page("behind three redirects, and one of them from HTTP", "", map[string]string{"http://" + autoconfigAt: "301 /a", "http://autoconfig.example.com/a": "308 https://there.example.net:443/b#c", "https://there.example.net/b": "307 c", "https://there.example.net/c": configFile}),
		page("a redirect leads to another page", missing, map[string]string{"https://" + autoconfigAt: "302 https://there.example.net/", "https://there.example.net/": "200 welcome"}),
		page("a redirect leads to a name that does not exist", missing, map[string]string{"https://" + autoconfigAt: "302 https://gone.example.net/"}),
		page("a redirect leads to a host of this network alone", missing, map[string]string{"https://" + autoconfigAt: "302 https://near.example.net/a.xml", "https://near.example.net/a.xml": configFile}),
		open("redirects in a circle", missing+"@unknown", map[string]string{"https://" + autoconfigAt: "302 /a", "https://autoconfig.example.com/a": "302 /mail/config-v1.1.xml"}),
		open("a redirect from HTTPS to HTTP", missing+"@unknown", map[string]string{"https://" + autoconfigAt: "302 http://there.example.net/a.xml", "http://there.example.net/a.xml": configFile}),
		open("a redirect to another port", missing+"@unknown", map[string]string{"https://" + autoconfigAt: "302 https://there.example.net:8443/a.xml", "https://there.example.net:8443/a.xml": configFile}),
		open("a redirect to an address", missing+"@unknown", map[string]string{"https://" + autoconfigAt: "302 https://203.0.113.80/a.xml", "https://203.0.113.80/a.xml": configFile}),
		open("a redirect that leads nowhere", missing+"@unknown", map[string]string{"https://" + autoconfigAt: "302 "}),
		{why: "the servers fail at the host to which a redirect leads", add: apex, net: elsewhere, turn: nil, hosts: map[string]dnstest.Behaviour{"192.0.2.99": dnstest.Silent}, com: "lost NS ns.lost\nns.lost A 192.0.2.99\n",
			web: map[string]string{"https://" + autoconfigAt: "302 https://www.lost.com/"}, unknown: missing + "@third-party"},
		{why: "a certificate, and no authority is known here", add: apex, net: elsewhere, web: map[string]string{"https://" + autoconfigAt: "no roots"}, unknown: missing + "@local-network"},
		{why: "a certificate, by a wrong clock", add: apex, net: elsewhere, signed: &zone.Signing{}, rootLasts: -time.Hour, lasts: -time.Hour, forwarded: true, credulous: true, gone: "dnssec.insecure", fails: "net.clock-skew", web: map[string]string{"https://" + autoconfigAt: "certificate"}, unknown: missing + "@local-network"},
		open("a web server that is out of order", missing+"@unknown", map[string]string{"https://" + autoconfigAt: "503 "}),
		open("a web server that is silent", missing+"@unknown", map[string]string{"https://" + wellKnownAt: "silent"}),
		{why: "a domain without mailboxes is asked for no file", drop: []string{"@ MX", "@ TXT"}, add: "@ MX 0 .\n@ TXT \"v=spf1 -all\"\n", fails: "mx.null dmarc.rua-no-mail", gone: "mtasts.txt-missing", web: map[string]string{}},
		{why: "the servers fail at the domain's addresses, where the file may be", drop: nowhere, turn: failing(dns.TypeA, "example.com"), web: map[string]string{}, unknown: missing + "@zone-ns"},
	}
}

// TestPageSize: of a page that does not end, no more is read than the limit.
func TestPageSize(t *testing.T) {
	var sent atomic.Int64
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for chunk := []byte(strings.Repeat("x", 32<<10)); ; {
			n, err := w.Write(chunk)
			if sent.Add(int64(n)); err != nil || sent.Load() > 1<<30 {
				return
			}
		}
	}))
	defer s.Close()
	w := &WebLook{Roots: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}}
	p := Page{At: "https://example.com/"}
	w.get(t.Context(), &p, []netip.Addr{netip.MustParseAddr("203.0.113.80")})
	s.CloseClientConnections()
	if p.Err != nil || p.Status != http.StatusOK || p.Config || sent.Load() > 1<<30 {
		t.Errorf("%+v, %d octets", p, sent.Load())
	}
}

// TestPageTime: a web server that says nothing is not waited for longer than the limit.
func TestPageTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := &WebLook{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		mute := &WebLook{Dial: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, far) }()
			return near, nil
		}}
		for _, w := range []*WebLook{lost, mute} {
			began := time.Now()
			p := Page{At: "http://example.com/"}
			w.get(t.Context(), &p, []netip.Addr{netip.MustParseAddr("203.0.113.80"), netip.MustParseAddr("203.0.113.81")})
			if took := time.Since(began); p.Err == nil || p.gone() || took > pageTimeout {
				t.Errorf("%+v, it took %s", p, took)
			}
		}
	})
}

// TestPagePrivate: no domain's records make us ask this host or network for a page.
func TestPagePrivate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := animal{drop: []string{"autoconfig"}, add: "autoconfig A 127.0.0.1\n@ A 10.0.0.1\n", web: map[string]string{}}
		auditor := a.world(t)
		asked := 0
		auditor.Web = &WebLook{Dial: func(context.Context, string, string) (net.Conn, error) {
			asked++
			return nil, syscall.ECONNREFUSED
		}}
		auditor.Gather(t.Context(), dns.MustName("example.com"))
		if asked > 0 {
			t.Errorf("%d connections", asked)
		}
	})
}

// FuzzRedirect: wherever a page says that it is instead, we go to a name, at a usual port, and not
// back to HTTP.
func FuzzRedirect(f *testing.F) {
	for _, to := range []string{"", "/a", "//there.example.net/", "https://there.example.net:443/", "http://[2001:db8::1]/", "https://u@there.example.net/", "https://0x7f.1/", "https://127.1/", "ftp://there.example.net/", "https://there.example.net.:8443/", "%zz"} {
		f.Add("https://"+autoconfigAt, to)
	}
	f.Fuzz(func(t *testing.T, from, to string) {
		next, host, err := redirect(from, to)
		if err != nil {
			return
		}
		at, wrong := url.Parse(next)
		_, literal := netip.ParseAddr(at.Hostname())
		if wrong != nil || at.Port() != "" || at.User != nil || literal == nil || at.Scheme != "https" && (at.Scheme != "http" || strings.HasPrefix(strings.ToLower(from), "https:")) {
			t.Errorf("%q, %q: %q", from, to, next)
		}
		if name, err := dns.ParseName(at.Hostname()); err != nil || name != host {
			t.Errorf("%q: host %s, %v", next, host, err)
		}
	})
}
