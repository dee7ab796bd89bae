package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"mxward/internal/queue"
	"mxward/internal/reputation"
)

// How PostgreSQL is used.
const (
	postgresGroups   = 2  // transactions of each kind that may be on their way at once
	postgresMinConns = 10 // the pool has at least so many, whatever the URL says of the processors
	postgresTimeout  = 30 * time.Second
)

// Postgres is the shared engine: any number of processes and machines on one database.
// Enqueue and Finish are committed in groups, each in one statement for all callers.
// READ COMMITTED is enough: whatever two transactions could both want is a row that one
// of them locks first.
type Postgres struct {
	pool     *pgxpool.Pool
	clock    serverClock
	timeout  time.Duration // of a call that a worker or a session waits for
	enqueue  *group[storedEnqueue]
	finish   *group[storedFinish]
	contacts *group[[]reputation.Contact]
}

// ErrURL is that of a malformed URL. It shows nothing of it: any part may be the password.
var ErrURL = errors.New("opening the store: expected postgres://USER@HOST:PORT/DATABASE, with % and @ / ? # in a name or a password written as %25 %40 %2F %3F %23")

// ambiguous reports whether nobody can say where in a URL the password ends.
func ambiguous(text string) bool {
	u, err := url.Parse(text)
	return err != nil || strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment(), "@")
}

func openPostgres(ctx context.Context, text string) (*Postgres, error) {
	config, err := pgxpool.ParseConfig(text)
	switch {
	case err != nil && ambiguous(text):
		return nil, ErrURL // pgx's error shows what it takes for no password
	case err != nil:
		return nil, fmt.Errorf("opening the store: %w", err) // pgx keeps the password out of it
	}
	config.MaxConns = max(config.MaxConns, postgresMinConns)
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = postgresTimeout
	}
	// The promise of Enqueue must not hang on what the server's configuration says.
	config.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	config.ConnConfig.RuntimeParams["application_name"] = "mxward"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	if err := migratePostgres(ctx, pool); err != nil {
		pool.Close()
		return nil, fmt.Errorf("opening the store at %s: %w", config.ConnConfig.Host, err)
	}
	p := &Postgres{pool: pool, timeout: postgresTimeout, clock: serverClock{pool: pool}}
	p.enqueue = newGroup(postgresGroups, p.enqueueGroup)
	p.finish = newGroup(postgresGroups, p.finishGroup)
	p.contacts = newGroup(1, p.recordGroup)
	return p, nil
}

// migratePostgres brings the tables up to date; processes that start together take turns.
func migratePostgres(ctx context.Context, pool *pgxpool.Pool) error {
	folder, err := fs.Sub(migrations, "migrations/postgres")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, folder, goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("preparing the tables: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("preparing the tables: %w", err)
	}
	return nil
}

// Failed implements Engine: the pool connects again by itself.
func (p *Postgres) Failed() <-chan struct{} { return nil }

// Close ends the store. What was answered is on the server's disk.
func (p *Postgres) Close() error {
	p.enqueue.close()
	p.finish.close()
	p.contacts.close()
	p.pool.Close()
	return nil
}

// atomic runs a transaction for a call that shares none, with the context that bounds it.
func (p *Postgres) atomic(ctx context.Context, run func(context.Context, pgx.Tx) error) error {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	return pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error { return run(ctx, tx) })
}

// bounded gives a call its time. A server that has gone without a word must not keep the
// queue waiting until TCP gives up: leases end meanwhile.
func (p *Postgres) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, p.timeout)
}

// serverTime gives t by the server's clock.
func (p *Postgres) serverTime(ctx context.Context, t time.Time) time.Time {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	return p.clock.at(ctx, t)
}

// grouped gives a group's transaction its time: the callers' contexts do not end it.
func (p *Postgres) grouped() (context.Context, context.CancelFunc) {
	return p.bounded(context.Background())
}

// storedEnqueue is one message to enqueue.
type storedEnqueue struct {
	now     time.Time
	message storedMessage
}

