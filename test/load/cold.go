package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// The lab internet of the cold measurements.
const (
	coldSeed  = 1
	coldZones = 2000
	coldNames = 20_000
)

// cold compares the resolution of names that nobody has asked for before: over a lab
// internet in another process, whose servers count what reaches them.
func (b *bench) cold(ctx context.Context, dir string) error {
	up, err := startUpstream(ctx, dir)
	if err != nil {
		return err
	}
	defer up.stop()
	fmt.Printf("\n%d names never asked before, over %d zones, dnsperf; medians of %d alternating runs (one with broken zones)\n\n", coldNames, coldZones, b.runs)
	fmt.Printf("%-24s  %-8s  %8s  %16s  %20s  %8s\n", "work", "resolver", "names/s", "names/CPU second", "questions up a name", "answered")
	for _, work := range []coldWork{
		{"healthy, no validation", "healthy", false, b.runs},
		{"healthy, validation", "healthy", true, b.runs},
		{"broken too, validation", "all", true, 1}, // shows patience more than speed
	} {
		if err := b.coldRuns(ctx, dir, up, work); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// coldWork is one kind of work, with its file of names.
type coldWork struct {
	name, file string
	validate   bool
	runs       int
}

// coldRuns prints one kind of work. Every run begins with an empty cache.
func (b *bench) coldRuns(ctx context.Context, dir string, up *upstream, work coldWork) error {
	var ours, theirs []coldSample
	for range work.runs {
		for _, u := range b.coldResolvers(work.validate) {
			s, err := u.coldRun(ctx, dir, up, filepath.Join(dir, work.file))
			if err != nil {
				return err
			}
			if u.name == "mxward" {
				ours = append(ours, s)
			} else {
				theirs = append(theirs, s)
			}
		}
	}
	a, p := medianCold(ours), medianCold(theirs)
	fmt.Printf("%-24s  %-8s  %8.0f  %16.0f  %20.2f  %8.0f\n", work.name, "mxward", a.rate, a.cpu, a.up, a.answered)
	fmt.Printf("%-24s  %-8s  %8.0f  %16.0f  %20.2f  %8.0f\n", work.name, "Unbound", p.rate, p.cpu, p.up, p.answered)
	fmt.Printf("%-24s  %-8s  %8.2f  %16.2f  %20.2f   (aims: at least 1.0, -, at most 1.0)\n\n", work.name, "ratio", a.rate/p.rate, a.cpu/p.cpu, a.up/p.up)
	return nil
}

// coldSample is what one run gave: its rate and cpu are names a second and names a second
// of the server's CPU time.
type coldSample struct {
	sample
	up       float64 // questions that reached the internet's servers, a name
	answered float64
}

func medianCold(runs []coldSample) coldSample {
	var first, second []sample
	for _, r := range runs {
		first, second = append(first, r.sample), append(second, sample{r.up, r.answered})
	}
	m := median(second)
	return coldSample{median(first), m.rate, m.cpu}
}

func (u resolverUnderTest) coldRun(ctx context.Context, dir string, up *upstream, file string) (s coldSample, err error) {
	// The one's store and the other's files are of this run only.
	run, err := os.MkdirTemp(dir, "run-")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(run)
	for _, name := range []string{"root.hints", "anchor"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return s, err
		}
		if err := os.WriteFile(filepath.Join(run, name), text, 0o644); err != nil {
			return s, err
		}
	}
	err = u.running(ctx, run, func(pid int) error {
		asked, err := up.asked()
		if err != nil {
			return err
		}
		// A lost question holds up the end by dnsperf's time-out: a short one, so that the
		// rate is not that of one name. How many were answered is printed.
		before, began := cpuTime([]int{pid}), time.Now()
		n, err := dnsperf(ctx, u.addr, file, "-n", "1", "-c", "8", "-q", "200", "-t", "2")
		if err != nil {
			return err
		}
		took, used := time.Since(began), cpuTime([]int{pid})-before
		after, err := up.asked()
		s = coldSample{sample{float64(n) / took.Seconds(), float64(n) / used.Seconds()}, float64(after-asked) / coldNames, float64(n)}
		return err
	})
	return s, err
}

// coldResolvers configures both with the lab's root and the same trust anchor. Unbound has
// one thread, as it has one core, and enough room for all questions at once; the rest,
// QNAME minimisation and the use of NSEC among it, is its default.
func (b *bench) coldResolvers(validate bool) []resolverUnderTest {
	ours := func(dir string) (*exec.Cmd, error) {
		anchor, err := os.ReadFile(filepath.Join(dir, "anchor"))
		if err != nil {
			return nil, err
		}
		plan := fmt.Sprintf("[site]\nname = \"mx1.example.com\"\nstore = \"sqlite:%s\"\n[resolver]\nlisten = [\"%s:53\"]\nroot-hints = \"root.hints\"\nvalidate = %t\n",
			filepath.Join(dir, "store.db"), ourAddr, validate)
		if validate {
			plan += fmt.Sprintf("trust-anchors = [%q]\n", strings.TrimSpace(string(anchor)))
		}
		file := filepath.Join(dir, "mxward.toml")
		if err := os.WriteFile(file, []byte(plan), 0o600); err != nil {
			return nil, err
		}
		return exec.Command(b.binary, "serve", "--plan", file), nil
	}
	theirs := func(dir string) (*exec.Cmd, error) {
		cmd, err := unboundCommand(dir)
		if err != nil || !validate {
			return cmd, err
		}
		file := filepath.Join(dir, "unbound.conf")
		config, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		text := strings.Replace(string(config), `"iterator"`, `"validator iterator"`, 1) + "\ttrust-anchor-file: \"anchor\"\n"
		return cmd, os.WriteFile(file, []byte(text), 0o644)
	}
	return []resolverUnderTest{{"mxward", ourAddr, ours}, {"Unbound", unboundAddr, theirs}}
}

// upstream is the process of the lab internet.
type upstream struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startUpstream starts this program again as the lab internet, on the client's core, and
// waits until dir has what the resolvers and dnsperf need.
func startUpstream(ctx context.Context, dir string, args ...string) (*upstream, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "taskset", append([]string{"-c", clientCore, self, "-upstream", dir}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	u := &upstream{cmd, in, bufio.NewReader(out)}
	if _, err := u.asked(); err != nil {
		u.stop()
		return nil, fmt.Errorf("lab internet: %w", err)
	}
	return u, nil
}

// asked gives how many questions have reached the servers so far.
func (u *upstream) asked() (int, error) {
	if _, err := io.WriteString(u.in, "\n"); err != nil {
		return 0, err
	}
	line, err := u.out.ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(line))
}

func (u *upstream) stop() {
	u.in.Close()
	u.cmd.Wait()
}

// serveUpstream is the lab internet: it writes root.hints, anchor and the names of a run
// into dir, then prints the number of questions for every line that it reads.
func serveUpstream(dir string) error {
	world, err := dnstest.NewInternet(coldSeed, coldZones)
	if err != nil {
		return err
	}
	var asked atomic.Int64
	for addr, h := range world.Hosts {
		h.Resolver = counted{h.Resolver, &asked}
		world.Hosts[addr] = h
	}
	servers, err := world.Listen(53)
	if err != nil {
		return err
	}
	defer servers.Close()
	if err := writeWorld(world, dir); err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println(asked.Load())
	}
	return lines.Err()
}

