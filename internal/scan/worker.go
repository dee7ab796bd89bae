package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// What a worker holds to; ours.
const (
	DefaultLease = time.Minute     // a dead worker's shard is taken by another after it
	MinLease     = 5 * time.Second // its third is what a renewal has: less, and a slow answer of the store or a pause of the process costs what was found
	renewals     = 3               // of a lease in its time: one may fail
	pollEvery    = 2 * time.Second // for a shard, while others hold all that are left
	tryEvery     = 2 * time.Second // to reach a store that is away
	patience     = 5 * time.Minute // with one
	givenBack    = 3               // times that a shard is, for trouble on our side
)

// ErrStore says that a store could not be reached, or refused, for longer than a worker waits.
var ErrStore = errors.New("the store fails")

// ErrOurs says that most of a shard's domains could not be looked at from here.
var ErrOurs = errors.New("for most domains it was the resolver or the network here that failed; what was found is not stored, and others take these lines")

// Worker does shards of one job. Lines that it has stored are counted in Tally.
type Worker struct {
	Shards Shards
	Job    int64
	Owner  string
	// Scanner does the lines of a shard; its Tally is not used.
	Scanner Scanner
	Full    bool          // documents have also what is fine, and the evidence
	Lease   time.Duration // [DefaultLease]
	Tally   *Tally
	Note    func(string) // is told what went wrong and was mended, from several goroutines
}

// Run does shards, so many at a time, until all of the job are done, by whomever. It waits for
// those that others hold, and takes them over where a lease ends. What is under way when ctx
// ends is given back.
func (w *Worker) Run(ctx context.Context, atOnce int) error {
	if w.Lease == 0 {
		w.Lease = DefaultLease
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			w.shards(ctx, stop)
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// shards does one shard after the other, and stops all where one fails.
func (w *Worker) shards(ctx context.Context, stop context.CancelCauseFunc) {
	for ctx.Err() == nil {
		shard, err := w.take(ctx)
		switch {
		case errors.Is(err, ErrDone):
			return
		case errors.Is(err, ErrBusy):
			_ = sleep(ctx, pollEvery) // the loop asks whether to go on
			continue
		case err != nil:
			stop(err)
			return
		}
		err = w.shard(ctx, shard)
		switch {
		case errors.Is(err, ErrLeaseLost):
			w.Note(fmt.Sprintf("shard %d is no longer ours, and what was found in it is not stored from here", shard.Lease.Shard))
		case err != nil:
			stop(err) // first, so that none of us takes what is given back
			w.release(ctx, shard.Lease)
			return
		}
	}
}

// take takes a shard. It is not broken off half-way: what the store has leased then, nobody
// would know of.
func (w *Worker) take(ctx context.Context) (shard Shard, err error) {
	err = w.patiently(ctx, func() error {
		now := time.Now()
		shard, err = w.Shards.Take(context.WithoutCancel(ctx), now, now.Add(w.Lease), w.Job, w.Owner)
		return err
	})
	return shard, err
}

// shard looks at the lines of a shard, and stores what was found.
func (w *Worker) shard(ctx context.Context, shard Shard) error {
	inner, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var renewing sync.WaitGroup
	defer renewing.Wait()
	ended := make(chan struct{})
	defer close(ended)
	renewing.Go(func() { w.renew(inner, ended, shard.Lease, stop) })

	tally := &Tally{}
	scanner := w.Scanner
	scanner.Tally = tally
	found := &shardSink{full: w.Full}
	if err := scanner.Run(inner, &shardLines{lines: shard.Lines}, found); err != nil {
		return err
	}
	sum := tally.Summary(true)
	if sum.MostlyOurs() && shard.Lease.Attempt <= givenBack {
		return ErrOurs
	}
	done := Finished{Documents: found.documents, Unknown: sum.Unknown, Ours: sum.Ours}
	err := w.patiently(inner, func() error { return w.Shards.Finish(inner, time.Now(), shard.Lease, done) })
	if err != nil {
		if cause := context.Cause(inner); cause != nil {
			return cause
		}
		return err
	}
	for _, b := range found.briefs {
		w.Tally.add(b)
	}
	for _, fault := range tally.Faults() {
		w.Tally.fault(fault)
	}
	return nil
}

// renew keeps a lease until the shard has ended, and ends the work where it is lost. A store
// that is away is no reason: whether the lease was lost meanwhile is asked again, at the latest
// by Finish.
func (w *Worker) renew(ctx context.Context, ended <-chan struct{}, l Lease, stop context.CancelCauseFunc) {
	tick := time.NewTicker(w.Lease / renewals)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ended:
			return
		case <-ctx.Done():
			return
		}
		if err := w.renewOnce(ctx, l); errors.Is(err, ErrLeaseLost) {
			stop(ErrLeaseLost)
			return
		}
	}
}

// renewOnce waits for the store no longer than until the next try: one answer that does not come
// must not cost the lease.
func (w *Worker) renewOnce(ctx context.Context, l Lease) error {
	now := time.Now()
	ctx, cancel := context.WithDeadline(ctx, now.Add(w.Lease/renewals))
	defer cancel()
	return w.Shards.Renew(ctx, l, now.Add(w.Lease))
}

// release gives a shard back, so that nobody has to wait for its lease to end.
func (w *Worker) release(ctx context.Context, l Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryEvery)
	defer cancel()
	if err := w.Shards.Release(ctx, l); err != nil {
		w.Note(fmt.Sprintf("shard %d could not be given back, and is free in %s: %v", l.Shard, w.Lease, err))
	}
}

// patiently tries again while the store is away, for a while.
func (w *Worker) patiently(ctx context.Context, try func() error) error {
	for began, told := time.Now(), false; ; {
		err := try()
		switch {
		case err == nil || final(err) || ctx.Err() != nil:
			return err
		case time.Since(began) > patience:
			return fmt.Errorf("%w: %w", ErrStore, err)
		}
		if !told {
			told = true
			w.Note(fmt.Sprintf("the store is away, and is tried again for %s: %v", patience, err))
		}
		if err := sleep(ctx, tryEvery); err != nil {
			return err
		}
	}
}

// final reports whether trying again is no use.
func final(err error) bool {
	for _, known := range []error{ErrNoJob, ErrBusy, ErrDone, ErrLeaseLost} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// shardLines is the Source of a shard.
type shardLines struct {
	lines []Line
	at    int
}

func (s *shardLines) Next() (Line, error) {
	if s.at == len(s.lines) {
		return Line{}, io.EOF
	}
	s.at++
	return s.lines[s.at-1], nil
}

// shardSink keeps the documents of a shard until all are there.
type shardSink struct {
	full bool

	mu        sync.Mutex
	documents []Document
	briefs    []brief
}

// Put implements Sink.
func (s *shardSink) Put(r Result) error {
	var text bytes.Buffer
	if err := r.Write(&text, s.full); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.documents = append(s.documents, Document{r.Line, text.Bytes()})
	s.briefs = append(s.briefs, r.brief())
	return nil
}
