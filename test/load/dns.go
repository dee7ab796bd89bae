package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mxward/internal/dns"
	dnsserver "mxward/internal/dns/server"
	"mxward/internal/dns/zone"
)

// The small internet of the DNS measurements, in a network namespace, where port 53 of
// every loopback address is free.
const (
	rootServer  = "127.1.0.1"
	zoneServer  = "127.1.0.2"
	ourAddr     = "127.0.0.53"
	unboundAddr = "127.0.0.54"
	zones       = 1000

	// Server and client have a core each, so that neither takes the other's time.
	clientCore = "0"
	serverCore = "1"
)

// zoneText is each zone; the wildcard has as many names as are wanted.
const zoneText = `
@     3600 SOA ns hostmaster 1 7200 900 1209600 300
@     3600 NS ns
@     3600 MX 10 mail
@     3600 MX 20 mail2
@     3600 TXT "v=spf1 mx -all"
ns    3600 A 127.1.0.2
www   3600 A 192.0.2.80
www   3600 A 192.0.2.81
mail  3600 A 192.0.2.25
mail2 3600 A 192.0.2.26
web   3600 CNAME www
*.n   3600 A 192.0.2.90
`

// dns measures the resolver beside Debian's Unbound: it starts this program again in a
// network namespace of its own.
func (b *bench) dns(ctx context.Context, only string) error {
	for _, program := range []string{"ip", "unbound", "dnsperf", "taskset"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("dns: %w; the comparison needs root on Debian and sh test/setup.sh", err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	binary, err := filepath.Abs(b.binary)
	if err != nil {
		return err
	}
	ns := "mxward-load-" + strconv.Itoa(os.Getpid())
	if out, err := exec.CommandContext(ctx, "ip", "netns", "add", ns).CombinedOutput(); err != nil {
		return fmt.Errorf("dns: ip netns add: %w: %s", err, out)
	}
	defer exec.Command("ip", "netns", "del", ns).Run()
	if out, err := exec.CommandContext(ctx, "ip", "-n", ns, "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("dns: ip link: %w: %s", err, out)
	}
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", ns, self, "-inside", "-only", only, "-mxward", binary,
		"-runs", strconv.Itoa(b.runs), "-names", strconv.Itoa(b.names), "-cut", b.outage.String(), "-domains", strconv.Itoa(b.domains), "-scan-flags", b.profile)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// inside does the work in the namespace.
func (b *bench) inside(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "mxward-load-dns-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// Unbound drops root's rights, and reads its files again as another user.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if b.only == "cold" {
		return b.cold(ctx, dir)
	}
	if b.only == "flood" {
		return b.flood(ctx, dir)
	}
	if b.only == "cut" {
		return b.cut(ctx, dir)
	}
	if b.only == "scan" {
		return b.scan(ctx, dir)
	}
	close, err := smallInternet("", zoneText)
	if err != nil {
		return err
	}
	defer close()
	if err := writeHints(dir); err != nil {
		return err
	}
	if err := b.cached(ctx, dir); err != nil {
		return err
	}
	return b.entries(ctx, dir)
}

func writeHints(dir string) error {
	hints := ". 3600000 NS a.root-servers.example.\na.root-servers.example. 3600000 A " + rootServer + "\n"
	return os.WriteFile(filepath.Join(dir, "root.hints"), []byte(hints), 0o644)
}

// smallInternet serves a root that delegates zones of mail domains, all with the same text,
// and whatever more is said.
func smallInternet(more, text string) (close func(), err error) {
	var root strings.Builder
	root.WriteString("@ 86400 SOA a.root-servers.example. hostmaster 1 7200 900 1209600 3600\n@ 86400 NS a.root-servers.example.\na.root-servers.example. 86400 A " + rootServer + "\n")
	mux := &dns.Mux{Zones: map[dns.Name]dns.Resolver{}}
	for i := range zones {
		name := fmt.Sprintf("z%d.example", i)
		fmt.Fprintf(&root, "%s. 86400 NS ns.%s.\nns.%s. 86400 A %s\n", name, name, name, zoneServer)
		origin := dns.MustName(name)
		if mux.Zones[origin], err = zone.Parse(strings.NewReader(text), origin, name); err != nil {
			return nil, err
		}
	}
	root.WriteString(more)
	top, err := zone.Parse(strings.NewReader(root.String()), dns.Root, "root")
	if err != nil {
		return nil, err
	}
	var servers []*dnsserver.Server
	close = func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, s := range servers {
			s.Shutdown(ctx)
		}
	}
	for addr, r := range map[string]dns.Resolver{rootServer: top, zoneServer: mux} {
		pc, err := net.ListenPacket("udp", netip.AddrPortFrom(netip.MustParseAddr(addr), 53).String())
		if err != nil {
			close()
			return nil, err
		}
		s := &dnsserver.Server{Resolver: r, MaxInFlight: 10000}
		servers = append(servers, s)
		go s.ServeUDP(pc)
	}
	return close, nil
}

