package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mxward/internal/mail"
	"mxward/internal/queue"
)

// maxJobs is how many destinations a message may have: a job's number is its message's
// number and its place, 16 bits.
const (
	placeBits = 16
	maxJobs   = 1 << placeBits
)

// The stored forms. They are written to last: a field is added, never renamed, and what
// an older version wrote stays readable.

// headForm is a message without body and recipients.
type headForm struct {
	From     string      `json:"from"`
	UTF8     bool        `json:"utf8,omitempty"`
	Body     mail.Body   `json:"body,omitempty"`
	Return   mail.Return `json:"ret,omitempty"`
	EnvID    string      `json:"envid,omitempty"`
	Declared int64       `json:"declared,omitempty"`
	Size     int64       `json:"size"`
	Client   string      `json:"client,omitempty"`
	Received int64       `json:"received"`
	Expires  int64       `json:"expires"`
	Backup   bool        `json:"backup,omitempty"`
	Notice   bool        `json:"notice,omitempty"`
}

// recipientForm is a recipient. Notify has a letter for each wish: N, S, F, D.
type recipientForm struct {
	To       string `json:"to"`
	Notify   string `json:"notify,omitempty"`
	Original string `json:"orig,omitempty"`
}

// outcomeForm is an outcome.
type outcomeForm struct {
	To       string      `json:"to"`
	Status   mail.Status `json:"status"`
	Stage    mail.Stage  `json:"stage,omitempty"`
	Host     string      `json:"host,omitempty"`
	Remote   bool        `json:"remote,omitempty"`
	DSN      bool        `json:"dsn,omitempty"`
	Code     int         `json:"code,omitempty"`
	Enhanced string      `json:"enh,omitempty"`
	Text     string      `json:"text,omitempty"`
	When     int64       `json:"when,omitempty"`
}

// storedMessage is a message ready to be written.
type storedMessage struct {
	queue.Message
	head string
	jobs []storedJob
}

type storedJob struct {
	destination string
	recipients  string
}

// encodeMessage splits a message into jobs, by destination in the order of the
// recipients, and refuses what could not be read back.
func encodeMessage(m queue.Message) (storedMessage, error) {
	fail := func(format string, args ...any) (storedMessage, error) {
		return storedMessage{}, fmt.Errorf("enqueueing message %s: %w", m.ID, fmt.Errorf(format, args...))
	}
	switch {
	case m.ID == "":
		return fail("it has no ID")
	case len(m.Envelope.Recipients) == 0:
		return fail("it has no recipients")
	case len(m.Tail) > queue.ChunkSize:
		return fail("its tail is longer than a chunk")
	}
	if err := checkPath(m.Envelope.From); err != nil {
		return fail("the sender: %w", err)
	}
	places := map[string]int{}
	var split [][]recipientForm
	var destinations []string
	for _, r := range m.Envelope.Recipients {
		if err := checkPath(mail.Path{Address: r.Address}); err != nil || r.Address.IsZero() {
			return fail("the recipient %q: %w", r.Address, errors.Join(err, errNoAddress))
		}
		host := r.Address.Host()
		place, ok := places[host]
		if !ok {
			place = len(split)
			places[host] = place
			split = append(split, nil)
			destinations = append(destinations, host)
		}
		split[place] = append(split[place], recipientForm{r.Address.String(), notifyLetters(r.Notify), r.Original})
	}
	if len(split) > maxJobs {
		return fail("it has more than %d destinations", maxJobs)
	}
	s := storedMessage{Message: m, jobs: make([]storedJob, len(split))}
	env := m.Envelope
	s.head = encode(headForm{
		From: env.From.String(), UTF8: env.UTF8, Body: env.Body, Return: env.Return, EnvID: env.ID, Declared: env.Size,
		Size: m.Size, Client: m.Client, Received: m.Received.UnixMicro(), Expires: m.Expires.UnixMicro(),
		Backup: m.Backup, Notice: m.Notice,
	})
	for i, recipients := range split {
		s.jobs[i] = storedJob{destinations[i], encode(recipients)}
	}
	return s, nil
}

var errNoAddress = errors.New("it is not an address that could be read back")

// checkPath makes sure that what is written can be read: mail must not be lost to a
// spelling.
func checkPath(p mail.Path) error {
	var back mail.Path
	if err := back.UnmarshalText([]byte(p.String())); err != nil {
		return err
	}
	if back != p {
		return errNoAddress
	}
	return nil
}

// encode gives JSON; the forms here have nothing that JSON lacks. What is not UTF-8 in a
// foreign text becomes U+FFFD.
func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encoding %T: %v", v, err))
	}
	return string(b)
}

