package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"mxward/internal/mailauth/attach"
)

// events is the vocabulary of this package's log. What strangers say is quoted by slog's
// handlers, so it cannot forge a line.
type events struct{ logger *slog.Logger }

func newEvents(l *slog.Logger) events {
	if l == nil {
		l = slog.Default()
	}
	return events{l}
}

// counts: some could not be written or read; lost is how many messages no report will tell of.
func (e events) counts(lost int64, err error) {
	e.logger.Warn("counts for reports", "lost", lost, "err", err)
}

// settled: a day's report is in the queue, put off, or given up.
func (e events) settled(c Claim, o outcome) {
	level, what := slog.LevelInfo, "report sent"
	switch {
	case !o.Next.IsZero():
		what = "report postponed"
	case len(o.Sent) == 0 && o.failed:
		level, what = slog.LevelWarn, "report dropped"
	case len(o.Sent) == 0:
		what = "report dropped"
	}
	args := []any{"domain", c.Domain, "day", c.Day.Format(time.DateOnly), "to", o.Sent, "id", o.id, "messages", o.messages, "attempt", c.Attempt, "outcome", o.Outcome}
	if !o.Next.IsZero() {
		args = append(args, "next", o.Next)
	}
	e.logger.Log(context.Background(), level, what, args...)
}

// unsettled: what came of a day's report is not noted, and another gate may send it again.
func (e events) unsettled(c Claim, o outcome, err error) {
	e.logger.Warn("report not settled", "domain", c.Domain, "day", c.Day.Format(time.DateOnly), "outcome", o.Outcome, "err", err)
}

// received: a report of others was read.
func (e events) received(r Received, result string, err error) {
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
	}
	e.logger.Log(context.Background(), level, "report received", "kind", r.Kind, "about", r.Domain, "from", r.Sender, "authentic", r.Authentic, "result", result, "err", err)
}

// maxLogged bounds what a line says of an error, which may quote strangers, in octets.
const maxLogged = 300

// unread: a message has no report that can be read, and is delivered all the same.
func (e events) unread(from origin, err error) {
	text := err.Error()
	if len(text) > maxLogged {
		text = strings.ToValidUTF8(text[:maxLogged], "") + "…"
	}
	e.logger.Info("report not read", "from", from.domain, "authentic", from.authentic, "large", errors.Is(err, attach.ErrTooLarge), "err", text)
}

// panicked: a panic was caught at the boundary of one piece of work.
func (e events) panicked(work string, value any) {
	e.logger.Error("panic", "work", work, "err", fmt.Sprint(value), "stack", string(debug.Stack()))
}
