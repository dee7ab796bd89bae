package queue

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"mxward/internal/mail"
)

// Limits of what a notice gives back of the message.
const (
	maxReturnedHeaders = 32 << 10  // octets
	maxReturnedMessage = 100 << 10 // octets; larger messages give back their headers, as RFC 3461 §4.3 allows
	maxDiagnostic      = 2000      // octets of a host's reply
	noticeLine         = 76        // where folded lines should end
)

// report is what a notice says of one recipient.
type report struct {
	recipient mail.Recipient
	outcome   mail.Outcome
	expired   bool // failed since its time was up; the outcome's reply is that of the last attempt
}

// action is the Action field (RFC 3464 §2.3.3).
func (r report) action() string {
	switch {
	case r.outcome.Status == mail.Failed:
		return "failed"
	case r.outcome.Stage == mail.StageDeliver:
		return "delivered"
	}
	return "relayed"
}

// status is the Status field (RFC 3464 §2.3.4): the code that was given, if its class
// fits the action.
func (r report) status() string {
	code := r.outcome.Reply.Enhanced
	if r.expired {
		return "4.4.7" // delivery time expired (RFC 3463 §3.5)
	}
	if r.outcome.Status == mail.Delivered {
		if code.Class == 2 {
			return code.String()
		}
		return "2.0.0"
	}
	if code.Class == 4 || code.Class == 5 {
		return code.String()
	}
	return "5.0.0"
}

// due tells whether the sender is to hear of this (RFC 3461 §5.2). Delays are not
// reported: NOTIFY=DELAY leaves that to the MTA (RFC 3461 §4.1).
func (r report) due() bool {
	notify := r.recipient.Notify
	switch {
	case notify.Never:
		return false
	case r.outcome.Status == mail.Failed:
		return notify.WantsFailure()
	case r.outcome.Status == mail.Delivered:
		// A host that was told NOTIFY=SUCCESS itself tells the sender (RFC 3461 §5.2.2).
		return notify.Success && !r.outcome.DSN
	}
	return false
}

// reporter makes the notices of one host.
type reporter struct {
	name string // the reporting MTA
}

// notice makes the DSN for what became of a job (RFC 3464 in the multipart/report of
// RFC 6522), or nil where none is due. It is never sent to the null sender (RFC 5321
// §4.5.5), and so never for a notice. body is the message's beginning: all of it for
// RET=FULL if it is not too large, else at least the headers if they are not too large.
func (rp reporter) notice(j Job, reports []report, body []byte, now time.Time) *Message {
	reports = dueReports(j, reports)
	if len(reports) == 0 {
		return nil
	}
	m := j.Message
	n := &noticeWriter{
		reporter: rp, message: m, reports: reports, now: now,
		id: NewID(),
	}
	n.full = returnsFull(m) && n.failed()
	n.original = body
	if !n.full {
		n.original = headers(body)
	}
	n.utf8 = n.needsUTF8()
	tail := n.write()
	envelope := mail.Envelope{
		Recipients: []mail.Recipient{{Address: m.Envelope.From.Address}},
		UTF8:       n.utf8,
	}
	if !isASCII(tail) {
		envelope.Body = mail.Body8BitMIME
	}
	return &Message{
		ID: n.id, Envelope: envelope, Notice: true,
		Received: now, Expires: Expires(now, false),
		Client: "mxward", Size: int64(len(tail)), Tail: tail,
	}
}

// dueReports leaves what the sender is to hear.
func dueReports(j Job, reports []report) []report {
	if j.Message.Notice || j.Message.Envelope.From.IsNull() {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(reports), func(r report) bool { return !r.due() })
}

// returnsFull: RET=FULL asks for the message, which only a failure gives back (RFC 3461
// §4.3); the limit is ours.
func returnsFull(m Message) bool {
	return m.Envelope.Return == mail.ReturnFull && m.Size <= maxReturnedMessage
}

// returnedOctets tells how much of the body a notice needs.
func returnedOctets(m Message) int64 {
	if returnsFull(m) {
		return maxReturnedMessage
	}
	return maxReturnedHeaders
}

// readOriginal reads what a notice gives back. A body that cannot be read gives what was
// read: a notice without it is better than none.
func readOriginal(body io.ReadCloser, m Message) ([]byte, error) {
	defer body.Close()
	return io.ReadAll(io.LimitReader(body, returnedOctets(m)))
}

