package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/smtp/smtptest"
	"mxward/internal/store"
)

// The addresses of the small world.
const (
	addrDNS      = "192.0.2.53"
	addrRefuse   = "192.0.2.10"
	addrGreylist = "192.0.2.20"
	addrGate     = "192.0.2.30"
	addrPostfix  = "192.0.2.40"
	addrExim     = "192.0.2.41"
	addrMailbox  = "192.0.2.60"
)

// zones are the whole DNS of the small world, all served by the gate's mxward.
var zones = map[string]string{
	"root": `
. 3600 SOA a.root.example. hostmaster.example. 1 3600 900 604800 300
. 3600 NS a.root.example.
a.root.example. 3600 A 192.0.2.53
com. 3600 NS a.root.example.
net. 3600 NS a.root.example.
2.0.192.in-addr.arpa. 3600 NS a.root.example.
`,
	"com": `
com. 3600 SOA a.root.example. hostmaster.example. 1 3600 900 604800 300
com. 3600 NS a.root.example.
example.com. 3600 NS ns.example.com.
ns.example.com. 3600 A 192.0.2.53
`,
	"net": `
net. 3600 SOA a.root.example. hostmaster.example. 1 3600 900 604800 300
net. 3600 NS a.root.example.
example.net. 3600 NS ns.example.com.
`,
	"example.com": `
example.com. 300 SOA ns.example.com. hostmaster.example.com. 1 3600 900 604800 300
example.com. 300 NS ns.example.com.
ns.example.com. 300 A 192.0.2.53
example.com. 300 MX 10 mx1.example.com.
example.com. 300 MX 20 mx2.example.com.
example.com. 300 MX 30 mx3.example.com.
mx1.example.com. 300 A 192.0.2.10
mx2.example.com. 300 A 192.0.2.20
mx3.example.com. 300 A 192.0.2.30
`,
	"example.net": `
example.net. 300 SOA ns.example.com. hostmaster.example.com. 1 3600 900 604800 300
example.net. 300 NS ns.example.com.
example.net. 300 MX 10 postfix.example.net.
postfix.example.net. 300 A 192.0.2.40
exim.example.net. 300 A 192.0.2.41
`,
	"2.0.192.in-addr.arpa": `
2.0.192.in-addr.arpa. 300 SOA ns.example.com. hostmaster.example.com. 1 3600 900 604800 300
2.0.192.in-addr.arpa. 300 NS ns.example.com.
40.2.0.192.in-addr.arpa. 300 PTR postfix.example.net.
41.2.0.192.in-addr.arpa. 300 PTR exim.example.net.
`,
}

const gatePlan = `
[site]
name  = "mx3.example.com"
store = "sqlite:queue.db"

[[host]]
name      = "mx1.example.com"
addresses = ["192.0.2.10"]
[[host]]
name      = "mx2.example.com"
addresses = ["192.0.2.20"]
[[host]]
name      = "mx3.example.com"
addresses = ["192.0.2.30"]

[[domain]]
name    = "example.com"
deliver = "smtp://192.0.2.60"
[[domain.mx]]
preference = 10
host       = "mx1.example.com"
role       = "refuse"
[[domain.mx]]
preference = 20
host       = "mx2.example.com"
role       = "gate"
[[domain.mx]]
preference = 30
host       = "mx3.example.com"
role       = "gate"

[dns]
listen = ["192.0.2.53:53"]
`

// resolverPlan makes a machine's own name server of mxward, as its README says.
const resolverPlan = `
[site]
name  = "resolver.example.net"
store = "sqlite:queue.db"

[resolver]
listen     = ["127.0.0.1:53"]
root-hints = "root.hints"
`

const rootHints = `
. 3600000 NS a.root.example.
a.root.example. 3600000 A 192.0.2.53
`

