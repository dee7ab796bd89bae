package mtasts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/fetch"
)

// Limits of a fetch.
const (
	fetchTimeout = time.Minute      // RFC 8461 §3.3
	dialTimeout  = 20 * time.Second // ours: for one address
	maxAddrs     = 8                // ours: addresses that are tried
)

const (
	recordLabel = "_mta-sts"
	hostLabel   = "mta-sts"
	policyPath  = "/.well-known/mta-sts.txt" // RFC 8461 §3.3
)

// RecordName gives where the record of a domain stands: _mta-sts.DOMAIN (RFC 8461 §3.1).
func RecordName(domain dns.Name) (dns.Name, error) { return domain.Child(recordLabel) }

// PolicyHost gives the web server of a domain's policy: mta-sts.DOMAIN (RFC 8461 §3.2).
func PolicyHost(domain dns.Name) (dns.Name, error) { return domain.Child(hostLabel) }

// Fetcher looks for the policies of other domains. It heeds no proxy of the environment and
// no HTTP cache (RFC 8461 §3.3).
type Fetcher struct {
	Resolver dns.Resolver
	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // nil: the network's
	Roots    *x509.CertPool                                                       // nil: the system's
	Port     uint16                                                               // 0: 443
	// AllowLoopback lets policies come from this machine, or near, as in a lab; otherwise no name
	// leads here.
	AllowLoopback bool
	// Wrap stands something between Fetch and the web, such as a recording; nil: nothing.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Fetched is a policy and how it came.
type Fetched struct {
	Policy      Policy
	Body        string // at most 64 KiB
	ContentType string // should be text/plain
	TLS         tls.ConnectionState
}

// Record asks for the record of a domain. The error is an *Error; trouble of the DNS is
// ErrTemporary.
func (f *Fetcher) Record(ctx context.Context, domain dns.Name) (Record, error) {
	texts, err := f.texts(ctx, domain)
	if err != nil {
		return Record{}, err
	}
	return Choose(texts)
}

// texts gives the TXT records at _mta-sts of the domain. CNAMEs lead on (RFC 8461 §8.2).
func (f *Fetcher) texts(ctx context.Context, domain dns.Name) ([]string, error) {
	name, err := RecordName(domain)
	if err != nil {
		return nil, &Error{Class: ErrNone, ID: "mtasts.txt-missing", Fault: "the domain is too long to have MTA-STS", Err: err}
	}
	set, err := dns.LookupTXT(ctx, f.Resolver, name)
	if err != nil {
		return nil, &Error{Class: ErrTemporary, ID: "mtasts.temperror", Fault: "ask for the record", Err: err}
	}
	return set.Records, nil
}

// Fetch gets the policy of a domain, within a minute or ctx. The error is an *Error, of the
// class ErrPermanent or ErrTemporary; what came is given beside it as far as it is known.
func (f *Fetcher) Fetch(ctx context.Context, domain dns.Name) (Fetched, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	host, err := PolicyHost(domain)
	if err != nil {
		return Fetched{}, &Error{Class: ErrPermanent, ID: "mtasts.host-unresolvable", Fault: "the domain is too long to have MTA-STS", Err: err}
	}
	addrs, err := f.addrs(ctx, host)
	if err != nil {
		return Fetched{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host.String()+policyPath, nil)
	if err != nil {
		return Fetched{}, &Error{Class: ErrPermanent, ID: "mtasts.https-error", Fault: "the domain makes no URL", Err: err}
	}
	web := fetch.Client{Dial: f.Dial, Roots: f.Roots, Port: f.Port, Each: dialTimeout, Wrap: f.Wrap} // which follows no redirect
	response, err := web.Do(request, addrs)
	if err != nil {
		return Fetched{}, fetchError(host, err)
	}
	defer response.Body.Close()
	return readResponse(host, response)
}

func (f *Fetcher) addrs(ctx context.Context, host dns.Name) ([]netip.Addr, error) {
	set, err := dns.LookupAddrsInTurn(ctx, f.Resolver, host) // most domains have no such host
	if err != nil {
		return nil, &Error{Class: ErrTemporary, ID: "mtasts.temperror", Fault: "find " + host.String(), Err: err}
	}
	var addrs []netip.Addr
	for _, a := range set.Records {
		a = a.Unmap()
		if (f.AllowLoopback || dns.Global(a)) && len(addrs) < maxAddrs {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		fault := host.String() + " has no address"
		if len(set.Records) > 0 {
			fault = host.String() + " has only addresses that no other host can reach"
		}
		return nil, &Error{Class: ErrPermanent, ID: "mtasts.host-unresolvable", Fault: fault, Fix: "publish the address of the web server with the policy"}
	}
	return addrs, nil
}

// fetchError tells a certificate that is not valid, which stays so, from the rest.
func fetchError(host dns.Name, err error) *Error {
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return &Error{Class: ErrPermanent, ID: "mtasts.cert", Fault: "the certificate is not valid for " + host.String(), Err: err,
			Fix: "get one from a public certificate authority"}
	}
	return &Error{Class: ErrTemporary, ID: "mtasts.https-error", Fault: "get https://" + host.String() + policyPath, Err: err}
}

func readResponse(host dns.Name, response *http.Response) (Fetched, error) {
	got := Fetched{ContentType: response.Header.Get("Content-Type")}
	if response.TLS != nil {
		got.TLS = *response.TLS
	}
	switch code := response.StatusCode; {
	case code >= 300 && code < 400:
		// RFC 8461 §3.3: redirects are not followed.
		return got, &Error{Class: ErrPermanent, ID: "mtasts.redirect", Found: clip(response.Header.Get("Location")),
			Fault: fmt.Sprintf("%s answers with the redirect %d, which senders do not follow (RFC 8461 §3.3)", host, code), Fix: "serve the policy there itself"}
	case code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout:
		return got, &Error{Class: ErrTemporary, ID: "mtasts.status", Fault: fmt.Sprintf("%s answers with status %d", host, code)}
	case code != http.StatusOK:
		return got, &Error{Class: ErrPermanent, ID: "mtasts.status", Fault: fmt.Sprintf("%s answers with status %d, not 200 (RFC 8461 §3.3)", host, code), Fix: "serve the policy at " + policyPath}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxPolicy+1))
	if len(body) > maxPolicy {
		return got, &Error{Class: ErrPermanent, ID: "mtasts.too-large", Fault: tooLarge}
	}
	if err != nil {
		return got, &Error{Class: ErrTemporary, ID: "mtasts.https-error", Fault: "read the policy from " + host.String(), Err: err}
	}
	got.Body = string(body)
	got.Policy, err = ParsePolicy(got.Body)
	return got, err
}

// plainText reports whether the policy came as RFC 8461 §3.2 wants it.
func plainText(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && kind == "text/plain"
}
