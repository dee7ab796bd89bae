package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/queue"
	"mxward/internal/store"
	"mxward/internal/store/storetest"
)

// cluster is the PostgreSQL server that the tests of this binary share; it is started by
// the first who wants it.
type cluster struct {
	once sync.Once
	pg   *storetest.Postgres
	err  error
}

var shared cluster

func TestMain(m *testing.M) {
	if os.Getenv(crashChild) != "" {
		os.Exit(enqueueForever())
	}
	code := m.Run()
	if shared.pg != nil {
		if err := shared.pg.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// postgres gives the shared server, or leaves the test out.
func postgres(t testing.TB) *storetest.Postgres {
	t.Helper()
	shared.once.Do(func() { shared.pg, shared.err = storetest.StartPostgres(false) })
	return usable(t, shared.pg, shared.err)
}

func usable(t testing.TB, pg *storetest.Postgres, err error) *storetest.Postgres {
	t.Helper()
	if errors.Is(err, storetest.ErrNoPostgres) {
		t.Skip("left out: " + err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	return pg
}

// opener opens one database again and again.
func opener(url string) func() (store.Engine, error) {
	return func() (store.Engine, error) { return store.Open(context.Background(), url) }
}

func freshSQLite(t testing.TB) func() (store.Engine, error) {
	return opener("sqlite:" + filepath.Join(t.TempDir(), "queue.db"))
}

func freshPostgres(pg *storetest.Postgres) storetest.Fresh {
	return func(t testing.TB) func() (store.Engine, error) {
		t.Helper()
		url, err := pg.Database(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return opener(url)
	}
}

func TestSQLite(t *testing.T) { storetest.Run(t, freshSQLite) }

func TestPostgres(t *testing.T) { storetest.Run(t, freshPostgres(postgres(t))) }

// TestPostgresClocks: a gate whose clock runs ahead of the server's does not take a job that
// another gate has leased, nor late what is due.
func TestPostgresClocks(t *testing.T) {
	url, err := postgres(t).Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	open := func(ahead time.Duration) store.Engine {
		e, err := store.Open(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		e.(*store.Postgres).SetAhead(-ahead)
		return e
	}
	// Each gate says "now" by its own clock.
	const fast = 10 * time.Minute
	right, ahead := open(0), open(fast)
	now := time.Now()
	enqueue := func(e store.Engine, id queue.ID, now time.Time) {
		t.Helper()
		m := queue.Message{ID: id, Received: now, Expires: now.Add(time.Hour), Size: 1, Tail: []byte("x")}
		m.Envelope.Recipients = []mail.Recipient{{Address: mail.Address{Local: "bob", Domain: dns.MustName("example.com")}}}
		if err := e.Enqueue(t.Context(), now, m); err != nil {
			t.Fatal(err)
		}
	}
	lease := func(e store.Engine, now time.Time) int {
		t.Helper()
		jobs, err := e.Lease(t.Context(), queue.LeaseRequest{Now: now, Until: now.Add(time.Minute), Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		return len(jobs)
	}
	enqueue(right, "m1", now)
	if n := lease(right, now); n != 1 {
		t.Fatalf("%d jobs leased, want 1", n)
	}
	if n := lease(ahead, now.Add(fast)); n != 0 {
		t.Errorf("the gate that runs ahead took %d jobs that are leased", n)
	}
	enqueue(ahead, "m2", now.Add(fast))
	if n := lease(right, now); n != 1 {
		t.Errorf("%d jobs of the gate that runs ahead are due, want 1", n)
	}
}

// TestPostgresSilent: no call waits for ever for a server that does not answer.
func TestPostgresSilent(t *testing.T) {
	url, err := postgres(t).Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	other, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	if _, err := other.Exec(t.Context(), `BEGIN; LOCK TABLE message, job, chunk`); err != nil {
		t.Fatal(err)
	}
	e.(*store.Postgres).SetTimeout(100 * time.Millisecond)
	ctx, now := context.WithoutCancel(t.Context()), time.Now()
	for name, call := range map[string]func() error{
		"Lease":       func() error { _, err := e.Lease(ctx, queue.LeaseRequest{Now: now, Until: now, Limit: 1}); return err },
		"Renew":       func() error { return e.Renew(ctx, queue.Lease{Job: 1, Token: 1}, now) },
		"AppendChunk": func() error { return e.AppendChunk(ctx, now, "m1", 0, []byte("x")) },
		"Chunk":       func() error { _, err := e.Chunk(ctx, "m1", 0); return err },
		"Sweep":       func() error { _, err := e.Sweep(ctx, now); return err },
		"Change":      func() error { _, err := e.Change(ctx, now, queue.Filter{}, queue.ActHold); return err },
	} {
		done := make(chan error, 1)
		go func() { done <- call() }()
		select {
		case err := <-done:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want that its time was up", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s waits for ever", name)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	folder := t.TempDir()
	garbage := filepath.Join(folder, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("this is no database. ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ url, want string }{
		{"", "expected sqlite:PATH or postgres://"},                       // nothing
		{"mysql://localhost/mail", "expected sqlite:PATH or postgres://"}, // an engine that we lack
		{"sqlite:", "expected sqlite:PATH"},                               // no path
		{"sqlite:" + folder + "/none/queue.db", "create it first"},        // says what to do
		{"sqlite:" + folder, "is a directory"},                            // not a file
		{"sqlite:" + garbage, "not a database"},                           // somebody else's file
		{"postgres://mxward@/db?host=" + folder, "no such file"},          // no server
		{"postgres://user:secret@localhost:port/db", "opening the store"}, // malformed
		{"postgres://user:x@secret@localhost:port/db", "%40"},             // says how to write it
		{"host=localhost password=secret", "expected sqlite:PATH"},        // as libpq has it
	} {
		e, err := store.Open(context.Background(), row.url)
		if err == nil {
			t.Errorf("%q was opened: %v", row.url, e.Close())
			continue
		}
		if !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %q, want %q in it, and no password", row.url, err, row.want)
		}
	}
}

// TestSQLiteFiles: mail is private, and odd names are names.
func TestSQLiteFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, path := range []string{"queue.db", "odd name?mode=ro#%41.db", "./dotted.db"} {
		e, err := store.Open(context.Background(), "sqlite:"+path)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{path, path + "-wal", path + "-shm"} {
			info, err := os.Stat(file)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v; want mode 0600", file, info, err)
			}
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path + "-wal"); err == nil {
			t.Errorf("%s-wal is left after Close", path)
		}
	}
}
