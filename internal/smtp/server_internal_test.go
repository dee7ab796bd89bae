package smtp

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestClientOf: what counts as one client.
func TestClientOf(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:25":           "192.0.2.1",
		"[2001:db8:1:2:3::4]:25": "2001:db8:1:2::",
		"[fe80::1%eth0]:25":      "fe80::",
	} {
		if got := clientOf(netip.MustParseAddrPort(in)); got.String() != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	if got := clientOf(netip.AddrPort{}); got.IsValid() {
		t.Errorf("no address is %s", got)
	}
	mapped := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25}
	if got := addrPort(mapped); got.String() != "192.0.2.1:25" {
		t.Errorf("got %s", got)
	}
	if got := addrPort(&net.UnixAddr{Name: "/run/x"}); got.IsValid() {
		t.Errorf("got %s", got)
	}
}

// TestTimeoutsDefaults: no wait is without an end.
func TestTimeoutsDefaults(t *testing.T) {
	got := Timeouts{Dot: time.Second}.withDefaults()
	if got.Dot != time.Second {
		t.Errorf("Dot is %s", got.Dot)
	}
	for name, d := range map[string]time.Duration{
		"Greeting": got.Greeting, "Command": got.Command, "Data": got.Data, "Block": got.Block,
		"TLS": got.TLS, "Message": got.Message, "Session": got.Session, "Quit": got.Quit,
	} {
		if d <= 0 {
			t.Errorf("%s is %s", name, d)
		}
	}
}

func TestProtocol(t *testing.T) {
	for _, test := range []struct {
		h    Hello
		utf8 bool
		want string
	}{
		{Hello{}, true, "SMTP"}, {Hello{Extended: true}, false, "ESMTP"}, {Hello{Extended: true}, true, "UTF8SMTP"},
	} {
		if got := test.h.Protocol(test.utf8); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}
