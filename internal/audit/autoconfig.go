package audit

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/fetch"
)

// The limits of a look for the file by which mail programs set an account up; ours.
const (
	pageTimeout = 10 * time.Second        // of one request, and of all
	pageEach    = 3300 * time.Millisecond // for a connection to one address: three SYN packets of Linux
	maxPageAddr = 2                       // addresses of one host that are tried
	maxPage     = 64 << 10                // octets that are read; the file is a small one
	maxHops     = 3                       // redirects, one after the other
)

// WebLook gets the pages that a domain has for mail programs. It heeds no proxy of the environment.
type WebLook struct {
	Dial  func(ctx context.Context, network, address string) (net.Conn, error) // nil: the network's
	Roots *x509.CertPool                                                       // nil: the system's
	// Wrap stands something between a look and the web, such as a recording; nil: nothing.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Page is what came of one look for the file.
type Page struct {
	URL    string
	At     string   // where it led by redirects in the end, or URL
	Host   dns.Name // of At
	Status int      // 0 where there was no answer
	Config bool     // it is the file
	// Known: it leads to a place where the file was looked for before.
	Known bool
	Err   error
}

// errNoAddress stands for a host without an address: nothing is served there.
var errNoAddress = errors.New("it has no address")

// errNearOnly stands for one whose addresses are all in networks of their own: no stranger's mail
// program is served there.
var errNearOnly = errors.New("it has only addresses that no other host can reach")

// errNotFollowed stands for a redirect that leads too far, or where we do not go.
var errNotFollowed = errors.New("is a redirect that is not followed")

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
		before := g.facts.Programs.Pages
		pages := []Page{
			{URL: scheme + "autoconfig." + domain + "/mail/config-v1.1.xml", Host: g.facts.below("autoconfig", dns.TypeA).Name},
			{URL: scheme + domain + "/.well-known/autoconfig/mail/config-v1.1.xml", Host: g.facts.Domain},
		}
		g.all(ctx, func(ctx context.Context) { g.page(ctx, &pages[0], before) }, func(ctx context.Context) { g.page(ctx, &pages[1], before) })
		g.facts.Programs.Pages = append(before, pages...)
		if pages[0].Config || pages[1].Config {
			return
		}
	}
}

// page asks for a page, and goes where redirects lead, as mail programs do.
func (g *gatherer) page(ctx context.Context, p *Page, before []Page) {
	p.At = p.URL
	for range maxHops {
		next := g.hop(ctx, p)
		if next == "" {
			return
		}
		p.At = next
		if p.Known = slices.ContainsFunc(before, func(b Page) bool { return b.URL == next }); p.Known {
			return
		}
	}
	if next := g.hop(ctx, p); next != "" {
		p.Err = fmt.Errorf("%s %w: no more than %d are", p.URL, errNotFollowed, maxHops)
	}
}

// hop asks for the page where it is by now, and gives the place to which that leads.
func (g *gatherer) hop(ctx context.Context, p *Page) (next string) {
	addrs, err := g.webAddrs(ctx, p.Host)
	if err != nil {
		p.Err = err
		return ""
	}
	to := g.Web.get(ctx, p, addrs)
	if p.Err != nil || p.Status/100 != 3 {
		return ""
	}
	next, host, err := redirect(p.At, to)
	if err != nil {
		p.Err = err
		return ""
	}
	p.Host = host
	return next
}

// redirect gives the place to which a page leads: by a name, at the usual port, and not from HTTPS to
// HTTP.
func redirect(from, to string) (next string, host dns.Name, err error) {
	base, err := url.Parse(from)
	if err != nil {
		return "", host, err
	}
	at, err := base.Parse(to)
	usual := map[string]string{"https": "443", "http": "80"}
	switch {
	case err != nil, to == "", at.User != nil, usual[at.Scheme] == "", at.Port() != "" && at.Port() != usual[at.Scheme], base.Scheme == "https" && at.Scheme != "https":
		return "", host, fmt.Errorf("%s %w: it leads to %s", from, errNotFollowed, quoted(clipTo(to, 200)))
	}
	host, err = dns.ParseName(at.Hostname())
	if _, literal := netip.ParseAddr(at.Hostname()); err != nil || literal == nil {
		return "", host, fmt.Errorf("%s %w: it leads to %s", from, errNotFollowed, quoted(clipTo(to, 200)))
	}
	at.Host, at.Fragment = strings.ToLower(at.Hostname()), ""
	return at.String(), host, nil
}

