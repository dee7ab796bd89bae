package probe_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"mxward/internal/probe"
)

// TestFault: a fault of ours in one visit comes to whoever waits for all, and does not end the
// process.
func TestFault(t *testing.T) {
	p := &probe.Prober{Hello: "check.example.net", Dial: func(context.Context, string, string) (net.Conn, error) { panic("a fault") }}
	defer func() {
		if v, ok := recover().(string); !ok || !strings.Contains(v, "a fault") {
			t.Errorf("got %v", v)
		}
	}()
	p.Visits(t.Context(), []probe.Target{{Addr: netip.MustParseAddr("192.0.2.25")}, {Addr: netip.MustParseAddr("192.0.2.26")}})
	t.Error("nobody is told")
}
