package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/deliver"
	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/mailauth/tlsa"
	"mxward/internal/probe"
	"mxward/internal/probe/probetest"
)

var hop = deliver.Hop{Host: dns.MustName("mx1.example.com"), Preference: 10, Addr: netip.MustParseAddr("192.0.2.1")}

// visited is the knock at one host, with nothing demanded.
func visited(t *testing.T, h *probetest.Host) knock {
	t.Helper()
	p := &probe.Prober{Hello: "check.example.net", Dial: probetest.Net{hop.Addr.String(): h}.Dial}
	s := p.Visit(t.Context(), probe.Target{Host: hop.Host, Addr: hop.Addr, Domain: dns.MustName("example.com")})
	none := tlsa.Result{Host: hop.Host, Base: hop.Host, State: tlsa.Denied}
	return knock{hop, s, probe.DemandSTS(&mtasts.Survey{RecordErr: mtasts.ErrNone}, s, s.Began), probe.DemandDANE(none, s, s.Began)}
}

// A probe goes through the stages and sends no mail; it tells where it ended and why, and whether
// that is our own network's fault.
func TestKnock(t *testing.T) {
	says := func(at, what string) map[string]string { return map[string]string{at: what} }
	for _, row := range []struct {
		why  string
		host *probetest.Host
		want string // how the printed line begins, after the hop
		ours bool
	}{
		{"plain", &probetest.Host{}, "answers, after 0s, plain text: 220 mx1.example.com ESMTP\n    MTA-STS: no policy\n    DANE: no demand: denied", false},
		{"TLS", nil, "answers, after 0s, TLS 1.3: 220 mx1.example.com ESMTP\n    certificate: x509: certificate signed by unknown authority", false},
		{"STARTTLS is refused", &probetest.Host{Says: map[string]string{"EHLO": "250-mx1\r\n250 STARTTLS", "STARTTLS": "454 no"}}, "answers, after 0s, plain text, since the host says 454 no: 220 ", false},
		{"refused", &probetest.Host{Err: syscall.ECONNREFUSED}, "no, at connect after 0s: we say 451 4.4.1 no connection: connection refused", false},
		{"no answer", &probetest.Host{Err: probetest.ErrLost}, "no, at connect after 15s: we say 451 4.4.1 no connection: timed out", false},
		{"no route", &probetest.Host{Err: syscall.ENETUNREACH}, "no, at connect after 0s: we say 451 4.4.1 no connection: network is unreachable", true},
		{"the packet filter of this host", &probetest.Host{Err: syscall.EPERM}, "no, at connect after 0s: we say 451 4.4.1 no connection: operation not permitted", true},
		{"no greeting: we do not wait as long as mail does", &probetest.Host{Says: says("greeting", probetest.Hang)}, "no, at greeting after 2m0s: we say 451 4.4.1 no connection: timed out", false},
		{"554", &probetest.Host{Says: says("greeting", "554 5.7.1 you \x1b[31mhere?")}, "no, at greeting after 0s: the host says 554 5.7.1 you ?[31mhere?", false},
		{"drop at EHLO", &probetest.Host{Says: says("EHLO", probetest.Drop)}, "no, at hello after 0s: we say 451 4.4.2 no connection: the host hung up", false},
		{"greylisting", &probetest.Host{Says: says("RCPT", "451 4.7.1 greylisted")}, "answers, after 0s, plain text: 220 mx1.example.com ESMTP\n    MTA-STS: no policy\n    DANE: no demand: denied\n    greylisting: 451 4.7.1 greylisted", false},
	} {
		t.Run(row.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := row.host
				if h == nil {
					h = &probetest.Host{TLS: probetest.NewAuthority(t).Server(time.Hour, "mx1.example.com")}
				}
				k := visited(t, h)
				if got, want := k.String(), "mx1.example.com [192.0.2.1]: "+row.want; !strings.HasPrefix(got, want) {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				reply, _ := k.why()
				if k.ok() != strings.HasPrefix(row.want, "answers") || k.ok() != (k.stage() == mail.StageQuit) || k.ok() != (reply == "") || k.ours() != row.ours {
					t.Errorf("ok %t, stage %s, reply %q, ours %t", k.ok(), k.stage(), reply, k.ours())
				}
			})
		})
	}
}

// TestKnockJSON: the keys are those that were promised. UPDATE=1 writes them anew.
func TestKnockJSON(t *testing.T) {
	const file = "testdata/probe.golden.json"
	var got bytes.Buffer
	synctest.Test(t, func(t *testing.T) { // whose clock is always the same
		k := visited(t, &probetest.Host{Says: map[string]string{"MAIL": "450 4.7.1 later"}})
		k.session.TLS = &probe.TLS{Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", Chain: [][]byte{{0x30, 0}}, Trust: probe.Untrusted, TrustError: "no issuer"}
		enc := json.NewEncoder(&got)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		if err := enc.Encode(k); err != nil {
			t.Fatal(err)
		}
	})
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the document has changed:\n%s", got.Bytes())
	}
}
