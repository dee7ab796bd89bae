// Package dnsdiff compares mxward's resolver with Unbound and BIND, Debian's packages, over
// a lab internet of 2,000 zones: the same questions to all three, and whatever differs has
// to be in a table here with its reason. Servers have IPv4 and IPv6 addresses, or one of
// them, or one that leads nowhere; Unbound and we ask in random case (0x20), which some
// servers do not keep.
//
// Everything runs in a network namespace of its own, since Unbound and BIND ask port 53.
package dnsdiff

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/resolver"
	"mxward/internal/dns/server"
)

// validating compares AD, and bogus zones have to fail; without it all are asked with CD.
const validating = true

// The size of the comparison.
const (
	zones     = 2000
	questions = 20000 // one of oddEvery for a type that few ask for
	oddEvery  = 4
	seed      = 20260101
	patience  = 15 * time.Second // with one question
	retries   = 400              // questions asked again, since a busy machine loses packets
)

// Of the environment: inside is set for the test that runs in the namespace; otherSeed makes
// another internet and other questions, for looking further.
const (
	inside    = "MXWARD_DNSDIFF_INSIDE"
	otherSeed = "MXWARD_DNSDIFF_SEED"
)

// Where the resolvers listen.
const (
	oursAddr    = "127.1.0.1:53"
	unboundAddr = "127.1.0.2:53"
	bindAddr    = "127.1.0.3:53"
)

func TestDifferential(t *testing.T) {
	if os.Getenv(inside) != "" {
		compareAll(t)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("left out: network namespaces need root")
	}
	for program, debian := range map[string]string{"ip": "iproute2", "unbound": "unbound", "named": "bind9"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("left out: needs Debian's %s (apt-get install %[1]s)", debian)
		}
	}
	ns := fmt.Sprintf("mxwdiff%d", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
		t.Skipf("left out: network namespaces are not permitted here: %s", out)
	}
	defer exec.Command("ip", "netns", "del", ns).Run()
	for _, args := range []string{
		"link set lo up",
		"addr add 127.1.0.3/8 dev lo", // BIND listens only where an interface has the address
	} {
		if out, err := exec.Command("ip", append([]string{"-n", ns}, strings.Fields(args)...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "ip", "netns", "exec", ns, self, "-test.run", "^TestDifferential$", "-test.v", "-test.timeout", "10m")
	cmd.Env = append(os.Environ(), inside+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := cmd.CombinedOutput()
	t.Logf("in the namespace:\n%s", out)
	if err != nil {
		t.Fatalf("in the namespace: %v", err)
	}
}

// compareAll is the test inside of the namespace.
func compareAll(t *testing.T) {
	began := time.Now()
	seed := uint64(seed)
	if s := os.Getenv(otherSeed); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", otherSeed, err)
		}
	}
	in, err := dnstest.NewInternet6(seed, zones)
	if err != nil {
		t.Fatal(err)
	}
	addAddresses(t, in)
	world, err := in.Listen(53)
	if err != nil {
		t.Fatal(err)
	}
	defer world.Close()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	startOurs(t, in)
	startUnbound(t, in, dir)
	startBIND(t, in, dir)
	list := makeQuestions(in, seed)
	t.Logf("ready after %v", time.Since(began).Round(time.Millisecond))

	peers := []string{oursAddr, unboundAddr, bindAddr}
	// Unbound and BIND wait ten seconds and more for a dark zone.
	parallel := []int{48, 96, 192}
	said := make([][]reply, len(peers))
	var all sync.WaitGroup
	for i, addr := range peers {
		said[i] = make([]reply, len(list))
		all.Go(func() {
			began := time.Now()
			askAll(addr, parallel[i], list, said[i])
			t.Logf("%s answered after %v", addr, time.Since(began).Round(time.Millisecond))
		})
	}
	all.Wait()

	v := newVerdicts(in)
	var again sync.WaitGroup
	places := make(chan struct{}, parallel[0])
	differences := make([]difference, len(list))
	for i, q := range list {
		d := v.difference(q, said[0][i], said[1][i], said[2][i])
		v.lasting(d)
		if differences[i] = d; d.agreed() || d.why(false) != "" || v.retried >= retries {
			continue
		}
		v.retried++
		places <- struct{}{}
		again.Go(func() {
			differences[i] = v.difference(q, ask(oursAddr, q), ask(unboundAddr, q), ask(bindAddr, q))
			<-places
		})
	}
	again.Wait()
	for _, d := range differences {
		v.judge(d)
	}
	v.report(t, len(list))
}

