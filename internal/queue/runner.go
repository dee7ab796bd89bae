package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"mxward/internal/mail"
)

// What a Runner does when it is not told otherwise.
const (
	defaultWorkers        = 100
	defaultPerDestination = 20
	defaultLease          = 5 * time.Minute
)

// Limits of a Runner.
const (
	pollInterval   = time.Second           // how often an idle Runner looks for due jobs
	busyInterval   = 10 * time.Millisecond // the same where all that is due goes to busy destinations
	attemptTimeout = time.Hour             // of one attempt; RFC 5321 §4.5.3.2 bounds each step
	grace          = 10 * time.Second      // for attempts that are under way when Run is to end
	stopTimeout    = 5 * time.Second       // after grace, for the last calls of the store
	sweepInterval  = time.Hour
	sweepAge       = 24 * time.Hour // bodies that no message took for so long never get one
	firstPause     = 100 * time.Millisecond
	longestPause   = 30 * time.Second
)

// Runner takes due jobs from the store, has them delivered, and records what became of
// them. Set the fields, then call Run once.
type Runner struct {
	Store     Store
	Deliverer Deliverer
	Name      string // of this host, the reporting MTA of notices

	Workers        int           // attempts at once; 0: 100
	PerDestination int           // attempts at once for one destination; 0: 20
	Lease          time.Duration // how long a job is ours without a sign of life; 0: 5 min
	Logger         *slog.Logger  // nil: no log

	once sync.Once
	wake chan struct{}

	mu      sync.Mutex
	active  int                     // attempts under way
	ending  int                     // attempts whose result is being recorded
	busy    map[string]*destination // by name, those that have jobs here
	held    map[Lease]*work         // every lease that is ours
	waiting []*work                 // leased, in order, not yet begun
	down    map[string]bool         // destinations that a backup knows to be down (true) or up
	unbusy  bool                    // a destination can take more than at the last lease
}

// destination counts the jobs of one destination that are here.
type destination struct{ active, waiting int }

// work is a leased job.
type work struct {
	job    Job
	until  time.Time          // when the lease ends
	cancel context.CancelFunc // ends the attempt; nil while it waits
	ending bool               // the attempt is over and its result is being recorded
}

func (r *Runner) prepare() {
	r.once.Do(func() {
		r.wake = make(chan struct{}, 1)
		r.busy = map[string]*destination{}
		r.held = map[Lease]*work{}
		r.down = map[string]bool{}
		if r.Workers <= 0 {
			r.Workers = defaultWorkers
		}
		if r.PerDestination <= 0 {
			r.PerDestination = defaultPerDestination
		}
		if r.Lease <= 0 {
			r.Lease = defaultLease
		}
	})
}

// Wake tells the Runner that there may be a job that is due: call it after Enqueue. It
// never blocks.
func (r *Runner) Wake() {
	r.prepare()
	r.signal()
}

func (r *Runner) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends. Then attempts that are under way have 10 seconds to end, the
// leases of the others are given back, and Run returns nil. Trouble of the store is logged
// and tried again; it does not end Run.
func (r *Runner) Run(ctx context.Context) error {
	r.prepare()
	// Attempts outlive ctx by the grace, calls of the store by a little more.
	calls, stopCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCalls()
	attempts, stopAttempts := context.WithCancel(calls)
	defer stopAttempts()

	var helpers, workers sync.WaitGroup
	helpers.Go(func() { r.keepLeases(calls) })
	helpers.Go(func() { r.sweep(ctx) })
	r.loop(ctx, attempts, calls, &workers)

	r.giveBack(calls)
	waitOr(&workers, grace)
	stopAttempts()
	waitOr(&workers, stopTimeout)
	stopCalls()
	workers.Wait()
	helpers.Wait()
	return nil
}