// world is the small world with its gate running.
type world struct {
	net  *network
	gate *machine
	dir  string // of the gate's plan and store
	grey *smtptest.Host
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{net: newNetwork(t), dir: t.TempDir()}
	w.gate = w.net.machine(t, "gate", addrDNS, addrRefuse, addrGate)
	plan := gatePlan
	for name, text := range zones {
		writeFile(t, filepath.Join(w.dir, name+".zone"), text)
		origin := name
		if name == "root" {
			origin = "."
		}
		plan += fmt.Sprintf("[[dns.zone]]\nname = %q\nfile = %q\n", origin, name+".zone")
	}
	writeFile(t, filepath.Join(w.dir, "root.hints"), rootHints)
	plan += "[resolver]\nlisten = [\"127.0.0.1:53\"]\nroot-hints = \"root.hints\"\n"
	writeFile(t, filepath.Join(w.dir, "mxward.toml"), plan)
	w.serve(t, w.gate, w.dir)

	grey := w.net.machine(t, "grey", addrGreylist)
	w.grey = &smtptest.Host{Name: "mx2.example.com"}
	w.grey.Set(smtptest.GreylistOnce)
	ln := listenOn(t, grey, addrGreylist+":25")
	go w.grey.Serve(ln)
	t.Cleanup(func() { w.grey.Close() })
	return w
}

// serve runs mxward on a machine, from the plan in the folder.
func (w *world) serve(t *testing.T, m *machine, dir string) *process {
	t.Helper()
	p := start(t, "mxward on "+m.name, m.command(context.Background(), mxward, "serve", "--log-level", "debug", "--plan", filepath.Join(dir, "mxward.toml")))
	eventually(t, 20*time.Second, "mxward serves on "+m.name, func() bool { return strings.Contains(p.out.String(), "msg=serving") })
	return p
}

// resolver gives a machine a resolver of mxward's on its loopback.
func (w *world) resolver(t *testing.T, m *machine) {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "mxward.toml"), resolverPlan)
	writeFile(t, filepath.Join(dir, "root.hints"), rootHints)
	bare := *m
	bare.root = "" // it runs outside the mail server's root
	w.serve(t, &bare, dir)
	m.write(t, "/etc/resolv.conf", "nameserver 127.0.0.1\n")
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// listenOn opens a listener inside a machine, for a server in this process: a socket
// belongs to the namespace in which it was made.
func listenOn(t *testing.T, m *machine, addr string) net.Listener {
	t.Helper()
	type result struct {
		ln  net.Listener
		err error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := os.Open("/run/netns/" + m.ns)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), syscall.CLONE_NEWNET)
		}
		if err != nil {
			made <- result{nil, err}
			return
		}
		ln, err := net.Listen("tcp", addr)
		made <- result{ln, err}
	}()
	r := <-made
	if r.err != nil {
		t.Fatalf("listen on %s at %s: %v", m.name, addr, r.err)
	}
	return r.ln
}

// mailbox is a real Postfix that keeps the mail of example.com in Maildirs.
func (w *world) mailbox(t *testing.T) *machine {
	t.Helper()
	m := w.net.machine(t, "mailbox", addrMailbox)
	m.withRoot(t, "postfix")
	m.write(t, "/etc/postfix/main.cf", `
compatibility_level = 3.6
maillog_file = /var/log/postfix.log
myhostname = mailbox.example.com
mydestination =
inet_interfaces = `+addrMailbox+`
inet_protocols = ipv4
disable_dns_lookups = yes
smtpd_recipient_restrictions = permit_auth_destination, reject
smtpd_peername_lookup = no
alias_maps =
virtual_mailbox_domains = example.com
virtual_mailbox_maps = static:all/
virtual_mailbox_base = /var/mail/vhosts
virtual_uid_maps = static:5000
virtual_gid_maps = static:5000
`)
	spool := filepath.Join(m.root, "/var/mail/vhosts")
	if err := os.MkdirAll(spool, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(spool, 5000, 5000); err != nil {
		t.Fatal(err)
	}
	m.startPostfix(t)
	return m
}

func (m *machine) startPostfix(t *testing.T) {
	t.Helper()
	p := start(t, "postfix on "+m.name, m.command(context.Background(), "/usr/sbin/postfix", "start-fg"))
	log := filepath.Join(m.root, "/var/log/postfix.log")
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(log)
			t.Logf("--- postfix log of %s\n%s", m.name, text)
		}
	})
	eventually(t, 20*time.Second, "postfix starts on "+m.name, func() bool {
		select {
		case <-p.done:
			t.Fatalf("postfix ended:\n%s", p.out)
		default:
		}
		text, _ := os.ReadFile(log)
		return strings.Contains(string(text), "daemon started")
	})
}

