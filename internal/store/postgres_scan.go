package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mxward/internal/scan"
)

// Scans are those that many machines share: scan.Jobs and scan.Shards. PostgreSQL alone has
// them, for a scan on one machine is in a file.
type Scans struct{ *Postgres }

// OpenScans opens the store of a postgres:// URL for scans. Its errors do not show the URL,
// where a password may stand.
func OpenScans(ctx context.Context, url string) (Scans, error) {
	scheme, _, _ := strings.Cut(url, "://")
	if scheme != "postgres" && scheme != "postgresql" || ambiguous(url) {
		return Scans{}, ErrURL
	}
	p, err := openPostgres(ctx, url)
	return Scans{p}, err
}

// documentsAtOnce are read in one go; some may have 100 KiB.
const documentsAtOnce = 200

// Load implements scan.Jobs. One transaction takes as long as the input; a second one with the
// same name waits for it.
func (p Scans) Load(ctx context.Context, now time.Time, job scan.Job, source scan.Source) error {
	now = p.serverTime(ctx, now)
	return pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		var id int64
		row := tx.QueryRow(ctx, `INSERT INTO scan_job (name, input_size, input_prefix, mode, shard, created) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (name) DO NOTHING RETURNING id`,
			job.Name, job.Input.Size, job.Input.Prefix, job.Mode, job.Shard, now.UnixMicro())
		err := row.Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return fits(ctx, tx, job)
		}
		if err != nil {
			return fmt.Errorf("loading job %q: %w", job.Name, err)
		}
		copied := &shardRows{source: source, job: id, most: job.Shard}
		columns := []string{"job", "number", "first", "lines", "texts", "long", "firsts"}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"scan_shard"}, columns, copied); err != nil {
			return fmt.Errorf("loading job %q: %w", job.Name, errors.Join(copied.err, err))
		}
		return nil
	})
}

// fits holds a job against the one of its name that is there.
func fits(ctx context.Context, tx pgx.Tx, job scan.Job) error {
	there := scan.Job{Name: job.Name}
	row := tx.QueryRow(ctx, `SELECT input_size, input_prefix, mode FROM scan_job WHERE name = $1`, job.Name)
	if err := row.Scan(&there.Input.Size, &there.Input.Prefix, &there.Mode); err != nil {
		return fmt.Errorf("loading job %q: %w", job.Name, err)
	}
	return there.Fits(job)
}

// shardRows makes rows of scan_shard from lines, as COPY asks for them.
type shardRows struct {
	source scan.Source
	job    int64
	most   int // lines in a shard
	number int32
	lines  []scan.Line
	ended  bool
	err    error
}

// Next implements pgx.CopyFromSource.
func (s *shardRows) Next() bool {
	s.lines = s.lines[:0]
	for !s.ended && len(s.lines) < s.most {
		line, err := s.source.Next()
		switch {
		case errors.Is(err, io.EOF):
			s.ended = true
		case err != nil:
			s.err = fmt.Errorf("read the input after line %d: %w", line.Number, err)
			return false
		default:
			s.lines = append(s.lines, line)
		}
	}
	return len(s.lines) > 0
}

// Values implements pgx.CopyFromSource.
func (s *shardRows) Values() ([]any, error) {
	texts, long, firsts := make([][]byte, len(s.lines)), make([]int64, len(s.lines)), make([]int64, len(s.lines))
	for i, line := range s.lines {
		texts[i], long[i], firsts[i] = []byte(line.Text), int64(line.Long), int64(line.First)
	}
	row := []any{s.job, s.number, int64(s.lines[0].Number), int32(len(s.lines)), texts, long, firsts}
	s.number++
	return row, nil
}

// Err implements pgx.CopyFromSource.
func (s *shardRows) Err() error { return s.err }

