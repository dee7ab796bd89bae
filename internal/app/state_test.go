package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/resolver"
	"mxward/internal/store"
)

// stateful gives the daemon's resolver with a store.
func stateful(t *testing.T, kept store.Engine, n *dnstest.Net, log *bytes.Buffer) *App {
	t.Helper()
	return &App{plan: plan(t, "127.0.0.1:2525"), store: kept, log: slog.New(slog.NewTextHandler(log, nil)), iterative: &resolver.Resolver{
		Dial:     n.Dial,
		Forwards: []resolver.Forward{{Zone: dns.Root, Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}}},
	}}
}

func openState(t *testing.T) store.Engine {
	t.Helper()
	e, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "mxward.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// downStore is one that cannot be reached.
type downStore struct{ store.Engine }

var errDown = errors.New("connection refused")

func (downStore) SaveState(context.Context, time.Time, string, string, func(io.Writer) error) error {
	return errDown
}
func (downStore) LoadState(context.Context, string, string) (io.Reader, error) { return nil, errDown }

// What was known before a restart is known after it, without a question to anybody; what is
// spoilt, of another plan, or out of reach is a line in the log, and an empty cache.
func TestWarmStart(t *testing.T) {
	var n dnstest.Net
	n.Set("192.0.2.53", dnstest.Host{Recursion: true, Resolver: dnstest.Zone(t, "example.com", "@ 300 SOA ns hostmaster 1 3600 900 604800 300\n@ 300 NS ns\nns 300 A 192.0.2.53\n@ 300 MX 10 mx1\n")})
	kept := openState(t)
	var log bytes.Buffer
	// run is a daemon from its start to a clean stop, and gives what it has asked.
	run := func(a *App) int {
		t.Helper()
		n.Forget()
		log.Reset()
		a.loadCache(t.Context())
		set, err := dns.LookupMX(t.Context(), a.iterative, dns.MustName("example.com"))
		if err != nil || len(set.Records) != 1 {
			t.Fatalf("%v, %v", set, err)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		a.keepCache(ended)
		return n.Total()
	}
	other := stateful(t, kept, &n, &log)
	other.iterative.RebindProtection = true
	spoil := func() {
		m := other.memory()
		if err := kept.SaveState(t.Context(), time.Now(), m.gate, cacheState, func(w io.Writer) error {
			_, err := io.WriteString(w, "nonsense")
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		why   string
		app   *App
		first func()
		asked int
		log   string
	}{
		{"nothing is kept yet", stateful(t, kept, &n, &log), nil, 1, ""},
		{"a restart", stateful(t, kept, &n, &log), nil, 0, "was loaded"},
		{"another plan", other, nil, 1, "it was made with other roots"},
		{"back to the first one", stateful(t, kept, &n, &log), nil, 1, "it was made with other roots"},
		{"nonsense", stateful(t, kept, &n, &log), spoil, 1, "not a dump of a cache"},
		{"and healed", stateful(t, kept, &n, &log), nil, 0, "was loaded"},
		{"a store that is down", stateful(t, downStore{kept}, &n, &log), nil, 1, "connection refused"},
	} {
		if row.first != nil {
			row.first()
		}
		if asked := run(row.app); asked != row.asked || !strings.Contains(log.String(), row.log) {
			t.Errorf("%s: %d questions, want %d; log, which should have %q:\n%s", row.why, asked, row.asked, row.log, log.String())
		}
	}
}

// Anchors come back as they were kept; before that there are none; each gate has its own.
func TestAnchorState(t *testing.T) {
	kept := openState(t)
	m := memory{kept, "mx1.example.com"}
	if text, err := m.LoadAnchors(t.Context()); text != nil || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	for _, want := range []string{"one", "two"} {
		if err := m.SaveAnchors(t.Context(), []byte(want)); err != nil {
			t.Error(err)
		}
		if text, err := m.LoadAnchors(t.Context()); string(text) != want || err != nil {
			t.Errorf("%q, %v", text, err)
		}
	}
	if text, err := (memory{kept, "mx2.example.com"}).LoadAnchors(t.Context()); text != nil || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if err := m.SaveAnchors(t.Context(), make([]byte, maxAnchors+1)); err != nil {
		t.Error(err)
	}
	if _, err := m.LoadAnchors(t.Context()); err == nil {
		t.Error("anchors without end were read")
	}
	down := memory{downStore{kept}, "mx1.example.com"}
	if _, err := down.LoadAnchors(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("%v", err)
	}
	if err := down.SaveAnchors(t.Context(), nil); !errors.Is(err, errDown) {
		t.Errorf("%v", err)
	}
}