// headers cuts the message after its headers, or after its last whole line.
func headers(body []byte) []byte {
	if bytes.HasPrefix(body, []byte("\r\n")) {
		return nil
	}
	if end := bytes.Index(body, []byte("\r\n\r\n")); end >= 0 {
		return body[:end+2]
	}
	return body[:bytes.LastIndexByte(body, '\n')+1]
}

// noticeWriter writes one notice.
type noticeWriter struct {
	reporter
	message  Message
	reports  []report
	now      time.Time
	id       ID
	original []byte
	full     bool
	utf8     bool
	b        bytes.Buffer
}

// needsUTF8 tells whether the types of RFC 6533 are needed, which can only be sent by
// SMTPUTF8.
func (n *noticeWriter) needsUTF8() bool {
	env := n.message.Envelope
	if !env.From.Address.IsASCII() {
		return true
	}
	if slices.ContainsFunc(n.reports, func(r report) bool { return !r.recipient.Address.IsASCII() }) {
		return true
	}
	return env.UTF8 && !isASCII(headers(n.original))
}

func (n *noticeWriter) write() []byte {
	boundary := "=_" + string(n.id)
	n.head(boundary)
	n.part(boundary)
	n.field("Content-Type", n.either("text/plain; charset=us-ascii", "text/plain; charset=utf-8"))
	n.transferEncoding(n.utf8)
	n.line("")
	n.human()
	n.part(boundary)
	n.field("Content-Type", n.either("message/delivery-status", "message/global-delivery-status"))
	n.transferEncoding(n.utf8)
	n.line("")
	n.machine()
	if len(n.original) > 0 {
		n.part(boundary)
		n.field("Content-Type", n.originalType())
		n.transferEncoding(!isASCII(n.original))
		n.line("")
		n.b.Write(n.original)
	}
	n.line("")
	n.line("--" + boundary + "--")
	return n.b.Bytes()
}

func (n *noticeWriter) head(boundary string) {
	n.field("Date", n.now.Format(time.RFC1123Z))
	n.field("From", "Mail Delivery System <MAILER-DAEMON@"+n.name+">")
	n.field("To", "<"+n.message.Envelope.From.String()+">")
	n.field("Subject", n.subject())
	n.field("Message-ID", "<"+string(n.id)+"@"+n.name+">")
	n.field("Auto-Submitted", "auto-replied") // RFC 3834 §5
	n.field("MIME-Version", "1.0")
	n.line("Content-Type: multipart/report; report-type=" + n.either("delivery-status", "global-delivery-status") + ";")
	n.line("\tboundary=\"" + boundary + "\"")
	n.line("")
	n.line("This is a delivery status notification in MIME format (RFC 3464).")
}

func (n *noticeWriter) subject() string {
	if n.failed() {
		return "Undelivered mail returned to sender"
	}
	return "Your message was delivered"
}

func (n *noticeWriter) failed() bool {
	return slices.ContainsFunc(n.reports, func(r report) bool { return r.action() == "failed" })
}

// human writes the part that people read.
func (n *noticeWriter) human() {
	n.line("This is the mail system at " + n.name + ".")
	n.line("")
	if n.failed() {
		n.line("Your message could not be delivered to one or more recipients. It was")
		n.line("received on " + n.message.Received.Format(time.RFC1123Z) + ".")
	} else {
		n.line("Your message was delivered as you can read below.")
	}
	for _, r := range n.reports {
		n.line("")
		n.line("<" + r.recipient.Address.String() + ">: " + describe(r))
		if r.outcome.Host != "" {
			n.folded("    host: ", oneLine(r.outcome.Host, n.utf8))
		}
		n.folded("    ", oneLine(r.outcome.Reply.String(), n.utf8))
	}
	n.line("")
}

func describe(r report) string {
	switch {
	case r.expired:
		return "given up, since its time was over. The last reason was:"
	case r.action() == "failed" && r.outcome.Remote:
		return "refused by the host that should take it:"
	case r.action() == "failed":
		return "impossible to deliver:"
	case r.action() == "relayed":
		return "handed on to a host that may not tell you more:"
	}
	return "delivered:"
}

// machine writes the part that programs read (RFC 3464 §2).
func (n *noticeWriter) machine() {
	if id := decodeXtext(n.message.Envelope.ID); id != "" {
		n.folded("Original-Envelope-Id: ", id) // RFC 3464 §2.2.1
	}
	n.field("Reporting-MTA", "dns; "+n.name)
	n.field("Arrival-Date", n.message.Received.Format(time.RFC1123Z))
	for _, r := range n.reports {
		n.line("")
		n.recipient(r)
	}
}

