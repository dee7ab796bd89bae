package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/server"
	"mxward/internal/probe/probetest"
)

// TestMain makes this test binary the program itself when a script calls mxward.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mxward": main, "nonet": nonet})
}

// TestScripts runs the program as a user would, from a shell (testdata/script/*.txtar).
// $DNS is a recursive name server that knows the zones below; $DARK one that never answers;
// $WORLD one that is fit for mail, and $PUBLIC one that block lists refuse. At $MAILPORT of
// 127.0.0.1, the MX host of local.example.com speaks SMTP. $RELAY takes mail; at $NOBODY nobody
// listens.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts were found: %v", err)
	}
	known := serveDNS(t, &dns.Mux{Zones: map[dns.Name]dns.Resolver{
		dns.MustName("example.com"): dnstest.Zone(t, "example.com", `
@       300 SOA ns hostmaster 1 3600 900 604800 300
@       300 NS  ns
ns      300 A   192.0.2.53
@       300 MX  20 mx2
@       300 MX  10 mx1
mx1     300 A   192.0.2.1
mx1     300 AAAA 2001:db8::1
mx2     300 A   192.0.2.2
null    300 MX  0 .
plain   300 A   192.0.2.9
local   300 MX  10 here
here    300 A   127.0.0.1
alias   300 MX  10 other
other   300 CNAME mx1
@       300 TXT "v=spf1 mx include:spf.example.com exists:%{i}.list.example.com -all exp=why.example.com"
spf     300 TXT "v=spf1 ip4:198.51.100.0/24 a:gone.example.com ?all"
why     300 TXT "%{i} is none of ours"
typo    300 TXT "v=spf1 ipv4:198.51.100.1 -all"
loops   300 TXT "v=spf1 include:loops.example.com -all"
two     300 TXT "v=spf1 -all"
two     300 TXT "v=spf1 mx -all"
soft    300 TXT "v=spf1 ~all"
wide    300 TXT "v=spf1 +all"
deep    300 TXT "v=spf1 include:six.example.com include:five.example.com -all"
six     300 TXT "v=spf1 a a:mx1.example.com a:mx2.example.com mx:example.com a:plain.example.com a:other.example.com ~all"
five    300 TXT "v=spf1 a:mx1.example.com a:mx2.example.com a:plain.example.com a:here.example.com ~all"
six     300 A   192.0.2.66
_dmarc  300 TXT "v=DMARC1; p=reject; sp=quarantine; np=reject; rua=mailto:dmarc@example.com,mailto:d@example.net,mailto:d@friend.example.org"
_dmarc.apart 300 TXT "v=DMARC1; p=none; psd=n; t=y; rua=dmarc@example.com"
_dmarc.pair  300 TXT "v=DMARC1; p=none"
_dmarc.pair  300 TXT "v=DMARC1; p=reject"
_dmarc.quoted 300 TXT "\"v=DMARC1; p=reject; rua=mailto:dmarc@example.com\""
_dmarc.fine  300 TXT "v=DMARC1; p=reject; psd=n; rua=mailto:dmarc@fine.example.com"
fine         300 MX  10 mx1
dmarc.apart  300 TXT "v=DMARC1; p=none"
2026e._domainkey 300 TXT "v=DKIM1; k=ed25519; p=gJqa580Xk5Zevw/xdKKftoCJ8VIhv2xckvLH7XmqGiY="
pasted._domainkey 300 TXT "v=DKIM1; k=ed25519; p=\226\128\156gJqa580Xk5Zevw/xdKKf toCJ8VIhv2xckvLH7XmqGiY=\226\128\157"
revoked._domainkey 300 TXT "v=DKIM1; p="
pair._domainkey 300 TXT "v=DKIM1; k=ed25519; p=gJqa580Xk5Zevw/xdKKftoCJ8VIhv2xckvLH7XmqGiY="
pair._domainkey 300 TXT "v=DKIM1; p="
esp._domainkey 300 CNAME 2026e._domainkey
lost._domainkey.example.com 300 TXT "v=DKIM1; k=ed25519; p=gJqa580Xk5Zevw/xdKKftoCJ8VIhv2xckvLH7XmqGiY="
`),
		dns.MustName("example.org"): dnstest.Zone(t, "example.org", `
@      300 SOA ns hostmaster 1 3600 900 604800 300
@      300 NS  ns.example.com.
friend 300 A   192.0.2.77
*._report._dmarc.friend 300 TXT "v=DMARC1"
`),
		dns.MustName("bl.example.net"): dnstest.Zone(t, "bl.example.net", `
@         300 SOA ns hostmaster 1 3600 900 604800 300
@         300 NS  ns.example.com.
2.0.0.127 300 A   127.0.0.2
1.2.0.192 300 A   127.0.0.2
1.2.0.192 300 TXT "see https://bl.example.net/192.0.2.1"
`),
		dns.MustName("zen.spamhaus.org"): dnstest.Zone(t, "zen.spamhaus.org", `
@ 300 SOA ns hostmaster 1 3600 900 604800 300
@ 300 NS  ns.example.com.
* 300 A   127.255.255.254
`),
	}, Default: dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) {
		return dns.Answer{Rcode: dns.NXDomain}, nil
	})})
	dark, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dark.Close()
	world, public := serveWorld(t, false), serveWorld(t, true)
	worldHost, worldPort, err := net.SplitHostPort(world)
	if err != nil {
		t.Fatal(err)
	}
	mailHost, huge := serveMail(t), hugeTape(t)
	golden, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	relay := serveRelay(t)
	testscript.Run(t, testscript.Params{
		Files: scripts,
		Setup: func(env *testscript.Env) error {
			env.Setenv("MAILPORT", mailHost)
			env.Setenv("HUGE", huge)
			env.Setenv("GOLDEN", golden)
			env.Setenv("DNS", known)
			env.Setenv("DARK", dark.LocalAddr().String())
			env.Setenv("WORLD", world)
			env.Setenv("WORLDHOST", worldHost)
			env.Setenv("WORLDPORT", worldPort)
			env.Setenv("PUBLIC", public)
			env.Setenv("RELAY", relay.address)
			env.Setenv("NOBODY", "127.0.0.1:1")
			env.Setenv("NO_COLOR", "1")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":   exits,
			"waitfor": waitFor,
			"smtpport": func(ts *testscript.TestScript, _ bool, args []string) {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				ts.Check(err)
				ts.Setenv(args[0], ln.Addr().String())
				ln.Close()
			},
			"subst": subst,
			"send":  send,
			"mail":  relay.mail,
		},
	})
}

