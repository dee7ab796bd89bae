package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mxward/internal/report"
)

// countLock is the advisory lock that gates take in turns to add counts: they do so about
// once a second, and the limits hold for all of them together.
const countLock = 0x6d787763 // "mxwc"

// postgresCounts is a transaction as a countTx.
type postgresCounts struct {
	ctx context.Context // of the one transaction
	tx  pgx.Tx
}

func (c postgresCounts) exec(sql string, args ...any) (int64, error) {
	tag, err := c.tx.Exec(c.ctx, sql, args...)
	return tag.RowsAffected(), err
}

func (c postgresCounts) number(sql string, args ...any) (n int64, ok bool, err error) {
	err = c.tx.QueryRow(c.ctx, sql, args...).Scan(&n)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return n, err == nil, err
}

// AddCounts implements report.Store.
func (p *Postgres) AddCounts(ctx context.Context, limits report.Limits, counts []report.Count) (lost int64, err error) {
	counts = inOrder(counts)
	for i := range counts {
		counts[i].Domain = plain(counts[i].Domain)
	}
	err = p.atomic(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(countLock)); err != nil {
			return err
		}
		lost, err = addCounts(postgresCounts{ctx, tx}, limits, counts)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("keeping counts for reports: %w", err)
	}
	return lost, nil
}

// CountedDomains implements report.Store.
func (p *Postgres) CountedDomains(ctx context.Context, day time.Time) ([]string, error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	rows, err := p.pool.Query(ctx, listDomains, day.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("listing the domains of a day: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Counts implements report.Store.
func (p *Postgres) Counts(ctx context.Context, day time.Time, domain string) (counts []report.Count, overflow int64, err error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	err = p.pool.QueryRow(ctx, getOverflow, day.UnixMicro(), plain(domain)).Scan(&overflow)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading the counts of %s: %w", domain, err)
	}
	rows, err := p.pool.Query(ctx, listCounts, day.UnixMicro(), plain(domain))
	if err != nil {
		return nil, 0, fmt.Errorf("reading the counts of %s: %w", domain, err)
	}
	counts, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (report.Count, error) {
		c := report.Count{Day: day, Domain: domain}
		err := row.Scan(&c.What, &c.Messages)
		return c, err
	})
	return counts, overflow, err
}

// ForgetCounts implements report.Store.
func (p *Postgres) ForgetCounts(ctx context.Context, before time.Time) error {
	return p.atomic(ctx, func(ctx context.Context, tx pgx.Tx) error {
		for _, sql := range []string{forgetRows, forgetDays} {
			if _, err := tx.Exec(ctx, sql, before.UnixMicro()); err != nil {
				return fmt.Errorf("forgetting old counts: %w", err)
			}
		}
		return nil
	})
}
