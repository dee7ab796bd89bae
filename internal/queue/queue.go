// Package queue keeps accepted mail until somebody else has it: a durable state machine
// (RFC 5321 §4.5.4 retry strategy, RFC 3464 delivery status notifications, RFC 3461
// NOTIFY, RFC 6533 where addresses are international). It knows neither DNS nor SMTP
// connections: a Deliverer does the sending.
//
// Not implemented: delayed DSNs; NOTIFY=DELAY leaves them to the MTA (RFC 3461 §4.1).
//
// # States
//
// A message is accepted once and split into jobs, one for each destination (the part after
// the recipients' @). The job is what has a state; the message and its body live until its
// last job is gone.
//
//	state    means                                       due
//	ready    waits for its time                          next
//	leased   a worker has it, until the lease ends       lease end
//	held     waits for a person                          never
//	(gone)   every recipient is delivered or failed
//
//	event                      from            to       in one store call
//	message accepted           –               ready    Enqueue
//	worker takes it            ready           leased   Lease
//	lease ends (crash)         leased          leased   Lease, by another worker
//	worker is still at it      leased          leased   Renew
//	some recipients deferred   leased          ready    Finish, with the next time
//	all delivered or failed    leased          (gone)   Finish, with the DSN if one is due
//	person: retry              ready           ready    Change, due now
//	person: hold               ready, leased   held     Change
//	held while it was tried:
//	  some recipients deferred held            held     Finish
//	  all delivered or failed  held            (gone)   Finish, with the DSN if one is due
//	person: release            held            ready    Change, due now
//	person: drop               any             (gone)   Change
//
// # Crashes
//
// Enqueue returns after stable storage, and only then is 250 said: a crash before it leaves
// chunks that no message refers to (Sweep removes them) and a client that tries again. A
// crash while leased leaves a lease that ends; if the remote host had said 250 and Finish
// had not returned, its recipients are delivered twice, and this is the only such window.
// A DSN is enqueued by the Finish that makes it due, in one transaction, so it is neither
// lost nor sent twice. A lease carries a token: who finishes after the lease went to
// another worker, or after a person dropped or released the job, gets ErrLeaseLost and
// changes nothing. A job that was held meanwhile can be finished, lest who has the message
// gets it again when it is released; its lease cannot be renewed.
package queue

import (
	"context"
	"errors"
	"io"
	"time"

	"mxward/internal/mail"
)

// ChunkSize is the size of a body's chunks, octets; only the last may be shorter, and only
// the first longer, by the head that was put before it (MaxHead). It bounds what a session
// and an engine hold of one message.
const ChunkSize = 256 << 10

// Errors of the stores.
var (
	ErrNotFound  = errors.New("no such message in the queue")
	ErrLeaseLost = errors.New("the lease was lost")
)

// ID names a message: letters and digits, unique without asking anybody.
type ID string

// Message is what was accepted.
type Message struct {
	ID       ID
	Envelope mail.Envelope
	Received time.Time
	Expires  time.Time // when to give up
	Backup   bool      // held for a better MX: the destination is probed once a minute
	Notice   bool      // a DSN of ours
	Client   string    // who handed it in, for people: "mail.example.net [192.0.2.1]"
	Size     int64     // of the body, octets

	// The body: Chunks of it were stored by AppendChunk under ID, Tail is the rest. A
	// message that a store gives back has no Tail; Open reads its body.
	Chunks int
	Tail   []byte
}

// Job is one message for one destination, leased.
type Job struct {
	Message     Message // Envelope.Recipients are this job's still undelivered ones
	Destination string  // Address.Host of the recipients
	Attempt     int     // 1 at the first
	Lease       Lease
}

// Lease is the right to deliver a job and to say what became of it.
type Lease struct {
	Job   int64
	Token int64
}

// LeaseRequest asks for jobs that are due.
type LeaseRequest struct {
	Now    time.Time
	Until  time.Time // when the leases end
	Limit  int
	Except []string // destinations that are busy enough
}

