package deliver

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/mail"
)

// A probe goes through the stages and sends no mail; it tells where it ended and why.
func TestProbe(t *testing.T) {
	at := func(s mail.Stage, word string) map[mail.Stage]string { return map[mail.Stage]string{s: word} }
	tests := []struct {
		about string
		host  *fake
		want  string // how the printed line begins, after the hop
	}{
		{"plain", &fake{}, "answers, after 0s, plain text: 220 fake"},
		{"TLS", &fake{cert: certificate(t)}, "answers, after 0s, TLS 1.3: 220 fake"},
		{"broken TLS", &fake{badTLS: true}, "answers, after 0s, plain text, since "},
		{"refused", &fake{says: at(mail.StageConnect, refused)}, "no, at connect after 0s: we say 451 4.4.1 no connection: connection refused"},
		{"no answer", &fake{says: at(mail.StageConnect, hang)}, "no, at connect after 30s: we say 451 4.4.1 no connection: timed out"},
		{"no greeting: we do not wait as long as mail does", &fake{says: at(mail.StageGreeting, hang)}, "no, at greeting after 2m0s: we say 451 4.4.1 no connection: timed out"},
		{"554", &fake{says: at(mail.StageGreeting, "554 5.7.1 you \x1b[31mhere?")}, "no, at greeting after 0s: the host says 554 5.7.1 you ?[31mhere?"},
		{"drop at EHLO", &fake{says: at(mail.StageHello, drop)}, "no, at hello after 0s: we say 451 4.4.2 no connection: "},
	}
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, n := rig(t, map[string]*fake{first: tt.host, second: {}})
				route, err := d.Finder.Find(t.Context(), address(t, "user@example.com"))
				if err != nil {
					t.Fatal(err)
				}
				knocks := d.Probe(t.Context(), route)
				if len(knocks) != 2 || !knocks[1].OK || knocks[1].Hop.Preference != 20 {
					t.Fatalf("%+v", knocks)
				}
				k := knocks[0]
				if got, want := k.String(), "mx1.example.com [192.0.2.1]: "+tt.want; !strings.HasPrefix(got, want) {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				if k.OK != strings.HasPrefix(tt.want, "answers") || k.OK != (k.Stage == mail.StageQuit) || k.OK != (k.Reply.Code == 0) {
					t.Errorf("%+v", k)
				}
				n.change(func() {
					if len(tt.host.mails) != 0 || k.OK && tt.host.quits != 1 {
						t.Errorf("%d messages, %d times QUIT", len(tt.host.mails), tt.host.quits)
					}
				})
			})
		})
	}
}

func TestKnockJSON(t *testing.T) {
	k := Knock{
		Hop:      Hop{Host: names("mx.example.com")[0], Preference: 10, Addr: addrs("192.0.2.1")[0]},
		Stage:    mail.StageGreeting,
		Greeting: "554 no",
		Reply:    mail.Reply{Code: 554, Text: "no"},
		Remote:   true,
		Took:     1500 * time.Microsecond,
	}
	got, err := json.Marshal(k)
	want := `{"hop":{"host":"mx.example.com","preference":10,"address":"192.0.2.1","implicit":false},` +
		`"ok":false,"stage":"greeting","greeting":"554 no","tls":"","tls_fault":"","reply":"554 no","remote":true,"ours":false,"took_ms":1.5}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestRouteJSON(t *testing.T) {
	f := Finder{Resolver: world(t, "example.com. A 192.0.2.1\n")}
	r, _ := f.Find(t.Context(), address(t, "user@example.com"))
	got, err := json.Marshal(r)
	want := `{"destination":"example.com","hops":[{"host":"example.com","preference":0,"address":"192.0.2.1","implicit":true}],` +
		`"notes":[{"id":"mx.implicit","host":"","text":"example.com has no MX, so its own addresses serve"}],"stale":false}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
	r, _ = f.Find(t.Context(), address(t, "user@example.org"))
	if got, _ := json.Marshal(r); string(got) != `{"destination":"example.org","hops":[],"notes":[],"stale":false}` {
		t.Errorf("got %s", got)
	}
}

// TestProbeOurs: a network of ours without a way to the host is ours to mend; a host that
// refuses or is silent is not.
func TestProbeOurs(t *testing.T) {
	for _, row := range []struct {
		name string
		err  error
		want bool
	}{
		{"no route", syscall.ENETUNREACH, true},
		{"the packet filter of this host", syscall.EPERM, true},
		{"the host refuses", syscall.ECONNREFUSED, false},
		{"nobody answers", os.ErrDeadlineExceeded, false},
	} {
		d := &Deliverer{Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", row.err)}
		}}
		k := d.Probe(t.Context(), Route{Hops: []Hop{{Addr: netip.MustParseAddr("192.0.2.1")}}})[0]
		if k.OK || k.Ours != row.want {
			t.Errorf("%s: %+v, want Ours %t", row.name, k, row.want)
		}
	}
}