// recipient writes the fields of one recipient (RFC 3464 §2.3).
func (n *noticeWriter) recipient(r report) {
	if kind, address, ok := strings.Cut(r.recipient.Original, ";"); ok {
		if !strings.EqualFold(kind, "utf-8") { // RFC 6533 §3 has an encoding of its own
			address = decodeXtext(address)
		}
		n.folded("Original-Recipient: ", oneLine(kind, false)+"; "+oneLine(address, n.utf8))
	}
	kind := "rfc822"
	if !r.recipient.Address.IsASCII() {
		kind = "utf-8" // RFC 6533 §3
	}
	n.field("Final-Recipient", kind+"; "+r.recipient.Address.String())
	n.field("Action", r.action())
	n.field("Status", r.status())
	if r.outcome.Remote {
		if host := remoteName(r.outcome.Host); host != "" {
			n.folded("Remote-MTA: dns; ", host)
		}
		n.folded("Diagnostic-Code: smtp; ", oneLine(r.outcome.Reply.String(), n.utf8))
	} else if text := oneLine(r.outcome.Reply.String(), n.utf8); text != "" {
		n.folded("Diagnostic-Code: x-mxward; ", text)
	}
	if !r.outcome.When.IsZero() {
		n.field("Last-Attempt-Date", r.outcome.When.Format(time.RFC1123Z))
	}
}

func (n *noticeWriter) originalType() string {
	switch {
	case n.full && n.utf8:
		return "message/global" // RFC 6532 §3.7
	case n.full:
		return "message/rfc822"
	case n.utf8:
		return "message/global-headers" // RFC 6533 §4
	}
	return "text/rfc822-headers" // RFC 6522 §4
}

func (n *noticeWriter) part(boundary string) {
	n.line("")
	n.line("--" + boundary)
}

func (n *noticeWriter) transferEncoding(eight bool) {
	if eight {
		n.field("Content-Transfer-Encoding", "8bit")
	}
}

func (n *noticeWriter) either(ascii, international string) string {
	if n.utf8 {
		return international
	}
	return ascii
}

func (n *noticeWriter) field(name, value string) { n.line(name + ": " + value) }

func (n *noticeWriter) line(s string) {
	n.b.WriteString(s)
	n.b.WriteString("\r\n")
}

// folded writes text after a prefix in lines that end near noticeLine; the lines after
// the first begin with white space, as a header field's must (RFC 5322 §2.2.3).
func (n *noticeWriter) folded(prefix, text string) {
	line := prefix
	for word := range strings.FieldsSeq(text) {
		for len(word) > 10*noticeLine { // a word that would break the limit of RFC 5321 §4.5.3.1.6
			cut := 10 * noticeLine
			for !utf8.RuneStart(word[cut]) {
				cut--
			}
			n.line(strings.TrimRight(line, " ") + " " + word[:cut])
			line, word = "    ", word[cut:]
		}
		if strings.TrimSpace(line) != "" && len(line)+len(word) > noticeLine {
			n.line(strings.TrimRight(line, " "))
			line = "    "
		}
		line += word + " "
	}
	if strings.TrimSpace(line) != "" {
		n.line(strings.TrimRight(line, " "))
	}
}

// oneLine makes foreign text harmless in a line of a notice: no control characters, no
// octets that are not ASCII (or not UTF-8, where that is allowed), no endless text.
func oneLine(s string, international bool) string {
	if len(s) > maxDiagnostic {
		s = s[:maxDiagnostic] + " ..."
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r == 0x7f:
			return ' '
		case r == utf8.RuneError || r >= utf8.RuneSelf && !international:
			return '?'
		}
		return r
	}, s)
}

// decodeXtext decodes xtext (RFC 3461 §4) into printable text; what would decode into
// something else, as a line break, stays as it is.
func decodeXtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			if i+2 >= len(s) {
				return oneLine(s, false)
			}
			high, low := unhex(s[i+1]), unhex(s[i+2])
			if high < 0 || low < 0 {
				return oneLine(s, false)
			}
			c = byte(high<<4 | low)
			i += 2
		}
		if c < ' ' || c > '~' {
			return oneLine(s, false)
		}
		b.WriteByte(c)
	}
	return b.String()
}

// unhex reads a hexadecimal digit; xtext has capitals only (RFC 3461 §4).
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// remoteName takes the name out of an Outcome's Host, "mx.example.com [192.0.2.1]:25".
func remoteName(host string) string {
	name, _, _ := strings.Cut(host, " ")
	return oneLine(name, false)
}

func isASCII(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c >= utf8.RuneSelf })
}
