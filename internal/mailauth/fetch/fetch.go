// Package fetch gets a page from the web server of a domain whose records were written by strangers:
// at addresses that were found before, by one request of HTTP/1.1.
//
// Not implemented, and on purpose: proxies of the environment, redirects, cookies, caches, HTTP/2.
// Who asks says what is an error, how much is read of the body, and for how long all may take.
package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// maxHeader is how many octets of a response's header are read; ours.
const maxHeader = 16 << 10

// Client asks for pages.
type Client struct {
	Dial  func(ctx context.Context, network, address string) (net.Conn, error) // nil: the network's
	Roots *x509.CertPool                                                       // nil: the system's
	Port  uint16                                                               // 0: the URL's
	Each  time.Duration                                                        // for a connection to one address
	// Wrap stands something between Do and the web, such as a recording; nil: nothing.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Do asks at the first of the addresses that takes a connection. What it holds ends with the
// request's context, which must be one that ends; the body is to be read and closed before.
func (c Client) Do(request *http.Request, addrs []netip.Addr) (*http.Response, error) {
	until := request.Context()
	transport := &http.Transport{
		// A Transport lets a connection that is being made, and its handshake, go on without an end
		// where the request has given up.
		DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			return c.dial(until, network, address, addrs)
		},
		TLSClientConfig:        &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12}, // RFC 8996
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
	request.Header.Set("User-Agent", "mxward")
	var web http.RoundTripper = transport // which follows no redirect
	if c.Wrap != nil {
		web = c.Wrap(transport)
	}
	response, err := web.RoundTrip(request)
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) && Rootless(c.Roots) {
		return nil, ErrNoRoots // which says nothing of the certificate
	}
	return response, err
}

// ErrNoRoots stands for a certificate that nobody here can judge.
var ErrNoRoots = errors.New("this host has no list of authorities, as of the package ca-certificates")

// Rootless reports whether a pool, or the system's where it is nil, has no authority at all. Then each
// certificate is one by an unknown authority to crypto/x509.
func Rootless(roots *x509.CertPool) bool {
	if roots == nil {
		var err error
		if roots, err = x509.SystemCertPool(); err != nil {
			return true
		}
	}
	return roots.Equal(x509.NewCertPool())
}

// dial takes the first address that answers. The error is that of all of them.
func (c Client) dial(ctx context.Context, network, address string, addrs []netip.Addr) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if c.Port != 0 {
		port = strconv.Itoa(int(c.Port))
	}
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	var all []error
	for _, a := range addrs {
		if err := ctx.Err(); err != nil {
			return nil, errors.Join(append(all, err)...)
		}
		one, cancel := context.WithTimeout(ctx, c.Each)
		conn, err := dial(one, network, net.JoinHostPort(a.String(), port))
		cancel()
		if err == nil {
			context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
			return conn, nil
		}
		all = append(all, err)
	}
	return nil, errors.Join(all...)
}

// Refused reports whether all addresses that were tried refuse connections.
func Refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) && !Late(err) && !isAny(err, syscall.ECONNRESET, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EADDRNOTAVAIL)
}

// Wayless reports whether this host has no way to any of the addresses, as to IPv6 alone.
func Wayless(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) && !Late(err) && !isAny(err, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTUNREACH)
}

// Late reports whether any of the addresses was silent until the time was over.
func Late(err error) bool {
	var late interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) && late.Timeout()
}

func isAny(err error, marks ...error) bool {
	for _, mark := range marks {
		if errors.Is(err, mark) {
			return true
		}
	}
	return false
}
