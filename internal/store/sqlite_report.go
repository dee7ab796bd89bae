package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mxward/internal/report"
)

// sqliteCounts is the writer as a countTx.
type sqliteCounts struct{ w *sqliteWriter }

func (c sqliteCounts) exec(sql string, args ...any) (int64, error) {
	result, err := c.w.conn.ExecContext(c.w.ctx, sql, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (c sqliteCounts) number(query string, args ...any) (n int64, ok bool, err error) {
	err = c.w.conn.QueryRowContext(c.w.ctx, query, args...).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return n, err == nil, err
}

// AddCounts implements report.Store.
func (s *SQLite) AddCounts(ctx context.Context, limits report.Limits, counts []report.Count) (lost int64, err error) {
	counts = inOrder(counts)
	err = s.do(ctx, false, 0, func(w *sqliteWriter) (err error) {
		lost, err = addCounts(sqliteCounts{w}, limits, counts)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("keeping counts for reports: %w", err)
	}
	return lost, nil
}

// CountedDomains implements report.Store.
func (s *SQLite) CountedDomains(ctx context.Context, day time.Time) (domains []string, err error) {
	rows, err := s.readDB.QueryContext(ctx, listDomains, day.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("listing the domains of a day: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var d string
		if err := rows.Scan(&d); err != nil {
			return nil, fmt.Errorf("listing the domains of a day: %w", err)
		}
		domains = append(domains, d)
	}
	return domains, rows.Err()
}

// Counts implements report.Store.
func (s *SQLite) Counts(ctx context.Context, day time.Time, domain string) (counts []report.Count, overflow int64, err error) {
	err = s.readDB.QueryRowContext(ctx, getOverflow, day.UnixMicro(), domain).Scan(&overflow)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading the counts of %s: %w", domain, err)
	}
	rows, err := s.readDB.QueryContext(ctx, listCounts, day.UnixMicro(), domain)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the counts of %s: %w", domain, err)
	}
	defer rows.Close()
	for rows.Next() {
		c := report.Count{Day: day, Domain: domain}
		if err := rows.Scan(&c.What, &c.Messages); err != nil {
			return nil, 0, fmt.Errorf("reading the counts of %s: %w", domain, err)
		}
		counts = append(counts, c)
	}
	return counts, overflow, rows.Err()
}

// ForgetCounts implements report.Store.
func (s *SQLite) ForgetCounts(ctx context.Context, before time.Time) error {
	return s.do(ctx, false, 0, func(w *sqliteWriter) error {
		for _, sql := range []string{forgetRows, forgetDays} {
			if _, err := w.conn.ExecContext(w.ctx, sql, before.UnixMicro()); err != nil {
				return fmt.Errorf("forgetting old counts: %w", err)
			}
		}
		return nil
	})
}
