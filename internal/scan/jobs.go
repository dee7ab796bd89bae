package scan

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"mxward/internal/dns"
)

// How many lines a shard has; ours. Its documents are kept in memory until it is done: some
// 1 KiB each, or 100 KiB with all findings and their evidence.
const (
	ShardLines     = 1000
	ShardLinesFull = 50
)

// What the methods of Jobs and Shards say; others of their errors are trouble with the store.
var (
	ErrNoJob     = errors.New("there is no such job in the store")
	ErrOtherJob  = errors.New("the store has a job of this name, and it is another")
	ErrBusy      = errors.New("others work on all shards that are left")
	ErrDone      = errors.New("all shards are done")
	ErrLeaseLost = errors.New("the lease of the shard is lost")
)

// Job is the scan of one input.
type Job struct {
	Name  string
	Input Identity
	Mode  string // the options that decide what a line says
	Shard int    // lines in each shard
}

// Fits wraps ErrOtherJob unless other is the same job. How many lines a shard has is as it was
// when the job was made.
func (j Job) Fits(other Job) error {
	switch {
	case !j.Input.Same(other.Input):
		return fmt.Errorf("job %q: %w: the size or the beginning of its input differs", j.Name, ErrOtherJob)
	case j.Mode != other.Mode:
		return fmt.Errorf("job %q: %w: its options were %s, now %s", j.Name, ErrOtherJob, j.Mode, other.Mode)
	}
	return nil
}

// Jobs keeps jobs where several machines reach them.
type Jobs interface {
	// Load makes a job of all lines of source, which have the numbers from 1 on. The job is
	// there whole or not at all. Where a job of this name is there already, it must fit, and
	// source is not read.
	Load(ctx context.Context, now time.Time, job Job, source Source) error
	// Standings tells how far the jobs are: those of all names for "", else the one, or ErrNoJob.
	Standings(ctx context.Context, now time.Time, name string) ([]Standing, error)
	// Documents gives those that are there, in the order of their lines; memory does not grow
	// with their number.
	Documents(ctx context.Context, id int64) iter.Seq2[Document, error]
	// Drop removes a job with its documents, or gives ErrNoJob. Who works on it loses the lease.
	Drop(ctx context.Context, name string) error
}

// Shards gives the work of a job to workers, by leases.
type Shards interface {
	// Take leases a shard that is not done and that nobody holds, first one that was taken
	// least often. ErrBusy, ErrDone and ErrNoJob say why there is none.
	Take(ctx context.Context, now, until time.Time, job int64, owner string) (Shard, error)
	// Renew makes a lease longer, or gives ErrLeaseLost. It is not lost where the shard was
	// finished by it.
	Renew(ctx context.Context, l Lease, until time.Time) error
	// Finish stores the documents of all lines of a shard, and that it is done, as one: all or
	// nothing. ErrLeaseLost says that somebody else has taken it since. Where this same lease has
	// finished it, that is success, and nothing is stored again: the first answer may have been lost.
	Finish(ctx context.Context, now time.Time, l Lease, done Finished) error
	// Release gives a shard back; it is no error where the lease is lost.
	Release(ctx context.Context, l Lease) error
}

// Lease is a worker's right to finish a shard. A shard that was taken once more has another.
type Lease struct {
	Job     int64 // Standing.ID
	Shard   int   // from 0
	Attempt int   // from 1
}

// Shard is some lines of a job.
type Shard struct {
	Lease Lease
	Lines []Line
}

// Document is one line of the output: its JSON, with the end of the line.
type Document struct {
	Line int
	Text []byte
}

// Finished is what came of a shard.
type Finished struct {
	Documents []Document // one for each line, in any order
	Unknown   int        // lines with something unknown
	Ours      int        // lines that say little about their domains, for our own side failed
}

// Whole wants exactly one document for each of so many lines from first on.
func (f Finished) Whole(first, lines int) error {
	has := make([]bool, lines)
	for _, d := range f.Documents {
		at := d.Line - first
		if at < 0 || at >= lines || has[at] {
			return fmt.Errorf("line %d has a document too many", d.Line)
		}
		has[at] = true
	}
	if len(f.Documents) != lines {
		return fmt.Errorf("%d of %d lines have a document", len(f.Documents), lines)
	}
	return nil
}

// Standing is how far a job is.
type Standing struct {
	ID int64
	Job
	Created       time.Time
	Shards, Done  int
	Lines, Ready  int // lines of all shards, and of those that are done
	Unknown, Ours int // of the lines that are done
	Lately        int // lines that were done in the last Recent
	Workers       []Working
}

// Recent is the time by which the speed of a job is told; ours.
const Recent = 5 * time.Minute

// Working is what one worker does, and did.
type Working struct {
	Owner string
	Holds int // shards, by leases that have not ended
	Done  int // shards
	Lines int // of those that are done
}

// Complete reports whether all lines have their documents.
func (s Standing) Complete() bool { return s.Done == s.Shards }

// Rate tells how many lines a second were done lately.
func (s Standing) Rate(now time.Time) float64 {
	took := min(Recent, now.Sub(s.Created)).Seconds()
	return float64(s.Lately) / max(took, 1)
}

// Left tells how long the rest takes at that rate; 0 where nobody knows.
func (s Standing) Left(now time.Time) time.Duration {
	rate := s.Rate(now)
	if rate == 0 {
		return 0
	}
	return time.Duration(float64(s.Lines-s.Ready) / rate * float64(time.Second))
}

// Marked is a Source that says of each line whether its domain stood in one before: a worker
// sees only its shard.
type Marked struct {
	Source
	Parse func(string) (dns.Name, error)

	seen Seen
}

// Next implements Source.
func (m *Marked) Next() (Line, error) {
	line, err := m.Source.Next()
	if err != nil {
		return line, err
	}
	if domain, err := line.parse(m.Parse); err == nil {
		line.First, _ = m.seen.Add(domain.String(), line.Number)
	}
	return line, nil
}
