package edge

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"mxward/internal/reputation"
)

// Limits of the recording of contacts. Contacts are evidence, not mail: under overload
// they are dropped and counted, and no session ever waits for them.
const (
	contactBacklog = 4096
	contactBatch   = 256
	contactDelay   = 200 * time.Millisecond // how long a contact waits for company
	recordTimeout  = 5 * time.Second        // of one batch
	closeTimeout   = 10 * time.Second       // of what is left at the end
)

var errCloseTimeout = errors.New("keep the last contacts: the store takes too long")

// recorder hands contacts to the store in batches, in a goroutine of its own that begins
// with the first contact and ends with close.
type recorder struct {
	store   ContactRecorder
	log     *events
	in      chan reputation.Contact
	dropped atomic.Uint64

	begin, end sync.Once
	ending     chan struct{}
	done       chan struct{}
	ctx        context.Context // of the store's calls
	cancel     context.CancelFunc
	err        error // of the last batch; read once done
}

func newRecorder(store ContactRecorder, log *events) *recorder {
	r := &recorder{
		store:  store,
		log:    log,
		in:     make(chan reputation.Contact, contactBacklog),
		ending: make(chan struct{}),
		done:   make(chan struct{}),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// put takes a contact, or drops it. It never waits.
func (r *recorder) put(c reputation.Contact) {
	if r.store == nil {
		return
	}
	r.begin.Do(func() { go r.run() })
	select {
	case <-r.ending:
		r.drop(1, nil)
		return
	default:
	}
	select {
	case r.in <- c:
	default:
		r.drop(1, nil)
	}
}

func (r *recorder) drop(n int, err error) {
	r.log.contactsDropped(r.dropped.Add(uint64(n)), err)
}

func (r *recorder) run() {
	defer close(r.done)
	for {
		select {
		case c := <-r.in:
			r.record(r.collect(c))
		case <-r.ending:
			r.drain()
			return
		}
	}
}

// collect waits a little for more contacts after the first.
func (r *recorder) collect(first reputation.Contact) []reputation.Contact {
	batch := append(make([]reputation.Contact, 0, 16), first)
	timer := time.NewTimer(contactDelay)
	defer timer.Stop()
	for len(batch) < contactBatch {
		select {
		case c := <-r.in:
			batch = append(batch, c)
		case <-timer.C:
			return batch
		case <-r.ending:
			return batch
		}
	}
	return batch
}

// drain records what is left, without waiting for more.
func (r *recorder) drain() {
	var batch []reputation.Contact
	for {
		select {
		case c := <-r.in:
			if batch = append(batch, c); len(batch) == contactBatch {
				r.record(batch)
				batch = nil
			}
			continue
		default:
		}
		if len(batch) > 0 {
			r.record(batch)
		}
		return
	}
}

func (r *recorder) record(batch []reputation.Contact) {
	defer r.log.survive("record contacts")
	ctx, cancel := context.WithTimeout(r.ctx, recordTimeout)
	defer cancel()
	if r.err = r.store.Record(ctx, batch); r.err != nil {
		r.drop(len(batch), r.err)
	}
}

// close records what is left; it is the error of the last batch that it gives.
func (r *recorder) close() error {
	r.end.Do(func() { close(r.ending) })
	r.begin.Do(func() { close(r.done) }) // nobody ever knocked
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-r.done:
		r.cancel()
		return r.err
	case <-timer.C:
		r.cancel()
		return errCloseTimeout
	}
}
