package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"mxward/internal/queue"
)

// sqliteOp is one call's part of a transaction.
type sqliteOp struct {
	// durable wants the disk to have it before the caller is told. What is not durable
	// survives the end of the process, but not of the machine; a later durable commit
	// makes it durable, too, since the log is written in order.
	durable bool
	// run does the work. It may be called twice: a transaction that fails is rolled back,
	// and each of its calls is then done alone. An error that wraps errUnchanged says that
	// run did nothing, so its neighbours need not suffer.
	run func(*sqliteWriter) error
}

// errUnchanged is wrapped by refusals.
var errUnchanged = errors.New("nothing was changed")

// unchanged is an error of a call that did nothing.
type unchanged struct{ error }

func (u unchanged) Is(target error) bool { return target == errUnchanged }
func (u unchanged) Unwrap() error        { return u.error }

// sqliteWriter is the one connection that writes, and its statements. It is used by the
// group's one worker only.
type sqliteWriter struct {
	ctx  context.Context // calls that were begun are not broken off
	conn *sql.Conn
	lazy bool // commits do not wait for the disk
	all  []*sql.Stmt
	// broken, once set, is the answer to every call, and failed is closed.
	broken error
	failed chan struct{}

	begin, commit, rollback, full, normal       *sql.Stmt
	insertMessage, insertJob, countChunks       *sql.Stmt
	deleteJob, deleteMessage, deleteChunks      *sql.Stmt
	deferJob, canary, heir, drain, renew        *sql.Stmt
	due, dueExcept, lease, hold                 *sql.Stmt
	insertChunk, orphans, insertContact, forget *sql.Stmt
}

func newSQLiteWriter(ctx context.Context, db *sql.DB) (*sqliteWriter, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &sqliteWriter{ctx: ctx, conn: conn, failed: make(chan struct{})}
	for _, s := range []struct {
		to  **sql.Stmt
		sql string
	}{
		{&w.begin, `BEGIN IMMEDIATE`},
		{&w.commit, `COMMIT`},
		{&w.rollback, `ROLLBACK`},
		{&w.full, `PRAGMA synchronous = FULL`},
		{&w.normal, `PRAGMA synchronous = NORMAL`},

		{&w.insertMessage, `INSERT INTO message (id, head, chunks, tail) VALUES (?, ?, ?, ?)`},
		{&w.insertJob, `INSERT INTO job (job, destination, state, due, token, attempts, recipients, last)
			VALUES (?, ?, 'ready', ?, 0, 0, ?, '')`},
		{&w.countChunks, `SELECT count(*) FROM chunk WHERE message = ? AND seq < ?`},

		{&w.deleteJob, `DELETE FROM job WHERE job = ? AND token = ? AND state IN ('leased', 'held')`},
		{&w.deleteMessage, `DELETE FROM message WHERE number = ?1
			AND NOT EXISTS (SELECT 1 FROM job WHERE job >= ?1 << 16 AND job < (?1 + 1) << 16)`},
		{&w.deleteChunks, `DELETE FROM chunk WHERE message = ?`},
		{&w.deferJob, `UPDATE job SET state = iif(state = 'held', 'held', 'ready'), due = iif(state = 'held', NULL, ?),
			token = 0, recipients = ?, last = ? WHERE job = ? AND token = ? AND state IN ('leased', 'held')`},
		{&w.canary, `SELECT EXISTS (SELECT 1 FROM job WHERE destination = ? AND due <= ? AND state = 'ready' AND job <> ?)`},
		{&w.heir, `UPDATE job SET due = ?1 WHERE due > ?1 AND job =
			(SELECT job FROM job WHERE destination = ?2 AND state = 'ready' ORDER BY due LIMIT 1)`},
		{&w.drain, `UPDATE job SET due = ?1 WHERE destination = ?2 AND due > ?1 AND state = 'ready' AND job <> ?3`},
		{&w.renew, `UPDATE job SET due = ? WHERE job = ? AND token = ? AND state = 'leased'`},

		{&w.due, sqliteLeasable + ` WHERE j.job IN
			(SELECT job FROM job WHERE due <= ? ORDER BY due, job LIMIT ?) ORDER BY j.due, j.job`},
		{&w.dueExcept, sqliteLeasable + ` WHERE j.job IN
			(SELECT job FROM (SELECT job, destination, due FROM job WHERE due <= ? ORDER BY due, job LIMIT ?)
			 WHERE destination NOT IN (SELECT value FROM json_each(?)) ORDER BY due, job LIMIT ?) ORDER BY j.due, j.job`},
		{&w.lease, `UPDATE job SET state = 'leased', due = ?, token = ?, attempts = attempts + 1 WHERE job = ?`},
		{&w.hold, `UPDATE job SET state = 'held', due = NULL, token = 0 WHERE job = ?`},

		{&w.insertChunk, `INSERT INTO chunk (message, seq, stored, data) VALUES (?, ?, ?, ?)`},
		{&w.orphans, `SELECT message FROM chunk GROUP BY message
			HAVING max(stored) < ? AND NOT EXISTS (SELECT 1 FROM message WHERE id = chunk.message) LIMIT ?`},
		{&w.insertContact, `INSERT INTO contact (client, at, host, stage, session, domain, sender, helo)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`},
		{&w.forget, `DELETE FROM contact WHERE rowid IN (SELECT rowid FROM contact WHERE at < ? LIMIT ?)`},
	} {
		if *s.to, err = conn.PrepareContext(ctx, s.sql); err != nil {
			return nil, errors.Join(fmt.Errorf("preparing %s: %w", s.sql, err), w.close())
		}
		w.all = append(w.all, *s.to)
	}
	return w, nil
}