// Standings implements scan.Jobs.
func (p Scans) Standings(ctx context.Context, now time.Time, name string) ([]scan.Standing, error) {
	now = p.serverTime(ctx, now)
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	rows, err := p.pool.Query(ctx, `SELECT id, name, input_size, input_prefix, mode, shard, created,
			count(number), count(finished), coalesce(sum(lines), 0), coalesce(sum(lines) FILTER (WHERE finished IS NOT NULL), 0),
			coalesce(sum(unknown), 0), coalesce(sum(ours), 0), coalesce(sum(lines) FILTER (WHERE finished > $2), 0)
		FROM scan_job LEFT JOIN scan_shard ON job = id WHERE name = $1 OR $1 = '' GROUP BY id ORDER BY name`,
		name, now.Add(-scan.Recent).UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("reading how far jobs are: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s scan.Standing, err error) {
		var created int64
		err = row.Scan(&s.ID, &s.Name, &s.Input.Size, &s.Input.Prefix, &s.Mode, &s.Shard, &created,
			&s.Shards, &s.Done, &s.Lines, &s.Ready, &s.Unknown, &s.Ours, &s.Lately)
		s.Created = time.UnixMicro(created).UTC()
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading how far jobs are: %w", err)
	}
	if name != "" && len(all) == 0 {
		return nil, fmt.Errorf("job %q: %w", name, scan.ErrNoJob)
	}
	for i := range all {
		if all[i].Workers, err = p.working(ctx, now, all[i].ID); err != nil {
			return nil, fmt.Errorf("reading who works on job %q: %w", all[i].Name, err)
		}
	}
	return all, nil
}

func (p Scans) working(ctx context.Context, now time.Time, job int64) ([]scan.Working, error) {
	rows, err := p.pool.Query(ctx, `SELECT owner, count(*) FILTER (WHERE finished IS NULL AND leased > $2), count(finished),
			coalesce(sum(lines) FILTER (WHERE finished IS NOT NULL), 0)
		FROM scan_shard WHERE job = $1 AND attempts > 0 GROUP BY owner ORDER BY owner`, job, now.UnixMicro())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[scan.Working])
}

// Documents implements scan.Jobs, by steps through the index.
func (p Scans) Documents(ctx context.Context, id int64) iter.Seq2[scan.Document, error] {
	return func(yield func(scan.Document, error) bool) {
		for after := 0; ; {
			some, err := p.documents(ctx, id, after)
			if err != nil {
				yield(scan.Document{}, fmt.Errorf("reading documents after line %d: %w", after, err))
				return
			}
			for _, d := range some {
				if !yield(d, nil) {
					return
				}
				after = d.Line
			}
			if len(some) < documentsAtOnce {
				return
			}
		}
	}
}

func (p Scans) documents(ctx context.Context, id int64, after int) ([]scan.Document, error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	rows, err := p.pool.Query(ctx, `SELECT line, text FROM scan_document WHERE job = $1 AND line > $2 ORDER BY line LIMIT $3`,
		id, after, documentsAtOnce)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[scan.Document])
}

// Drop implements scan.Jobs. It takes as long as there are documents.
func (p Scans) Drop(ctx context.Context, name string) error {
	tag, err := p.pool.Exec(ctx, `DELETE FROM scan_job WHERE name = $1`, name)
	switch {
	case err != nil:
		return fmt.Errorf("dropping job %q: %w", name, err)
	case tag.RowsAffected() == 0:
		return fmt.Errorf("job %q: %w", name, scan.ErrNoJob)
	}
	return nil
}

// takeShard finds a shard and leases it. SKIP LOCKED lets workers do so at the same time
// without waiting for each other.
const takeShard = `WITH chosen AS MATERIALIZED (
		SELECT job, number FROM scan_shard WHERE job = $1 AND finished IS NULL AND leased <= $2
		ORDER BY attempts, number LIMIT 1 FOR UPDATE SKIP LOCKED)
	UPDATE scan_shard AS s SET attempts = attempts + 1, owner = $4, leased = $3 FROM chosen AS c
	WHERE s.job = c.job AND s.number = c.number RETURNING s.number, s.attempts, s.first, s.texts, s.long, s.firsts`