func writeWorld(world *dnstest.Internet, dir string) error {
	var hints, healthy, all strings.Builder
	for _, r := range world.Roots {
		fmt.Fprintf(&hints, ". 3600000 NS %s\n%s 3600000 A %s\n", r.Name.FQDN(), r.Name.FQDN(), r.Addr)
	}
	broken := map[dns.Name]bool{}
	for _, z := range world.Zones {
		broken[z.Name] = z.Fault != dnstest.Healthy
	}
	kept := 0
	for i, q := range world.Questions(coldSeed, 5*coldNames) {
		line := fmt.Sprintf("%s %s\n", q.Name.FQDN(), q.Type)
		if i < coldNames {
			all.WriteString(line)
		}
		if kept < coldNames && !below(q.Name, broken) && !leavesZone(q.Name) {
			healthy.WriteString(line)
			kept++
		}
	}
	if kept < coldNames {
		return fmt.Errorf("only %d questions of healthy zones", kept)
	}
	for name, text := range map[string]string{
		"root.hints": hints.String(), "anchor": world.Anchor.String() + "\n", "healthy": healthy.String(), "all": all.String(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// leavesZone reports whether a name is an alias that may lead into a broken zone, or in a
// circle: those are waited for.
func leavesZone(name dns.Name) bool {
	return slices.ContainsFunc(name.Labels(), func(label string) bool {
		return slices.Contains([]string{"ext", "far", "xloop", "hop", "loop1", "self", "tree"}, label)
	})
}

// below reports whether a name is in one of the zones, or below it.
func below(name dns.Name, zones map[dns.Name]bool) bool {
	for ok := true; ok; name, ok = name.Parent() {
		if zones[name] {
			return true
		}
	}
	return false
}

// counted counts the questions that reach a server.
type counted struct {
	dns.Resolver
	n *atomic.Int64
}

func (c counted) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	c.n.Add(1)
	return c.Resolver.Resolve(ctx, q)
}
