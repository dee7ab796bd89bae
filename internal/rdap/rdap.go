// Package rdap asks registries when the registration of a domain ends: RFC 9082 (the question),
// RFC 9083 (the answer), RFC 7480 (over HTTPS), by IANA's list of registries (RFC 9224).
//
// Not implemented: all else that registries say, of whom, by whom and in which state; other
// objects than domains; HTTP without TLS; answers that are kept.
package rdap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"mxward/internal/dns"
)

// iana is where the list of registries is (RFC 9224 §4).
const iana = "https://data.iana.org/rdap/dns.json"

// The limits of one question; ours, but for the first.
const (
	maxRedirects = 3 // RFC 7480 §5.2 lets a server send on
	timeout      = 15 * time.Second
	dialTimeout  = 5 * time.Second
	maxAddrs     = 4
	maxHeader    = 16 << 10
	maxList      = 2 << 20   // octets of IANA's list, which has some 60,000
	maxAnswer    = 512 << 10 // of a registry's answer
	listFor      = 24 * time.Hour
)

// What Ends tells apart; all else is trouble on the way.
var (
	// ErrNoRegistry: the registry of the top level has no server for such questions.
	ErrNoRegistry = errors.New("the registry is not in IANA's list")
	// ErrNoDate: the registry does not say when a registration ends.
	ErrNoDate = errors.New("the registry names no end")
)

// Client asks registries. The list of them is got once a day.
type Client struct {
	Resolver dns.Resolver
	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // nil: the network's
	Roots    *x509.CertPool                                                       // nil: the system's
	List     string                                                               // URL of the list; "" for IANA's
	// AllowLoopback lets registries be on this machine, as in a lab; otherwise no name leads
	// here.
	AllowLoopback bool

	mu   sync.Mutex
	list map[string]string // URL by top level
	at   time.Time
}

// Ends says when the registration of a domain ends, which is one that somebody registers, such as
// example.com.
func (c *Client) Ends(ctx context.Context, domain dns.Name) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	base, err := c.registry(ctx, domain)
	if err != nil {
		return time.Time{}, fmt.Errorf("find the registry of %s: %w", domain, err)
	}
	body, err := c.get(ctx, base+"domain/"+domain.String(), maxAnswer)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the registry of %s: %w", domain, err)
	}
	ends, err := parseEnd(body)
	if err != nil {
		return time.Time{}, fmt.Errorf("read what the registry of %s says: %w", domain, err)
	}
	return ends, nil
}

// registry gives the URL for questions about a domain: that of the longest suffix that is listed
// (RFC 9224 §5).
func (c *Client) registry(ctx context.Context, domain dns.Name) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.list == nil || time.Since(c.at) > listFor {
		where := c.List
		if where == "" {
			where = iana
		}
		body, err := c.get(ctx, where, maxList)
		if err != nil {
			return "", err
		}
		if c.list, err = parseList(body); err != nil {
			return "", err
		}
		c.at = time.Now()
	}
	for name, ok := domain, true; ok && name != dns.Root; name, ok = name.Parent() {
		if base, known := c.list[name.String()]; known {
			return base, nil
		}
	}
	return "", ErrNoRegistry
}

// get fetches a document over HTTPS and nothing else.
func (c *Client) get(ctx context.Context, where string, most int64) ([]byte, error) {
	transport := &http.Transport{
		DialContext:            c.dial,
		TLSClientConfig:        &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12}, // RFC 8996
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxHeader,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects || next.URL.Scheme != "https" {
			return fmt.Errorf("a redirect to %.80s is not followed", next.URL.Redacted())
		}
		return nil
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/rdap+json, application/json") // RFC 7480 §4.2
	request.Header.Set("User-Agent", "mxward")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: status %d", where, response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	if err == nil && int64(len(body)) > most {
		err = fmt.Errorf("get %s: more than %d octets", where, most)
	}
	return body, err
}

// dial looks for the host by the client's own resolver, and takes the first address that answers.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	name, err := dns.ParseName(host)
	if err != nil {
		return nil, err
	}
	set, err := dns.LookupAddrs(ctx, c.Resolver, name)
	if err != nil {
		return nil, err
	}
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	failed := []error{fmt.Errorf("%s has no address that can be reached", host)}
	for _, a := range set.Records[:min(maxAddrs, len(set.Records))] {
		if !c.AllowLoopback && !dns.Global(a) {
			continue
		}
		one, cancel := context.WithTimeout(ctx, dialTimeout)
		conn, err := dial(one, network, net.JoinHostPort(a.String(), port))
		cancel()
		if err == nil {
			return conn, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// parseList reads IANA's list (RFC 9224 §3): for each registry its top levels, and its URLs, of
// which one with https is taken.
func parseList(text []byte) (map[string]string, error) {
	var list struct {
		Services [][][]string `json:"services"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("read the list of registries: %w", err)
	}
	all := map[string]string{}
	for _, service := range list.Services {
		if len(service) < 2 {
			continue
		}
		for _, where := range service[1] {
			if u, err := url.Parse(where); err != nil || u.Scheme != "https" || u.Host == "" {
				continue
			}
			for _, top := range service[0] {
				all[strings.ToLower(strings.TrimSuffix(top, "."))] = strings.TrimSuffix(where, "/") + "/"
			}
			break
		}
	}
	if len(all) == 0 {
		return nil, errors.New("read the list of registries: it names none")
	}
	return all, nil
}

// parseEnd reads the day on which a registration ends (RFC 9083 §4.5, §10.2.3).
func parseEnd(text []byte) (time.Time, error) {
	var domain struct {
		Class  string `json:"objectClassName"`
		Events []struct {
			Action string `json:"eventAction"`
			Date   string `json:"eventDate"`
		} `json:"events"`
	}
	if err := json.Unmarshal(text, &domain); err != nil {
		return time.Time{}, err
	}
	if domain.Class != "domain" {
		return time.Time{}, fmt.Errorf("it is no domain, but %.40q", domain.Class)
	}
	for _, e := range domain.Events {
		if e.Action != "expiration" {
			continue
		}
		at, err := time.Parse(time.RFC3339, e.Date)
		if err != nil {
			return time.Time{}, fmt.Errorf("%w: %.40q is no time", ErrNoDate, e.Date)
		}
		return at.UTC(), nil
	}
	return time.Time{}, ErrNoDate
}
