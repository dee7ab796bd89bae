package watch

import (
	"context"
	"log/slog"

	"mxward/internal/audit"
	"mxward/internal/audit/render"
	"mxward/internal/dns"
	"mxward/internal/mail"
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

// looked: a domain was looked at. Where our own side is at fault, the watch is blind.
func (e events) looked(r render.Report) {
	for _, f := range r.Findings {
		if f.Status == audit.Fail && f.Blame.Ours() && f.Severity.AtLeast(audit.Error) {
			e.logger.Warn("the watch is blind: our own resolver or network is at fault", "domain", r.Domain, "id", f.ID, "title", f.Title, "detail", render.Clean(f.Detail), "blame", f.Blame)
		}
	}
	n := newNumber(r)
	e.logger.Debug("a domain was looked at", "domain", r.Domain, "failed", n.Findings, "unknown", n.Unknown)
}

// inVain: a baseline has something that was not found.
func (e events) inVain(file string, entry audit.Ignore) {
	e.logger.Warn("what is to be ignored was not found: take it out of the baseline if it is mended, or see that the target is the finding's",
		"baseline", file, "line", entry.Line, "id", entry.ID, "target", render.Clean(entry.Target))
}

// changed: one line for each change.
func (e events) changed(c Change) {
	level := slog.LevelWarn
	if c.Turn == Better || c.Turn == Renewed {
		level = slog.LevelInfo
	}
	e.logger.Log(context.Background(), level, "a domain has changed", "domain", c.Domain, "change", c.Turn, "id", c.ID, "target", render.Clean(c.Target),
		"severity", c.Severity, "blame", c.Blame, "title", c.Title, "detail", render.Clean(c.Detail))
}

// sent: the changes are on their way by mail.
func (e events) sent(changes int, to []mail.Address) {
	e.logger.Info("changes of domains were sent", "changes", changes, "to", to)
}

// unsent: they could not be sent, and are kept.
func (e events) unsent(changes int, err error) {
	e.logger.Warn("changes of domains could not be sent, and are kept", "changes", changes, "err", err)
}

// dropped: they were refused for ever, and would be refused again: this is the last of them.
func (e events) dropped(changes []Change, err error) {
	e.logger.Error("changes of domains were refused by the mail host, and are in this log alone", "changes", len(changes), "err", err)
	for _, c := range changes {
		e.logger.Error("a change that nobody was told by mail", "domain", c.Domain, "change", c.Turn, "id", c.ID, "target", render.Clean(c.Target),
			"severity", c.Severity, "blame", c.Blame, "title", c.Title, "detail", render.Clean(c.Detail), "seen", c.When)
	}
}

// refused: one of several has not got the message.
func (e events) refused(o mail.Outcome) {
	e.logger.Warn("changes of domains did not reach everybody", "to", o.Recipient, "reply", o.Reply)
}

// state: what is known could not be read or written.
func (e events) state(err error) { e.logger.Error("the state of the watch", "err", err) }

// taken: this gate watches from now on.
func (e events) taken(domains int) { e.logger.Info("watching", "domains", domains) }

// panicked: a fault was caught.
func (e events) panicked(domain dns.Name, what string) {
	e.logger.Error("a fault of mxward's own, which should be reported", "domain", domain, "panic", what)
}