// Enqueue implements queue.Store.
func (p *Postgres) Enqueue(ctx context.Context, now time.Time, m queue.Message) error {
	stored, err := encodeMessage(m)
	if err != nil {
		return err
	}
	now = p.serverTime(ctx, now)
	if m.Chunks == 0 {
		return p.enqueue.do(ctx, storedEnqueue{now, stored}, len(m.Tail))
	}
	return p.atomic(ctx, func(ctx context.Context, tx pgx.Tx) error { return enqueueAlone(ctx, tx, storedEnqueue{now, stored}) })
}

// enqueueAlone enqueues a message that may have chunks.
func enqueueAlone(ctx context.Context, tx pgx.Tx, e storedEnqueue) error {
	if e.message.Chunks > 0 {
		if err := checkChunks(ctx, tx, e.message.Message); err != nil {
			return err
		}
	}
	return insertMessages(ctx, tx, []storedEnqueue{e})
}

// sweepLock is the advisory lock that keeps Sweep from chunks that are about to be
// enqueued.
const sweepLock = 0x6d787761 // "mxwa"

// checkChunks makes sure that the whole body is here, and stays.
func checkChunks(ctx context.Context, tx pgx.Tx, m queue.Message) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock_shared($1)`, int64(sweepLock)); err != nil {
		return fmt.Errorf("enqueueing message %s: %w", m.ID, err)
	}
	var n int
	row := tx.QueryRow(ctx, `SELECT count(*) FROM chunk WHERE message = $1 AND seq < $2`, string(m.ID), m.Chunks)
	if err := row.Scan(&n); err != nil {
		return fmt.Errorf("enqueueing message %s: %w", m.ID, err)
	}
	if n != m.Chunks {
		return fmt.Errorf("enqueueing message %s: %d of %d chunks are here", m.ID, n, m.Chunks)
	}
	return nil
}

// enqueueGroup enqueues many messages at once; where that fails, one by one.
func (p *Postgres) enqueueGroup(calls []*call[storedEnqueue]) {
	ctx, cancel := p.grouped()
	defer cancel()
	all := make([]storedEnqueue, len(calls))
	for i, c := range calls {
		all[i] = c.arg
	}
	err := insertMessages(ctx, p.pool, all)
	for i, c := range calls {
		if err != nil && len(calls) > 1 && !connectionLost(err) {
			c.err = insertMessages(ctx, p.pool, all[i:i+1])
		} else {
			c.err = err
		}
	}
}

// connectionLost tells that trying again at once is no use: the answer is no SQL error.
func connectionLost(err error) bool {
	var sql sqlError
	return !errors.As(err, &sql)
}

// sqlError is implemented by *pgconn.PgError.
type sqlError interface {
	error
	SQLState() string
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// insertMessages is one statement, and so one transaction, for all messages and jobs.
const insertAll = `WITH m AS (
	INSERT INTO message (number, id, received, head, chunks, jobs, tail)
	SELECT nextval('message_number'), id, received, head, chunks, jobs, tail
	FROM unnest($1::text[], $2::bigint[], $3::text[], $4::integer[], $5::integer[], $6::bytea[])
		AS n (id, received, head, chunks, jobs, tail)
	RETURNING number, id
), j AS (
	INSERT INTO job (job, destination, state, due, token, attempts, recipients, last)
	SELECT m.number * 65536 + n.place, n.destination, 'ready', n.due, 0, 0, n.recipients, ''
	FROM unnest($7::text[], $8::bigint[], $9::text[], $10::bigint[], $11::text[])
		AS n (id, place, destination, due, recipients) JOIN m ON m.id = n.id
	RETURNING job
) SELECT count(*) FROM j`

func insertMessages(ctx context.Context, q querier, messages []storedEnqueue) error {
	var ids, heads, jobIDs, destinations, recipients []string
	var received, places, due []int64
	var chunks, jobs []int32
	var tails [][]byte
	for _, e := range messages {
		m := e.message
		ids, heads, received = append(ids, string(m.ID)), append(heads, m.head), append(received, m.Received.UnixMicro())
		chunks, jobs = append(chunks, int32(m.Chunks)), append(jobs, int32(len(m.jobs)))
		tail := m.Tail
		if tail == nil {
			tail = []byte{}
		}
		tails = append(tails, tail)
		for place, job := range m.jobs {
			jobIDs, places, due = append(jobIDs, string(m.ID)), append(places, int64(place)), append(due, e.now.UnixMicro())
			destinations, recipients = append(destinations, job.destination), append(recipients, job.recipients)
		}
	}
	var n int
	row := q.QueryRow(ctx, insertAll, ids, received, heads, chunks, jobs, tails, jobIDs, places, destinations, due, recipients)
	if err := row.Scan(&n); err != nil {
		return fmt.Errorf("enqueueing message %s: %w", ids[0], err)
	}
	if n != len(jobIDs) {
		return fmt.Errorf("enqueueing message %s: %d of %d jobs were made", ids[0], n, len(jobIDs))
	}
	return nil
}

// Lease implements queue.Store. SKIP LOCKED lets processes lease at the same time without
// waiting for each other.
func (p *Postgres) Lease(ctx context.Context, r queue.LeaseRequest) ([]queue.Job, error) {
	r.Now, r.Until = p.serverTime(ctx, r.Now), p.serverTime(ctx, r.Until)
	token := newToken()
	jobs, err := p.leaseBy(ctx, leaseDue, r, token)
	if err == nil && len(jobs) == 0 && len(r.Except) > 0 {
		jobs, err = p.leaseBy(ctx, leaseBetween, r, token)
	}
	if err != nil {
		return nil, fmt.Errorf("leasing jobs: %w", err)
	}
	return jobs, nil
}

// The two ways to find due jobs. Jobs of busy destinations may be very many and due for
// long, so the scan by time is given up after a window, and the other destinations are
// asked one by one, by steps through the index.
const (
	leaseDue = `SELECT job, due FROM job WHERE job IN (
			SELECT job FROM (SELECT job, destination, due FROM job WHERE due <= $1 ORDER BY due, job LIMIT $5) AS w
			WHERE destination <> ALL ($3::text[]) ORDER BY due, job LIMIT $2)
		AND due <= $1 ORDER BY due, job FOR UPDATE SKIP LOCKED`
	leaseBetween = `SELECT job, due FROM job WHERE job IN (
			WITH RECURSIVE d (name) AS (
				SELECT min(destination) FROM job
				UNION ALL
				SELECT (SELECT min(destination) FROM job WHERE destination > d.name) FROM d WHERE d.name IS NOT NULL
			) SELECT j.job FROM d CROSS JOIN LATERAL (
				SELECT job, due FROM job WHERE destination = d.name AND due <= $1 ORDER BY due LIMIT $2
			) AS j WHERE d.name <> ALL ($3::text[]) AND $5 > 0 ORDER BY j.due, j.job LIMIT $2)
		AND due <= $1 ORDER BY due, job FOR UPDATE SKIP LOCKED`
	leaseAll = `WITH chosen AS MATERIALIZED (%s), leased AS (
		UPDATE job SET state = 'leased', due = $4, token = $6, attempts = attempts + 1
		FROM chosen WHERE job.job = chosen.job
		RETURNING job.job, chosen.due, destination, attempts, recipients
	) SELECT l.job, l.destination, l.attempts, l.recipients, m.id, m.head, m.chunks
	FROM leased AS l JOIN message AS m ON m.number = l.job / 65536 ORDER BY l.due, l.job`
)

func (p *Postgres) leaseBy(ctx context.Context, find string, r queue.LeaseRequest, token int64) ([]queue.Job, error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	except := r.Except
	if except == nil {
		except = []string{}
	}
	rows, err := p.pool.Query(ctx, strings.Replace(leaseAll, `%s`, find, 1),
		r.Now.UnixMicro(), r.Limit, except, r.Until.UnixMicro(), postgresWindow(r), token)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l leasable, err error) {
		err = row.Scan(&l.job, &l.destination, &l.attempts, &l.recipients, &l.id, &l.head, &l.chunks)
		return l, err
	})
	if err != nil {
		return nil, err
	}
	jobs := make([]queue.Job, 0, len(found))
	for _, row := range found {
		m, err := decodeMessage(row.id, row.head, row.recipients, row.chunks)
		if err != nil {
			// A row that cannot be read must not stop all mail: a person shall see it.
			if _, err := p.pool.Exec(ctx, `UPDATE job SET state = 'held', due = NULL, token = 0 WHERE job = $1`, row.job); err != nil {
				return nil, err
			}
			continue
		}
		jobs = append(jobs, queue.Job{
			Message: m, Destination: row.destination, Attempt: row.attempts,
			Lease: queue.Lease{Job: row.job, Token: token},
		})
	}
	return jobs, nil
}

// postgresWindow is how many due jobs are looked at: other processes may have locked
// some, and some may be for busy destinations.
func postgresWindow(r queue.LeaseRequest) int {
	return leaseWindow + 4*r.Limit
}

// Renew implements queue.Store.
func (p *Postgres) Renew(ctx context.Context, l queue.Lease, until time.Time) error {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	tag, err := p.pool.Exec(ctx, `UPDATE job SET due = $1 WHERE job = $2 AND token = $3 AND state = 'leased'`,
		p.serverTime(ctx, until).UnixMicro(), l.Job, l.Token)
	if err == nil && tag.RowsAffected() == 0 {
		return queue.ErrLeaseLost
	}
	return err
}

// storedFinish is one result to record.
type storedFinish struct {
	result queue.Result
	left   settled
}

// Finish implements queue.Store. The usual result, delivered or deferred and nothing
// else, shares its transaction with others; what also concerns other jobs, or makes a
// notice, has one of its own.
func (p *Postgres) Finish(ctx context.Context, now time.Time, r queue.Result) error {
	now, r.Next, r.Canary = p.serverTime(ctx, now), p.serverTime(ctx, r.Next), p.serverTime(ctx, r.Canary)
	left, err := settle(r)
	if err != nil {
		return err
	}
	one := storedFinish{r, left}
	if r.Notice == nil && r.Canary.IsZero() && !r.Drain {
		return p.finish.do(ctx, one, 0)
	}
	var notice *storedEnqueue
	if r.Notice != nil {
		encoded, err := encodeMessage(*r.Notice)
		if err != nil {
			return err
		}
		notice = &storedEnqueue{now, encoded}
	}
	return p.atomic(ctx, func(ctx context.Context, tx pgx.Tx) error { return finishAlone(ctx, tx, now, one, notice) })
}

func finishAlone(ctx context.Context, tx pgx.Tx, now time.Time, f storedFinish, notice *storedEnqueue) error {
	r := f.result
	if !f.left.gone && !r.Canary.IsZero() {
		var other bool
		row := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM job WHERE destination = $1 AND due <= $2 AND state = 'ready' AND job <> $3)`,
			r.Job.Destination, r.Canary.UnixMicro(), r.Job.Lease.Job)
		if err := row.Scan(&other); err != nil {
			return err
		}
		if !other {
			f.result.Next = r.Canary
		}
	}
	lost, err := finishAll(ctx, tx, []storedFinish{f})
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		return queue.ErrLeaseLost
	}
	if f.left.gone && !r.Canary.IsZero() {
		_, err := tx.Exec(ctx, `UPDATE job SET due = $1 WHERE due > $1 AND state = 'ready' AND job =
			(SELECT job FROM job WHERE destination = $2 AND state = 'ready' ORDER BY due LIMIT 1)`,
			r.Canary.UnixMicro(), r.Job.Destination)
		if err != nil {
			return err
		}
	}
	if r.Drain {
		_, err := tx.Exec(ctx, `UPDATE job SET due = $1 WHERE destination = $2 AND due > $1 AND state = 'ready' AND job <> $3`,
			now.UnixMicro(), r.Job.Destination, r.Job.Lease.Job)
		if err != nil {
			return err
		}
	}
	if notice == nil {
		return nil
	}
	return enqueueAlone(ctx, tx, *notice)
}