// Result is what became of a leased job in one attempt.
type Result struct {
	Job      Job
	Outcomes []mail.Outcome // one for each recipient of the job
	Next     time.Time      // when to try the deferred ones again
	// Canary, if not zero, asks for a probe: should no other ready job of this destination
	// be due by Canary, this one is due then instead of at Next, or, if nothing is left of
	// it, that of the others which is due first.
	Canary time.Time
	// Drain makes the destination's other ready jobs due now: it has just taken mail.
	Drain bool
	// Notice is the DSN that this result makes due, or nil. Its body is its Tail.
	Notice *Message
}

// Store is what the queue needs of an engine. Implementations are safe for many
// goroutines and many processes. An error means that nothing changed; where a commit's
// fate is unknown it is an error, too, and the caller must not say 250.
type Store interface {
	// Enqueue makes the message durable: it returns nil only after stable storage.
	Enqueue(ctx context.Context, now time.Time, m Message) error
	// Lease takes jobs that are ready and due, or leased with the lease ended, the longest
	// due first, and gives them in that order.
	Lease(ctx context.Context, r LeaseRequest) ([]Job, error)
	// Renew moves the end of a lease; ErrLeaseLost if it is no longer held.
	Renew(ctx context.Context, l Lease, until time.Time) error
	// Finish records a Result; ErrLeaseLost if the lease is no longer held. A job in state
	// Held that was leased when it came to it takes its result, and what is left stays Held.
	Finish(ctx context.Context, now time.Time, r Result) error
	Bodies
	Admin
}

// Bodies keeps message bodies in chunks.
type Bodies interface {
	// AppendChunk stores chunk number seq (from 0) of the body of a message that is not
	// yet enqueued. The chunks come in any order: the first comes last, since its head is
	// known only then. The data is not kept after the call.
	AppendChunk(ctx context.Context, now time.Time, id ID, seq int, data []byte) error
	// Chunk gives a chunk of an enqueued message's body, Tail included as the last, or
	// io.EOF after the last.
	Chunk(ctx context.Context, id ID, seq int) ([]byte, error)
	// Sweep removes the chunks that were appended before the time given and that no
	// message refers to, and tells how many bodies that were.
	Sweep(ctx context.Context, before time.Time) (int, error)
}

// Admin is what people do with a queue.
type Admin interface {
	// List gives entries, oldest message first.
	List(ctx context.Context, f Filter) ([]Entry, error)
	// Change does what a person asked for to all jobs of the filter, and tells how many.
	Change(ctx context.Context, now time.Time, f Filter, a Action) (int, error)
}

// Filter chooses jobs; the zero Filter chooses all.
type Filter struct {
	Message     ID
	Destination string
	State       State
	Limit       int // 0: no limit
}

// State is a job's state.
type State string

// The states.
const (
	Ready  State = "ready"
	Leased State = "leased"
	Held   State = "held"
)

// Action is what a person does to jobs.
type Action string

// The actions.
const (
	ActRetry   Action = "retry"
	ActHold    Action = "hold"
	ActRelease Action = "release"
	ActDrop    Action = "drop"
)

// Entry is a job as a person sees it.
type Entry struct {
	Message     Message
	Destination string
	State       State
	Attempts    int
	Next        time.Time      // ready: when it is due; leased: when the lease ends
	Last        []mail.Outcome // of the last attempt, one for each recipient still here; empty before it
	Fault       string         // why what is stored cannot be read; then Message has its ID, and not all else
}

// Deliverer tries to send a message to recipients that share a destination. It gives one
// outcome for each recipient, in their order, and never panics. open may be called once
// for each connection that is tried; ctx ends when the attempt must.
type Deliverer interface {
	Deliver(ctx context.Context, env mail.Envelope, open func() io.ReadCloser) []mail.Outcome
}
