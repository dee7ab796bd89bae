package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mxward/internal/mail"
	"mxward/internal/queue"
)

func openTest(t *testing.T) (*SQLite, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "queue.db")
	s, err := openSQLite(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, path
}

func small(t *testing.T, id string) queue.Message {
	t.Helper()
	to, err := mail.ParseAddress("a@example.com")
	if err != nil {
		t.Fatal(err)
	}
	return queue.Message{ID: queue.ID(id), Envelope: mail.Envelope{Recipients: []mail.Recipient{{Address: to}}}, Tail: []byte("x")}
}

// TestUnreadable: a job that cannot be read is held, and listed with the others.
func TestUnreadable(t *testing.T) {
	s, _ := openTest(t)
	ctx, now := t.Context(), time.Now()
	for _, id := range []string{"m1", "m2", "m3"} {
		if err := s.Enqueue(ctx, now, small(t, id)); err != nil {
			t.Fatal(err)
		}
	}
	err := s.do(ctx, true, 0, func(w *sqliteWriter) error {
		_, err := w.conn.ExecContext(ctx, `UPDATE message SET head = '{' WHERE id = 'm1'; UPDATE job SET recipients = 'x' WHERE job >> 16 = 2`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := s.Lease(ctx, queue.LeaseRequest{Now: now, Until: now.Add(time.Minute), Limit: 10})
	if err != nil || len(jobs) != 1 || jobs[0].Message.ID != "m3" {
		t.Errorf("leased %+v, %v; want m3", jobs, err)
	}
	entries, err := s.List(ctx, queue.Filter{})
	if err != nil || len(entries) != 3 {
		t.Fatalf("listed %+v, %v; want all three", entries, err)
	}
	for i, e := range entries {
		faulty := i < 2
		if e.Message.ID != queue.ID(fmt.Sprintf("m%d", i+1)) || (e.Fault != "") != faulty || (e.State == queue.Held) != faulty {
			t.Errorf("listed %+v", e)
		}
	}
}

// TestNeighbours: of the calls that share a transaction, only the bad one fails.
func TestNeighbours(t *testing.T) {
	s, _ := openTest(t)
	spoilt := errors.New("spoilt")
	run := []func(*sqliteWriter) error{
		nil,
		func(w *sqliteWriter) error { // fails after it has changed something
			_, err := w.conn.ExecContext(w.ctx, `INSERT INTO chunk (message, seq, stored, data) VALUES ('bad', 0, 0, 'x')`)
			return errors.Join(err, spoilt)
		},
		func(*sqliteWriter) error { return leaseLost() }, // refuses before it has changed anything
		nil,
	}
	var calls []*call[sqliteOp]
	for i, f := range run {
		if f == nil {
			stored, err := encodeMessage(small(t, fmt.Sprintf("m%d", i)))
			if err != nil {
				t.Fatal(err)
			}
			f = func(w *sqliteWriter) error { return w.enqueue(time.Now(), stored) }
		}
		calls = append(calls, &call[sqliteOp]{arg: sqliteOp{durable: true, run: f}})
	}
	// The writer belongs to the group's worker, which is idle here.
	s.writer.execute(calls)
	if calls[0].err != nil || calls[3].err != nil {
		t.Errorf("the good calls: %v, %v", calls[0].err, calls[3].err)
	}
	if !errors.Is(calls[1].err, spoilt) || !errors.Is(calls[2].err, queue.ErrLeaseLost) {
		t.Errorf("the bad calls: %v, %v", calls[1].err, calls[2].err)
	}
	entries, err := s.List(context.Background(), queue.Filter{})
	if err != nil || len(entries) != 2 {
		t.Errorf("%d entries, %v; want 2", len(entries), err)
	}
	if n, err := s.Sweep(context.Background(), time.Now()); n != 0 || err != nil {
		t.Errorf("the bad call has left %d bodies, %v", n, err)
	}
}

// TestLocked: while another process holds the lock for too long, all callers are told
// after one wait, not one after the other; then the work goes on.
func TestLocked(t *testing.T) {
	s, path := openTest(t)
	other, err := sql.Open("sqlite", sqliteDSN(path))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	lock, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	const wait = 100 * time.Millisecond
	if _, err := s.writer.conn.ExecContext(context.Background(), `PRAGMA busy_timeout = 100`); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var group sync.WaitGroup
	var failed atomic.Int64
	for i := range 200 {
		m := small(t, fmt.Sprintf("m%d", i))
		group.Go(func() {
			if err := s.Enqueue(context.Background(), time.Now(), m); err != nil {
				failed.Add(1)
			}
		})
	}
	group.Wait()
	if took := time.Since(began); failed.Load() != 200 || took > 30*wait {
		t.Errorf("%d of 200 failed after %s", failed.Load(), took)
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := s.Enqueue(context.Background(), time.Now(), small(t, "after")); err != nil {
		t.Errorf("after the lock is gone: %v", err)
	}
}

// syncError is what SQLite says when the disk did not take what was written.
type syncError struct{ error }

func (syncError) Code() int { return sqliteSyncFailed }

// TestDiskFailed: after a failed flush nothing is acknowledged any more.
func TestDiskFailed(t *testing.T) {
	s, _ := openTest(t)
	if err := s.writer.judge(errors.New("something else")); err == nil || s.writer.broken != nil {
		t.Error("an ordinary error closes the store")
	}
	select {
	case <-s.Failed():
		t.Error("the store says that it has failed")
	default:
	}
	s.writer.judge(fmt.Errorf("committing: %w", syncError{errors.New("input/output error")}))
	select {
	case <-s.Failed():
	default:
		t.Error("the store does not say that it has failed")
	}
	if err := s.Enqueue(context.Background(), time.Now(), small(t, "m1")); err == nil {
		t.Error("a message was acknowledged after the disk had failed")
	}
	if _, err := s.List(context.Background(), queue.Filter{}); err != nil {
		t.Errorf("looking is still possible: %v", err)
	}
}

// TestGroups: calls that wait together share a transaction; who gives up while waiting
// is not in it.
func TestGroups(t *testing.T) {
	var sizes []int
	entered, release := make(chan struct{}, 2), make(chan struct{})
	g := newGroup(1, func(batch []*call[int]) {
		entered <- struct{}{}
		<-release
		sizes = append(sizes, len(batch))
		for _, c := range batch {
			if c.arg%2 == 1 {
				c.err = errUnchanged
			}
		}
	})
	var group sync.WaitGroup
	do := func(arg int, want error) {
		group.Go(func() {
			if err := g.do(context.Background(), arg, 1); !errors.Is(err, want) {
				t.Errorf("call %d: %v, want %v", arg, err, want)
			}
		})
	}
	do(0, nil)
	<-entered // the worker is busy with it
	for i := range 100 {
		do(i, []error{nil, errUnchanged}[i%2])
	}
	ctx, cancel := context.WithCancel(context.Background())
	gaveUp := make(chan struct{})
	group.Go(func() {
		defer close(gaveUp)
		if err := g.do(ctx, 0, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up: %v, want context.Canceled", err)
		}
	})
	for len(g.calls) < 101 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-gaveUp
	close(release)
	group.Wait()
	if len(sizes) != 2 || sizes[1] != 100 {
		t.Errorf("groups of %d, want 1 and 100", sizes)
	}
	g.close()
	if err := g.do(context.Background(), 0, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v, want ErrClosed", err)
	}
}

// TestGroupPanic: a fault in one group is an error for its callers, and the next goes on.
func TestGroupPanic(t *testing.T) {
	g := newGroup(1, func(batch []*call[int]) {
		if batch[0].arg == 1 {
			panic("index out of range")
		}
	})
	defer g.close()
	if err := g.do(context.Background(), 1, 1); !errors.Is(err, errPanic) {
		t.Errorf("%v, want errPanic", err)
	}
	if err := g.do(context.Background(), 2, 1); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// TestWriterPanic: a fault in the middle of a transaction leaves nothing of it.
func TestWriterPanic(t *testing.T) {
	s, _ := openTest(t)
	err := s.do(context.Background(), true, 0, func(w *sqliteWriter) error {
		if err := w.exec(w.insertChunk, "bad", 0, 0, []byte("x")); err != nil {
			return err
		}
		panic("index out of range")
	})
	if !errors.Is(err, errPanic) {
		t.Errorf("%v, want errPanic", err)
	}
	if err := s.Enqueue(context.Background(), time.Now(), small(t, "m1")); err != nil {
		t.Errorf("the next call: %v", err)
	}
	if n, err := s.Sweep(context.Background(), time.Now()); n != 0 || err != nil {
		t.Errorf("%d bodies are left, %v", n, err)
	}
}
