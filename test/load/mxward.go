package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const mxwardAddr = "127.0.0.1:20025"

// server is a mxward of one run.
type server struct {
	cmd *exec.Cmd
	dir string
}

// start runs mxward from a fresh folder on the same disk as Postfix's queue.
func (b *bench) start(ctx context.Context, args ...string) (*server, error) {
	dir, err := os.MkdirTemp(cacheDir(), "load-")
	if err != nil {
		return nil, err
	}
	plan := fmt.Sprintf(`
[site]
name  = "mx1.example.com"
store = "sqlite:queue.db"
[[host]]
name      = "mx1.example.com"
addresses = ["127.0.0.1"]
listen    = [%q]
[[domain]]
name    = "example.com"
deliver = "smtp://%s"
[[domain.mx]]
preference = 10
host       = "mx1.example.com"
role       = "gate"
[smtp]
max-sessions   = 10000
max-per-client = 10000
[[dns.zone]]
name = "net"
file = "net.zone"
`, mxwardAddr, b.sink.addr)
	// The senders' domain is one without SPF and DMARC, and that is known without asking the
	// world: what is measured is mxward, not the DNS of this machine.
	const zone = "$TTL 300\n@ SOA ns.example.net. hostmaster.example.net. 1 3600 600 86400 300\n@ NS ns.example.net.\nns.example.net. A 192.0.2.53\n"
	if err := os.WriteFile(filepath.Join(dir, "net.zone"), []byte(zone), 0o600); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "mxward.toml")
	if err := os.WriteFile(file, []byte(plan), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, b.binary, append([]string{"serve", "--plan", file}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 40 * time.Second
	// It logs as it would for an operator, to a file, as Postfix does.
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, dir: dir}
	if err := waitForGreeting(ctx, mxwardAddr); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
	os.RemoveAll(s.dir)
}

func (b *bench) accept(ctx context.Context) (sample, error) {
	s, err := b.start(ctx, "--hold")
	if err != nil {
		return sample{}, err
	}
	defer s.stop()
	pid := []int{s.cmd.Process.Pid}
	return measure(b.accepts, func() []int { return pid }, func() error {
		return b.postfix.source(ctx, mxwardAddr, b.accepts, b.clients, messageSize)
	})
}

func (b *bench) relay(ctx context.Context) (sample, error) {
	s, err := b.start(ctx)
	if err != nil {
		return sample{}, err
	}
	defer s.stop()
	pid := []int{s.cmd.Process.Pid}
	return measure(b.relays, func() []int { return pid }, func() error {
		return b.through(ctx, mxwardAddr)
	})
}

// through sends messages in and waits until all have come out at the sink.
func (b *bench) through(ctx context.Context, addr string) error {
	goal := b.sink.count.Load() + int64(b.relays)
	if err := b.postfix.source(ctx, addr, b.relays, b.clients, messageSize); err != nil {
		return err
	}
	for b.sink.count.Load() < goal {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// waitForGreeting waits until an SMTP server greets at the address.
func waitForGreeting(ctx context.Context, addr string) error {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			continue
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil && strings.HasPrefix(line, "220") {
			fmt.Fprint(conn, "QUIT\r\n")
			conn.Close()
			return nil
		}
		conn.Close()
	}
	return errors.New("no greeting at " + addr)
}

// memory prints the peaks of a process with many idle connections, and of one with a large
// message.
func (b *bench) memory(ctx context.Context) error {
	const idle, large = 5000, 50 << 20
	fmt.Printf("%-44s  %12s\n", "memory of mxward", "peak RSS MiB")
	s, err := b.start(ctx)
	if err != nil {
		return err
	}
	base := peakMiB(s.cmd.Process.Pid)
	fmt.Printf("%-44s  %12.1f\n", "just started", base)
	conns, err := holdIdle(idle)
	if err == nil {
		fmt.Printf("%-44s  %12.1f\n", fmt.Sprintf("%d idle connections after EHLO", len(conns)), peakMiB(s.cmd.Process.Pid))
	}
	for _, c := range conns {
		c.Close()
	}
	s.stop()
	if err != nil {
		return err
	}
	if s, err = b.start(ctx); err != nil {
		return err
	}
	defer s.stop()
	goal := b.sink.count.Load() + 1
	// A little below the limit of size, which counts headers, too.
	if err := b.postfix.source(ctx, mxwardAddr, 1, 1, large-4096); err != nil {
		return err
	}
	for b.sink.count.Load() < goal && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Printf("%-44s  %12.1f\n", "one message of 50 MiB, taken and delivered", peakMiB(s.cmd.Process.Pid))
	return ctx.Err()
}

// holdIdle opens connections that say EHLO and then nothing.
func holdIdle(n int) ([]net.Conn, error) {
	var conns []net.Conn
	for len(conns) < n {
		conn, err := net.DialTimeout("tcp", mxwardAddr, 5*time.Second)
		if err != nil {
			return conns, fmt.Errorf("connection %d: %w", len(conns)+1, err)
		}
		conns = append(conns, conn)
		conn.SetDeadline(time.Now().Add(time.Minute))
		in := bufio.NewReaderSize(conn, 1024)
		if _, err := in.ReadString('\n'); err != nil {
			return conns, fmt.Errorf("greeting of connection %d: %w", len(conns), err)
		}
		fmt.Fprint(conn, "EHLO client.example.net\r\n")
		for line := "250-"; strings.HasPrefix(line, "250-"); {
			if line, err = in.ReadString('\n'); err != nil {
				return conns, fmt.Errorf("EHLO of connection %d: %w", len(conns), err)
			}
		}
	}
	return conns, nil
}
