// Package storetest holds the conformance suite that every engine of package store
// passes, and starts a PostgreSQL server for the tests that want one. Only tests, and
// programs that measure, import it.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNoPostgres says that PostgreSQL's programs are not installed: a reason to leave a
// test out.
var ErrNoPostgres = errors.New("needs Debian's postgresql (apt-get install postgresql)")

const postgresStart = 60 * time.Second // a slow machine needs some of it

// Postgres is a PostgreSQL server of our own, reached by a socket in its folder. It ends
// with Stop, and at the latest with this process.
type Postgres struct {
	folder string
	fsync  bool

	mu       sync.Mutex
	running  *os.Process
	ended    chan struct{}
	log      *bytes.Buffer
	database int
}

// StartPostgres makes a cluster in a new folder and starts it. Without fsync it is quick,
// and good for everything but measuring and pulling plugs. The server runs as this user,
// or where that is root, which PostgreSQL refuses, as the user postgres or nobody.
func StartPostgres(fsync bool) (*Postgres, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "mxward-pg")
	if err != nil {
		return nil, err
	}
	p := &Postgres{folder: folder, fsync: fsync}
	if err := p.initialise(bin); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	if err := p.Start(); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// postgresBin finds the folder of the server's programs: Debian keeps them out of PATH.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		slices.Sort(found)
		return filepath.Dir(found[len(found)-1]), nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", ErrNoPostgres
}

// unprivileged gives the credential that the server runs with; nil is our own.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("starting PostgreSQL as root: there is neither a user postgres nor nobody")
}

func (p *Postgres) data() string { return filepath.Join(p.folder, "data") }

// initialise makes the cluster.
func (p *Postgres) initialise(bin string) error {
	who, err := unprivileged()
	if err != nil {
		return err
	}
	if who != nil {
		if err := os.Chown(p.folder, int(who.Uid), int(who.Gid)); err != nil {
			return err
		}
	}
	cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", p.data(), "-U", "mxward", "-A", "trust",
		"-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	cmd.Dir = p.folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making a PostgreSQL cluster: %w\n%s", err, out)
	}
	return nil
}

// Start starts the server, again after Kill. Then the memory of the killed server may
// still have users for a moment, and the new one refuses to start.
func (p *Postgres) Start() (err error) {
	for range 20 {
		if err = p.start(); !errors.Is(err, errEnded) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

var errEnded = errors.New("starting PostgreSQL: it ended")

func (p *Postgres) start() error {
	bin, err := postgresBin()
	if err != nil {
		return err
	}
	who, err := unprivileged()
	if err != nil {
		return err
	}
	fsync := "fsync=off"
	if p.fsync {
		fsync = "fsync=on"
	}
	cmd := exec.Command(filepath.Join(bin, "postgres"), "-D", p.data(), "-k", p.folder,
		"-c", "listen_addresses=", "-c", fsync, "-c", "max_connections=200", "-c", "shared_buffers=128MB",
		"-c", "max_wal_size=2GB", "-c", "log_min_messages=fatal")
	cmd.Dir = p.folder
	p.log = &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	// The server must not outlive a test binary that was killed or timed out.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who, Pdeathsig: syscall.SIGQUIT}
	started := make(chan error)
	ended := make(chan struct{})
	go func() {
		// The death signal comes when the thread that started the server ends, so that
		// thread waits here until then.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is for those who ended it
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	p.mu.Lock()
	p.running, p.ended = cmd.Process, ended
	p.mu.Unlock()
	return p.await()
}

// await waits until the server answers.
func (p *Postgres) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), postgresStart)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, p.url("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%w: %s", errEnded, p.log)
		case <-ctx.Done():
			return fmt.Errorf("starting PostgreSQL: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *Postgres) url(database string) string {
	return "postgres://mxward@/" + database + "?host=" + p.folder
}

// Database makes an empty database and gives its URL, as store.Open wants it.
func (p *Postgres) Database(ctx context.Context) (string, error) {
	conn, err := pgx.Connect(ctx, p.url("postgres"))
	if err != nil {
		return "", fmt.Errorf("making a database: %w", err)
	}
	defer conn.Close(ctx)
	p.mu.Lock()
	p.database++
	name := "test" + strconv.Itoa(p.database)
	p.mu.Unlock()
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", fmt.Errorf("making a database: %w", err)
	}
	return p.url(name), nil
}

// CPU gives the processor time that the server's processes have used: those that are
// there now, as one for each open connection.
func (p *Postgres) CPU() (time.Duration, error) {
	p.mu.Lock()
	server := strconv.Itoa(p.running.Pid)
	p.mu.Unlock()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go knows
	var ticks int64
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// After the name in brackets: state, parent, … utime is the 12th, stime the 13th.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) < 13 || fields[1] != server && filepath.Base(filepath.Dir(file)) != server {
			continue
		}
		for _, f := range fields[11:13] {
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("reading %s: %w", file, err)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}

// Kill ends the server with SIGKILL, as a crash would; Start starts it again.
func (p *Postgres) Kill() error { return p.signal(syscall.SIGKILL) }

// Stop ends the server at once and removes its folder.
func (p *Postgres) Stop() error {
	err := p.signal(syscall.SIGQUIT)
	return errors.Join(err, os.RemoveAll(p.folder))
}

func (p *Postgres) signal(s syscall.Signal) error {
	p.mu.Lock()
	process, ended := p.running, p.ended
	p.mu.Unlock()
	if process == nil {
		return nil
	}
	select {
	case <-ended:
		return nil
	default:
	}
	if err := process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending PostgreSQL: %w", err)
	}
	select {
	case <-ended:
	case <-time.After(postgresStart):
		return errors.New("ending PostgreSQL: it does not end")
	}
	return nil
}
