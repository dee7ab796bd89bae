package deliver

import (
	"crypto/tls"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

func (d *Deliverer) logNoRoute(rcpt mail.Address, err error) {
	d.log.Info("no route", "rcpt", rcpt.String(), "err", err)
}

// logLookups says what the route has cost the DNS.
func (d *Deliverer) logLookups(rcpt mail.Address, l dns.Lookups) {
	d.log.Debug("looked up", "rcpt", rcpt.String(), "asked", l.Asked, "cached", l.Cached,
		"packets", l.Packets, "failed", l.Failed, "took", l.Took, "stale", l.Stale)
}

func (d *Deliverer) logStaleRoute(rcpt mail.Address) {
	d.log.Warn("the route is of expired data, since the DNS cannot be asked", "rcpt", rcpt.String())
}

func (d *Deliverer) logConnected(at place, secure bool, state tls.ConnectionState, took time.Duration) {
	version := "none"
	if secure {
		version = tls.VersionName(state.Version)
	}
	d.log.Debug("connected", "host", at.String(), "tls", version, "took", took)
}

func (d *Deliverer) logUnreachable(at place, o mail.Outcome, took time.Duration) {
	d.log.Info("host not reached", "host", at.String(), "stage", o.Stage, "reply", o.Reply.String(), "took", took)
}

func (d *Deliverer) logPassed(at place, said mail.Outcome) {
	d.log.Debug("dead host passed over", "host", at.String(), "stage", said.Stage, "reply", said.Reply.String())
}

func (d *Deliverer) logPlain(at place, err error) {
	d.log.Warn("no TLS, trying in plain text", "host", at.String(), "err", err)
}

func (d *Deliverer) logStale(at place) {
	d.log.Debug("kept connection was dead", "host", at.String())
}

// logOutcome is for debugging: the queue logs each outcome with the message's id.
func (d *Deliverer) logOutcome(from mail.Path, o mail.Outcome, took time.Duration) {
	d.log.Debug(string(o.Status), "from", from.String(), "rcpt", o.Recipient.String(),
		"host", o.Host, "stage", o.Stage, "code", o.Reply.Code, "reply", o.Reply.String(), "took", took)
}

func (d *Deliverer) logPanic(value any, stack []byte) {
	d.log.Error("panic in a delivery", "err", value, "stack", string(stack))
}