// addAddresses puts the lab's IPv6 addresses on the loopback interface.
func addAddresses(t *testing.T, in *dnstest.Internet) {
	var batch strings.Builder
	for _, addr := range in.Addrs6() {
		fmt.Fprintf(&batch, "addr add %s/128 dev lo nodad\n", addr)
	}
	cmd := exec.Command("ip", "-6", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip -6 -batch: %v\n%s", err, out)
	}
}

// question is one question with the bits that go along.
type question struct {
	dns.Question
	ad bool // asks to be told whether it is authentic (RFC 6840 §5.7)
}

func (q question) String() string {
	return fmt.Sprintf("%s do=%v cd=%v ad=%v", q.Question, q.DNSSEC, q.CheckingDisabled, q.ad)
}

// makeQuestions gives questions that people ask and questions that few ask, one of eight
// with CD, and one of eight that does not want to know AD.
func makeQuestions(in *dnstest.Internet, seed uint64) (list []question) {
	usual, odd := in.Questions(seed, questions-questions/oddEvery), in.Oddities(seed, questions/oddEvery)
	for i := range questions {
		from := &usual
		if i%oddEvery == 0 {
			from = &odd
		}
		q := question{Question: (*from)[0], ad: i%8 != 5}
		*from = (*from)[1:]
		q.CheckingDisabled = !validating || i/oddEvery%8 == 3
		list = append(list, q)
	}
	return list
}

// reply is what is compared of a message.
type reply struct {
	rcode   string
	ad      bool
	answer  []string   // sorted, without TTLs
	soa     string     // the owner of a SOA record in the authority section
	proofs  bool       // there are NSEC or NSEC3 records in the authority section
	targets []dns.Name // of its aliases
	failure string     // EDE and the like, for people
	tooLong []string   // records with a TTL that is above their zone's
}

func (r reply) String() string {
	return fmt.Sprintf("%s ad=%v %s soa=%s proofs=%v %s", r.rcode, r.ad, strings.Join(r.answer, " | "), r.soa, r.proofs, r.failure)
}

const noReply = "no reply"

func (r reply) failed() bool { return r.rcode == "SERVFAIL" || r.rcode == noReply }

// same compares. No reply in time is SERVFAIL by another name.
func same(a, b reply) bool {
	if a.failed() || b.failed() {
		return a.failed() && b.failed()
	}
	return a.rcode == b.rcode && slices.Equal(a.answer, b.answer) && (!validating || a.ad == b.ad) &&
		a.soa == b.soa && a.proofs == b.proofs
}

func askAll(addr string, parallel int, list []question, out []reply) {
	var workers sync.WaitGroup
	next := make(chan int)
	for range parallel {
		workers.Go(func() {
			for i := range next {
				out[i] = ask(addr, list[i])
			}
		})
	}
	for i := range list {
		next <- i
	}
	close(next)
	workers.Wait()
}

// ask asks one resolver, over TCP where the answer does not fit.
func ask(addr string, q question) reply {
	m := new(wire.Msg).SetQuestion(q.Name.FQDN(), uint16(q.Type))
	m.AuthenticatedData = q.ad
	m.CheckingDisabled = q.CheckingDisabled
	m.SetEdns0(1232, q.DNSSEC)
	c := wire.Client{Net: "udp", Timeout: patience}
	r, _, err := c.Exchange(m, addr)
	if err == nil && r.Truncated {
		c.Net = "tcp"
		r, _, err = c.Exchange(m, addr)
	}
	if err != nil {
		return reply{rcode: noReply, failure: err.Error()}
	}
	out := reply{rcode: wire.RcodeToString[r.Rcode], ad: r.AuthenticatedData, targets: targets(r.Answer)}
	if q.CheckingDisabled {
		// We judge nothing for those who do it themselves; Unbound and BIND set AD where
		// they happen to know (RFC 4035 §3.2.3 lets both).
		out.ad = false
	}
	if opt := r.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if ede, ok := o.(*wire.EDNS0_EDE); ok {
				out.failure += fmt.Sprintf("[EDE %d %s]", ede.InfoCode, ede.ExtraText)
			}
		}
	}
	for _, rr := range r.Ns {
		switch rr := rr.(type) {
		case *wire.SOA:
			out.soa = strings.ToLower(rr.Hdr.Name)
		case *wire.NSEC, *wire.NSEC3:
			out.proofs = true
		}
		out.tooLong = append(out.tooLong, tooLong(rr, dnstest.NegativeTTL)...)
	}
	for _, rr := range r.Answer {
		out.tooLong = append(out.tooLong, tooLong(rr, math.MaxUint32)...)
		rr = wire.Copy(rr)
		rr.Header().Ttl = 0
		text := rr.String()
		if rr.Header().Rrtype != wire.TypeTXT {
			text = strings.ToLower(text)
		}
		out.answer = append(out.answer, strings.ReplaceAll(text, "\t", " "))
	}
	slices.Sort(out.answer)
	return out
}

