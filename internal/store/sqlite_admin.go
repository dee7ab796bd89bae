package store

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/queue"
	"mxward/internal/reputation"
)

// List implements queue.Admin.
func (s *SQLite) List(ctx context.Context, f queue.Filter) ([]queue.Entry, error) {
	where, args := sqliteWhere(f)
	query := `SELECT m.id, m.head, m.chunks, j.destination, j.state, j.due, j.attempts, j.recipients, j.last
		FROM job j JOIN message m ON m.number = j.job >> 16 WHERE ` + where + ` ORDER BY j.job`
	if f.Limit > 0 {
		query, args = query+` LIMIT ?`, append(args, f.Limit)
	}
	rows, err := s.readDB.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("listing the queue: %w", err)
	}
	defer rows.Close()
	var entries []queue.Entry
	for rows.Next() {
		var e entryRow
		if err := rows.Scan(&e.id, &e.head, &e.chunks, &e.destination, &e.state, &e.due, &e.attempts, &e.recipients, &e.last); err != nil {
			return nil, fmt.Errorf("listing the queue: %w", err)
		}
		entries = append(entries, e.entry())
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing the queue: %w", err)
	}
	return entries, nil
}

// entryRow is a row of a list, of either engine.
type entryRow struct {
	id, head         string
	chunks           int
	destination      string
	state            string
	due              *int64
	attempts         int
	recipients, last string
}

// entry reads the row. One that cannot be read must not hide the others, nor itself: Lease
// holds it for a person, who has to find it here.
func (r entryRow) entry() queue.Entry {
	m, err := decodeMessage(r.id, r.head, r.recipients, r.chunks)
	last, lastErr := decodeOutcomes(r.last)
	e := queue.Entry{Message: m, Destination: r.destination, State: queue.State(r.state), Attempts: r.attempts, Last: last}
	if err := cmp.Or(err, lastErr); err != nil {
		e.Fault = err.Error()
	}
	if r.due != nil {
		e.Next = fromMicro(*r.due)
	}
	return e
}

// sqliteWhere gives the condition of a filter, for a job j.
func sqliteWhere(f queue.Filter) (string, []any) {
	conditions, args := []string{`true`}, []any{}
	if f.Message != "" {
		number := `(SELECT number FROM message WHERE id = ?)`
		conditions = append(conditions, `j.job >= `+number+` << 16 AND j.job < (`+number+` + 1) << 16`)
		args = append(args, string(f.Message), string(f.Message))
	}
	if f.Destination != "" {
		conditions, args = append(conditions, `j.destination = ?`), append(args, f.Destination)
	}
	if f.State != "" {
		conditions, args = append(conditions, `j.state = ?`), append(args, string(f.State))
	}
	return strings.Join(conditions, ` AND `), args
}

