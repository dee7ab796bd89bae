// Package scan looks at the mail DNS of very many domains: a Source gives lines, and a Sink
// takes exactly one result for each of them, whatever the line is. No standard says how; the
// rules for single domains are those of package audit.
//
// A shard of a job is a Source of some of its lines, with the numbers that they have in the
// whole, and a Sink for their results: Run does not know whether it has all lines or a part.
// Jobs keeps such jobs for many machines, and a Worker does their shards.
//
// Memory does not grow with the number of domains, but for 12 octets and some room for each
// name, by which duplicates are known (Seen). Domains with something unknown wait for a
// second look at the end; only their line numbers and names are kept, and those of many in a
// temporary file.
package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
)

// Line is one line of the input.
type Line struct {
	Number int // from 1
	Text   string
	Long   int // octets, of a line that is too long; Text is its beginning
	First  int // the line where the domain stood before, where the Source knows that; else 0
}

// Source gives the lines in their order, and io.EOF after the last.
type Source interface {
	Next() (Line, error)
}

// Sink takes results, from several goroutines.
type Sink interface {
	Put(Result) error
}

// Report is what one look at a domain found.
type Report struct {
	Findings  []audit.Finding
	Counts    map[audit.Status]int // of all findings; nil where Findings has all
	Provider  string               // of its mail hosts
	Questions int                  // packets that were sent for it
	Open      bool                 // it is worth while to ask again a while later
	Away      bool                 // our own side was, and so nothing is said of the domain
}

// The limits; ours.
const (
	DefaultConcurrency = 300
	MaxConcurrency     = 5000
	lookAhead          = 4                    // lines read ahead for each domain under way, in ordered output
	step               = 5 * time.Millisecond // from one domain at once to one more, at the start: nothing is known yet, and all would ask the same servers
	pause              = 3 * time.Second      // before a domain is asked again, at least
	more               = 2                    // so many times as many are asked again at once: most of them wait for servers that are silent
	heldTick           = 500 * time.Millisecond
)

// MostAtOnce is how many domains are looked at at once at most, where so many have their first look:
// the last of those go on while others have their second.
func MostAtOnce(concurrency int) int { return concurrency * (1 + more) }

// Scanner looks at the domains of a Source. Check, Parse and Tally must be set.
type Scanner struct {
	// Check looks at one domain; Again does so for a second time, nil for never.
	Check, Again func(ctx context.Context, domain dns.Name) Report
	// Parse reads what stands in a line.
	Parse func(string) (dns.Name, error)
	// Concurrency is how many domains are looked at at once [DefaultConcurrency].
	Concurrency int
	// Ordered gives results in the order of lines. Then a domain is asked again at once,
	// after a pause, while those after it wait for a while.
	Ordered bool
	// Done says which lines have their result already; nil for none.
	Done func(line int) bool
	// Tally counts, and may be read meanwhile.
	Tally *Tally
}

// run is one call of Run.
type run struct {
	*Scanner
	sink Sink
	turn *turn // nil where the order does not matter
	held held
	own  ownSide
	stop context.CancelCauseFunc
}

// work is a domain to look at, for a second time after a pause.
type work struct {
	line   int
	text   string
	domain dns.Name
	since  time.Time // when it was held back
}

// Run takes each line of source to a result in sink. When ctx ends, what is under way is
// dropped: only whole results are put. The error is the sink's, the source's, or ctx's.
func (s *Scanner) Run(ctx context.Context, source Source, sink Sink) error {
	inner, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	sink = counted{sink, s.Tally}
	r := &run{Scanner: s, sink: sink, stop: stop}
	defer r.held.close()
	n := s.Concurrency
	if n <= 0 {
		n = DefaultConcurrency
	}
	if s.Ordered {
		r.turn = newTurn(sink, n*lookAhead)
	}
	err := r.both(inner, n, source)
	if errors.Is(err, context.Canceled) {
		return context.Cause(inner)
	}
	return err
}

// both takes the lines to a first look, and from when all are read also those held back to
// their second: the last of the first look are slow ones.
func (r *run) both(ctx context.Context, n int, source Source) error {
	first, again := make(chan work), make(chan work)
	read, looked, second := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		<-read
		second <- r.pool(ctx, n*more, 0, again, r.second, func() error { return r.heldBack(ctx, looked, again) })
	}()
	err := r.pool(ctx, n, step, first, r.first, func() error {
		defer close(read)
		return r.read(ctx, source, first)
	})
	close(looked)
	return errors.Join(err, <-second)
}

// heldBack sends on what was held back, until all have been looked at once.
func (r *run) heldBack(ctx context.Context, looked <-chan struct{}, again chan<- work) error {
	for last := false; ; {
		now := r.held.take()
		err := now.each(ctx, again)
		now.close()
		if err != nil || last {
			return err
		}
		select {
		case <-looked:
			last = true
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(heldTick):
		}
	}
}