// sqliteLeasable reads what a Job needs.
const sqliteLeasable = `SELECT j.job, j.destination, j.attempts, j.recipients, m.id, m.head, m.chunks
	FROM job j JOIN message m ON m.number = j.job >> 16`

// close ends the connection. Statements of a single connection are not closed with it,
// and one that is open would keep SQLite from folding the log into the file.
func (w *sqliteWriter) close() error {
	var errs []error
	for _, statement := range w.all {
		errs = append(errs, statement.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// execute runs a group in one transaction: this is where many callers share one flush to
// the disk. If one call fails, each is done in a transaction of its own, so that none
// suffers from its neighbours; where the transaction itself fails, they all do.
func (w *sqliteWriter) execute(calls []*call[sqliteOp]) {
	err := w.transaction(calls)
	var one callError
	if errors.As(err, &one) && len(calls) > 1 {
		for i := range calls {
			w.execute(calls[i : i+1])
		}
		return
	}
	if err != nil {
		for _, c := range calls {
			c.err = err
		}
	}
}

// callError is an error of one call, not of its transaction.
type callError struct{ error }

func (e callError) Unwrap() error { return e.error }

// transaction runs the calls and commits. After an error nothing was changed, but for a
// failed commit, whose fate only the disk knows.
func (w *sqliteWriter) transaction(calls []*call[sqliteOp]) error {
	if w.broken != nil {
		return w.broken
	}
	if err := w.sync(calls); err != nil {
		return err
	}
	if err := w.exec(w.begin); err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	done := false
	defer func() {
		if !done { // after an error, or a panic, which the group turns into one
			_ = w.exec(w.rollback) // there may be nothing left to roll back
		}
	}()
	for _, c := range calls {
		c.err = c.arg.run(w)
		if c.err != nil && !errors.Is(c.err, errUnchanged) {
			return callError{c.err}
		}
	}
	if err := w.exec(w.commit); err != nil {
		return w.judge(fmt.Errorf("committing: %w", err))
	}
	done = true
	return nil
}

// judge takes note of an error after which no commit can be trusted: where the disk failed
// to store what had been written, the system may have forgotten it, and a second flush
// would say that all is well. Only opening the store anew finds out what is left.
func (w *sqliteWriter) judge(err error) error {
	var failed interface{ Code() int }
	if errors.As(err, &failed) && failed.Code() == sqliteSyncFailed && w.broken == nil {
		close(w.failed)
		w.broken = fmt.Errorf("the disk failed, and the store stays closed until mxward is started again: %w", err)
		return w.broken
	}
	return err
}

// sqliteSyncFailed is SQLITE_IOERR_FSYNC.
const sqliteSyncFailed = 10 | 4<<8

// sync tells SQLite whether the next commit must wait for the disk: it need not where no
// call in it is durable.
func (w *sqliteWriter) sync(calls []*call[sqliteOp]) error {
	lazy := true
	for _, c := range calls {
		lazy = lazy && !c.arg.durable
	}
	if lazy == w.lazy {
		return nil
	}
	statement := w.full
	if lazy {
		statement = w.normal
	}
	if err := w.exec(statement); err != nil {
		return fmt.Errorf("setting synchronous: %w", err)
	}
	w.lazy = lazy
	return nil
}

func (w *sqliteWriter) exec(s *sql.Stmt, args ...any) error {
	_, err := s.ExecContext(w.ctx, args...)
	return err
}

// change is exec for statements that change at most one row, and tells whether they did.
func (w *sqliteWriter) change(s *sql.Stmt, args ...any) (bool, error) {
	result, err := s.ExecContext(w.ctx, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// leaseLost is the refusal of a call whose lease is gone.
func leaseLost() error { return unchanged{queue.ErrLeaseLost} }
