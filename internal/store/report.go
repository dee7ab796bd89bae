package store

import (
	"cmp"
	"slices"

	"mxward/internal/report"
)

// inOrder gives counts in one order for all processes: rows that two transactions want do
// not become a deadlock.
func inOrder(counts []report.Count) []report.Count {
	counts = slices.Clone(counts)
	slices.SortFunc(counts, func(a, b report.Count) int {
		return cmp.Or(a.Day.Compare(b.Day), cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.What, b.What))
	})
	return counts
}

// The statements of counts, with places numbered as both engines understand.
const (
	knownDomain = `SELECT kept FROM counted_domain WHERE day = $1 AND domain = $2`
	newDomain   = `INSERT INTO counted_domain (day, domain, kept, overflow) VALUES ($1, $2, 0, 0)`
	addMessages = `UPDATE counted SET messages = messages + $4 WHERE day = $1 AND domain = $2 AND what = $3`
	newRow      = `INSERT INTO counted (day, domain, what, messages) VALUES ($1, $2, $3, $4)`
	oneRowMore  = `UPDATE counted_domain SET kept = kept + 1 WHERE day = $1 AND domain = $2`
	addOverflow = `UPDATE counted_domain SET overflow = overflow + $3 WHERE day = $1 AND domain = $2`
	listDomains = `SELECT domain FROM counted_domain WHERE day = $1 AND domain <> '' ORDER BY domain`
	listCounts  = `SELECT what, messages FROM counted WHERE day = $1 AND domain = $2 ORDER BY what`
	getOverflow = `SELECT overflow FROM counted_domain WHERE day = $1 AND domain = $2`
	forgetRows  = `DELETE FROM counted WHERE day < $1`
	forgetDays  = `DELETE FROM counted_domain WHERE day < $1`
)

// countTx is a transaction of either engine.
type countTx interface {
	exec(sql string, args ...any) (changed int64, err error)
	// number asks for one number; ok is false where there is no row.
	number(sql string, args ...any) (n int64, ok bool, err error)
}

// addCounts adds the counts, which are in order, and tells how many messages had no place.
func addCounts(tx countTx, limits report.Limits, counts []report.Count) (lost int64, err error) {
	for _, c := range counts {
		fits, err := addCount(tx, limits, c)
		if err != nil {
			return 0, err
		}
		if !fits {
			lost += c.Messages
		}
	}
	return lost, nil
}

func addCount(tx countTx, limits report.Limits, c report.Count) (fits bool, err error) {
	if c.Domain == "" {
		return false, nil
	}
	day := c.Day.UnixMicro()
	kept, known, err := tx.number(knownDomain, day, c.Domain)
	if err != nil {
		return false, err
	}
	if !known {
		if placed, err := addDomain(tx, limits, day, c.Domain); err != nil || !placed {
			return false, err
		}
	}
	if c.What != "" {
		if n, err := tx.exec(addMessages, day, c.Domain, c.What, c.Messages); err != nil || n > 0 {
			return true, err
		}
	}
	if c.What == "" || kept >= limits.Rows {
		_, err := tx.exec(addOverflow, day, c.Domain, c.Messages)
		return true, err
	}
	if _, err := tx.exec(newRow, day, c.Domain, c.What, c.Messages); err != nil {
		return false, err
	}
	_, err = tx.exec(oneRowMore, day, c.Domain)
	return true, err
}

// addDomain makes room for a domain, where the day has any. The row of the domain "" is
// the day's own: what it keeps is domains.
func addDomain(tx countTx, limits report.Limits, day int64, domain string) (placed bool, err error) {
	domains, known, err := tx.number(knownDomain, day, "")
	if err != nil || domains >= limits.Domains {
		return false, err
	}
	if !known {
		if _, err := tx.exec(newDomain, day, ""); err != nil {
			return false, err
		}
	}
	if _, err := tx.exec(oneRowMore, day, ""); err != nil {
		return false, err
	}
	_, err = tx.exec(newDomain, day, domain)
	return true, err
}
