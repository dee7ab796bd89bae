package site

import (
	"slices"
	"time"

	"mxward/internal/mail"
)

// Watch is [watch]: the watch over the site's own domains.
type Watch struct {
	On         bool          // the table is there
	Interval   time.Duration // default 1 h
	MailTo     []mail.Address
	MailFrom   mail.Address // zero: that of the reports
	Severity   string       // of package audit, default warning
	Profile    string       // of package audit, default mail
	Selectors  []string
	SMTP       bool   // visits the MX hosts, default true
	Registries bool   // asks third parties
	Baseline   string // a file
}

var (
	watchInterval = text("a time between 5m and 168h", parseWatchInterval)
	watchSeverity = text("critical, error, warning, notice or info", parseWatchSeverity)
	watchProfile  = text("mail, receive, send, parked, bulk or strict", parseWatchProfile)
)

// The bounds of watch.interval. More often than every five minutes, which is when what was seen
// once is looked at again, nothing would be learnt: others keep answers that long.
const (
	minWatchInterval = 5 * time.Minute
	maxWatchInterval = 7 * 24 * time.Hour
)

func parseWatchInterval(s string) (time.Duration, *Error) {
	d, e := duration(s, maxWatchInterval, "write it like 1h or 30m")
	if e == nil && d < minWatchInterval {
		e = &Error{Kind: OutOfRange}
	}
	return d, e
}

func parseWatchSeverity(s string) (string, *Error) {
	if !slices.Contains([]string{"critical", "error", "warning", "notice", "info"}, s) {
		return "", &Error{Kind: BadSeverity}
	}
	return s, nil
}

func parseWatchProfile(s string) (string, *Error) {
	if !slices.Contains([]string{"mail", "receive", "send", "parked", "bulk", "strict"}, s) {
		return "", &Error{Kind: BadProfile}
	}
	return s, nil
}

// WatchSender gives who sends the mail of the watch: its own sender, else that of the reports.
func (p *Plan) WatchSender() mail.Address {
	if p.Watch.MailFrom.IsZero() {
		return p.Reports.From
	}
	return p.Watch.MailFrom
}

func checkWatchMailAlone(d *draft, report reporter) {
	to, from := atKey("watch", "mail-to"), atKey("watch", "mail-from")
	switch {
	case d.good(to) && !d.given(from) && !d.given(atKey("reports", "from")):
		report(to, "watch.mail-from beside it", "nothing", "add who sends the mail, or from in [reports]")
	case d.good(from) && !d.given(to):
		report(from, "watch.mail-to beside it", "nothing", "without mail-to no mail is sent")
	}
}
