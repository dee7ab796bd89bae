package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mxward/internal/report"
)

// sqliteReports is the writer as a reportTx.
type sqliteReports struct{ w *sqliteWriter }

func (c sqliteReports) exec(sql string, args ...any) (int64, error) {
	result, err := c.w.conn.ExecContext(c.w.ctx, sql, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (c sqliteReports) numbers(query string, args ...any) (a, b int64, ok bool, err error) {
	err = c.w.conn.QueryRowContext(c.w.ctx, query, args...).Scan(&a, &b)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, 0, false, nil
	}
	return a, b, err == nil, err
}

// AddCounts implements report.Counts.
func (s *SQLite) AddCounts(ctx context.Context, limits report.Limits, reporter string, counts []report.Count) (lost int64, err error) {
	counts = inOrder(counts)
	err = s.do(ctx, false, 0, func(w *sqliteWriter) (err error) {
		lost, err = addCounts(sqliteReports{w}, limits, reporter, counts)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("keeping counts for reports: %w", err)
	}
	return lost, nil
}

// ClaimDay implements report.Days.
func (s *SQLite) ClaimDay(ctx context.Context, now, until time.Time) (c report.Claim, found bool, err error) {
	err = s.do(ctx, false, 0, func(w *sqliteWriter) error {
		c, found = report.Claim{Token: newToken()}, false
		var day int64
		var sent string
		row := w.conn.QueryRowContext(w.ctx, `UPDATE counted_domain SET due = ?, token = ?, attempts = attempts + 1 WHERE rowid =
			(SELECT rowid FROM counted_domain WHERE due <= ? ORDER BY due, day, domain LIMIT 1) RETURNING day, domain, attempts, sent`,
			until.UnixMicro(), c.Token, now.UnixMicro())
		err := row.Scan(&day, &c.Domain, &c.Attempt, &sent)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		c.Day, c.Sent, found = time.UnixMicro(day).UTC(), lines(sent), err == nil
		return err
	})
	if err != nil {
		return report.Claim{}, false, fmt.Errorf("claiming a day's report: %w", err)
	}
	return c, found, nil
}

// DayCounts implements report.Days.
func (s *SQLite) DayCounts(ctx context.Context, day time.Time, domain string) (counts []report.Count, overflow int64, err error) {
	err = s.readDB.QueryRowContext(ctx, getOverflow, day.UnixMicro(), domain).Scan(&overflow)
	if err == nil {
		counts, err = collect(ctx, s.readDB, func(row scanner) (report.Count, error) { return scanCount(row, day, domain) }, listCounts, day.UnixMicro(), domain)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, 0, fmt.Errorf("reading the counts of %s: %w", domain, err)
	}
	return counts, overflow, nil
}

// collect reads all rows of a question.
func collect[T any](ctx context.Context, db *sql.DB, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// SettleDay implements report.Days.
func (s *SQLite) SettleDay(ctx context.Context, c report.Claim, settled report.Settlement) error {
	return s.do(ctx, true, 0, func(w *sqliteWriter) error {
		return settleClaim(sqliteReports{w}, c, orNull(settled.Next), settled)
	})
}

// PendingDays implements report.Days.
func (s *SQLite) PendingDays(ctx context.Context, limit int) ([]report.Pending, error) {
	all, err := collect(ctx, s.readDB, scanPending, listPending, limit)
	if err != nil {
		return nil, fmt.Errorf("listing the days that are counted: %w", err)
	}
	return all, nil
}

// ForgetCounts implements report.Days: the rows first, piece by piece, then what has none
// left.
func (s *SQLite) ForgetCounts(ctx context.Context, before time.Time) error {
	for _, statement := range []string{
		`DELETE FROM counted WHERE rowid IN (SELECT rowid FROM counted WHERE day < ? LIMIT ?)`,
		`DELETE FROM counted_domain WHERE rowid IN (SELECT rowid FROM counted_domain WHERE day < ? LIMIT ?)`,
		`DELETE FROM counted_day WHERE rowid IN (SELECT rowid FROM counted_day WHERE day < ? LIMIT ?)`,
	} {
		for n := int64(reportPiece); n == reportPiece; {
			err := s.do(ctx, false, 0, func(w *sqliteWriter) (err error) {
				n, err = sqliteReports{w}.exec(statement, before.UnixMicro(), reportPiece)
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
func (s *SQLite) KeepReport(ctx context.Context, limits report.Keeping, r report.Received) (kept bool, err error) {
	err = s.do(ctx, true, len(r.Data), func(w *sqliteWriter) (err error) {
		kept, err = keepReport(sqliteReports{w}, limits, r)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("keeping a report about %s: %w", r.Domain, err)
	}
	return kept, nil
}

// ReceivedReports implements report.Reports.
func (s *SQLite) ReceivedReports(ctx context.Context, kind report.Kind, since time.Time, after int64, limit int) ([]report.Received, error) {
	return collect(ctx, s.readDB, scanReport, listReports, string(kind), since.UnixMicro(), after, limit)
}

// ForgetReports implements report.Reports.
func (s *SQLite) ForgetReports(ctx context.Context, before time.Time) error {
	for n := receivedPiece; n == receivedPiece; {
		err := s.do(ctx, false, 0, func(w *sqliteWriter) error {
			rows, err := w.conn.QueryContext(w.ctx, `DELETE FROM received_report WHERE number IN
				(SELECT number FROM received_report WHERE at < ? LIMIT ?) RETURNING authentic, length(data), reporter`, before.UnixMicro(), receivedPiece)
			if err != nil {
				return err
			}
			defer rows.Close()
			var gone removed
			for n = 0; rows.Next(); n++ {
				var authentic, size int64
				var reporter string
				if err := rows.Scan(&authentic, &size, &reporter); err != nil {
					return err
				}
				gone.add(authentic, size, reporter)
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil {
				return err
			}
			return gone.settle(sqliteReports{w})
		})
		if err != nil {
			return fmt.Errorf("forgetting old reports: %w", err)
		}
	}
	return nil
}