// Take implements scan.Shards.
func (p Scans) Take(ctx context.Context, now, until time.Time, job int64, owner string) (scan.Shard, error) {
	now, until = p.serverTime(ctx, now), p.serverTime(ctx, until)
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	shard := scan.Shard{Lease: scan.Lease{Job: job}}
	var first int
	var texts [][]byte
	var long, firsts []int
	row := p.pool.QueryRow(ctx, takeShard, job, now.UnixMicro(), until.UnixMicro(), plain(owner))
	err := row.Scan(&shard.Lease.Shard, &shard.Lease.Attempt, &first, &texts, &long, &firsts)
	if errors.Is(err, pgx.ErrNoRows) {
		return scan.Shard{}, p.whyNone(ctx, job)
	}
	if err != nil {
		return scan.Shard{}, err
	}
	if len(long) != len(texts) || len(firsts) != len(texts) {
		return scan.Shard{}, fmt.Errorf("shard %d has %d texts, but %d lengths and %d firsts", shard.Lease.Shard, len(texts), len(long), len(firsts))
	}
	for i, text := range texts {
		shard.Lines = append(shard.Lines, scan.Line{Number: first + i, Text: string(text), Long: long[i], First: firsts[i]})
	}
	return shard, nil
}

// whyNone says why no shard of a job can be taken.
func (p Scans) whyNone(ctx context.Context, job int64) error {
	var there, open bool
	row := p.pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM scan_job WHERE id = $1), EXISTS (SELECT 1 FROM scan_shard WHERE job = $1 AND finished IS NULL)`, job)
	switch err := row.Scan(&there, &open); {
	case err != nil:
		return err
	case !there:
		return scan.ErrNoJob
	case open:
		return scan.ErrBusy
	}
	return scan.ErrDone
}

// Renew implements scan.Shards. How long the lease of a shard is that is finished, nobody asks.
func (p Scans) Renew(ctx context.Context, l scan.Lease, until time.Time) error {
	until = p.serverTime(ctx, until)
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	tag, err := p.pool.Exec(ctx, `UPDATE scan_shard SET leased = $4 WHERE job = $1 AND number = $2 AND attempts = $3`,
		l.Job, l.Shard, l.Attempt, until.UnixMicro())
	if err == nil && tag.RowsAffected() == 0 {
		return scan.ErrLeaseLost
	}
	return err
}

// Finish implements scan.Shards. The row of the shard is locked by its update, so that of two
// who would finish it the second sees that it is done.
func (p Scans) Finish(ctx context.Context, now time.Time, l scan.Lease, done scan.Finished) error {
	now = p.serverTime(ctx, now)
	return p.atomic(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var first, lines, there int
		// The job before its shard, as Drop locks them: the documents want it anyway.
		if err := tx.QueryRow(ctx, `SELECT 1 FROM scan_job WHERE id = $1 FOR KEY SHARE`, l.Job).Scan(&there); errors.Is(err, pgx.ErrNoRows) {
			return scan.ErrLeaseLost
		} else if err != nil {
			return err
		}
		row := tx.QueryRow(ctx, `UPDATE scan_shard SET finished = $4, unknown = $5, ours = $6
			WHERE job = $1 AND number = $2 AND attempts = $3 AND finished IS NULL RETURNING first, lines`,
			l.Job, l.Shard, l.Attempt, now.UnixMicro(), done.Unknown, done.Ours)
		if err := row.Scan(&first, &lines); errors.Is(err, pgx.ErrNoRows) {
			return finishedBefore(ctx, tx, l)
		} else if err != nil {
			return err
		}
		if err := done.Whole(first, lines); err != nil {
			return fmt.Errorf("shard %d: %w", l.Shard, err)
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"scan_document"}, []string{"job", "line", "text"},
			pgx.CopyFromSlice(len(done.Documents), func(i int) ([]any, error) {
				d := done.Documents[i]
				return []any{l.Job, int64(d.Line), string(d.Text)}, nil
			}))
		return err
	})
}

// finishedBefore gives nil where this same lease has finished its shard, else ErrLeaseLost.
func finishedBefore(ctx context.Context, tx pgx.Tx, l scan.Lease) error {
	var before bool
	row := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM scan_shard WHERE job = $1 AND number = $2 AND attempts = $3 AND finished IS NOT NULL)`,
		l.Job, l.Shard, l.Attempt)
	if err := row.Scan(&before); err != nil {
		return err
	}
	if !before {
		return scan.ErrLeaseLost
	}
	return nil
}

// Release implements scan.Shards.
func (p Scans) Release(ctx context.Context, l scan.Lease) error {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	_, err := p.pool.Exec(ctx, `UPDATE scan_shard SET leased = 0 WHERE job = $1 AND number = $2 AND attempts = $3 AND finished IS NULL`,
		l.Job, l.Shard, l.Attempt)
	return err
}
