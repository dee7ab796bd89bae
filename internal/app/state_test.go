package app

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/resolver"
)

// stateful gives the daemon's resolver with a folder.
func stateful(t *testing.T, folder string, n *dnstest.Net, log *bytes.Buffer) *App {
	t.Helper()
	p := plan(t, "127.0.0.1:2525")
	p.Resolver.State = folder
	a := &App{plan: p, log: slog.New(slog.NewTextHandler(log, nil)), iterative: &resolver.Resolver{
		Dial:     n.Dial,
		Forwards: []resolver.Forward{{Zone: dns.Root, Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}}},
	}}
	if err := a.keepState(); err != nil {
		t.Fatal(err)
	}
	return a
}

// What was known before a restart is known after it, without a question to anybody; and a
// spoilt cache is a line in the log, and an empty cache.
func TestWarmStart(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "state", "resolver")
	var n dnstest.Net
	n.Set("192.0.2.53", dnstest.Host{Recursion: true, Resolver: dnstest.Zone(t, "example.com", "@ 300 SOA ns hostmaster 1 3600 900 604800 300\n@ 300 NS ns\nns 300 A 192.0.2.53\n@ 300 MX 10 mx1\n")})
	ask := func(a *App) {
		t.Helper()
		set, err := dns.LookupMX(t.Context(), a.iterative, dns.MustName("example.com"))
		if err != nil || len(set.Records) != 1 {
			t.Fatalf("%v, %v", set, err)
		}
	}
	var log bytes.Buffer
	first := stateful(t, folder, &n, &log)
	ask(first)
	first.Close()
	n.Forget()
	second := stateful(t, folder, &n, &log)
	ask(second)
	if n.Total() != 0 {
		t.Errorf("%d questions after a warm start", n.Total())
	}
	second.Close()
	if err := os.WriteFile(filepath.Join(folder, cacheFile), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	log.Reset()
	third := stateful(t, folder, &n, &log)
	ask(third)
	if n.Total() != 1 || !strings.Contains(log.String(), `what="load the resolver's cache"`) {
		t.Errorf("%d questions, log:\n%s", n.Total(), log.String())
	}
	third.Close()
	files, err := os.ReadDir(folder)
	if err != nil || len(files) != 1 {
		t.Errorf("the folder holds %v, %v", files, err)
	}
}

// Anchors come back as they were kept; before that there are none.
func TestAnchorState(t *testing.T) {
	d := stateFolder(t.TempDir())
	if text, err := d.LoadAnchors(t.Context()); text != nil || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	for _, want := range []string{"one", "two"} {
		if err := d.SaveAnchors(t.Context(), []byte(want)); err != nil {
			t.Error(err)
		}
		if text, err := d.LoadAnchors(t.Context()); string(text) != want || err != nil {
			t.Errorf("%q, %v", text, err)
		}
	}
	if err := stateFolder(filepath.Join(string(d), "gone")).SaveAnchors(t.Context(), nil); err == nil {
		t.Error("no error without a folder")
	}
}
