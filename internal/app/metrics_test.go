package app

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/resolver"
	"mxward/internal/dns/server"
	"mxward/internal/edge"
	"mxward/internal/smtp"
)

// The rules of names: https://prometheus.io/docs/practices/naming.
func TestMetricNames(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range metrics {
		switch {
		case seen[m.name]:
			t.Errorf("%s stands twice", m.name)
		case !regexp.MustCompile(`^mxward(_[a-z]+)+$`).MatchString(m.name):
			t.Errorf("%s is not mxward_ and snake case", m.name)
		case (m.kind == prometheus.CounterValue) != strings.HasSuffix(m.name, "_total"):
			t.Errorf("%s: a counter, and nothing else, ends in _total", m.name)
		case regexp.MustCompile(`_(ms|milliseconds|minutes|kib|kilobytes|count)(_|$)`).MatchString(m.name):
			t.Errorf("%s: seconds and bytes are the units", m.name)
		case len(m.help) < 20 || !strings.HasSuffix(m.help, "."):
			t.Errorf("%s: the help is %q", m.name, m.help)
		}
		for _, l := range m.labels {
			if !regexp.MustCompile(`^[a-z]+$`).MatchString(l) {
				t.Errorf("%s: label %q", m.name, l)
			}
		}
		seen[m.name] = true
	}
}

// docs/metrics.md lists every metric with its labels and its help, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, m := range metrics {
		want = append(want, "| `"+m.name+"` | "+strings.Join(m.labels, ", ")+" | "+m.help+" |")
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| `mxward_") {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("docs/metrics.md should have these rows:\n%s", strings.Join(want, "\n"))
	}
}

// What the rooms have counted can be read by a scraper.
func TestMetrics(t *testing.T) {
	var n dnstest.Net
	n.Set("192.0.2.53", dnstest.Host{Recursion: true, Resolver: dnstest.Zone(t, "example.com", "@ 300 SOA ns hostmaster 1 3600 900 604800 300\n@ 300 NS ns\n@ 300 MX 10 mx1\nns 300 A 192.0.2.53\n")})
	a := &App{
		iterative: &resolver.Resolver{
			Dial:     n.Dial,
			Forwards: []resolver.Forward{{Zone: dns.Root, Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}}},
		},
		gate:        &edge.Gate{Plan: plan(t, "127.0.0.1:2525")},
		dnsServers:  map[string]*server.Server{"dns": {}, "resolver": {}},
		smtpServers: []*smtp.Server{{Hostname: "mx1.example.com"}},
	}
	for _, name := range []string{"example.com", "example.com", "gone.example.com", "example.net"} {
		a.iterative.Resolve(t.Context(), dns.Question{Name: dns.MustName(name), Type: dns.TypeMX})
	}
	s := httptest.NewServer(a.metricsHandler())
	defer s.Close()
	body, code := get(t, s.URL+"/metrics")
	if code != http.StatusOK {
		t.Fatalf("%d\n%s", code, body)
	}
	for _, want := range []string{
		`mxward_dns_questions_total{type="MX"} 4`,
		`mxward_dns_questions_total{type="cached"} 0`,
		`mxward_dns_results_total{result="NOERROR"} 2`,
		`mxward_dns_results_total{result="NXDOMAIN"} 1`,
		`mxward_dns_results_total{result="server-failed"} 1`,
		`mxward_dns_cache_hits_total 1`,
		`mxward_dns_server_queries_total{listener="resolver"} 0`,
		`mxward_dns_server_troubles_total{listener="dns",trouble="malformed"} 0`,
		`mxward_smtp_sessions_open{host="mx1.example.com"} 0`,
		`# TYPE mxward_smtp_sessions_open gauge`,
		`# TYPE mxward_dns_upstream_packets_total counter`,
		`# TYPE mxward_dns_upstream_reply_seconds histogram`,
		`mxward_dns_upstream_reply_seconds_bucket{le="0.001"}`,
		`mxward_dns_upstream_reply_seconds_bucket{le="2.5"} 3`,
		`mxward_dns_upstream_reply_seconds_bucket{le="+Inf"} 3`,
		`mxward_dns_upstream_reply_seconds_count 3`,
		`go_goroutines`,
	} {
		if !strings.Contains(body, want+"\n") && !strings.Contains(body, want+" ") {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	if _, code := get(t, s.URL+"/"); code != http.StatusNotFound {
		t.Errorf("/ gives %d", code)
	}
}

func get(t *testing.T, url string) (string, int) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body), r.StatusCode
}

// The plan decides whether anybody listens, and Close ends it.
func TestListenMetrics(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := netip.MustParseAddrPort(ln.Addr().String())
	p := plan(t, "127.0.0.1:2525")
	a := &App{plan: p}
	if err := a.listenMetrics(t.Context()); err != nil || len(a.services) != 0 {
		t.Errorf("without a listen: %v, %d services", err, len(a.services))
	}
	p.Metrics.Listen = free
	a.iterative, a.gate = &resolver.Resolver{}, &edge.Gate{Plan: p}
	a.log = slog.New(slog.DiscardHandler)
	if err := a.listenMetrics(t.Context()); err == nil || !strings.Contains(err.Error(), "listen for metrics") {
		t.Errorf("a socket that is taken: %v", err)
	}
	ln.Close()
	if err := a.listenMetrics(t.Context()); err != nil || len(a.services) != 1 {
		t.Fatalf("%v, %d services", err, len(a.services))
	}
	done := make(chan error, 1)
	go func() { done <- a.services[0].run() }()
	if _, code := get(t, "http://"+free.String()+"/metrics"); code != http.StatusOK {
		t.Errorf("%d", code)
	}
	if err := a.services[0].stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	a.Close()
}
