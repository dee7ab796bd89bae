package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const postfixAddr = "127.0.0.1:20026"

// cacheDir is where test/setup.sh prepares the peers.
func cacheDir() string {
	if dir := os.Getenv("MXWARD_TEST_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/mxward-test"
}

// postfix is Debian's Postfix in an overlay of the root folder, with its queue on the disk
// itself, not on the overlay, which would slow it down.
type postfix struct {
	dir, root string
	mounts    []string // undone last first
}

func newPostfix(sinkAddr string) (*postfix, error) {
	prepared := filepath.Join(cacheDir(), "postfix")
	if _, err := os.Stat(filepath.Join(prepared, "ready")); err != nil {
		return nil, errors.New("Debian's postfix is not prepared in " + prepared)
	}
	dir, err := os.MkdirTemp(cacheDir(), "load-postfix-")
	if err != nil {
		return nil, err
	}
	p := &postfix{dir: dir, root: filepath.Join(dir, "root")}
	for _, sub := range []string{"work", "root", "spool"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	// A copy, since an overlay takes no lower layer that lies within another.
	if out, err := exec.Command("cp", "-a", filepath.Join(prepared, "upper"), dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("copy the prepared Postfix: %w: %s", err, out)
	}
	layers := fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", dir, dir)
	if err := p.mount("overlay", p.root, "overlay", 0, layers); err != nil {
		return nil, err
	}
	for source, target := range map[string]string{"/proc": "proc", "/dev": "dev", filepath.Join(dir, "spool"): "var/spool/postfix"} {
		if err := p.mount(source, filepath.Join(p.root, target), "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			p.close()
			return nil, err
		}
	}
	if err := p.configure(sinkAddr); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *postfix) mount(source, target, fs string, flags uintptr, data string) error {
	if err := syscall.Mount(source, target, fs, flags, data); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	p.mounts = append(p.mounts, target)
	return nil
}

func (p *postfix) close() {
	for i := len(p.mounts) - 1; i >= 0; i-- {
		syscall.Unmount(p.mounts[i], syscall.MNT_DETACH)
	}
	os.RemoveAll(p.dir)
}

// configure makes a relay to the sink: Debian's defaults but for what is needed to listen
// and to relay, chroots off as upstream ships them, and the limits that hold one client and
// one destination back lifted.
func (p *postfix) configure(sinkAddr string) error {
	host, port, _ := strings.Cut(sinkAddr, ":")
	main := fmt.Sprintf(`compatibility_level = 3.6
maillog_file = /var/log/postfix.log
myhostname = mx1.example.com
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
relay_domains = example.com
relay_recipient_maps =
transport_maps = static:smtp:[%s]:%s
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
default_process_limit = 100
smtp_tls_security_level = none
smtpd_tls_security_level = none
`, host, port)
	if err := os.WriteFile(filepath.Join(p.root, "etc/postfix/main.cf"), []byte(main), 0o644); err != nil {
		return err
	}
	file := filepath.Join(p.root, "etc/postfix/master.cf")
	master, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var lines []string
	for line := range strings.Lines(string(master)) {
		f := strings.Fields(line)
		if len(f) == 8 && f[0] == "smtp" && f[1] == "inet" {
			f[0] = postfixAddr
		}
		if len(f) == 8 && f[4] == "y" {
			f[4] = "n"
		}
		if len(f) == 8 {
			line = strings.Join(f, " ") + "\n"
		}
		lines = append(lines, line)
	}
	return os.WriteFile(file, []byte(strings.Join(lines, "")), 0o644)
}

func (p *postfix) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "chroot", append([]string{p.root, name}, args...)...)
}

// source hands messages to a server with smtp-source, one message a session.
func (p *postfix) source(ctx context.Context, addr string, messages, clients, size int) error {
	out, err := p.command(ctx, "/usr/sbin/smtp-source", "-s", strconv.Itoa(clients), "-m", strconv.Itoa(messages), "-l", strconv.Itoa(size),
		"-f", "alice@example.net", "-t", "bob@example.com", "-M", "client.example.net", addr).CombinedOutput()
	if err != nil {
		return fmt.Errorf("smtp-source: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// serving runs work while Postfix runs, with settings on top of main.cf.
func (p *postfix) serving(ctx context.Context, settings []string, work func(pids func() []int) (sample, error)) (sample, error) {
	for _, s := range settings {
		if out, err := p.command(ctx, "/usr/sbin/postconf", "-e", s).CombinedOutput(); err != nil {
			return sample{}, fmt.Errorf("postconf: %w: %s", err, out)
		}
	}
	cmd := p.command(ctx, "/usr/sbin/postfix", "start-fg")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return sample{}, err
	}
	stopped := make(chan struct{})
	go func() { cmd.Wait(); close(stopped) }()
	defer func() {
		p.command(context.WithoutCancel(ctx), "/usr/sbin/postfix", "stop").Run()
		select {
		case <-stopped:
		case <-time.After(20 * time.Second):
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-stopped
		}
		p.command(context.WithoutCancel(ctx), "/usr/sbin/postsuper", "-d", "ALL").Run()
	}()
	if err := waitForGreeting(ctx, postfixAddr); err != nil {
		return sample{}, err
	}
	return work(func() []int { return family(cmd.Process.Pid) })
}

// acceptPostfix puts every message on hold, which is the least that Postfix can do with one
// that it has accepted.
func (b *bench) acceptPostfix(ctx context.Context) (sample, error) {
	return b.postfix.serving(ctx, []string{"smtpd_client_restrictions=check_client_access static:HOLD"}, func(pids func() []int) (sample, error) {
		return measure(b.accepts, pids, func() error {
			return b.postfix.source(ctx, postfixAddr, b.accepts, b.clients, messageSize)
		})
	})
}

func (b *bench) relayPostfix(ctx context.Context) (sample, error) {
	return b.postfix.serving(ctx, []string{"smtpd_client_restrictions="}, func(pids func() []int) (sample, error) {
		return measure(b.relays, pids, func() error { return b.through(ctx, postfixAddr) })
	})
}