// arrived gives the messages in the mailbox machine's Maildir.
func arrived(t *testing.T, m *machine) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(m.root, "/var/mail/vhosts/all/new/*"))
	if err != nil {
		t.Fatal(err)
	}
	var messages []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, string(text))
	}
	return messages
}

const letter = "From: alice@example.net\r\nTo: bob@example.com\r\nSubject: %s\r\nMessage-ID: <%s@example.net>\r\n\r\nA line.\r\n.\r\n..two dots\r\n"

// checkWalk: the message that a sender walked down the ladder with has arrived once, and
// every knock on its way is known.
func (w *world) checkWalk(t *testing.T, mailbox *machine, client, subject string) {
	t.Helper()
	find := func() []string {
		var found []string
		for _, m := range arrived(t, mailbox) {
			if strings.Contains(m, "Subject: "+subject) {
				found = append(found, m)
			}
		}
		return found
	}
	eventually(t, 60*time.Second, subject+" arrives", func() bool { return len(find()) > 0 })
	time.Sleep(time.Second) // a second copy would come at once
	got := find()
	if len(got) != 1 {
		t.Fatalf("%s arrived %d times, want once", subject, len(got))
	}
	for _, want := range []string{"by mx3.example.com", "\n.\n..two dots\n", "for <bob@example.com>"} {
		if !strings.Contains(got[0], want) {
			t.Errorf("the message lacks %q:\n%s", want, got[0])
		}
	}
	engine, err := store.Open(t.Context(), "sqlite:"+filepath.Join(w.dir, "queue.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	refused, gated := dns.MustName("mx1.example.com"), dns.MustName("mx3.example.com")
	seen := map[dns.Name]mail.Stage{}
	eventually(t, 10*time.Second, "the contacts are recorded", func() bool {
		contacts, err := engine.Contacts(t.Context(), netip.PrefixFrom(netip.MustParseAddr(client), 32), time.Now().Add(-time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range contacts {
			seen[c.Host] = c.Stage
		}
		return seen[refused] != "" && seen[gated] != ""
	})
	if seen[refused] != mail.StageConnect {
		t.Errorf("the knock at the refusing rung is recorded as %q, want %q", seen[refused], mail.StageConnect)
	}
	if len(w.grey.Transcripts()) == 0 {
		t.Error("the greylisting rung was not tried")
	}
}

// TestPostfix: a real Postfix, resolving with mxward, walks past a rung that refuses and
// one that greylists, to our gate, whose queue delivers to another real Postfix.
func TestPostfix(t *testing.T) {
	w := newWorld(t)
	mailbox := w.mailbox(t)
	m := w.net.machine(t, "postfix", addrPostfix)
	m.withRoot(t, "postfix")
	w.resolver(t, m)
	m.write(t, "/etc/postfix/main.cf", `
compatibility_level = 3.6
maillog_file = /var/log/postfix.log
myhostname = postfix.example.net
mydestination = example.net
inet_interfaces = `+addrPostfix+`
inet_protocols = ipv4
smtp_host_lookup = dns
smtp_tls_security_level = may
alias_maps =
`)
	m.startPostfix(t)
	if out, err := m.run(t, fmt.Sprintf(letter, "from Postfix", "one"), "/usr/sbin/sendmail", "-i", "-f", "alice@example.net", "bob@example.com"); err != nil {
		t.Fatalf("sendmail: %v\n%s", err, out)
	}
	w.checkWalk(t, mailbox, addrPostfix, "from Postfix")
}

// TestExim: the same with a real Exim.
func TestExim(t *testing.T) {
	w := newWorld(t)
	mailbox := w.mailbox(t)
	m := w.net.machine(t, "exim", addrExim)
	m.withRoot(t, "exim4-daemon-light")
	w.resolver(t, m)
	m.write(t, "/etc/exim4/exim4.conf", `
primary_hostname = exim.example.net
local_interfaces = `+addrExim+`
log_file_path = /var/log/exim4/%slog
trusted_users = root
dns_dnssec_ok = 0
begin routers
dnslookup:
  driver = dnslookup
  domains = ! example.net
  transport = remote_smtp
begin transports
remote_smtp:
  driver = smtp
begin retry
* * F,2h,15m; F,4d,6h
`)
	out, err := m.run(t, fmt.Sprintf(letter, "from Exim", "two"), "/usr/sbin/exim4", "-odf", "-i", "-f", "alice@example.net", "bob@example.com")
	if err != nil {
		t.Fatalf("exim: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(m.root, "/var/log/exim4/*"))
			for _, f := range logs {
				text, _ := os.ReadFile(f)
				t.Logf("--- %s\n%s", f, text)
			}
		}
	})
	w.checkWalk(t, mailbox, addrExim, "from Exim")
}

// TestDig: dig reads our zones as the world would.
func TestDig(t *testing.T) {
	need(t, "dig")
	w := newWorld(t)
	visitor := w.net.machine(t, "visitor", "192.0.2.99")
	dig := func(args ...string) string {
		out, err := visitor.run(t, "", "dig", append([]string{"@" + addrDNS, "+norec", "+time=5", "+tries=2"}, args...)...)
		if err != nil {
			t.Fatalf("dig %v: %v\n%s", args, err, out)
		}
		return out
	}
	for _, row := range []struct {
		name string // what the row proves
		args []string
		want []string
	}{
		{"MX in a short answer", []string{"+short", "example.com", "MX"}, []string{"10 mx1.example.com.\n", "20 mx2.example.com.\n", "30 mx3.example.com.\n"}},
		{"authority is claimed", []string{"mx3.example.com", "A"}, []string{"status: NOERROR", "flags: qr aa", "192.0.2.30"}},
		{"no such name, with the SOA", []string{"nobody.example.com", "A"}, []string{"status: NXDOMAIN", "SOA\tns.example.com."}},
		{"a referral with glue", []string{"@" + addrDNS, "deep.example.org", "A"}, []string{"status: NXDOMAIN"}},
		{"over TCP", []string{"+tcp", "example.com", "NS"}, []string{"ns.example.com.", "(TCP)"}},
		{"case is kept", []string{"ExAmPlE.cOm", "SOA"}, []string{";ExAmPlE.cOm."}},
		{"the public listener does not recurse", []string{"+rec", "example.org", "MX"}, []string{"recursion requested but not available"}},
	} {
		out := dig(row.args...)
		for _, want := range row.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: dig %s lacks %q:\n%s", row.name, strings.Join(row.args, " "), want, out)
			}
		}
	}
}

// TestSwaks: swaks, which testers of mail servers use, gets the answers that it should.
func TestSwaks(t *testing.T) {
	need(t, "swaks")
	w := newWorld(t)
	mailbox := w.mailbox(t)
	visitor := w.net.machine(t, "visitor", "192.0.2.99")
	for _, row := range []struct {
		name string // what the row proves
		args []string
		want string
		ok   bool
	}{
		{"our domain is served", []string{"--to", "bob@example.com", "--header", "Subject: from swaks"}, "250 2.0.0", true},
		{"TLS is offered and works", []string{"--tls", "--to", "bob@example.com", "--quit-after", "RCPT"}, "TLS started", true},
		{"other domains are not", []string{"--to", "bob@example.net"}, "550 5.7.1", false},
		{"the percent hack is not relayed", []string{"--to", "bob%example.net@example.com"}, "550", false},
		{"a source route is not relayed", []string{"--to", "@example.com:bob@example.net"}, "550 5.7.1", false},
	} {
		args := append([]string{"--server", addrGate, "--from", "alice@example.net", "--helo", "visitor.example.net"}, row.args...)
		out, err := visitor.run(t, "", "swaks", args...)
		if (err == nil) != row.ok || !strings.Contains(out, row.want) {
			t.Errorf("%s: swaks %s: err %v, want %q in\n%s", row.name, strings.Join(row.args, " "), err, row.want, out)
		}
	}
	eventually(t, 30*time.Second, "the message of swaks arrives", func() bool {
		return strings.Contains(strings.Join(arrived(t, mailbox), ""), "Subject: from swaks")
	})
}