// resolverUnderTest is one of the two.
type resolverUnderTest struct {
	name, addr string
	command    func(dir string) (*exec.Cmd, error)
}

func (b *bench) resolvers() []resolverUnderTest {
	return []resolverUnderTest{{"mxward", ourAddr, b.ourResolver}, {"Unbound", unboundAddr, unboundCommand}}
}

func (b *bench) ourResolver(dir string) (*exec.Cmd, error) {
	plan := fmt.Sprintf("[site]\nname = \"mx1.example.com\"\nstore = \"sqlite:%s\"\n[resolver]\nlisten = [\"%s:53\"]\nroot-hints = \"root.hints\"\n",
		filepath.Join(dir, "store.db"), ourAddr)
	file := filepath.Join(dir, "mxward.toml")
	if err := os.WriteFile(file, []byte(plan), 0o600); err != nil {
		return nil, err
	}
	return exec.Command(b.binary, "serve", "--plan", file), nil
}

// unboundCommand configures Unbound as a plain iterator with one thread and a cache that
// holds everything; the rest is Debian's default.
func unboundCommand(dir string) (*exec.Cmd, error) {
	config := fmt.Sprintf(`server:
	interface: %s
	port: 53
	username: ""
	chroot: ""
	directory: %q
	pidfile: ""
	use-syslog: no
	logfile: %q
	root-hints: "root.hints"
	module-config: "iterator"
	do-not-query-localhost: no
	do-ip6: no
	outgoing-range: 4096
	num-queries-per-thread: 2048
	msg-cache-size: 2g
	rrset-cache-size: 2g
`, unboundAddr, dir, filepath.Join(dir, "unbound.log"))
	file := filepath.Join(dir, "unbound.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	return exec.Command("unbound", "-d", "-c", file), nil
}

// running starts a resolver and does work with it.
func (u resolverUnderTest) running(ctx context.Context, dir string, work func(pid int) error) error {
	cmd, err := u.command(dir)
	if err != nil {
		return err
	}
	cmd = exec.CommandContext(ctx, "taskset", append([]string{"-c", serverCore}, cmd.Args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	}()
	if err := waitForAnswer(ctx, u.addr); err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%s: %w: %s", u.name, err, text)
	}
	return work(cmd.Process.Pid)
}

// waitForAnswer waits until the servers of the root are known: nothing that is measured is
// in the cache then.
func waitForAnswer(ctx context.Context, addr string) error {
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr+":53")
	}}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		if got, err := r.LookupNS(ctx, "."); err == nil && len(got) > 0 {
			return nil
		}
	}
	return errors.New("no answer from " + addr)
}

// dnsperf asks for the names in a file and gives how many questions were answered.
func dnsperf(ctx context.Context, addr, file string, args ...string) (int, error) {
	out, err := exec.CommandContext(ctx, "taskset", append([]string{"-c", clientCore, "dnsperf", "-s", addr, "-d", file}, args...)...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("dnsperf: %w: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "Queries completed:"); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("dnsperf: no count in %s", out)
}

// cached compares questions that are in the cache, per second of the server's CPU time.
func (b *bench) cached(ctx context.Context, dir string) error {
	var names strings.Builder
	for i := range zones {
		fmt.Fprintf(&names, "z%d.example MX\nz%d.example TXT\nwww.z%d.example A\nmail.z%d.example A\nweb.z%d.example A\nmail.z%d.example AAAA\n", i, i, i, i, i, i)
	}
	file := filepath.Join(dir, "names")
	if err := os.WriteFile(file, []byte(names.String()), 0o644); err != nil {
		return err
	}
	fmt.Printf("\ncached answers over loopback, %d names, dnsperf; medians of %d alternating runs\n\n", 6*zones, b.runs)
	fmt.Printf("%-8s  %12s  %22s\n", "resolver", "questions/s", "questions/CPU second")
	samples := map[string][]sample{}
	for range b.runs {
		for _, u := range b.resolvers() {
			err := u.running(ctx, dir, func(pid int) error {
				if _, err := dnsperf(ctx, u.addr, file, "-n", "1", "-q", "50"); err != nil { // fills the cache
					return err
				}
				before, began := cpuTime([]int{pid}), time.Now()
				n, err := dnsperf(ctx, u.addr, file, "-l", "5", "-c", "8", "-q", "200")
				if err != nil {
					return err
				}
				used := cpuTime([]int{pid}) - before
				samples[u.name] = append(samples[u.name], sample{float64(n) / time.Since(began).Seconds(), float64(n) / used.Seconds()})
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	ours, theirs := median(samples["mxward"]), median(samples["Unbound"])
	fmt.Printf("%-8s  %12.0f  %22.0f\n", "mxward", ours.rate, ours.cpu)
	fmt.Printf("%-8s  %12.0f  %22.0f\n", "Unbound", theirs.rate, theirs.cpu)
	fmt.Printf("%-8s  %12.2f  %22.2f   (aim: 1.3)\n\n", "ratio", ours.rate/theirs.rate, ours.cpu/theirs.cpu)
	return ctx.Err()
}
