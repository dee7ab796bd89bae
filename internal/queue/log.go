package queue

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"mxward/internal/mail"
)

// events is the package's log: one method for each event.
type events struct{ log *slog.Logger }

func newEvents(log *slog.Logger) events {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return events{log}
}

// queued logs that a notice was enqueued; of other messages their callers of Enqueue say so.
func (e events) queued(m Message) {
	e.log.LogAttrs(context.Background(), slog.LevelInfo, "queued",
		slog.String("id", string(m.ID)), slog.String("from", m.Envelope.From.String()),
		slog.Int("rcpts", len(m.Envelope.Recipients)), slog.Int64("size", m.Size),
		slog.String("client", m.Client), slog.Bool("notice", m.Notice))
}

// outcome logs what became of a recipient in one attempt.
func (e events) outcome(j Job, o mail.Outcome, expired bool, next time.Time, took time.Duration) {
	attrs := []slog.Attr{
		slog.String("id", string(j.Message.ID)), slog.String("from", j.Message.Envelope.From.String()),
		slog.String("rcpt", o.Recipient.String()), slog.String("host", o.Host),
		slog.String("stage", string(o.Stage)), slog.Int("code", o.Reply.Code),
		slog.String("reply", o.Reply.String()), slog.Int("attempt", j.Attempt), slog.Duration("took", took),
	}
	switch {
	case o.Status == mail.Delivered:
		e.log.LogAttrs(context.Background(), slog.LevelInfo, "delivered", attrs...)
	case o.Status == mail.Deferred:
		attrs = append(attrs, slog.Time("next", next))
		e.log.LogAttrs(context.Background(), slog.LevelInfo, "deferred", attrs...)
	case expired:
		e.log.LogAttrs(context.Background(), slog.LevelWarn, "expired", attrs...)
	default:
		e.log.LogAttrs(context.Background(), slog.LevelWarn, "bounced", attrs...)
	}
}

// leaseLost logs that what became of a job could not be recorded, since somebody else has
// it now.
func (e events) leaseLost(j Job) {
	e.log.Warn("lease lost", "id", string(j.Message.ID), "destination", j.Destination, "attempt", j.Attempt)
}

// storeTrouble logs that the store failed; the work is tried again after the pause.
func (e events) storeTrouble(doing string, id ID, err error, pause time.Duration) {
	e.log.Error("store trouble", "doing", doing, "id", string(id), "err", err, "pause", pause)
}

// panicked logs a fault of the program; the job is deferred.
func (e events) panicked(j Job, value any) {
	e.log.Error("panic while delivering", "id", string(j.Message.ID), "destination", j.Destination,
		"err", value, "stack", string(debug.Stack()))
}

// unrecorded logs a fault of the program after an attempt; the job is held, for a person.
func (e events) unrecorded(j Job, value any) {
	e.log.Error("panic while recording a result, the job is held", "id", string(j.Message.ID),
		"destination", j.Destination, "err", value, "stack", string(debug.Stack()))
}

// swept logs the removal of bodies that were never enqueued.
func (e events) swept(bodies int) {
	e.log.Info("swept", "bodies", bodies)
}
