package queue

import (
	"context"
	"io"
	"time"

	"mxward/internal/mail"
)

// verdict is what one attempt means for a job.
type verdict struct {
	result  Result
	expired []bool   // beside result.Outcomes: failed since the time was up
	reports []report // what the sender may have to hear

	backup   bool
	up, down bool // what the attempt says of the destination's host; neither: nothing
}

// judge makes a Result of the outcomes of an attempt that ended at now; chance spreads the
// next attempt (see NextAttempt).
func judge(job Job, outcomes []mail.Outcome, now time.Time, chance float64) verdict {
	m := job.Message
	expires := m.Expires
	if expires.IsZero() {
		expires = Expires(m.Received, m.Backup)
	}
	v := verdict{
		result:  Result{Job: job, Outcomes: outcomes},
		expired: make([]bool, len(outcomes)),
		backup:  m.Backup,
	}
	deferred := 0
	for i := range outcomes {
		o := &outcomes[i]
		early := beforeRecipients(o.Stage)
		v.up = v.up || o.Status == mail.Delivered || o.Remote && !early
		v.down = v.down || o.Status == mail.Deferred && early
		if o.Status == mail.Deferred && !now.Before(expires) {
			o.Status, v.expired[i] = mail.Failed, true
		}
		if o.Status == mail.Deferred {
			deferred++
			continue
		}
		v.reports = append(v.reports, report{m.Envelope.Recipients[i], *o, v.expired[i]})
	}
	v.down = v.down && !v.up
	if deferred > 0 {
		v.result.Next = NextAttempt(now, expires, job.Attempt, chance)
	}
	if m.Backup && v.down {
		// The host is down, and this job may look for it while the others wait; or, if this
		// one is given up, the next.
		v.result.Canary = now.Add(CanaryInterval)
	}
	return v
}

// beforeRecipients tells the stages at which a host has not yet spoken of this message's
// recipients: a failure there is the host's, not the message's.
func beforeRecipients(s mail.Stage) bool {
	switch s {
	case mail.StageRoute, mail.StageConnect, mail.StageGreeting, mail.StageHello, mail.StageStartTLS:
		return true
	}
	return false
}

// deliver makes one attempt and sees to it that there is one outcome for each recipient,
// whatever the Deliverer does.
func (r *Runner) deliver(ctx context.Context, job Job) (outcomes []mail.Outcome) {
	env := job.Message.Envelope
	defer func() {
		if p := recover(); p != nil {
			newEvents(r.Logger).panicked(job, p)
			outcomes = deferAll(env.Recipients, "internal error")
		}
	}()
	open := func() io.ReadCloser { return Open(ctx, r.Store, job.Message.ID) }
	outcomes = r.Deliverer.Deliver(ctx, env, open)
	if len(outcomes) != len(env.Recipients) {
		return deferAll(env.Recipients, "the outcome of the attempt is not known")
	}
	for i := range outcomes {
		outcomes[i].Recipient = env.Recipients[i].Address
		if outcomes[i].When.IsZero() {
			outcomes[i].When = time.Now()
		}
	}
	return outcomes
}

// deferAll is the outcome of an attempt that came to nothing through our own fault.
func deferAll(recipients []mail.Recipient, text string) []mail.Outcome {
	outcomes := make([]mail.Outcome, len(recipients))
	for i, rcpt := range recipients {
		outcomes[i] = mail.Outcome{
			Recipient: rcpt.Address, Status: mail.Deferred, Stage: mail.StageDeliver,
			Reply: mail.NewReply(451, 3, 0, text), When: time.Now(),
		}
	}
	return outcomes
}