// finishGroup records many results at once; where that fails, one by one.
func (p *Postgres) finishGroup(calls []*call[storedFinish]) {
	ctx, cancel := p.grouped()
	defer cancel()
	all := make([]storedFinish, len(calls))
	for i, c := range calls {
		all[i] = c.arg
	}
	lost, err := finishAll(ctx, p.pool, all)
	for i, c := range calls {
		switch {
		case err != nil && len(calls) > 1 && !connectionLost(err):
			var alone map[queue.Lease]bool
			alone, c.err = finishAll(ctx, p.pool, all[i:i+1])
			if c.err == nil && alone[c.arg.result.Job.Lease] {
				c.err = queue.ErrLeaseLost
			}
		case err != nil:
			c.err = err
		case lost[c.arg.result.Job.Lease]:
			c.err = queue.ErrLeaseLost
		}
	}
}

// batcher is a pool or a transaction; a batch outside of a transaction is one itself.
type batcher interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// The statements of finishAll.
const (
	// Two processes that finish the last two jobs of a message at the same time must not
	// both see the other's job: the message's row makes them take turns. Most messages
	// have one job and need no lock.
	lockShared = `SELECT number FROM message WHERE number = ANY ($1::bigint[]) AND jobs > 1 ORDER BY number FOR UPDATE`

	deleteLeased = `DELETE FROM job USING unnest($1::bigint[], $2::bigint[]) AS f (job, token)
		WHERE job.job = f.job AND job.token = f.token AND job.state IN ('leased', 'held') RETURNING job.job, job.token`

	deferLeased = `UPDATE job SET state = CASE state WHEN 'held' THEN 'held' ELSE 'ready' END,
			due = CASE state WHEN 'held' THEN NULL ELSE f.due END, token = 0, recipients = f.recipients, last = f.last
		FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[]) AS f (job, token, due, recipients, last)
		WHERE job.job = f.job AND job.token = f.token AND job.state IN ('leased', 'held') RETURNING job.job, f.token`

	deleteFinished = `WITH gone AS (
		DELETE FROM message WHERE number = ANY ($1::bigint[]) AND NOT EXISTS
			(SELECT 1 FROM job WHERE job.job >= message.number * 65536 AND job.job < (message.number + 1) * 65536)
		RETURNING id, chunks
	) DELETE FROM chunk USING gone WHERE gone.chunks > 0 AND chunk.message = gone.id`
)