// exits runs a program and wants an exit code: exits 3 mxward route …
func exits(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		code = ended.ExitCode()
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s (%v)", code, args[0], err)
	}
}

// serveDNS runs a name server for the time of a test.
func serveDNS(t *testing.T, r dns.Resolver) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server.Server{Resolver: r, Recursion: true}
	go s.ServeUDP(pc)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Shutdown(ctx)
	})
	return pc.LocalAddr().String()
}

// serveMail runs a mail host on loopback and gives its port.
func serveMail(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	h := &probetest.Host{Name: "here.example.com", TLS: probetest.NewAuthority(t).Server(30*24*time.Hour, "here.example.com")}
	go h.Serve(ln)
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// waitFor waits until a file below the work folder, which may be a glob, exists and holds
// a text: waitfor FILE [TEXT].
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	text := ""
	if len(args) > 1 {
		text = args[1]
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		files, err := filepath.Glob(ts.MkAbs(args[0]))
		ts.Check(err)
		for _, f := range files {
			if got, err := os.ReadFile(f); err == nil && strings.Contains(string(got), text) {
				return
			}
		}
	}
	ts.Fatalf("waitfor: %s did not come to hold %q", args[0], text)
}

// subst replaces $NAME in a file by the script's variables.
func subst(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile(args[0])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(os.Expand(text, ts.Getenv)), 0o644))
}

// send hands a message in: send ADDR FROM TO SUBJECT. It fails unless the answer is 250,
// and with ! unless it is not.
func send(ts *testscript.TestScript, neg bool, args []string) {
	err := handIn(args[0], args[1], args[2], args[3])
	if (err != nil) != neg {
		ts.Fatalf("send: %v", err)
	}
}
