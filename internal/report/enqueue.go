package report

import (
	"context"
	"time"

	"mxward/internal/mail"
	"mxward/internal/queue"
)

// Enqueue hands a message of this site's own to the queue: head, which a signature may be, and
// text. It is on stable storage then.
func Enqueue(ctx context.Context, q Queue, env mail.Envelope, head, text []byte) error {
	now := time.Now()
	m := queue.Message{ID: queue.NewID(), Received: now, Expires: queue.Expires(now, false), Envelope: env}
	spool := queue.NewSpool(ctx, q, m.ID)
	if _, err := spool.Write(text); err != nil {
		return err
	}
	var err error
	if m.Chunks, m.Tail, err = spool.Body(head); err != nil {
		return err
	}
	m.Size = spool.Size()
	m.Envelope.Size = m.Size
	if err := q.Enqueue(ctx, now, m); err != nil {
		return err // the store may still be reading the buffers
	}
	spool.Discard()
	return nil
}