// pool has n goroutines do the work that feed sends, until it has sent all. They begin with a step
// between them.
func (r *run) pool(ctx context.Context, n int, step time.Duration, jobs chan work, do func(context.Context, work), feed func() error) error {
	var all sync.WaitGroup
	fed := make(chan struct{})
	for k := range n {
		all.Go(func() {
			if wait := time.Duration(k) * step; wait > 0 {
				select {
				case <-fed:
				case <-time.After(wait):
				case <-ctx.Done():
				}
			}
			for w := range jobs {
				do(ctx, w)
			}
		})
	}
	err := feed()
	close(jobs)
	close(fed)
	all.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// read takes lines and sends on those that are domains which were not seen before.
func (r *run) read(ctx context.Context, source Source, jobs chan<- work) error {
	var seen Seen
	for {
		line, err := source.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the input after line %d: %w", line.Number, err)
		}
		if r.turn != nil {
			if err := r.turn.take(ctx, line.Number); err != nil {
				return err
			}
		}
		result := Result{Line: line.Number, Input: line.Text, Status: Invalid}
		domain, err := line.parse(r.Parse)
		before, known := line.First, line.First > 0
		if err == nil && !known {
			before, known = seen.Add(domain.String(), line.Number)
		}
		switch {
		case r.Done != nil && r.Done(line.Number):
			if r.turn != nil {
				r.failed(r.turn.skip(line.Number))
			}
			continue
		case err != nil:
			result.Error = err.Error()
		case known:
			result.Status, result.Domain, result.First = Duplicate, domain.String(), before
		default:
			select {
			case jobs <- work{line: line.Number, text: line.Text, domain: domain}:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		r.put(result)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// parse gives the domain that stands in the line.
func (l Line) parse(name func(string) (dns.Name, error)) (dns.Name, error) {
	switch {
	case l.Long > 0:
		return dns.Name{}, fmt.Errorf("expected a domain, got a line of %d octets", l.Long)
	case l.Text == "":
		return dns.Name{}, errors.New("expected a domain, got an empty line")
	}
	return name(l.Text)
}

// first looks at a domain, and holds it back where something is unknown.
func (r *run) first(ctx context.Context, w work) {
	result, report := r.look(ctx, r.Check, w)
	if ctx.Err() != nil {
		return // what was not waited for is no result
	}
	open := report.Open || report.Away && r.own.hasWorked()
	if r.Again == nil || !open {
		r.put(result)
		return
	}
	r.Tally.hold(1)
	w.since = time.Now()
	if r.turn != nil {
		r.second(ctx, w)
		return
	}
	r.failed(r.held.add(w))
}

// second looks at a domain for the last time. What our own side fails at is tried until that is
// back, for a while.
func (r *run) second(ctx context.Context, w work) {
	var result Result
	for began, again := time.Now(), true; again; w.since = time.Now() {
		if sleep(ctx, time.Until(w.since.Add(pause))) != nil {
			return
		}
		var report Report
		result, report = r.look(ctx, r.Again, w)
		if ctx.Err() != nil {
			return
		}
		again = report.Away && r.own.mayComeBack() && time.Since(began) < away
	}
	result.Again = true
	r.Tally.hold(-1)
	r.put(result)
}

// look is the border of one domain: a fault of ours costs its line, and not the rest.
func (r *run) look(ctx context.Context, check func(context.Context, dns.Name) Report, w work) (result Result, report Report) {
	result = Result{Line: w.line, Input: w.text, Domain: w.domain.String(), Status: Checked}
	defer func() {
		if p := recover(); p != nil {
			result.Status, result.Error = Failed, "an internal fault"
			r.Tally.fault(fmt.Sprintf("line %d, %s: %v\n%s", w.line, w.domain, p, debug.Stack()))
		}
	}()
	gone := r.own.isGone()
	report = check(ctx, w.domain)
	r.own.seen(report.Away)
	if gone && (report.Open || audit.Ours(report.Findings)) {
		report.Away = true // for a part of the look
	}
	result.Findings, result.Counts, result.Provider, result.Questions = report.Findings, report.Counts, report.Provider, report.Questions
	return result, report
}

func (r *run) put(result Result) {
	if r.turn != nil {
		r.failed(r.turn.put(result))
		return
	}
	r.failed(r.sink.Put(result))
}

// counted counts what a sink has taken, and nothing else.
type counted struct {
	Sink
	tally *Tally
}

func (c counted) Put(r Result) error {
	if err := c.Sink.Put(r); err != nil {
		return err
	}
	c.tally.add(r.brief())
	return nil
}

// failed ends the scan where a result could not be written.
func (r *run) failed(err error) {
	if err != nil {
		r.stop(fmt.Errorf("write a result: %w", err))
	}
}
