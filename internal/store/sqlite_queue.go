package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"mxward/internal/queue"
)

// Sizes of pieces, so that no transaction is long.
const (
	leaseWindow = 100  // due jobs that are looked at before the jobs of busy destinations are skipped by index
	changePiece = 500  // jobs that one transaction of Change takes
	sweepPiece  = 20   // bodies that one transaction of Sweep takes
	forgetPiece = 2000 // contacts that one transaction of Forget takes
)

// do runs an operation within the next group.
func (s *SQLite) do(ctx context.Context, durable bool, bytes int, run func(*sqliteWriter) error) error {
	return s.group.do(ctx, sqliteOp{durable, run}, bytes)
}

// Enqueue implements queue.Store.
func (s *SQLite) Enqueue(ctx context.Context, now time.Time, m queue.Message) error {
	stored, err := encodeMessage(m)
	if err != nil {
		return err
	}
	return s.do(ctx, true, len(m.Tail), func(w *sqliteWriter) error { return w.enqueue(now, stored) })
}

func (w *sqliteWriter) enqueue(now time.Time, m storedMessage) error {
	if m.Chunks > 0 {
		var n int
		if err := w.countChunks.QueryRowContext(w.ctx, string(m.ID), m.Chunks).Scan(&n); err != nil {
			return fmt.Errorf("enqueueing message %s: %w", m.ID, err)
		}
		if n != m.Chunks {
			return unchanged{fmt.Errorf("enqueueing message %s: %d of %d chunks are here", m.ID, n, m.Chunks)}
		}
	}
	tail := m.Tail
	if tail == nil {
		tail = []byte{}
	}
	result, err := w.insertMessage.ExecContext(w.ctx, string(m.ID), m.head, m.Chunks, tail)
	if err != nil {
		return fmt.Errorf("enqueueing message %s: %w", m.ID, err)
	}
	number, err := result.LastInsertId()
	if err != nil {
		return fmt.Errorf("enqueueing message %s: %w", m.ID, err)
	}
	for place, job := range m.jobs {
		err := w.exec(w.insertJob, number<<placeBits|int64(place), job.destination, now.UnixMicro(), job.recipients)
		if err != nil {
			return fmt.Errorf("enqueueing message %s: %w", m.ID, err)
		}
	}
	return nil
}

