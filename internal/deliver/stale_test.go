package deliver

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

// expired marks answers as RFC 8767 wants it: those of the questions given.
func expired(r dns.Resolver, questions ...string) dns.Resolver {
	return dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		answer, err := r.Resolve(ctx, q)
		if slices.Contains(questions, q.String()) {
			answer.Extended = 3 // Stale Answer, RFC 8914 §4.4
		}
		return answer, err
	})
}

// TestStaleRoute: what has expired may give a route, and says so; it never ends one for good.
func TestStaleRoute(t *testing.T) {
	records := `example.com. MX 10 mx1.example.com.
mx1.example.com. A 192.0.2.1
gone.example.com. MX 10 nohost.example.com.
self.example.com. MX 10 gate.example.net.
null.example.com. MX 0 .
`
	for _, row := range []struct {
		to    string
		stale string
		notes string
		reply string // "" for a route
		why   string
	}{
		{"example.com", "example.com MX", "mx.stale", "", "old MX, fresh address"},
		{"example.com", "mx1.example.com A", "mx.stale", "", "fresh MX, old address"},
		{"gone.example.com", "gone.example.com MX", "mx.stale mx.nxdomain", "451 4.4.3", "the old MX is gone; there may be a new one"},
		{"self.example.com", "self.example.com MX", "mx.stale mx.self-cut", "451 4.4.3", "we were its MX once"},
		{"null.example.com", "null.example.com MX", "mx.stale mx.null", "451 4.4.3", "it took no mail once"},
		{"none.example.com", "none.example.com MX", "", "451 4.4.3", "it did not exist once"},
		{"gone.example.com", "", "mx.nxdomain", "550 5.4.4", "and nothing stale: for good"},
	} {
		f := &Finder{Resolver: expired(world(t, records), row.stale), Self: names("gate.example.net")}
		route, err := f.Find(t.Context(), address(t, "bob@"+row.to))
		var notes []string
		for _, n := range route.Notes {
			notes = append(notes, n.ID)
		}
		if got := strings.Join(notes, " "); got != row.notes || route.Stale != strings.Contains(row.notes, "mx.stale") {
			t.Errorf("%s: notes %q, stale %v; want %q", row.why, got, route.Stale, row.notes)
		}
		switch e, ok := err.(*NoRoute); {
		case row.reply == "" && (err != nil || len(route.Hops) != 1):
			t.Errorf("%s: %v, %v", row.why, route, err)
		case row.reply != "" && (!ok || !strings.HasPrefix(e.Reply.String(), row.reply)):
			t.Errorf("%s: %v, want %s", row.why, err, row.reply)
		}
	}
}

// TestStaleDelivery: a host that expired data led to may take the message; what it refuses
// is tried again when the DNS is back. The log says so.
func TestStaleDelivery(t *testing.T) {
	for _, row := range []struct {
		refuses string // RCPT
		stale   bool
		want    mail.Status
	}{
		{"", true, mail.Delivered},                 // the old data are right
		{"550 5.1.1 unknown", true, mail.Deferred}, // this host may be the MX no more
		{"550 5.1.1 unknown", false, mail.Failed},  // fresh data, a final word
	} {
		d, _ := rig(t, map[string]*fake{first: {rcpt: map[string]string{"bob@example.com": row.refuses}}})
		var log bytes.Buffer
		d.Logger = slog.New(slog.NewTextHandler(&log, nil))
		if row.stale {
			d.Finder.Resolver = expired(d.Finder.Resolver, "example.com MX")
		}
		outcomes := d.Deliver(t.Context(), envelope(t, "bob@example.com"), func() io.ReadCloser { return io.NopCloser(strings.NewReader(text)) })
		if len(outcomes) != 1 || outcomes[0].Status != row.want {
			t.Errorf("%+v: %+v", row, outcomes)
		}
		if got := strings.Contains(log.String(), "expired data"); got != row.stale {
			t.Errorf("%+v: log:\n%s", row, log.String())
		}
	}
}
