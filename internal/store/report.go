package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxward/internal/report"
)

// How many rows of counts, or reports, one transaction removes. A report may be a megabyte, all
// of whose pages are to be freed while mail waits.
const (
	reportPiece   = 500
	receivedPiece = 20
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

// The statements of counts and reports, with places numbered as both engines understand.
const (
	knownDay     = `SELECT domains, kept FROM counted_day WHERE day = $1`
	newDay       = `INSERT INTO counted_day (day, domains, kept, lost) VALUES ($1, 0, 0, 0)`
	addToDay     = `UPDATE counted_day SET domains = domains + $2, kept = kept + $3, lost = lost + $4 WHERE day = $1`
	knownDomain  = `SELECT kept, CASE WHEN due IS NULL THEN 1 ELSE 0 END FROM counted_domain WHERE day = $1 AND domain = $2`
	ownedDomains = `SELECT count(*), 0 FROM counted_domain WHERE day = $1 AND owner = $2`
	newDomain    = `INSERT INTO counted_domain (day, domain, due, kept, overflow, owner, token, attempts, sent, outcome)
		VALUES ($1, $2, $3, $4, $5, $6, 0, 0, '', '')`
	addToDomain = `UPDATE counted_domain SET kept = kept + $3, overflow = overflow + $4 WHERE day = $1 AND domain = $2`
	addMessages = `UPDATE counted SET messages = messages + $4, last = CASE WHEN last < $5 THEN $5 ELSE last END
		WHERE day = $1 AND domain = $2 AND what = $3`
	newRow = `INSERT INTO counted (day, domain, what, messages, last) VALUES ($1, $2, $3, $4, $5)`

	listCounts  = `SELECT what, messages, last FROM counted WHERE day = $1 AND domain = $2 ORDER BY what`
	getOverflow = `SELECT overflow FROM counted_domain WHERE day = $1 AND domain = $2`
	settleDay   = `UPDATE counted_domain SET due = $4, token = 0, sent = $5, outcome = $6
		WHERE day = $1 AND domain = $2 AND token = $3 AND due IS NOT NULL`
	listPending = `SELECT day, domain, kept, overflow, due, attempts, sent, outcome FROM counted_domain
		ORDER BY day DESC, domain LIMIT $1`

	knownReport  = `SELECT 1, 0 FROM received_report WHERE key = $1`
	totalReports = `SELECT reports, bytes FROM received_total WHERE authentic = $1`
	addReports   = `UPDATE received_total SET reports = reports + $2, bytes = bytes + $3 WHERE authentic = $1`
	newReport    = `INSERT INTO received_report (key, kind, at, ended, domain, sender, authentic, data, reporter)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
	knownReporter = `SELECT reports, bytes FROM received_reporter WHERE reporter = $1`
	newReporter   = `INSERT INTO received_reporter (reporter, reports, bytes) VALUES ($1, 0, 0)`
	addToReporter = `UPDATE received_reporter SET reports = reports + $2, bytes = bytes + $3 WHERE reporter = $1`
	dropReporter  = `DELETE FROM received_reporter WHERE reporter = $1 AND reports <= 0`
	listReports   = `SELECT number, key, kind, at, ended, domain, sender, authentic, data FROM received_report
		WHERE kind = $1 AND ended >= $2 AND number > $3 ORDER BY number LIMIT $4`
)

// reportTx is a transaction of either engine.
type reportTx interface {
	exec(sql string, args ...any) (changed int64, err error)
	// numbers asks for two numbers; ok is false where there is no row.
	numbers(sql string, args ...any) (a, b int64, ok bool, err error)
}

// addCounts adds the counts, which are in order, and tells how many messages had no place. A
// day, and a domain of it, is asked for once and written once: on PostgreSQL each statement is
// a round trip, and the other gates wait for their turn.
func addCounts(tx reportTx, limits report.Limits, reporter string, counts []report.Count) (lost int64, err error) {
	for len(counts) > 0 {
		of := run(counts, func(c report.Count) bool { return c.Day.Equal(counts[0].Day) })
		n, err := addDay(tx, limits, reporter, of)
		if err != nil {
			return 0, err
		}
		lost += n
		counts = counts[len(of):]
	}
	return lost, nil
}

// run gives the first of the counts, as far as they are the same.
func run(counts []report.Count, same func(report.Count) bool) []report.Count {
	if i := slices.IndexFunc(counts, func(c report.Count) bool { return !same(c) }); i >= 0 {
		return counts[:i]
	}
	return counts
}

// countedDay is a day that is written to.
type countedDay struct {
	tx            reportTx
	limits        report.Limits
	reporter      string
	domains, kept int64
}

// addDay adds the counts of one day.
func addDay(tx reportTx, limits report.Limits, reporter string, counts []report.Count) (lost int64, err error) {
	day := counts[0].Day.UnixMicro()
	domains, kept, known, err := tx.numbers(knownDay, day)
	if err != nil {
		return 0, err
	}
	if !known {
		if _, err := tx.exec(newDay, day); err != nil {
			return 0, err
		}
	}
	d := countedDay{tx, limits, reporter, domains, kept}
	for len(counts) > 0 {
		of := run(counts, func(c report.Count) bool { return c.Domain == counts[0].Domain })
		fits, err := d.addDomain(of)
		if err != nil {
			return 0, err
		}
		if !fits {
			for _, c := range of {
				lost += c.Messages
			}
		}
		counts = counts[len(of):]
	}
	_, err = tx.exec(addToDay, day, d.domains-domains, d.kept-kept, lost)
	return lost, err
}

// addDomain adds the counts of one day and domain.
func (d *countedDay) addDomain(counts []report.Count) (fits bool, err error) {
	first := counts[0]
	if first.Domain == "" {
		return false, nil
	}
	day := first.Day.UnixMicro()
	kept, settled, known, err := d.tx.numbers(knownDomain, day, first.Domain)
	if err != nil || settled != 0 || !known && d.domains >= d.limits.Domains {
		return false, err
	}
	owner := report.Owner(first.Domain)
	if !known {
		owned, _, _, err := d.tx.numbers(ownedDomains, day, owner)
		if err != nil || owned >= d.limits.Owned {
			return false, err
		}
	}
	before, overflow := d.kept, int64(0)
	for _, c := range counts {
		added := d.kept - before
		has, err := d.addRow(c, kept+added < d.limits.Rows && d.kept < d.limits.DayRows)
		if err != nil {
			return false, err
		}
		if !has {
			overflow += c.Messages
		}
	}
	added := d.kept - before
	if known {
		_, err = d.tx.exec(addToDomain, day, first.Domain, added, overflow)
		return true, err
	}
	d.domains++
	_, err = d.tx.exec(newDomain, day, first.Domain, report.Due(first.Day, first.Domain, d.reporter).UnixMicro(), added, overflow, owner)
	return true, err
}

// addRow adds to a row that is there, or makes one where there is room.
func (d *countedDay) addRow(c report.Count, room bool) (has bool, err error) {
	if c.What == "" {
		return false, nil
	}
	day := c.Day.UnixMicro()
	n, err := d.tx.exec(addMessages, day, c.Domain, c.What, c.Messages, c.Last.UnixMicro())
	if err != nil || n > 0 || !room {
		return n > 0, err
	}
	d.kept++
	_, err = d.tx.exec(newRow, day, c.Domain, c.What, c.Messages, c.Last.UnixMicro())
	return true, err
}

// settleClaim does SettleDay in a transaction.
func settleClaim(tx reportTx, c report.Claim, next any, s report.Settlement) error {
	n, err := tx.exec(settleDay, c.Day.UnixMicro(), c.Domain, c.Token, next, strings.Join(s.Sent, "\n"), s.Outcome)
	if err != nil {
		return fmt.Errorf("settling the report of %s: %w", c.Domain, err)
	}
	if n == 0 {
		return unchanged{report.ErrClaimLost}
	}
	return nil
}

// orNull gives a time as it is stored; the zero time is NULL.
func orNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// keepReport does KeepReport in a transaction.
func keepReport(tx reportTx, limits report.Keeping, r report.Received) (kept bool, err error) {
	if _, _, known, err := tx.numbers(knownReport, r.Key); err != nil || known {
		return false, err
	}
	authentic, size := bit(r.Authentic), int64(len(r.Data))
	reports, bytes, _, err := tx.numbers(totalReports, authentic)
	if err != nil {
		return false, err
	}
	if !limits.For(r.Authentic).Have(reports, bytes, size) {
		return false, unchanged{report.ErrFull}
	}
	if r.Reporter != "" {
		if err := takeShare(tx, limits.OfReporter(), r.Reporter, size); err != nil {
			return false, err
		}
	}
	if _, err := tx.exec(newReport, r.Key, string(r.Kind), r.At.UnixMicro(), r.End.UnixMicro(), r.Domain, r.Sender, authentic, r.Data, r.Reporter); err != nil {
		return false, err
	}
	_, err = tx.exec(addReports, authentic, 1, size)
	return err == nil, err
}

// takeShare counts a report of a reporter's, where that one has room.
func takeShare(tx reportTx, limits report.Keeping, reporter string, size int64) error {
	reports, bytes, known, err := tx.numbers(knownReporter, reporter)
	if err != nil {
		return err
	}
	if !limits.Have(reports, bytes, size) {
		return unchanged{report.ErrShare}
	}
	if !known {
		if _, err := tx.exec(newReporter, reporter); err != nil {
			return err
		}
	}
	_, err = tx.exec(addToReporter, reporter, 1, size)
	return err
}

func bit(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

// scanner is a row of either engine.
type scanner interface{ Scan(...any) error }

func scanCount(row scanner, day time.Time, domain string) (report.Count, error) {
	c := report.Count{Day: day, Domain: domain}
	var last int64
	err := row.Scan(&c.What, &c.Messages, &last)
	c.Last = time.UnixMicro(last).UTC()
	return c, err
}

func scanPending(row scanner) (report.Pending, error) {
	var p report.Pending
	var day int64
	var due *int64
	var sent string
	err := row.Scan(&day, &p.Domain, &p.Rows, &p.Overflow, &due, &p.Attempts, &sent, &p.Outcome)
	p.Day, p.Sent = time.UnixMicro(day).UTC(), lines(sent)
	if due != nil {
		p.Due = time.UnixMicro(*due).UTC()
	}
	return p, err
}

func scanReport(row scanner) (report.Received, error) {
	var r report.Received
	var kind string
	var at, ended, authentic int64
	err := row.Scan(&r.Number, &r.Key, &kind, &at, &ended, &r.Domain, &r.Sender, &authentic, &r.Data)
	r.Kind, r.At, r.End, r.Authentic = report.Kind(kind), time.UnixMicro(at).UTC(), time.UnixMicro(ended).UTC(), authentic == 1
	return r, err
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// removed counts what went from received_report.
type removed struct {
	reports, bytes [2]int64 // of those that are not authentic, and of the others
	reporters      map[string]room
}

// room is what is kept, or was.
type room struct{ reports, bytes int64 }

func (r *removed) add(authentic, size int64, reporter string) {
	r.reports[authentic&1]++
	r.bytes[authentic&1] += size
	if reporter == "" {
		return
	}
	if r.reporters == nil {
		r.reporters = map[string]room{}
	}
	of := r.reporters[reporter]
	r.reporters[reporter] = room{of.reports + 1, of.bytes + size}
}

// settle takes the removed out of the totals.
func (r *removed) settle(tx reportTx) error {
	var errs []error
	for authentic := range r.reports {
		if r.reports[authentic] > 0 {
			_, err := tx.exec(addReports, authentic, -r.reports[authentic], -r.bytes[authentic])
			errs = append(errs, err)
		}
	}
	for reporter, of := range r.reporters {
		_, err := tx.exec(addToReporter, reporter, -of.reports, -of.bytes)
		errs = append(errs, err)
		_, err = tx.exec(dropReporter, reporter)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