// Change implements queue.Admin. A large change is done in pieces, so that mail goes on
// meanwhile; each piece is stable when the next begins.
func (s *SQLite) Change(ctx context.Context, now time.Time, f queue.Filter, a queue.Action) (int, error) {
	change, err := changeOf(a)
	if err != nil {
		return 0, err
	}
	total, after := 0, int64(-1)
	for {
		limit := changePiece
		if f.Limit > 0 {
			limit = min(limit, f.Limit-total)
		}
		var changed []int64
		err := s.do(ctx, true, 0, func(w *sqliteWriter) (err error) {
			changed, err = w.changeJobs(now, f, change, after, limit)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("changing the queue: %w", err)
		}
		total += len(changed)
		if len(changed) < limit || f.Limit > 0 && total >= f.Limit {
			return total, nil
		}
		after = changed[len(changed)-1]
	}
}

// jobChange is an action: which states it applies to, and what it sets. $now stands for
// the time.
type jobChange struct {
	from string
	set  string // "" removes the job
}

func changeOf(a queue.Action) (jobChange, error) {
	switch a {
	case queue.ActRetry:
		return jobChange{`state = 'ready'`, `due = $now`}, nil
	case queue.ActHold:
		// The token stays: an attempt that is under way may still be finished.
		return jobChange{`state IN ('ready', 'leased')`, `state = 'held', due = NULL`}, nil
	case queue.ActRelease:
		return jobChange{`state = 'held'`, `state = 'ready', due = $now, token = 0`}, nil
	case queue.ActDrop:
		return jobChange{from: `state IN ('ready', 'leased', 'held')`}, nil
	}
	return jobChange{}, fmt.Errorf("changing the queue: there is no action %q", a)
}

// changeJobs changes up to limit jobs after a job, in the order of jobs.
func (w *sqliteWriter) changeJobs(now time.Time, f queue.Filter, c jobChange, after int64, limit int) ([]int64, error) {
	where, args := sqliteWhere(f)
	query := `SELECT j.job FROM job j WHERE ` + where + ` AND j.` + c.from + ` AND j.job > ? ORDER BY j.job LIMIT ?`
	rows, err := w.conn.QueryContext(w.ctx, query, append(args, after, limit)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var jobs []int64
	for rows.Next() {
		var job int64
		if err := rows.Scan(&job); err != nil {
			return nil, err
		}
		jobs = append(jobs, job)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for _, job := range jobs {
		if err := w.changeJob(now, c, job); err != nil {
			return nil, err
		}
	}
	return jobs, nil
}

func (w *sqliteWriter) changeJob(now time.Time, c jobChange, job int64) error {
	if c.set != "" {
		_, err := w.conn.ExecContext(w.ctx, `UPDATE job SET `+strings.Replace(c.set, `$now`, `?2`, 1)+` WHERE job = ?1`, job, now.UnixMicro())
		return err
	}
	if _, err := w.conn.ExecContext(w.ctx, `DELETE FROM job WHERE job = ?`, job); err != nil {
		return err
	}
	var id string
	var chunks int
	number := job >> placeBits
	row := w.conn.QueryRowContext(w.ctx, `SELECT id, chunks FROM message WHERE number = ?`, number)
	if err := row.Scan(&id, &chunks); err != nil {
		return err
	}
	return w.removeMessage(number, queue.ID(id), chunks)
}

// Record implements reputation.Store. It does not wait for the disk.
func (s *SQLite) Record(ctx context.Context, contacts []reputation.Contact) error {
	if err := checkContacts(contacts); err != nil || len(contacts) == 0 {
		return err
	}
	return s.do(ctx, false, 0, func(w *sqliteWriter) error {
		for _, c := range contacts {
			client := c.Client.As16()
			err := w.exec(w.insertContact, client[:], c.When.UnixMicro(), c.Host.String(), string(c.Stage),
				c.Session, c.Domain.String(), c.From, c.Helo)
			if err != nil {
				return fmt.Errorf("recording a contact of %s: %w", c.Client, err)
			}
		}
		return nil
	})
}

func checkContacts(contacts []reputation.Contact) error {
	for _, c := range contacts {
		if !c.Client.IsValid() {
			return fmt.Errorf("recording a contact with %s: the client has no address", c.Host)
		}
	}
	return nil
}

// Contacts implements reputation.Store.
func (s *SQLite) Contacts(ctx context.Context, client netip.Prefix, since time.Time) ([]reputation.Contact, error) {
	first, last := ends(client)
	rows, err := s.readDB.QueryContext(ctx, `SELECT client, at, host, stage, session, domain, sender, helo
		FROM contact WHERE client >= ? AND client <= ? AND at >= ? ORDER BY at, rowid`, first[:], last[:], since.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("reading the contacts of %s: %w", client, err)
	}
	defer rows.Close()
	var contacts []reputation.Contact
	for rows.Next() {
		var address []byte
		var c contactRow
		if err := rows.Scan(&address, &c.at, &c.host, &c.stage, &c.session, &c.domain, &c.from, &c.helo); err != nil {
			return nil, fmt.Errorf("reading the contacts of %s: %w", client, err)
		}
		c.client, _ = netip.AddrFromSlice(address)
		contacts = append(contacts, c.contact())
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the contacts of %s: %w", client, err)
	}
	return contacts, nil
}

// ends gives the first and the last address of a prefix, IPv4 mapped into IPv6.
func ends(p netip.Prefix) (first, last [16]byte) {
	p = p.Masked()
	first = p.Addr().As16()
	last = first
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	for i := bits; i < 128; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	return first, last
}

// contactRow is a row of contacts, of either engine.
type contactRow struct {
	client                                   netip.Addr
	at                                       int64
	host, stage, session, domain, from, helo string
}

// contact reads the row. A name that does not parse was not one of ours; it is left empty.
func (r contactRow) contact() reputation.Contact {
	host, _ := dns.ParseName(r.host)
	c := reputation.Contact{
		Client: r.client.Unmap(), Host: host, Stage: mail.Stage(r.stage), When: fromMicro(r.at),
		Session: r.session, From: r.from, Helo: r.helo,
	}
	if r.domain != "" {
		c.Domain, _ = dns.ParseName(r.domain)
	}
	return c
}

// Forget implements reputation.Store.
func (s *SQLite) Forget(ctx context.Context, before time.Time) error {
	for {
		var n int64
		err := s.do(ctx, false, 0, func(w *sqliteWriter) error {
			result, err := w.forget.ExecContext(w.ctx, before.UnixMicro(), forgetPiece)
			if err != nil {
				return err
			}
			n, err = result.RowsAffected()
			return err
		})
		if err != nil {
			return fmt.Errorf("forgetting contacts: %w", err)
		}
		if n < forgetPiece {
			return nil
		}
	}
}
