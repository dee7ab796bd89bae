package store

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mxward/internal/queue"
	"mxward/internal/reputation"
)

// AppendChunk implements queue.Bodies.
func (p *Postgres) AppendChunk(ctx context.Context, now time.Time, id queue.ID, seq int, data []byte) error {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	_, err := p.pool.Exec(ctx, `INSERT INTO chunk (message, seq, stored, data) VALUES ($1, $2, $3, $4)`,
		string(id), seq, now.UnixMicro(), data)
	return err
}

// Chunk implements queue.Bodies.
func (p *Postgres) Chunk(ctx context.Context, id queue.ID, seq int) ([]byte, error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	var chunks int
	var data []byte
	row := p.pool.QueryRow(ctx, `SELECT chunks, CASE
		WHEN $2 < chunks THEN (SELECT data FROM chunk WHERE message = $1 AND seq = $2)
		WHEN $2 = chunks THEN tail END FROM message WHERE id = $1`, string(id), seq)
	err := row.Scan(&chunks, &data)
	return chunkOf(id, seq, chunks, data, err, pgx.ErrNoRows)
}

// Sweep implements queue.Bodies. A body goes as a whole, or not at all: as long as one of
// its chunks is new, its message is still being received.
func (p *Postgres) Sweep(ctx context.Context, before time.Time) (int, error) {
	total := 0
	for {
		n := 0
		err := p.atomic(ctx, func(ctx context.Context, tx pgx.Tx) error {
			// After this no Enqueue is between its look at the chunks and its commit.
			if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(sweepLock)); err != nil {
				return err
			}
			row := tx.QueryRow(ctx, `WITH orphan AS MATERIALIZED (
				SELECT message FROM chunk GROUP BY message HAVING max(stored) < $1
				AND NOT EXISTS (SELECT 1 FROM message WHERE message.id = chunk.message) LIMIT $2
			), gone AS (DELETE FROM chunk USING orphan WHERE chunk.message = orphan.message
			) SELECT count(*) FROM orphan`, before.UnixMicro(), sweepPiece)
			return row.Scan(&n)
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

// numbered writes conditions with numbered parameters.
type numbered struct {
	conditions []string
	args       []any
}

// param adds an argument and gives its name.
func (n *numbered) param(arg any) string {
	n.args = append(n.args, arg)
	return "$" + strconv.Itoa(len(n.args))
}

func (n *numbered) where() string { return strings.Join(n.conditions, ` AND `) }

// postgresWhere gives the condition of a filter, for a job j of a message m.
func postgresWhere(f queue.Filter) *numbered {
	n := &numbered{conditions: []string{`true`}}
	if f.Message != "" {
		n.conditions = append(n.conditions, `m.id = `+n.param(string(f.Message)))
	}
	if f.Destination != "" {
		n.conditions = append(n.conditions, `j.destination = `+n.param(f.Destination))
	}
	if f.State != "" {
		n.conditions = append(n.conditions, `j.state = `+n.param(string(f.State)))
	}
	return n
}

const postgresJobs = ` FROM message AS m JOIN job AS j
	ON j.job >= m.number * 65536 AND j.job < (m.number + 1) * 65536 WHERE `

const postgresAllJobs = ` FROM job AS j JOIN message AS m ON m.number = j.job / 65536 WHERE `

// List implements queue.Admin.
func (p *Postgres) List(ctx context.Context, f queue.Filter) ([]queue.Entry, error) {
	n := postgresWhere(f)
	from := postgresAllJobs
	if f.Message != "" {
		from = postgresJobs // a range of the job index
	}
	query := `SELECT m.id, m.head, m.chunks, j.destination, j.state, j.due, j.attempts, j.recipients, j.last` +
		from + n.where() + ` ORDER BY m.received, j.job`
	if f.Limit > 0 {
		query += ` LIMIT ` + n.param(f.Limit)
	}
	rows, err := p.pool.Query(ctx, query, n.args...)
	if err != nil {
		return nil, fmt.Errorf("listing the queue: %w", err)
	}
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (queue.Entry, error) {
		var e entryRow
		if err := row.Scan(&e.id, &e.head, &e.chunks, &e.destination, &e.state, &e.due, &e.attempts, &e.recipients, &e.last); err != nil {
			return queue.Entry{}, err
		}
		return e.entry(), nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing the queue: %w", err)
	}
	return entries, nil
}

// Change implements queue.Admin. A large change is done in pieces, so that locks are
// short.
func (p *Postgres) Change(ctx context.Context, now time.Time, f queue.Filter, a queue.Action) (int, error) {
	change, err := changeOf(a)
	if err != nil {
		return 0, err
	}
	now = p.serverTime(ctx, now)
	total, after := 0, int64(-1)
	for {
		limit := changePiece
		if f.Limit > 0 {
			limit = min(limit, f.Limit-total)
		}
		var seen, changed int
		err := p.atomic(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			seen, changed, after, err = changePieceOf(ctx, tx, now, f, change, after, limit)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("changing the queue: %w", err)
		}
		total += changed
		if seen < limit || f.Limit > 0 && total >= f.Limit {
			return total, nil
		}
	}
}

// changePieceOf changes up to limit jobs that come after a job, in their order, and tells
// how many it saw and changed, and the last it saw.
func changePieceOf(ctx context.Context, tx pgx.Tx, now time.Time, f queue.Filter, c jobChange, after int64, limit int) (seen, changed int, last int64, err error) {
	n := postgresWhere(f)
	query := `SELECT j.job` + postgresAllJobs + n.where() + ` AND j.` + c.from + ` AND j.job > ` + n.param(after) +
		` ORDER BY j.job LIMIT ` + n.param(limit)
	rows, err := tx.Query(ctx, query, n.args...)
	if err != nil {
		return 0, 0, after, err
	}
	jobs, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil || len(jobs) == 0 {
		return 0, 0, after, err
	}
	last = jobs[len(jobs)-1]
	if c.set == "" {
		changed, err = dropJobs(ctx, tx, c, jobs)
		return len(jobs), changed, last, err
	}
	args := []any{jobs}
	if strings.Contains(c.set, `$now`) {
		args = append(args, now.UnixMicro())
	}
	// The state is asked again: a worker may have been quicker.
	tag, err := tx.Exec(ctx, `UPDATE job SET `+strings.Replace(c.set, `$now`, `$2`, 1)+` WHERE job = ANY ($1::bigint[]) AND `+c.from, args...)
	return len(jobs), int(tag.RowsAffected()), last, err
}

func dropJobs(ctx context.Context, tx pgx.Tx, c jobChange, jobs []int64) (int, error) {
	numbers := make([]int64, len(jobs))
	for i, job := range jobs {
		numbers[i] = job >> placeBits
	}
	if _, err := tx.Exec(ctx, lockShared, numbers); err != nil {
		return 0, err
	}
	tag, err := tx.Exec(ctx, `DELETE FROM job WHERE job = ANY ($1::bigint[]) AND `+c.from, jobs)
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, deleteFinished, numbers)
	return int(tag.RowsAffected()), err
}

// Record implements reputation.Store. It does not wait for the disk.
func (p *Postgres) Record(ctx context.Context, contacts []reputation.Contact) error {
	if err := checkContacts(contacts); err != nil || len(contacts) == 0 {
		return err
	}
	return p.contacts.do(ctx, contacts, 0)
}

// recordGroup records the contacts of many callers.
func (p *Postgres) recordGroup(calls []*call[[]reputation.Contact]) {
	ctx, cancel := p.grouped()
	defer cancel()
	var all []reputation.Contact
	for _, c := range calls {
		all = append(all, c.arg...)
	}
	err := p.atomic(ctx, func(ctx context.Context, tx pgx.Tx) error { return insertContacts(ctx, tx, all) })
	for _, c := range calls {
		c.err = err
	}
}

func insertContacts(ctx context.Context, tx pgx.Tx, contacts []reputation.Contact) error {
	var clients []netip.Addr
	var at []int64
	var hosts, stages, sessions, domains, senders, helos []string
	for _, c := range contacts {
		clients, at = append(clients, c.Client.Unmap().WithZone("")), append(at, c.When.UnixMicro())
		hosts, stages = append(hosts, c.Host.String()), append(stages, string(c.Stage))
		sessions, domains = append(sessions, plain(c.Session)), append(domains, c.Domain.String())
		senders, helos = append(senders, plain(c.From)), append(helos, plain(c.Helo))
	}
	var batch pgx.Batch
	batch.Queue(`SET LOCAL synchronous_commit = off`)
	batch.Queue(`INSERT INTO contact (client, at, host, stage, session, domain, sender, helo)
		SELECT * FROM unnest($1::inet[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])`,
		clients, at, hosts, stages, sessions, domains, senders, helos)
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("recording %d contacts: %w", len(contacts), err)
	}
	return nil
}

// plain makes foreign text fit for a column: PostgreSQL's text is UTF-8 without NUL.
func plain(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Contacts implements reputation.Store.
func (p *Postgres) Contacts(ctx context.Context, client netip.Prefix, since time.Time) ([]reputation.Contact, error) {
	first, last := ends(client)
	rows, err := p.pool.Query(ctx, `SELECT client, at, host, stage, session, domain, sender, helo
		FROM contact WHERE client >= $1 AND client <= $2 AND at >= $3 ORDER BY at, ctid`,
		netip.AddrFrom16(first).Unmap(), netip.AddrFrom16(last).Unmap(), since.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("reading the contacts of %s: %w", client, err)
	}
	contacts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (reputation.Contact, error) {
		var c contactRow
		if err := row.Scan(&c.client, &c.at, &c.host, &c.stage, &c.session, &c.domain, &c.from, &c.helo); err != nil {
			return reputation.Contact{}, err
		}
		return c.contact(), nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the contacts of %s: %w", client, err)
	}
	return contacts, nil
}

// Forget implements reputation.Store.
func (p *Postgres) Forget(ctx context.Context, before time.Time) error {
	for {
		tag, err := p.pool.Exec(ctx, `DELETE FROM contact WHERE ctid = ANY (ARRAY
			(SELECT ctid FROM contact WHERE at < $1 LIMIT $2))`, before.UnixMicro(), forgetPiece)
		if err != nil {
			return fmt.Errorf("forgetting contacts: %w", err)
		}
		if tag.RowsAffected() < forgetPiece {
			return nil
		}
	}
}
