package store

import (
	"fmt"
	"testing"
	"time"

	"mxward/internal/report"
)

// countedTx counts the statements of a transaction.
type countedTx struct {
	reportTx
	n int
}

func (c *countedTx) exec(sql string, args ...any) (int64, error) {
	c.n++
	return c.reportTx.exec(sql, args...)
}

func (c *countedTx) numbers(sql string, args ...any) (a, b int64, ok bool, err error) {
	c.n++
	return c.reportTx.numbers(sql, args...)
}

// TestCountStatements: a batch of counts needs few round trips, while which the other gates
// of a store wait.
func TestCountStatements(t *testing.T) {
	s, _ := openTest(t)
	day := report.Day(time.Now())
	for _, test := range []struct {
		why                 string
		days, domains, rows int
		most                int
	}{
		{"new rows of a new domain", 1, 1, 100, 206},
		{"the same again", 1, 1, 100, 104},
		{"a row of each of many new domains", 1, 100, 1, 502},
		{"several days", 2, 5, 10, 240},
	} {
		var counts []report.Count
		for d := range test.days {
			for domain := range test.domains {
				for row := range test.rows {
					at := day.Add(-time.Duration(d) * 24 * time.Hour)
					counts = append(counts, report.Count{
						Day: at, Last: at, Messages: 1, What: fmt.Sprintf("row %d", row),
						Domain: fmt.Sprintf("d%d.of%d.example", domain, test.domains),
					})
				}
			}
		}
		n := 0
		err := s.do(t.Context(), false, 0, func(w *sqliteWriter) error {
			tx := &countedTx{reportTx: sqliteReports{w}}
			_, err := addCounts(tx, report.Usual(), "mx.example.com", inOrder(counts))
			n = tx.n
			return err
		})
		if err != nil || n > test.most {
			t.Errorf("%s: %d statements for %d counts, want %d at most; %v", test.why, n, len(counts), test.most, err)
		}
	}
}