// finishAll records results and tells whose leases were lost.
func finishAll(ctx context.Context, b batcher, results []storedFinish) (lost map[queue.Lease]bool, err error) {
	// One order for all processes: rows that two transactions want do not become a
	// deadlock.
	results = slices.Clone(results)
	slices.SortFunc(results, func(a, b storedFinish) int {
		return int(min(1, max(-1, a.result.Job.Lease.Job-b.result.Job.Lease.Job)))
	})
	var numbers, goneJobs, goneTokens, jobs, tokens, due []int64
	var recipients, last []string
	lost = make(map[queue.Lease]bool, len(results))
	for _, f := range results {
		l := f.result.Job.Lease
		lost[l] = true // until the server says that it was ours
		if f.left.gone {
			numbers = append(numbers, l.Job>>placeBits)
			goneJobs, goneTokens = append(goneJobs, l.Job), append(goneTokens, l.Token)
			continue
		}
		jobs, tokens, due = append(jobs, l.Job), append(tokens, l.Token), append(due, f.result.Next.UnixMicro())
		recipients, last = append(recipients, f.left.recipients), append(last, f.left.last)
	}
	held := func(rows pgx.Rows) error {
		var l queue.Lease
		_, err := pgx.ForEachRow(rows, []any{&l.Job, &l.Token}, func() error { delete(lost, l); return nil })
		return err
	}
	var batch pgx.Batch
	if len(jobs) > 0 {
		batch.Queue(deferLeased, jobs, tokens, due, recipients, last).Query(held)
	}
	if len(goneJobs) > 0 {
		batch.Queue(lockShared, numbers)
		batch.Queue(deleteLeased, goneJobs, goneTokens).Query(held)
		batch.Queue(deleteFinished, numbers)
	}
	if err := b.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, fmt.Errorf("recording %d results: %w", len(results), err)
	}
	return lost, nil
}