// decodeMessage reads a message's head and a job's recipients.
func decodeMessage(id, head, recipients string, chunks int) (queue.Message, error) {
	var h headForm
	var list []recipientForm
	m := queue.Message{ID: queue.ID(id), Chunks: chunks}
	if err := json.Unmarshal([]byte(head), &h); err != nil {
		return m, fmt.Errorf("reading the head of message %s: %w", id, err)
	}
	if err := json.Unmarshal([]byte(recipients), &list); err != nil {
		return m, fmt.Errorf("reading the recipients of message %s: %w", id, err)
	}
	m.Client, m.Size, m.Backup, m.Notice = h.Client, h.Size, h.Backup, h.Notice
	m.Received, m.Expires = fromMicro(h.Received), fromMicro(h.Expires)
	m.Envelope = mail.Envelope{UTF8: h.UTF8, Body: h.Body, Return: h.Return, ID: h.EnvID, Size: h.Declared}
	if err := m.Envelope.From.UnmarshalText([]byte(h.From)); err != nil {
		return m, fmt.Errorf("reading the sender of message %s: %w", id, err)
	}
	m.Envelope.Recipients = make([]mail.Recipient, len(list))
	for i, r := range list {
		to := &m.Envelope.Recipients[i]
		if err := to.Address.UnmarshalText([]byte(r.To)); err != nil {
			return m, fmt.Errorf("reading the recipients of message %s: %w", id, err)
		}
		to.Notify, to.Original = notifyOf(r.Notify), r.Original
	}
	return m, nil
}

func notifyLetters(n mail.Notify) string {
	letters := ""
	for _, wish := range []struct {
		is     bool
		letter string
	}{{n.Never, "N"}, {n.Success, "S"}, {n.Failure, "F"}, {n.Delay, "D"}} {
		if wish.is {
			letters += wish.letter
		}
	}
	return letters
}

func notifyOf(letters string) mail.Notify {
	var n mail.Notify
	for _, l := range letters {
		switch l {
		case 'N':
			n.Never = true
		case 'S':
			n.Success = true
		case 'F':
			n.Failure = true
		case 'D':
			n.Delay = true
		}
	}
	return n
}

// settled is what a Result leaves of a job: nothing, or recipients and their outcomes.
type settled struct {
	gone       bool
	recipients string
	last       string
}

// settle splits a result's recipients into those that are done and those that stay.
func settle(r queue.Result) (settled, error) {
	recipients := r.Job.Message.Envelope.Recipients
	if len(r.Outcomes) != len(recipients) {
		return settled{}, fmt.Errorf("finishing message %s: %d outcomes for %d recipients",
			r.Job.Message.ID, len(r.Outcomes), len(recipients))
	}
	var stay []recipientForm
	var last []outcomeForm
	for i, o := range r.Outcomes {
		if o.Recipient != recipients[i].Address {
			return settled{}, fmt.Errorf("finishing message %s: the outcome for %s is where that for %s should be",
				r.Job.Message.ID, o.Recipient, recipients[i].Address)
		}
		switch o.Status {
		case mail.Delivered, mail.Failed:
			continue
		case mail.Deferred:
			stay = append(stay, recipientForm{o.Recipient.String(), notifyLetters(recipients[i].Notify), recipients[i].Original})
			last = append(last, encodeOutcome(o))
		default:
			return settled{}, fmt.Errorf("finishing message %s: the outcome for %s is none: %q",
				r.Job.Message.ID, o.Recipient, o.Status)
		}
	}
	if len(stay) == 0 {
		return settled{gone: true}, nil
	}
	return settled{recipients: encode(stay), last: encode(last)}, nil
}

func encodeOutcome(o mail.Outcome) outcomeForm {
	return outcomeForm{
		To: o.Recipient.String(), Status: o.Status, Stage: o.Stage, Host: o.Host, Remote: o.Remote, DSN: o.DSN,
		Code: o.Reply.Code, Enhanced: o.Reply.Enhanced.String(), Text: o.Reply.Text, When: o.When.UnixMicro(),
	}
}

// decodeOutcomes reads a job's last outcomes.
func decodeOutcomes(last string) ([]mail.Outcome, error) {
	if last == "" {
		return nil, nil
	}
	var list []outcomeForm
	if err := json.Unmarshal([]byte(last), &list); err != nil {
		return nil, fmt.Errorf("reading the last outcomes: %w", err)
	}
	outcomes := make([]mail.Outcome, len(list))
	for i, f := range list {
		o := &outcomes[i]
		if err := o.Recipient.UnmarshalText([]byte(f.To)); err != nil {
			return nil, fmt.Errorf("reading the last outcomes: %w", err)
		}
		o.Status, o.Stage, o.Host, o.Remote, o.DSN = f.Status, f.Stage, f.Host, f.Remote, f.DSN
		o.Reply.Code, o.Reply.Text, o.When = f.Code, f.Text, fromMicro(f.When)
		o.Reply.Enhanced, _ = mail.ParseEnhancedCode(f.Enhanced)
	}
	return outcomes, nil
}

func fromMicro(us int64) time.Time { return time.UnixMicro(us).UTC() }
