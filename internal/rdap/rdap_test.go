package rdap

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

const (
	list = `{"version":"1.0","services":[[["net","ORG"],["http://rdap.example.com/","https://rdap.example.com/v1"]],[["com"],["ftp://rdap.example.com/"]],[["short"]]]}`
	ends = `{"objectClassName":"domain","events":[{"eventAction":"registration","eventDate":"2001-02-03T04:05:06Z"},{"eventAction":"expiration","eventDate":"2030-02-03T04:05:06+01:00"}]}`
)

// server is a registry, and IANA's list beside it, wherever a client goes.
func server(t *testing.T, answer http.HandlerFunc) *Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/list", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, list) })
	mux.HandleFunc("/v1/domain/", answer)
	s := httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	// The certificate of httptest is for example.com and names below it.
	return &Client{Resolver: world(t), Dial: dial, Roots: roots, List: "https://list.example.com/list"}
}

func world(t *testing.T) dns.Resolver {
	return dnstest.Zone(t, ".", `
@ 300 SOA ns.example.com. hostmaster.example.com. 1 2 3 4 5
@ 300 NS ns.example.com.
list.example.com. 300 A 192.0.2.80
rdap.example.com. 300 A 192.0.2.81
local.example.com. 300 A 127.0.0.1
inside.example.com. 300 A 10.0.0.5
inside.example.com. 300 AAAA 64:ff9b::a00:5
bare.example.com. 300 TXT "here"
`)
}

// Each row is what a registry does, and what comes of it.
func TestEnds(t *testing.T) {
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
	}
	for _, tt := range []struct {
		why, domain string
		answer      http.HandlerFunc
		want        string // the time, or what stands in the error
	}{
		{"an end", "example.net", text(ends), "2030-02-03T03:05:06Z"},
		{"a registry that is listed in upper case", "example.org", text(ends), "2030-02-03T03:05:06Z"},
		{"a registry without https", "example.com", text(ends), "not in IANA's list"},
		{"no end", "example.net", text(`{"objectClassName":"domain","events":[]}`), "names no end"},
		{"an end that is no time", "example.net", text(`{"objectClassName":"domain","events":[{"eventAction":"expiration","eventDate":"soon"}]}`), `"soon" is no time`},
		{"another object", "example.net", text(`{"objectClassName":"entity"}`), "it is no domain"},
		{"no JSON", "example.net", text("<html>"), "invalid character"},
		{"a domain that it does not have", "example.net", http.NotFound, "status 404"},
		{"too often", "example.net", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }, "status 429"},
		{"too much", "example.net", text(strings.Repeat(" ", maxAnswer+1)), "more than 524288 octets"},
		{"a redirect that loses TLS", "example.net", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://rdap.example.com/", http.StatusFound)
		}, "is not followed"},
		{"redirects without end", "example.net", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "is not followed"},
	} {
		c := server(t, tt.answer)
		at, err := c.Ends(t.Context(), dns.MustName(tt.domain))
		got := at.Format(time.RFC3339)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %s, want %s", tt.why, got, tt.want)
		}
	}
}

// TestList: the list is got once, and not at each question.
func TestList(t *testing.T) {
	c := server(t, http.NotFound)
	if _, err := c.registry(t.Context(), dns.MustName("www.example.net")); err != nil {
		t.Fatal(err)
	}
	c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, io.EOF }
	if base, err := c.registry(t.Context(), dns.MustName("example.org")); err != nil || base != "https://rdap.example.com/v1/" {
		t.Errorf("%s, %v", base, err)
	}
	if _, err := c.registry(t.Context(), dns.MustName("example.edu")); !errors.Is(err, ErrNoRegistry) {
		t.Errorf("%v", err)
	}
}

// TestNotHere: no name of a registry's leads to this host, and one without an address nowhere.
func TestNotHere(t *testing.T) {
	c := &Client{Resolver: world(t), Dial: func(context.Context, string, string) (net.Conn, error) {
		t.Error("somebody was called")
		return nil, io.EOF
	}}
	for _, host := range []string{"local.example.com", "inside.example.com", "bare.example.com", "gone.example.com"} {
		if _, err := c.dial(t.Context(), "tcp", host+":443"); err == nil || !strings.Contains(err.Error(), "no address") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// TestSilent: a registry that says nothing costs so much time and no more.
func TestSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		c := &Client{Resolver: world(t), Dial: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, far) }()
			t.Cleanup(func() { far.Close() })
			return near, nil
		}, List: "https://list.example.com/list"}
		if _, err := c.Ends(t.Context(), dns.MustName("example.net")); err == nil {
			t.Error("no error")
		}
		if took := time.Since(began); took != timeout {
			t.Errorf("it took %s", took)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(list))
	f.Add([]byte(ends))
	f.Add([]byte(`{"services":[[["a"],["https://h"]]]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		services, err := parseList(text)
		for _, base := range services {
			if !strings.HasPrefix(strings.ToLower(base), "https://") || !strings.HasSuffix(base, "/") || err != nil {
				t.Errorf("%q, %v", base, err)
			}
		}
		if at, err := parseEnd(text); err == nil && at.Location() != time.UTC {
			t.Errorf("%v", at)
		}
	})
}
