package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"mxward/internal/report"
)

// reportLock is the advisory lock that gates take in turns to add counts and reports: they
// do so every few seconds, and the limits hold for all of them together.
const reportLock = 0x6d787763 // "mxwc"

// postgresReports is a transaction as a reportTx.
type postgresReports struct {
	ctx context.Context // of the one transaction
	tx  pgx.Tx
}

func (c postgresReports) exec(sql string, args ...any) (int64, error) {
	tag, err := c.tx.Exec(c.ctx, sql, args...)
	return tag.RowsAffected(), err
}

func (c postgresReports) numbers(sql string, args ...any) (a, b int64, ok bool, err error) {
	err = c.tx.QueryRow(c.ctx, sql, args...).Scan(&a, &b)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, false, nil
	}
	return a, b, err == nil, err
}

// inTurn runs a transaction while no other gate runs one of these.
func (p *Postgres) inTurn(ctx context.Context, run func(postgresReports) error) error {
	return p.atomic(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(reportLock)); err != nil {
			return err
		}
		return run(postgresReports{ctx, tx})
	})
}

// AddCounts implements report.Counts.
func (p *Postgres) AddCounts(ctx context.Context, limits report.Limits, reporter string, counts []report.Count) (lost int64, err error) {
	counts = slices.Clone(counts)
	for i := range counts {
		counts[i].Domain, counts[i].What = plain(counts[i].Domain), plain(counts[i].What)
	}
	counts = inOrder(counts)
	err = p.inTurn(ctx, func(tx postgresReports) (err error) {
		lost, err = addCounts(tx, limits, reporter, counts)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("keeping counts for reports: %w", err)
	}
	return lost, nil
}

// ClaimDay implements report.Days.
func (p *Postgres) ClaimDay(ctx context.Context, now, until time.Time) (report.Claim, bool, error) {
	now, until = p.serverTime(ctx, now), p.serverTime(ctx, until)
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	c := report.Claim{Token: newToken()}
	var day int64
	var sent string
	err := p.pool.QueryRow(ctx, `WITH chosen AS MATERIALIZED (
			SELECT day, domain FROM counted_domain WHERE due <= $3 ORDER BY due, day, domain LIMIT 1 FOR UPDATE SKIP LOCKED
		) UPDATE counted_domain AS d SET due = $1, token = $2, attempts = attempts + 1 FROM chosen
		WHERE d.day = chosen.day AND d.domain = chosen.domain RETURNING d.day, d.domain, d.attempts, d.sent`,
		until.UnixMicro(), c.Token, now.UnixMicro()).Scan(&day, &c.Domain, &c.Attempt, &sent)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return report.Claim{}, false, nil
	case err != nil:
		return report.Claim{}, false, fmt.Errorf("claiming a day's report: %w", err)
	}
	c.Day, c.Sent = time.UnixMicro(day).UTC(), lines(sent)
	return c, true, nil
}

// DayCounts implements report.Days.
func (p *Postgres) DayCounts(ctx context.Context, day time.Time, domain string) (counts []report.Count, overflow int64, err error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	err = p.pool.QueryRow(ctx, getOverflow, day.UnixMicro(), plain(domain)).Scan(&overflow)
	if err == nil {
		counts, err = gather(ctx, p, func(row scanner) (report.Count, error) { return scanCount(row, day, domain) }, listCounts, day.UnixMicro(), plain(domain))
	}
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, 0, fmt.Errorf("reading the counts of %s: %w", domain, err)
	}
	return counts, overflow, nil
}

// gather reads all rows of a question.
func gather[T any](ctx context.Context, p *Postgres, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := p.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (T, error) { return scan(row) })
}

// SettleDay implements report.Days.
func (p *Postgres) SettleDay(ctx context.Context, c report.Claim, s report.Settlement) error {
	s.Next, s.Outcome = p.serverTime(ctx, s.Next), plain(s.Outcome)
	c.Domain = plain(c.Domain)
	return p.atomic(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return settleClaim(postgresReports{ctx, tx}, c, orNull(s.Next), s)
	})
}

// PendingDays implements report.Days.
func (p *Postgres) PendingDays(ctx context.Context, limit int) ([]report.Pending, error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	all, err := gather(ctx, p, scanPending, listPending, limit)
	if err != nil {
		return nil, fmt.Errorf("listing the days that are counted: %w", err)
	}
	return all, nil
}

// ForgetCounts implements report.Days: the rows first, piece by piece, then what has none
// left.
func (p *Postgres) ForgetCounts(ctx context.Context, before time.Time) error {
	for _, table := range []string{"counted", "counted_domain", "counted_day"} {
		for n := int64(reportPiece); n == reportPiece; {
			err := p.inTurn(ctx, func(tx postgresReports) (err error) {
				n, err = tx.exec(`DELETE FROM `+table+` WHERE ctid = ANY (ARRAY (SELECT ctid FROM `+table+` WHERE day < $1 LIMIT $2))`,
					before.UnixMicro(), reportPiece)
				return err
			})
			if err != nil {
				return fmt.Errorf("forgetting old counts: %w", err)
			}
		}
	}
	return nil
}

// KeepReport implements report.Reports.
func (p *Postgres) KeepReport(ctx context.Context, limits report.Keeping, r report.Received) (kept bool, err error) {
	r.Domain, r.Sender, r.Key, r.Reporter = plain(r.Domain), plain(r.Sender), plain(r.Key), plain(r.Reporter)
	err = p.inTurn(ctx, func(tx postgresReports) (err error) {
		kept, err = keepReport(tx, limits, r)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("keeping a report about %s: %w", r.Domain, err)
	}
	return kept, nil
}

// ReceivedReports implements report.Reports.
func (p *Postgres) ReceivedReports(ctx context.Context, kind report.Kind, since time.Time, after int64, limit int) ([]report.Received, error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	return gather(ctx, p, scanReport, listReports, string(kind), since.UnixMicro(), after, limit)
}

// ForgetReports implements report.Reports.
func (p *Postgres) ForgetReports(ctx context.Context, before time.Time) error {
	for n := receivedPiece; n == receivedPiece; {
		err := p.inTurn(ctx, func(tx postgresReports) error {
			rows, err := tx.tx.Query(tx.ctx, `DELETE FROM received_report WHERE number = ANY (ARRAY
				(SELECT number FROM received_report WHERE at < $1 LIMIT $2)) RETURNING authentic, length(data)::bigint, reporter`, before.UnixMicro(), receivedPiece)
			if err != nil {
				return err
			}
			var gone removed
			var authentic, size int64
			var reporter string
			tag, err := pgx.ForEachRow(rows, []any{&authentic, &size, &reporter}, func() error { gone.add(authentic, size, reporter); return nil })
			if err != nil {
				return err
			}
			n = int(tag.RowsAffected())
			return gone.settle(tx)
		})
		if err != nil {
			return fmt.Errorf("forgetting old reports: %w", err)
		}
	}
	return nil
}
