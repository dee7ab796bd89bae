package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var (
	first  = netip.MustParseAddr("203.0.113.80")
	second = netip.MustParseAddr("203.0.113.81")
)

func get(t *testing.T, c Client, url string, limit time.Duration, addrs ...netip.Addr) (*http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Do(request, addrs)
}

// TestEnds: a server that takes the connection and says nothing, in the handshake or behind it, holds
// nothing of ours when the time is over: the bubble would not end with a goroutine that waits.
func TestEnds(t *testing.T) {
	for _, url := range []string{"https://example.com/", "http://example.com/"} {
		synctest.Test(t, func(t *testing.T) {
			c := Client{Each: time.Second, Dial: func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, far) }()
				return near, nil
			}}
			began := time.Now()
			if _, err := get(t, c, url, 10*time.Second, first); !Late(err) || time.Since(began) != 10*time.Second {
				t.Errorf("%s: %v after %s", url, err, time.Since(began))
			}
		})
	}
}

// TestEach: an address that is silent does not take the time of the next, and none is tried when the
// time is over.
func TestEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tried []string
		c := Client{Each: 4 * time.Second, Port: 8443, Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
			tried = append(tried, address)
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		began := time.Now()
		_, err := get(t, c, "http://example.com/", 6*time.Second, first, second, first)
		if time.Since(began) != 6*time.Second || !Late(err) {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		synctest.Wait()
		if got := strings.Join(tried, " "); got != "203.0.113.80:8443 203.0.113.81:8443" {
			t.Errorf("tried %s", got)
		}
	})
}

// TestNoRoots: who knows no authority does not say that a certificate is not valid.
func TestNoRoots(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	others := x509.NewCertPool()
	others.AddCert(&x509.Certificate{Raw: []byte("another authority"), RawSubject: []byte("another")})
	for why, tt := range map[string]struct {
		roots *x509.CertPool
		none  bool
	}{"no authority at all": {x509.NewCertPool(), true}, "none that made it": {others, false}} {
		c := Client{Each: time.Minute, Roots: tt.roots, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
		}}
		_, err := get(t, c, "https://example.com/", time.Minute, first)
		var cert *tls.CertificateVerificationError
		if errors.Is(err, ErrNoRoots) != tt.none || errors.As(err, &cert) == tt.none {
			t.Errorf("%s: %v", why, err)
		}
	}
}

// TestWords: what may be said of a server is what all its addresses have shown.
func TestWords(t *testing.T) {
	op := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	refused, silent, wayless, reset := op(syscall.ECONNREFUSED), op(context.DeadlineExceeded), op(syscall.ENETUNREACH), op(syscall.ECONNRESET)
	for _, tt := range []struct {
		why                    string
		errs                   []error
		refused, wayless, late bool
	}{
		{"all refuse", []error{refused, refused}, true, false, false},
		{"one refuses, and one is silent", []error{refused, silent}, false, false, true},
		{"one is silent, and one refuses", []error{silent, refused}, false, false, true},
		{"one refuses, and to the other there is no way from here", []error{refused, wayless}, false, false, false},
		{"one refuses, and one hangs up", []error{refused, reset}, false, false, false},
		{"there is no way from here to either", []error{wayless, wayless}, false, true, false},
		{"there is no way from here to one, and the other is silent", []error{wayless, silent}, false, false, true},
	} {
		n := 0
		c := Client{Each: time.Second, Dial: func(context.Context, string, string) (net.Conn, error) {
			n++
			return nil, tt.errs[n-1]
		}}
		_, err := get(t, c, "https://example.com/", time.Minute, first, second)
		if Refused(err) != tt.refused || Wayless(err) != tt.wayless || Late(err) != tt.late {
			t.Errorf("%s: refused %v, wayless %v, late %v: %v", tt.why, Refused(err), Wayless(err), Late(err), err)
		}
	}
}

// TestHeader: of a header that does not end no more is read than the limit; no redirect is followed.
func TestHeader(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path == "/long" {
			w.Header().Set("X-Long", strings.Repeat("x", 64<<10))
		}
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	defer s.Close()
	c := Client{Each: time.Minute, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}}
	if _, err := get(t, c, "http://example.com/long", time.Minute, first); err == nil {
		t.Error("a header of 64 KiB was read")
	}
	response, err := get(t, c, "http://example.com/", time.Minute, first)
	if err != nil || response.StatusCode != http.StatusFound || asked != 2 {
		t.Fatalf("%v, %v, %d requests", response, err, asked)
	}
	response.Body.Close()
}
