package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"mxward/internal/dns"
)

// The limits of a look for the file by which mail programs set an account up; ours.
const (
	pageTimeout = 10 * time.Second // of one request, and of all
	maxPageAddr = 2                // addresses of one host that are tried
	maxPage     = 64 << 10         // octets that are read; the file is a small one
	maxPageHead = 16 << 10         // octets of the response's header
)

// WebLook gets the pages that a domain has for mail programs. It heeds no proxy of the environment,
// and follows no redirect.
type WebLook struct {
	Dial  func(ctx context.Context, network, address string) (net.Conn, error) // nil: the network's
	Roots *x509.CertPool                                                       // nil: the system's
	// Wrap stands something between Get and the web, such as a recording; nil: nothing.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Page is what came of one request for the file.
type Page struct {
	URL    string
	Host   dns.Name
	Status int  // 0 where there was no answer
	Config bool // it is the file
	// Home: it is a redirect to the same place by HTTPS, where the file was looked for already.
	Home bool
	Err  error
}

// errNoAddress stands for a host without an address: nothing is served there.
var errNoAddress = errors.New("it has no address")

// errNearOnly stands for one whose addresses are all in networks of their own: no stranger's mail
// program is served there.
var errNearOnly = errors.New("it has only addresses that no other host can reach")

// autoconfig looks for the file in the order of draft-ietf-mailmaint-autoconfig §4: at the name for
// it and at the domain's own web server, over HTTPS and, where that gives none, over HTTP.
func (g *gatherer) autoconfig(ctx context.Context) {
	if g.Web == nil || len(g.facts.Hosts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pageTimeout) // so that time is left for what comes behind
	defer cancel()
	domain := g.facts.Domain.String()
	for _, scheme := range []string{"https://", "http://"} {
		pages := []Page{
			{URL: scheme + "autoconfig." + domain + "/mail/config-v1.1.xml", Host: g.facts.below("autoconfig", dns.TypeA).Name},
			{URL: scheme + domain + "/.well-known/autoconfig/mail/config-v1.1.xml", Host: g.facts.Domain},
		}
		g.all(ctx, func(ctx context.Context) { g.page(ctx, &pages[0]) }, func(ctx context.Context) { g.page(ctx, &pages[1]) })
		g.facts.Programs.Pages = append(g.facts.Programs.Pages, pages...)
		if pages[0].Config || pages[1].Config {
			return
		}
	}
}

func (g *gatherer) page(ctx context.Context, p *Page) {
	set, err := dns.LookupAddrs(ctx, g.rec, p.Host)
	var addrs []netip.Addr
	for _, a := range set.Records {
		if g.allowed(a) && len(addrs) < maxPageAddr {
			addrs = append(addrs, a)
		}
	}
	switch {
	case err != nil:
		p.Err = err
	case len(addrs) == 0 && len(set.Records) > 0:
		p.Err = errNearOnly
	case len(addrs) == 0:
		p.Err = errNoAddress
	default:
		g.Web.get(ctx, p, addrs)
	}
}

// get asks for a page at the first of these addresses that answers.
func (w *WebLook) get(ctx context.Context, p *Page, addrs []netip.Addr) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return w.dial(ctx, network, address, addrs)
		},
		TLSClientConfig:        &tls.Config{RootCAs: w.Roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxPageHead,
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		p.Err = errNoAddress // the domain makes no URL
		return
	}
	request.Header.Set("User-Agent", "mxward")
	var web http.RoundTripper = transport // which follows no redirect
	if w.Wrap != nil {
		web = w.Wrap(transport)
	}
	response, err := web.RoundTrip(request)
	if err != nil {
		p.Err = fmt.Errorf("get %s: %w", p.URL, err)
		return
	}
	defer response.Body.Close()
	p.Status = response.StatusCode
	p.Home = response.Header.Get("Location") == strings.Replace(p.URL, "http://", "https://", 1) && strings.HasPrefix(p.URL, "http://")
	body, err := io.ReadAll(io.LimitReader(response.Body, maxPage))
	p.Config = p.Status == http.StatusOK && bytes.Contains(body, []byte("<clientConfig"))
	if err != nil && !p.Config {
		p.Err = fmt.Errorf("read %s: %w", p.URL, err)
	}
}

func (w *WebLook) dial(ctx context.Context, network, address string, addrs []netip.Addr) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	dial := w.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	var first error
	for i, a := range addrs {
		one, cancel := context.WithTimeout(ctx, pageTimeout/time.Duration(len(addrs)-i+1))
		conn, err := dial(one, network, net.JoinHostPort(a.String(), port))
		cancel()
		if err == nil {
			return conn, nil
		}
		first = cmp.Or(first, err)
	}
	return nil, first
}

// gone reports whether it is certain that the file is not there: no host, nobody at the port, a
// certificate that nobody takes, a status that says so, or another page.
func (p Page) gone() bool {
	var cert *tls.CertificateVerificationError
	switch {
	case errors.Is(p.Err, errNoAddress), errors.Is(p.Err, errNearOnly), errors.Is(p.Err, syscall.ECONNREFUSED), errors.As(p.Err, &cert):
		return true
	case p.Err != nil || p.Status == http.StatusRequestTimeout || p.Status == http.StatusTooManyRequests:
		return false
	}
	return p.Home || p.Status == http.StatusOK || p.Status >= 400 && p.Status < 500
}

// String says in words what came.
func (p Page) String() string {
	switch {
	case errors.Is(p.Err, errNoAddress):
		return p.Host.String() + " has no address"
	case errors.Is(p.Err, errNearOnly):
		return p.Host.String() + " has only addresses that no other host can reach"
	case p.Err != nil:
		return clip(p.Err.Error())
	case p.Status == http.StatusOK:
		return p.URL + " is another page"
	case p.Status >= 300 && p.Status < 400:
		return fmt.Sprintf("%s is a redirect (%d), which is not followed", p.URL, p.Status)
	}
	return fmt.Sprintf("%s answers with status %d", p.URL, p.Status)
}

// autoconfigServed judges by the file itself.
func autoconfigServed(f *Facts) []verdict {
	asked := append(f.Names.well("autoconfig").questions(), addrQuestions(f.Domain)...)
	var words []string
	for _, p := range f.Programs.Pages {
		if p.Config {
			return []verdict{{status: Pass, detail: p.URL, asked: asked}}
		}
	}
	for _, p := range f.Programs.Pages {
		switch {
		case p.gone():
			words = append(words, p.String())
		case p.Err != nil && dns.TroubleOf(p.Err) != 0:
			return []verdict{unknown(f, p.Err, ZoneServers, asked...)}
		case p.Err != nil:
			side := f.sideOfConn(p.Err)
			if side == MXHost {
				side = ThirdParty // a web server
			}
			return []verdict{unknown(f, p.Err, side, asked...)}
		default:
			return []verdict{{status: Unknown, blame: Nobody, detail: p.String(), asked: asked, aside: true}}
		}
	}
	return []verdict{fail(strings.Join(words, "; "), asked...).mend("serve config-v1.1.xml at autoconfig." + f.Domain.String() + "; SRV records do as well for newer programs")}
}
