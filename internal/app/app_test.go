package app

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/queue"
	"mxward/internal/site"
	"mxward/internal/store"
)

// plan is a site with one gate at the address, one decoy, and a host elsewhere.
func plan(t *testing.T, listen string) *site.Plan {
	t.Helper()
	dir := t.TempDir()
	p, err := site.Parse([]byte(fmt.Sprintf(`
[site]
name  = "mx1.example.com"
store = "sqlite:%s"
[[host]]
name      = "mx1.example.com"
addresses = ["203.0.113.1"]
listen    = [%q]
[[host]]
name      = "mx2.example.com"
addresses = ["203.0.113.2"]
[[host]]
name      = "mx9.example.com"
addresses = ["127.0.0.9"]
[[domain]]
name    = "example.com"
deliver = "maildir:%s"
[[domain.mx]]
preference = 10
host       = "mx1.example.com"
role       = "gate"
[[domain.mx]]
preference = 20
host       = "mx2.example.com"
role       = "backup"
[[domain.mx]]
preference = 90
host       = "mx9.example.com"
role       = "refuse"
`, filepath.Join(dir, "queue.db"), listen, filepath.Join(dir, "mail"))), "test.toml")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestChooseHosts(t *testing.T) {
	for _, row := range []struct {
		name  string // what the row proves
		hosts []string
		want  string
		err   string
	}{
		{"this machine's own: by the listener, and a decoy by its address", nil, "mx1.example.com mx9.example.com", ""},
		{"the operator's word is enough", []string{"mx2.example.com"}, "mx2.example.com", ""},
		{"a host that the plan lacks is a mistake", []string{"mx3.example.com"}, "", `expected a [[host]] of the plan, got "mx3.example.com"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := &App{plan: plan(t, "127.0.0.1:2525")}
			for _, h := range row.hosts {
				a.opts.Hosts = append(a.opts.Hosts, dns.MustName(h))
			}
			err := a.chooseHosts(t.Context())
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Fatalf("error %v, want %s", err, row.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, h := range a.hosts {
				got = append(got, h.Name.String())
			}
			if strings.Join(got, " ") != row.want {
				t.Errorf("hosts %v, want %s", got, row.want)
			}
		})
	}
}

// TestSharedSocket: machines behind a NAT may all listen on 0.0.0.0:25 by the same plan; a
// machine is the host whose address it has, or the one that the operator names.
func TestSharedSocket(t *testing.T) {
	all := netip.MustParseAddrPort("0.0.0.0:25")
	p := plan(t, all.String())
	p.Hosts[1].Listen = []netip.AddrPort{all}
	err := (&App{plan: p}).chooseHosts(t.Context())
	if want := "mx1.example.com and mx2.example.com cannot both listen here, on 0.0.0.0:25 and 0.0.0.0:25; name the one that this machine is with --host"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
	p.Hosts[1].Addresses = []netip.Addr{netip.MustParseAddr("127.0.0.1")} // this machine has it
	a := &App{plan: p}
	if err := a.chooseHosts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(a.hosts) != 2 || a.hosts[0].Name != p.Hosts[1].Name || a.hosts[1].Name != p.Hosts[2].Name {
		t.Errorf("chose %v, want mx2 and the decoy", a.hosts)
	}
}

// TestNobodyHere: a plan for other machines says so, and what to do.
func TestNobodyHere(t *testing.T) {
	p := plan(t, "203.0.113.1:25")
	p.Hosts[2].Addresses = []netip.Addr{netip.MustParseAddr("203.0.113.9")}
	err := (&App{plan: p}).chooseHosts(t.Context())
	if err == nil || !strings.Contains(err.Error(), "--host") {
		t.Errorf("error %v, want one that names --host", err)
	}
}

// TestPortTaken: New fails before it has met a client, and leaves nothing behind: a second
// New succeeds once the port is free.
func TestPortTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := plan(t, ln.Addr().String())
	if _, err := New(t.Context(), p, Options{}); err == nil || !strings.Contains(err.Error(), "listen for mx1.example.com") {
		t.Errorf("error %v, want one that names the host", err)
	}
	ln.Close()
	a, err := New(t.Context(), p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
}

// TestTarget: a gate's mail goes to the target; what a backup took goes by MX, and so does
// mail of other domains.
func TestTarget(t *testing.T) {
	p := plan(t, "127.0.0.1:2525")
	for _, row := range []struct {
		name, host, domain string
		fixed              bool
	}{
		{"the gate hands over", "mx1.example.com", "example.com", true},
		{"a machine that is only a backup does not", "mx2.example.com", "example.com", false},
		{"nor does the gate with others' mail", "mx1.example.com", "example.net", false},
	} {
		a := &App{plan: p, opts: Options{Hosts: []dns.Name{dns.MustName(row.host)}}}
		if err := a.chooseHosts(t.Context()); err != nil {
			t.Fatal(err)
		}
		to := mustAddress(t, "bob@"+row.domain)
		if _, fixed := a.target(to); fixed != row.fixed {
			t.Errorf("%s: fixed target %t, want %t", row.name, fixed, row.fixed)
		}
	}
}

// TestStop: a stop lets a transaction end that has begun, takes no new connection, and
// what was answered 250 is in the store afterwards.
func TestStop(t *testing.T) {
	addr := freeAddr(t)
	p := plan(t, addr)
	a, err := New(t.Context(), p, Options{Hold: true, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()

	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(conn)
	say := func(line, want string) {
		t.Helper()
		if line != "" {
			fmt.Fprintf(conn, "%s\r\n", line)
		}
		for {
			reply, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("after %q: %v", line, err)
			}
			if len(reply) > 3 && reply[3] == '-' {
				continue
			}
			if !strings.HasPrefix(reply, want) {
				t.Fatalf("after %q: %q, want %s", line, reply, want)
			}
			return
		}
	}
	say("", "220")
	say("EHLO client.example.net", "250")
	say("MAIL FROM:<alice@example.net>", "250")
	say("RCPT TO:<bob@example.com>", "250")
	say("DATA", "354")
	stop()
	for end := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(end) {
			t.Fatal("a stopping gate still takes connections")
		}
		time.Sleep(10 * time.Millisecond)
	}
	say("Subject: last\r\n\r\nHello.\r\n.", "250")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	again, err := New(t.Context(), p, Options{Hold: true})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	entries, err := again.Queue().List(t.Context(), queue.Filter{})
	if err != nil || len(entries) != 1 {
		t.Errorf("%d messages after the stop (%v), want 1", len(entries), err)
	}
}

// failedStore is a store whose disk has failed.
type failedStore struct{ store.Engine }

func (failedStore) Failed() <-chan struct{} {
	failed := make(chan struct{})
	close(failed)
	return failed
}

// TestStoreFailed: a store that will never work again ends the daemon, so that whoever
// watches over it starts it anew.
func TestStoreFailed(t *testing.T) {
	a, err := New(t.Context(), plan(t, freeAddr(t)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	a.store = failedStore{a.store}
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "disk failed") {
		t.Errorf("Run ended with %v, want the disk's failure", err)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func mustAddress(t *testing.T, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
