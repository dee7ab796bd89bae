package app

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns/dnstest"
	"mxward/internal/mail"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/queue"
	"mxward/internal/site"
)

// watchedZone is what the world sees of example.com; more lines come behind.
const watchedZone = `
@    300 SOA ns1 hostmaster 1 14400 3600 604800 3600
@    300 NS  ns1
ns1  300 A   192.0.2.53
@    300 MX  10 mx1
@    300 MX  20 mx2
@    300 MX  90 mx9
mx1  300 A   203.0.113.1
mx2  300 A   203.0.113.2
mx9  300 A   127.0.0.9
@    300 TXT "v=spf1 mx -all"
`

// watchedWorld is a small internet for one resolver's questions.
func watchedWorld(t *testing.T) (n *dnstest.Net, hints string) {
	t.Helper()
	n = &dnstest.Net{}
	n.Serve("192.0.2.1", dnstest.Zone(t, ".", "@ 300 SOA ns.root.example. hostmaster.root.example. 1 2 3 4 5\n@ 300 NS ns.root.example.\nns.root.example. 300 A 192.0.2.1\ncom. 300 NS ns.com.\nns.com. 300 A 192.0.2.2\n"))
	n.Serve("192.0.2.2", dnstest.Zone(t, "com", "@ 300 SOA ns hostmaster 1 2 3 4 5\n@ 300 NS ns\nns 300 A 192.0.2.2\nexample 300 NS ns1.example\nns1.example 300 A 192.0.2.53\n"))
	n.Serve("192.0.2.53", dnstest.Zone(t, "example.com", watchedZone))
	hints = filepath.Join(t.TempDir(), "hints")
	if err := os.WriteFile(hints, []byte(". 3600 NS ns.root.example.\nns.root.example. 3600 A 192.0.2.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return n, hints
}

func watchingPlan(t *testing.T, hints string) *site.Plan {
	t.Helper()
	p := plan(t, freeAddr(t))
	p.Resolver.RootHints = hints
	p.Watch = site.Watch{On: true, Interval: time.Hour, MailTo: []mail.Address{mustAddress(t, "bob@example.com")}, MailFrom: mustAddress(t, "mxward@example.com"), Severity: "warning", Profile: "mail"}
	return p
}

// TestWatch: a zone that changes for the worse is told by mail, through the queue to the mailbox,
// once.
func TestWatch(t *testing.T) {
	n, hints := watchedWorld(t)
	p := watchingPlan(t, hints)
	p.Reports.From, p.Reports.DKIMSelector, p.Reports.DKIMKey = mustAddress(t, "reports@example.com"), "s1", signingKey(t)
	opts := Options{DialDNS: n.Dial, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	a, err := New(t.Context(), p, opts)
	if err != nil {
		t.Fatal(err)
	}
	look := func() {
		t.Helper()
		if all, err := a.watcher.Once(t.Context()); err != nil || len(all) != 1 {
			t.Fatalf("%d looks: %v", len(all), err)
		}
	}
	queued := func() []queue.Entry {
		t.Helper()
		entries, err := a.Queue().List(t.Context(), queue.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		return entries
	}
	look()
	look() // what is wrong at the beginning is told
	before := len(queued())
	n.Serve("192.0.2.53", dnstest.Zone(t, "example.com", watchedZone+"@ 300 TXT \"v=spf1 -all\"\n"))
	look()
	if len(queued()) != before {
		t.Error("a look alone is told")
	}
	look()
	look()
	if got := len(queued()); got != before+1 {
		t.Fatalf("%d messages more, want one", got-before)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	text := delivered(t, p.Domains[0].Deliver.Path, "spf.multiple")
	for _, part := range []string{"DKIM-Signature: ", "d=example.com", "s=s1", "\nFrom: mxward@example.com\n", "\nTo: bob@example.com\n", "\nAuto-Submitted: auto-generated\n", "worse: error spf.multiple: ", "[mxward] example.com: "} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
	scraped := httptest.NewRecorder()
	a.metricsHandler().ServeHTTP(scraped, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{`mxward_watch_findings{domain="example.com",severity="error"} `, `mxward_watch_unknown{blame="zone",domain="example.com"} 0`, `mxward_watch_last_look_timestamp_seconds{domain="example.com"} 1.`, "mxward_watch_unsent 0", `mxward_watch_changes_total{change="better"} 0`} {
		if !strings.Contains(scraped.Body.String(), "\n"+line) {
			t.Errorf("no metric %s", line)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}

	// After a restart it is known what was told.
	if a, err = New(t.Context(), p, opts); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	look()
	look()
	if got := queued(); len(got) != 0 {
		t.Errorf("told again: %v", got)
	}
}

// signingKey makes a key for messages, in a file.
func signingKey(t *testing.T) string {
	t.Helper()
	key, err := dkim.GenerateEd25519()
	if err != nil {
		t.Fatal(err)
	}
	text, err := dkim.MarshalPrivate(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "s1.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// delivered waits for a message that has a text.
func delivered(t *testing.T, folder, text string) string {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(folder, "*", "*", "new", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if got, err := os.ReadFile(file); err == nil && bytes.Contains(got, []byte(text)) {
				return strings.ReplaceAll(string(got), "\r\n", "\n")
			}
		}
	}
	t.Fatalf("no message with %q was delivered", text)
	return ""
}

// TestNoWatch: without [watch] nobody looks.
func TestNoWatch(t *testing.T) {
	a, err := New(t.Context(), plan(t, freeAddr(t)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if a.watcher != nil {
		t.Error("somebody watches")
	}
}

// TestWatchBaseline: a baseline that cannot be read ends New, not the first look.
func TestWatchBaseline(t *testing.T) {
	_, hints := watchedWorld(t)
	p := watchingPlan(t, hints)
	p.Watch.Baseline = filepath.Join(t.TempDir(), "known.toml")
	if err := os.WriteFile(p.Watch.Baseline, []byte("[[ignore]]\nid = \"no.such\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), p, Options{}); err == nil || !strings.Contains(err.Error(), "known.toml:1") {
		t.Errorf("error %v", err)
	}
}

// TestWatchWords: the plan, which knows nothing of audits, has the words of package audit.
func TestWatchWords(t *testing.T) {
	text := func(key, word string) error {
		_, err := site.Parse([]byte("[watch]\n"+key+" = \""+word+"\"\n"), "test.toml")
		return err
	}
	for _, s := range audit.Severities() {
		if err := text("severity", string(s)); strings.Contains(err.Error(), "watch.") {
			t.Error(err)
		}
	}
	for _, p := range audit.Profiles() {
		if err := text("profile", string(p)); strings.Contains(err.Error(), "watch.") {
			t.Error(err)
		}
	}
}

// TestWatchStore: what was kept comes back, and nothing is no error.
func TestWatchStore(t *testing.T) {
	a, err := New(t.Context(), plan(t, freeAddr(t)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	s := watchStore{a.store}
	if text, err := s.Load(t.Context()); err != nil || text != nil {
		t.Errorf("got %q, %v", text, err)
	}
	if err := s.Save(t.Context(), []byte("state")); err != nil {
		t.Fatal(err)
	}
	if text, err := s.Load(t.Context()); err != nil || string(text) != "state" {
		t.Errorf("got %q, %v", text, err)
	}
	if _, err := (watchStore{brokenState{}}).Load(t.Context()); err == nil {
		t.Error("a store that is down has no state")
	}
}

// brokenState is a store that is down.
type brokenState struct{}

func (brokenState) SaveState(context.Context, time.Time, string, string, func(io.Writer) error) error {
	return io.ErrUnexpectedEOF
}
func (brokenState) LoadState(context.Context, string, string) (io.Reader, error) {
	return nil, io.ErrUnexpectedEOF
}