// webAddrs gives the addresses of a host that may be asked for a page.
func (g *gatherer) webAddrs(ctx context.Context, host dns.Name) (addrs []netip.Addr, err error) {
	set, err := dns.LookupAddrs(ctx, g.rec, host)
	for _, a := range set.Records {
		if g.allowed(a) && len(addrs) < maxPageAddr {
			addrs = append(addrs, a)
		}
	}
	switch {
	case err != nil || len(addrs) > 0:
		return addrs, err
	case len(set.Records) > 0:
		return nil, errNearOnly
	}
	return nil, errNoAddress
}

// get asks for a page at the first of these addresses that takes a connection, and gives where it
// says that the page is instead.
func (w *WebLook) get(ctx context.Context, p *Page, addrs []netip.Addr) (location string) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.At, nil)
	if err != nil {
		p.Err = errNoAddress // the domain makes no URL
		return ""
	}
	web := fetch.Client{Dial: w.Dial, Roots: w.Roots, Each: pageEach, Wrap: w.Wrap}
	response, err := web.Do(request, addrs)
	if err != nil {
		p.Err = fmt.Errorf("get %s: %w", p.At, err)
		return ""
	}
	defer response.Body.Close()
	p.Status = response.StatusCode
	body, err := io.ReadAll(io.LimitReader(response.Body, maxPage))
	p.Config = p.Status == http.StatusOK && bytes.Contains(body, []byte("<clientConfig"))
	if err != nil && !p.Config && p.Status == http.StatusOK {
		p.Err = fmt.Errorf("read %s: %w", p.At, err)
	}
	return response.Header.Get("Location")
}

// gone reports whether it is certain that the file is not there: no host, nobody at the port, a
// certificate that nobody takes, a status that says so, or another page.
func (p Page) gone() bool {
	var cert *tls.CertificateVerificationError
	switch {
	case errors.Is(p.Err, errNoAddress), errors.Is(p.Err, errNearOnly), fetch.Refused(p.Err), errors.As(p.Err, &cert):
		return true
	case p.Err != nil || p.Status == http.StatusRequestTimeout || p.Status == http.StatusTooManyRequests:
		return false
	}
	return p.Known || p.Status == http.StatusOK || p.Status >= 400 && p.Status < 500
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
		return p.At + " is another page"
	case p.Known:
		return p.URL + " leads to " + p.At
	}
	return fmt.Sprintf("%s answers with status %d", p.At, p.Status)
}

// autoconfigServed judges by the file itself.
func autoconfigServed(f *Facts) []verdict {
	asked := append(f.Names.well("autoconfig").questions(), addrQuestions(f.Domain)...)
	var words []string
	for _, p := range f.Programs.Pages {
		if p.Config {
			return []verdict{{status: Pass, detail: p.At, asked: asked}}
		}
	}
	for _, p := range f.Programs.Pages {
		var cert *tls.CertificateVerificationError
		switch {
		case errors.As(p.Err, &cert) && f.skew() != "": // by a wrong clock, none is valid
			return []verdict{f.clockUnknown(asked...)}
		case fetch.Refused(p.Err) && !f.outsideHeard(), errors.Is(p.Err, fetch.ErrNoRoots):
			return []verdict{unknown(f, p.Err, LocalNetwork, asked...)}
		case p.gone():
			words = append(words, p.String())
		case p.Err != nil && dns.TroubleOf(p.Err) != 0:
			return []verdict{unknown(f, p.Err, webSide(f.sideOf(p.Host)), addrQuestions(p.Host)...)}
		case p.Err != nil && !errors.Is(p.Err, errNotFollowed):
			return []verdict{unknown(f, p.Err, webSide(f.sideOfConn(p.Err)), asked...)}
		default:
			return []verdict{{status: Unknown, blame: Nobody, detail: p.String(), asked: asked, aside: true}}
		}
	}
	return []verdict{fail(strings.Join(words, "; "), asked...).mend("serve config-v1.1.xml at autoconfig." + f.Domain.String() + "; SRV records do as well for newer programs")}
}

// webSide: where an MX host would be to blame, it is a web server.
func webSide(side Blame) Blame {
	if side == MXHost {
		return ThirdParty
	}
	return side
}