// Lease implements queue.Store. A lease need not be durable: after a crash of the machine
// the job is ready, as if its lease had ended.
func (s *SQLite) Lease(ctx context.Context, r queue.LeaseRequest) ([]queue.Job, error) {
	var jobs []queue.Job
	err := s.do(ctx, false, 0, func(w *sqliteWriter) error {
		found, err := w.leaseDue(r)
		jobs = found
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("leasing jobs: %w", err)
	}
	return jobs, nil
}

func (w *sqliteWriter) leaseDue(r queue.LeaseRequest) ([]queue.Job, error) {
	rows, err := w.findDue(r)
	if err != nil {
		return nil, err
	}
	token := newToken()
	jobs := make([]queue.Job, 0, len(rows))
	for _, row := range rows {
		m, err := decodeMessage(row.id, row.head, row.recipients, row.chunks)
		if err != nil {
			// A row that cannot be read must not stop all mail: a person shall see it.
			if err := w.exec(w.hold, row.job); err != nil {
				return nil, err
			}
			continue
		}
		if err := w.exec(w.lease, r.Until.UnixMicro(), token, row.job); err != nil {
			return nil, err
		}
		jobs = append(jobs, queue.Job{
			Message: m, Destination: row.destination, Attempt: row.attempts + 1,
			Lease: queue.Lease{Job: row.job, Token: token},
		})
	}
	return jobs, nil
}

// leasable is a row of a due job.
type leasable struct {
	job         int64
	destination string
	attempts    int
	recipients  string
	id, head    string
	chunks      int
}

// findDue reads what is due. Jobs of busy destinations may be very many and due for long,
// so a scan by time is given up after a window, and the destinations between the busy
// ones are asked instead.
func (w *sqliteWriter) findDue(r queue.LeaseRequest) ([]leasable, error) {
	now := r.Now.UnixMicro()
	if len(r.Except) == 0 {
		return readLeasable(w.due.QueryContext(w.ctx, now, r.Limit))
	}
	rows, err := readLeasable(w.dueExcept.QueryContext(w.ctx, now, leaseWindow+r.Limit, encode(r.Except), r.Limit))
	if err != nil || len(rows) > 0 {
		return rows, err
	}
	query, args := between(r)
	return readLeasable(w.conn.QueryContext(w.ctx, query, args...))
}

// between asks for the due jobs of the destinations between the busy ones, range by range
// of the index: ?1 is the time, ?2 the limit, and the names follow.
func between(r queue.LeaseRequest) (string, []any) {
	const part = `SELECT job, due FROM job INDEXED BY job_destination WHERE due <= ?1`
	busy := slices.Sorted(slices.Values(r.Except))
	parts := make([]string, 0, len(busy)+1)
	args := []any{r.Now.UnixMicro(), r.Limit}
	after := ""
	for _, name := range busy {
		args = append(args, name)
		before := fmt.Sprintf(` AND destination < ?%d`, len(args))
		parts = append(parts, part+after+before)
		after = fmt.Sprintf(` AND destination > ?%d`, len(args))
	}
	parts = append(parts, part+after)
	return sqliteLeasable + ` WHERE j.job IN (SELECT job FROM (` + strings.Join(parts, ` UNION ALL `) +
		`) ORDER BY due, job LIMIT ?2) ORDER BY j.due, j.job`, args
}

func readLeasable(rows *sql.Rows, err error) ([]leasable, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []leasable
	for rows.Next() {
		var l leasable
		if err := rows.Scan(&l.job, &l.destination, &l.attempts, &l.recipients, &l.id, &l.head, &l.chunks); err != nil {
			return nil, err
		}
		found = append(found, l)
	}
	return found, rows.Err()
}

// newToken gives a token that no lease had: chance, so that a job whose number comes back
// after a deletion is safe from those who knew the first.
func newToken() int64 {
	return rand.Int64N(1<<62) + 1
}

// Renew implements queue.Store.
func (s *SQLite) Renew(ctx context.Context, l queue.Lease, until time.Time) error {
	return s.do(ctx, false, 0, func(w *sqliteWriter) error {
		ok, err := w.change(w.renew, until.UnixMicro(), l.Job, l.Token)
		if err == nil && !ok {
			return leaseLost()
		}
		return err
	})
}

// Finish implements queue.Store.
func (s *SQLite) Finish(ctx context.Context, now time.Time, r queue.Result) error {
	left, err := settle(r)
	if err != nil {
		return err
	}
	var notice *storedMessage
	bytes := 0
	if r.Notice != nil {
		encoded, err := encodeMessage(*r.Notice)
		if err != nil {
			return err
		}
		notice, bytes = &encoded, len(encoded.Tail)
	}
	return s.do(ctx, true, bytes, func(w *sqliteWriter) error { return w.finish(now, r, left, notice) })
}

func (w *sqliteWriter) finish(now time.Time, r queue.Result, left settled, notice *storedMessage) error {
	var err error
	if left.gone {
		err = w.remove(r.Job)
	} else {
		err = w.postpone(r, left)
	}
	if err != nil {
		return err
	}
	if left.gone && !r.Canary.IsZero() {
		if err := w.exec(w.heir, r.Canary.UnixMicro(), r.Job.Destination); err != nil {
			return err
		}
	}
	if r.Drain {
		if err := w.exec(w.drain, now.UnixMicro(), r.Job.Destination, r.Job.Lease.Job); err != nil {
			return err
		}
	}
	if notice == nil {
		return nil
	}
	if err := w.enqueue(now, *notice); err != nil {
		if errors.Is(err, errUnchanged) {
			err = errors.New(err.Error()) // not so here: the job was changed
		}
		return err
	}
	return nil
}

// remove ends a leased job, and its message if it was the last.
func (w *sqliteWriter) remove(job queue.Job) error {
	ok, err := w.change(w.deleteJob, job.Lease.Job, job.Lease.Token)
	if err != nil {
		return err
	}
	if !ok {
		return leaseLost()
	}
	return w.removeMessage(job.Lease.Job>>placeBits, job.Message.ID, job.Message.Chunks)
}

// removeMessage removes a message that has no jobs any more.
func (w *sqliteWriter) removeMessage(number int64, id queue.ID, chunks int) error {
	gone, err := w.change(w.deleteMessage, number)
	if err != nil || !gone || chunks == 0 {
		return err
	}
	return w.exec(w.deleteChunks, string(id))
}

// postpone makes a leased job ready again, with what is left of it.
func (w *sqliteWriter) postpone(r queue.Result, left settled) error {
	due := r.Next
	if !r.Canary.IsZero() {
		var other bool
		err := w.canary.QueryRowContext(w.ctx, r.Job.Destination, r.Canary.UnixMicro(), r.Job.Lease.Job).Scan(&other)
		if err != nil {
			return err
		}
		if !other {
			due = r.Canary
		}
	}
	ok, err := w.change(w.deferJob, due.UnixMicro(), left.recipients, left.last, r.Job.Lease.Job, r.Job.Lease.Token)
	if err == nil && !ok {
		return leaseLost()
	}
	return err
}

// AppendChunk implements queue.Bodies. It need not be durable: Enqueue, which is, comes
// after it in the log.
func (s *SQLite) AppendChunk(ctx context.Context, now time.Time, id queue.ID, seq int, data []byte) error {
	return s.do(ctx, false, len(data), func(w *sqliteWriter) error {
		return w.exec(w.insertChunk, string(id), seq, now.UnixMicro(), data)
	})
}

// Chunk implements queue.Bodies.
func (s *SQLite) Chunk(ctx context.Context, id queue.ID, seq int) ([]byte, error) {
	var chunks int
	var data []byte
	err := s.chunk.QueryRowContext(ctx, string(id), seq).Scan(&chunks, &data)
	return chunkOf(id, seq, chunks, data, err, sql.ErrNoRows)
}

// chunkOf makes of a row what Chunk gives.
func chunkOf(id queue.ID, seq, chunks int, data []byte, err, none error) ([]byte, error) {
	switch {
	case errors.Is(err, none):
		return nil, fmt.Errorf("reading message %s: %w", id, queue.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("reading message %s: %w", id, err)
	case seq < chunks && data == nil:
		return nil, fmt.Errorf("reading message %s: chunk %d of %d is missing", id, seq, chunks)
	case len(data) == 0:
		return nil, io.EOF
	}
	return data, nil
}

const sqliteChunk = `SELECT chunks, CASE WHEN ?2 < chunks THEN (SELECT data FROM chunk WHERE message = ?1 AND seq = ?2)
	WHEN ?2 = chunks THEN tail END FROM message WHERE id = ?1`

// Sweep implements queue.Bodies. A body goes as a whole, or not at all: as long as one of
// its chunks is new, its message is still being received.
func (s *SQLite) Sweep(ctx context.Context, before time.Time) (int, error) {
	total := 0
	for {
		n := 0
		err := s.do(ctx, false, 0, func(w *sqliteWriter) (err error) {
			n, err = w.sweep(before)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("sweeping bodies: %w", err)
		}
		total += n
		if n < sweepPiece {
			return total, nil
		}
	}
}

func (w *sqliteWriter) sweep(before time.Time) (int, error) {
	rows, err := w.orphans.QueryContext(w.ctx, before.UnixMicro(), sweepPiece)
	if err != nil {
		return 0, err
	}
	ids, err := readStrings(rows)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if err := w.exec(w.deleteChunks, id); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

func readStrings(rows *sql.Rows) ([]string, error) {
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}
