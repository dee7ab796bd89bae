package app

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/site"
)

// webCert writes a certificate for the names, which is its own authority, and its key.
func webCert(t *testing.T, names ...string) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, priv.Public(), priv)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(leaf)
	return write("web.crt", "CERTIFICATE", der), write("web.key", "PRIVATE KEY", keyDER), roots
}

// policyPlan is a plan whose domain enforces, with a web server for it at the address.
func policyPlan(t *testing.T, web, cert, key string) *site.Plan {
	p := plan(t, freeAddr(t))
	p.Domains[0].MTASTS, p.Domains[0].MTASTSMaxAge = mtasts.Enforce, 28*24*time.Hour
	p.MTASTS = site.MTASTS{Listen: []netip.AddrPort{netip.MustParseAddrPort(web)}, Cert: cert, Key: key}
	return p
}

// TestPolicyServed: a sender that looks as RFC 8461 §3 says finds our policy, valid, with the
// id of the record that we log, and each MX host covered.
func TestPolicyServed(t *testing.T) {
	web := freeAddr(t)
	cert, key, roots := webCert(t, "mta-sts.example.com")
	p := policyPlan(t, web, cert, key)
	var log bytes.Buffer
	a, err := New(t.Context(), p, Options{Hold: true, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	policy, _ := p.Domains[0].Policy()
	record := mtasts.Record{ID: policy.ID()}.String()
	if !strings.Contains(log.String(), fmt.Sprintf("txt=%q", record)) || strings.Contains(log.String(), "certificate for mta-sts") {
		t.Errorf("the log lacks %q, or complains of the certificate:\n%s", record, log.String())
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()

	sender := &mtasts.Fetcher{
		Resolver: dnstest.Zone(t, "example.com", fmt.Sprintf(`
$TTL 300
@        SOA ns host 1 2 3 4 5
@        NS  ns.example.net.
@        MX  10 mx1
@        MX  20 mx2
@        MX  90 mx9
_mta-sts TXT %q
mta-sts  A   192.0.2.80
`, record)),
		Roots: roots,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, web)
		},
	}
	s := mtasts.Look(t.Context(), sender, dns.MustName("example.com"))
	if s.RecordErr != nil || s.PolicyErr != nil || s.HostsErr != nil || len(s.Findings) > 0 {
		t.Fatalf("record: %v, policy: %v, hosts: %v, findings: %v", s.RecordErr, s.PolicyErr, s.HostsErr, s.Findings)
	}
	if s.Fetched.Policy.Mode != mtasts.Enforce || s.Fetched.Policy.ID() != s.Record.ID || s.Fetched.ContentType != "text/plain; charset=utf-8" {
		t.Errorf("fetched %+v for the record %s", s.Fetched, s.Record)
	}
	if len(s.Hosts) != 3 {
		t.Errorf("hosts %v, want those of the ladder", s.Hosts)
	}
	for _, h := range s.Hosts {
		if !h.Covered {
			t.Errorf("%s is not covered", h.Name)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestPolicyPlain: without a certificate a reverse proxy finds the policy by its Host, others
// find nothing, and a header that is too large ends the matter.
func TestPolicyPlain(t *testing.T) {
	web := freeAddr(t)
	a, err := New(t.Context(), policyPlan(t, web, "", ""), Options{Hold: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	for _, row := range []struct {
		host, path, pad string
		code            int
		why             string
	}{
		{"mta-sts.example.com", "/.well-known/mta-sts.txt", "", http.StatusOK, "the policy"},
		{"mta-sts.example.net", "/.well-known/mta-sts.txt", "", http.StatusNotFound, "nobody's domain"},
		{"mta-sts.example.com", "/metrics", "", http.StatusNotFound, "nothing else is here"},
		{"mta-sts.example.com", "/.well-known/mta-sts.txt", strings.Repeat("x", 4*policyHeader), http.StatusRequestHeaderFieldsTooLarge, "no request is that long"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+web+row.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = row.host
		request.Header.Set("X-Pad", row.pad)
		transport := &http.Transport{DisableKeepAlives: true}
		response, err := transport.RoundTrip(request)
		if err != nil && row.code == http.StatusRequestHeaderFieldsTooLarge {
			continue // the server was gone before all of it was sent
		}
		if err != nil {
			t.Fatalf("%s: %v", row.why, err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != row.code {
			t.Errorf("%s: %s %q, %v", row.why, response.Status, body, err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestPolicyCert: a certificate for another name is a warning, and none at all is an error.
func TestPolicyCert(t *testing.T) {
	cert, key, _ := webCert(t, "www.example.com")
	var log bytes.Buffer
	a, err := New(t.Context(), policyPlan(t, freeAddr(t), cert, key), Options{Hold: true, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	if !strings.Contains(log.String(), "does not cover a policy's host") {
		t.Errorf("no warning:\n%s", log.String())
	}
	if _, err := New(t.Context(), policyPlan(t, freeAddr(t), key, key), Options{Hold: true}); err == nil || !strings.Contains(err.Error(), "read the certificate for mta-sts") {
		t.Errorf("error %v, want one that names the certificate", err)
	}
}

// TestPolicyRecord: where our own zone is the domain's, its record is the policy's, or there
// is a warning.
func TestPolicyRecord(t *testing.T) {
	for _, row := range []struct {
		id   func(p mtasts.Policy) string
		warn bool
		why  string
	}{
		{mtasts.Policy.ID, false, "the policy's own"},
		{func(mtasts.Policy) string { return "20260101" }, true, "that of the last policy"},
		{func(mtasts.Policy) string { return "2026-01-01" }, true, "one that senders cannot read"},
	} {
		p := policyPlan(t, freeAddr(t), "", "")
		policy, _ := p.Domains[0].Policy()
		file := filepath.Join(t.TempDir(), "example.com.zone")
		zone := fmt.Sprintf("@ 300 SOA ns host 1 2 3 4 5\n@ 300 NS ns.example.net.\n_mta-sts 300 TXT %q\n", mtasts.Record{ID: row.id(policy)}.String())
		if err := os.WriteFile(file, []byte(zone), 0o600); err != nil {
			t.Fatal(err)
		}
		p.DNS.Zones = []site.Zone{{Name: dns.MustName("example.com"), File: file}}
		var log bytes.Buffer
		a, err := New(t.Context(), p, Options{Hold: true, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
		if got := strings.Contains(log.String(), "lacks the record of the mta-sts policy"); got != row.warn {
			t.Errorf("%s: warned %t:\n%s", row.why, got, log.String())
		}
	}
}

// pipes is a listener that gives the connections sent to it.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestPolicyTimeouts: who says nothing, half a request, or nothing more is gone in time.
func TestPolicyTimeouts(t *testing.T) {
	for _, row := range []struct{ say, hears, why string }{
		{"", "", "silence"},
		{"GET / HTTP/1.1\r\nHost: mta-sts.exa", "", "half a request"},
		{"GET / HTTP/1.1\r\nHost: mta-sts.example.com\r\n\r\n", "HTTP/1.1 404", "a whole one, and no other after it"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := policyServer(mtasts.Handler(nil), slog.New(slog.DiscardHandler))
			ln := make(pipes)
			var serving sync.WaitGroup
			serving.Go(func() { s.Serve(ln) })
			client, server := net.Pipe()
			ln <- server
			began := time.Now()
			if _, err := io.WriteString(client, row.say); err != nil {
				t.Fatal(err)
			}
			said, err := io.ReadAll(client) // until the server closes
			if err != nil || !strings.HasPrefix(string(said), row.hears) {
				t.Errorf("%s: heard %q, %v", row.why, said, err)
			}
			if took := time.Since(began); took != policyTimeout {
				t.Errorf("%s: closed after %v, want %v", row.why, took, policyTimeout)
			}
			close(ln)
			serving.Wait()
		})
	}
}