// tooLong gives the record if its TTL is above that of its zone, or above most where it is
// a part of a negative answer.
func tooLong(rr wire.RR, most uint32) []string {
	t := dns.Type(rr.Header().Rrtype)
	if sig, ok := rr.(*wire.RRSIG); ok {
		t = dns.Type(sig.TypeCovered)
	}
	limit := dnstest.TTL(t)
	switch t {
	case dns.TypeSOA:
		limit = min(limit, most)
	case dns.Type(wire.TypeNSEC), dns.Type(wire.TypeNSEC3):
		limit = dnstest.NegativeTTL // RFC 9077 §3
	}
	if rr.Header().Ttl <= limit {
		return nil
	}
	return []string{fmt.Sprintf("%s (at most %d)", rr, limit)}
}

// startOurs runs our resolver behind our server.
func startOurs(t *testing.T, in *dnstest.Internet) {
	anchor, err := dnssec.AnchorOf(in.Anchor)
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver.Resolver{AllowLoopback: true, TrustAnchors: []dnssec.Anchor{anchor}}
	for _, root := range in.Roots {
		r.Hints = append(r.Hints, resolver.Hint{Name: root.Name, Addr: root.Addr}, resolver.Hint{Name: root.Name, Addr: root.Addr6})
	}
	at := netip.MustParseAddrPort(oursAddr)
	pc, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	s := &server.Server{Resolver: r, Recursion: true}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.ServeUDP(pc) })
	serving.Go(func() { _ = s.ServeTCP(ln) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		serving.Wait()
		t.Logf("our resolver: %+v", r.Stats())
	})
}

func hintsFile(t *testing.T, in *dnstest.Internet, dir string) string {
	t.Helper()
	var b strings.Builder
	for _, r := range in.Roots {
		fmt.Fprintf(&b, ". 86400 IN NS %s\n%[1]s 86400 IN A %s\n%[1]s 86400 IN AAAA %[3]s\n", r.Name.FQDN(), r.Addr, r.Addr6)
	}
	return write(t, dir, "root.hints", b.String())
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func startUnbound(t *testing.T, in *dnstest.Internet, dir string) {
	config := fmt.Sprintf(`server:
	interface: 127.1.0.2
	port: 53
	do-ip6: yes
	use-caps-for-id: yes
	do-daemonize: no
	chroot: ""
	username: ""
	directory: %[1]q
	pidfile: ""
	use-syslog: no
	access-control: 127.0.0.0/8 allow
	do-not-query-localhost: no
	root-hints: %[2]q
	trust-anchor: %[3]q
	module-config: "validator iterator"
	num-threads: 1
	minimal-responses: yes
	ede: yes
	infra-keep-probing: yes
	outgoing-range: 4096
	num-queries-per-thread: 2048
	jostle-timeout: 10000
remote-control:
	control-enable: no
`, dir, hintsFile(t, in, dir), strings.ReplaceAll(in.Anchor.String(), "\t", " "))
	start(t, unboundAddr, "unbound", "-d", "-c", write(t, dir, "unbound.conf", config))
}

func startBIND(t *testing.T, in *dnstest.Internet, dir string) {
	config := fmt.Sprintf(`options {
	directory %[1]q;
	pid-file none;
	session-keyfile none;
	listen-on port 53 { 127.1.0.3; };
	listen-on-v6 { none; };
	recursion yes;
	allow-query { any; };
	allow-recursion { any; };
	dnssec-validation yes;
	empty-zones-enable no;
	minimal-responses yes;
	recursive-clients 2000;
};
trust-anchors { . static-ds %[3]d %[4]d %[5]d %[6]q; };
zone "." { type hint; file %[2]q; };
controls { };
`, dir, hintsFile(t, in, dir), in.Anchor.KeyTag, in.Anchor.Algorithm, in.Anchor.DigestType, in.Anchor.Digest)
	start(t, bindAddr, "named", "-g", "-n", "1", "-c", write(t, dir, "named.conf", config))
}

// start runs a peer until the test ends, and waits until it resolves.
func start(t *testing.T, addr, program string, args ...string) {
	t.Helper()
	said, err := os.Create(filepath.Join(t.TempDir(), program+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	log := func() string {
		text, _ := os.ReadFile(said.Name())
		return string(text[max(0, len(text)-4000):])
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		_ = said.Close()
		if t.Failed() {
			t.Logf("%s said at last:\n%s", program, log())
		}
	})
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		m := new(wire.Msg).SetQuestion("com.", wire.TypeSOA)
		if r, err := wire.Exchange(m, addr); err == nil && r.Rcode == wire.RcodeSuccess && len(r.Answer) > 0 {
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s ended:\n%s", program, log())
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not resolve:\n%s", program, log())
}
