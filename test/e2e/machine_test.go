// Package e2e tries the program, as it is built for users, with programs that nobody here
// wrote: Debian's Postfix, Exim, swaks and dig, each on a machine of its own. A machine is
// a network namespace; all of them hang on one bridge, 192.0.2.0/24, and nothing leads out.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// testCache is where test/setup.sh prepares the mail servers.
func testCache() string {
	if dir := os.Getenv("MXWARD_TEST_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/mxward-test"
}

// needMachines leaves a test out where there can be no namespaces.
func needMachines(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("left out: network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("left out: needs Debian's iproute2 (apt-get install iproute2)")
	}
	name := fmt.Sprintf("mxw%d-try", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Skipf("left out: network namespaces are not permitted here: %s", bytes.TrimSpace(out))
	}
	run(t, "ip", "netns", "del", name)
}

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("left out: needs Debian's %s (sh test/setup.sh)", p)
		}
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// network is a bridge in a namespace of its own.
type network struct {
	ns       string
	machines int
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	needMachines(t)
	n := &network{ns: fmt.Sprintf("mxw%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)}
	run(t, "ip", "netns", "add", n.ns)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", n.ns).Run() })
	run(t, "ip", "-n", n.ns, "link", "add", "br0", "type", "bridge")
	run(t, "ip", "-n", n.ns, "link", "set", "br0", "up")
	return n
}

// machine is a namespace with addresses on the network.
type machine struct {
	ns   string
	name string
	// root is the folder that the machine's programs see as /; "" for this system's own.
	root string
}

func (n *network) machine(t *testing.T, name string, addrs ...string) *machine {
	t.Helper()
	n.machines++
	m := &machine{ns: n.ns + "-" + name, name: name}
	run(t, "ip", "netns", "add", m.ns)
	t.Cleanup(func() {
		m.endAll()
		exec.Command("ip", "netns", "del", m.ns).Run()
	})
	cable := fmt.Sprintf("v%d", n.machines)
	run(t, "ip", "-n", n.ns, "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", m.ns)
	run(t, "ip", "-n", n.ns, "link", "set", cable, "master", "br0", "up")
	run(t, "ip", "-n", m.ns, "link", "set", "lo", "up")
	for _, a := range addrs {
		netip.MustParseAddr(a)
		run(t, "ip", "-n", m.ns, "addr", "add", a+"/24", "dev", "eth0")
	}
	run(t, "ip", "-n", m.ns, "link", "set", "eth0", "up")
	return m
}

// endAll ends what still runs on the machine: a mail server's own children leave the
// process group that start ends.
func (m *machine) endAll() {
	out, err := exec.Command("ip", "netns", "pids", m.ns).Output()
	if err != nil {
		return // the machine is gone
	}
	for _, field := range strings.Fields(string(out)) {
		// listenOn may have lent the machine a thread of this very process.
		if pid, err := strconv.Atoi(field); err == nil && pid != os.Getpid() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// withRoot gives the machine a file system of its own: the prepared overlay of a Debian
// package, with what this test writes on top.
func (m *machine) withRoot(t *testing.T, pkg string) {
	t.Helper()
	prepared := filepath.Join(testCache(), pkg)
	if _, err := os.Stat(filepath.Join(prepared, "ready")); err != nil {
		t.Skipf("left out: Debian's %s is not prepared in %s (sh test/setup.sh as root)", pkg, prepared)
	}
	dir, err := os.MkdirTemp(testCache(), "run-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, sub := range []string{"work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// A copy, since an overlay takes no lower layer that lies within another.
	run(t, "cp", "-a", filepath.Join(prepared, "upper"), dir)
	m.root = filepath.Join(dir, "root")
	layers := fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", dir, dir)
	if err := syscall.Mount("overlay", m.root, "overlay", 0, layers); err != nil {
		t.Skipf("left out: overlay mounts are not permitted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(m.root, syscall.MNT_DETACH) })
	for _, d := range []string{"proc", "dev"} {
		if err := syscall.Mount("/"+d, filepath.Join(m.root, d), "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Unmount(filepath.Join(m.root, d), syscall.MNT_DETACH) })
	}
}

// write puts a file into the machine's root.
func (m *machine) write(t *testing.T, path, text string) {
	t.Helper()
	path = filepath.Join(m.root, path)
	os.Remove(path) // it may be a link out of the root
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command is a program on the machine.
func (m *machine) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	line := []string{"netns", "exec", m.ns}
	if m.root != "" {
		line = append(line, "chroot", m.root)
	}
	return exec.CommandContext(ctx, "ip", append(append(line, name), args...)...)
}

// run runs a program on the machine to its end, a minute at most.
func (m *machine) run(t *testing.T, stdin, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := m.command(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// process is a daemon of a test.
type process struct {
	cmd  *exec.Cmd
	out  *logBuffer
	done chan struct{}
}

// start starts a daemon, shows its log if the test fails, and ends it by its process
// group with the test.
func start(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, out: &logBuffer{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	// No Pdeathsig: it is the death of the starting thread that counts, and listenOn uses
	// threads up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() { cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("--- log of %s\n%s", name, p.out)
		}
	})
	return p
}

// stop sends the signal to the process group and waits; after 15 s it kills.
func (p *process) stop(sig syscall.Signal) {
	syscall.Kill(-p.cmd.Process.Pid, sig)
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
	}
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // what it left behind
	<-p.done
}

// logBuffer collects a daemon's output while it runs.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// eventually waits until the condition holds.
func eventually(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); ; {
		if holds() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