// waitOr waits for the group, but no longer than d.
func waitOr(group *sync.WaitGroup, d time.Duration) {
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// loop leases jobs while there are workers for them, and begins them.
func (r *Runner) loop(ctx, attempts, calls context.Context, workers *sync.WaitGroup) {
	var pause time.Duration
	var notBefore time.Time // no lease before then
	timer := time.NewTimer(pollInterval)
	defer timer.Stop()
	for ctx.Err() == nil {
		r.begin(attempts, calls, workers)
		wait := pollInterval
		if now := time.Now(); now.Before(notBefore) && !r.unbusied() {
			wait = notBefore.Sub(now)
		} else {
			found, left, err := r.lease(ctx)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				pause = longer(pause)
				newEvents(r.Logger).storeTrouble("lease", "", err, pause)
				sleep(ctx, pause)
				continue
			case found > 0:
				pause = 0
				continue
			case left:
				// Each new job of a busy destination wakes us for nothing: not too often.
				pause, notBefore = 0, time.Now().Add(busyInterval)
			default:
				pause = 0
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.wake:
		}
	}
}

// lease asks the store for as many jobs as there are free workers, and tells how many
// came, and whether busy destinations were left out: what waits here for its destination's
// turn must not keep others from the workers.
func (r *Runner) lease(ctx context.Context) (found int, left bool, err error) {
	now := time.Now()
	request := LeaseRequest{Now: now, Until: now.Add(r.Lease)}
	r.mu.Lock()
	// Results that are not yet recorded count once they are many: a store that takes none
	// must not be asked for more jobs.
	request.Limit = r.Workers - r.active - max(0, r.ending-r.Workers)
	for name, d := range r.busy {
		// One round more than is under way may wait here, so that no worker waits for us.
		if d.active+d.waiting >= 2*r.PerDestination {
			request.Except = append(request.Except, name)
		}
	}
	r.mu.Unlock()
	if request.Limit <= 0 {
		return 0, false, nil
	}
	// After a time without the store, or asleep, leases of ours may have ended: the store
	// would give us the same jobs again, and they would be sent twice.
	if err := r.renewAll(ctx, r.Lease/6); err != nil {
		return 0, false, err
	}
	jobs, err := r.Store.Lease(ctx, request)
	if err != nil {
		return 0, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, job := range jobs {
		w := &work{job: job, until: request.Until}
		r.held[job.Lease] = w
		r.waiting = append(r.waiting, w)
		d := r.busy[job.Destination]
		if d == nil {
			d = &destination{}
			r.busy[job.Destination] = d
		}
		d.waiting++
	}
	return len(jobs), len(request.Except) > 0, nil
}

// begin starts the waiting jobs that may start, in their order.
func (r *Runner) begin(attempts, calls context.Context, workers *sync.WaitGroup) {
	r.mu.Lock()
	defer r.mu.Unlock()
	still := r.waiting[:0]
	for _, w := range r.waiting {
		d := r.busy[w.job.Destination]
		if r.held[w.job.Lease] != w { // lost while it waited
			r.leave(w, func(d *destination) { d.waiting-- })
			continue
		}
		if r.active >= r.Workers || d.active >= r.PerDestination {
			still = append(still, w)
			continue
		}
		r.active++
		d.active++
		d.waiting--
		ctx, cancel := context.WithTimeout(attempts, attemptTimeout)
		w.cancel = cancel
		workers.Go(func() {
			defer cancel()
			r.work(ctx, calls, w)
		})
	}
	clear(r.waiting[len(still):])
	r.waiting = still
}

// leave takes a job out of its destination's count. The caller holds the lock.
func (r *Runner) leave(w *work, count func(*destination)) {
	d := r.busy[w.job.Destination]
	count(d)
	r.unbusy = r.unbusy || d.active+d.waiting == 2*r.PerDestination-1
	if *d == (destination{}) {
		delete(r.busy, w.job.Destination)
	}
}

// unbusied tells, once, whether a destination has become less than busy.
func (r *Runner) unbusied() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.unbusy
	r.unbusy = false
	return was
}

// work makes one attempt and records its result. The worker is free for the next job
// before the result is stable, so that the store can commit many results at once.
func (r *Runner) work(attempt, calls context.Context, w *work) {
	began := time.Now()
	outcomes := r.deliver(attempt, w.job)
	took := time.Since(began)

	r.mu.Lock()
	r.active--
	r.ending++
	w.ending = true
	r.leave(w, func(d *destination) { d.active-- })
	r.mu.Unlock()
	r.signal()

	r.record(calls, w.job, outcomes, took)

	r.mu.Lock()
	slow := r.ending > r.Workers // then lease waits for us, too
	r.ending--
	delete(r.held, w.job.Lease)
	r.mu.Unlock()
	if slow {
		r.signal()
	}
}

// record judges the outcomes and has the store keep the result, however long that takes:
// until the lease is lost, or calls end, and with them the process's life. Then the lease
// ends by itself, and the job is tried again.
func (r *Runner) record(calls context.Context, job Job, outcomes []mail.Outcome, took time.Duration) {
	log := newEvents(r.Logger)
	defer func() {
		if p := recover(); p != nil {
			log.unrecorded(job, p)
			r.setAside(calls, job)
		}
	}()
	verdict := judge(job, outcomes, time.Now(), rand.Float64())
	result := verdict.result
	result.Drain = r.drains(job.Destination, verdict)
	if len(verdict.reports) > 0 && len(dueReports(job, verdict.reports)) > 0 {
		result.Notice = r.notice(calls, job, verdict.reports)
	}
	var pause time.Duration
	for {
		err := r.finish(calls, result)
		switch {
		case err == nil:
			for i, o := range result.Outcomes {
				log.outcome(job, o, verdict.expired[i], result.Next, took)
			}
			r.learn(job.Destination, verdict)
			if result.Notice != nil {
				log.queued(*result.Notice)
			}
			if result.Notice != nil || result.Drain {
				r.signal()
			}
			return
		case errors.Is(err, ErrLeaseLost):
			log.leaseLost(job)
			return
		case calls.Err() != nil:
			log.storeTrouble("finish", job.Message.ID, err, 0)
			return
		}
		pause = longer(pause)
		log.storeTrouble("finish", job.Message.ID, err, pause)
		sleep(calls, pause)
	}
}

// finish has the store keep a result. A notice that names very many recipients is longer
// than a tail may be: then its beginning goes ahead, in chunks.
func (r *Runner) finish(calls context.Context, result Result) error {
	if n := result.Notice; n != nil {
		seq, rest := n.Chunks, n.Tail
		for ; len(rest) > ChunkSize; seq++ {
			if err := r.Store.AppendChunk(calls, time.Now(), n.ID, seq, rest[:ChunkSize]); err != nil {
				n.ID = NewID() // which chunks the other has is not known
				return err
			}
			rest = rest[ChunkSize:]
		}
		n.Chunks, n.Tail = seq, rest
	}
	return r.Store.Finish(calls, time.Now(), result)
}

// setAside holds a job that met a fault of the program: tried again, it would meet it
// again, and whoever has the message already would get it each time.
func (r *Runner) setAside(calls context.Context, job Job) {
	filter := Filter{Message: job.Message.ID, Destination: job.Destination}
	if _, err := r.Store.Change(calls, time.Now(), filter, ActHold); err != nil {
		newEvents(r.Logger).storeTrouble("hold", job.Message.ID, err, 0)
	}
}

// notice makes the DSN of a result. A body that the store does not give is left out.
func (r *Runner) notice(ctx context.Context, job Job, reports []report) *Message {
	body, err := readOriginal(Open(ctx, r.Store, job.Message.ID), job.Message)
	if err != nil {
		newEvents(r.Logger).storeTrouble("read for a notice", job.Message.ID, err, 0)
	}
	return reporter{name: r.Name}.notice(job, reports, body, time.Now())
}

// drains tells whether the result shows that a better MX is up again, so that everything
// that waits for it should go. That is said once for each time it was down: jobs that the
// host itself defers must not come back with every success.
func (r *Runner) drains(destination string, v verdict) bool {
	if !v.backup || !v.up {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	down, known := r.down[destination]
	return down || !known
}

// learn remembers what a recorded result says of a backup's destination.
func (r *Runner) learn(destination string, v verdict) {
	if !v.backup || !v.up && !v.down {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down[destination] = v.down
}

// keepLeases renews what is held, long before it ends.
func (r *Runner) keepLeases(calls context.Context) {
	every := time.NewTicker(max(r.Lease/6, time.Millisecond))
	defer every.Stop()
	for {
		select {
		case <-calls.Done():
			return
		case <-every.C:
		}
		if err := r.renewAll(calls, r.Lease/2); err != nil && calls.Err() == nil {
			newEvents(r.Logger).storeTrouble("renew", "", err, r.Lease/6)
		}
	}
}

// renewAll renews the leases that have less than a time left, until the store fails.
func (r *Runner) renewAll(ctx context.Context, left time.Duration) error {
	for _, w := range r.ageing(time.Now().Add(left)) {
		if err := r.renew(ctx, w); err != nil {
			return fmt.Errorf("renewing the lease of message %s: %w", w.job.Message.ID, err)
		}
	}
	return nil
}

// ageing gives the leases that end before then.
func (r *Runner) ageing(then time.Time) []*work {
	r.mu.Lock()
	defer r.mu.Unlock()
	var old []*work
	for _, w := range r.held {
		if w.until.Before(then) {
			old = append(old, w)
		}
	}
	return old
}

// renew moves the end of one lease. A lost one ends its attempt: somebody else has the
// job, or a person took it away. The error is the store's.
func (r *Runner) renew(ctx context.Context, w *work) error {
	until := time.Now().Add(r.Lease)
	err := r.Store.Renew(ctx, w.job.Lease, until)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		w.until = until
	case errors.Is(err, ErrLeaseLost):
		if r.held[w.job.Lease] != w || w.ending {
			return nil // it was finished meanwhile, or Finish will tell
		}
		delete(r.held, w.job.Lease)
		newEvents(r.Logger).leaseLost(w.job)
		if w.cancel != nil {
			w.cancel()
		}
	default:
		return err
	}
	return nil
}

// giveBack ends the leases of jobs that were not begun, so that the next Runner has them
// at once.
func (r *Runner) giveBack(calls context.Context) {
	ctx, cancel := context.WithTimeout(calls, stopTimeout)
	defer cancel()
	r.mu.Lock()
	waiting := r.waiting
	r.waiting = nil
	for _, w := range waiting {
		delete(r.held, w.job.Lease)
	}
	r.mu.Unlock()
	for _, w := range waiting {
		if err := r.Store.Renew(ctx, w.job.Lease, time.Now()); err != nil && !errors.Is(err, ErrLeaseLost) {
			newEvents(r.Logger).storeTrouble("give back", w.job.Message.ID, err, 0)
			return // the leases end by themselves
		}
	}
}

// sweep removes bodies that were never enqueued, now and each hour.
func (r *Runner) sweep(ctx context.Context) {
	for ctx.Err() == nil {
		n, err := r.Store.Sweep(ctx, time.Now().Add(-sweepAge))
		if err != nil && ctx.Err() == nil {
			newEvents(r.Logger).storeTrouble("sweep", "", err, sweepInterval)
		}
		if n > 0 {
			newEvents(r.Logger).swept(n)
		}
		sleep(ctx, sweepInterval)
	}
}

// longer gives the next pause of an exponential back-off.
func longer(pause time.Duration) time.Duration {
	return min(max(2*pause, firstPause), longestPause)
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
