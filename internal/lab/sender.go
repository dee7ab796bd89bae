package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"mxward/internal/deliver"
	"mxward/internal/mail"
	"mxward/internal/smtp"
)

// Event is what a sender meets at one address of an MX host.
type Event string

// The events at which senders differ.
const (
	Refused      Event = "refused"
	TimedOut     Event = "time-out"
	Greeting4    Event = "4yz greeting"
	Greeting5    Event = "5yz greeting"
	Mail4        Event = "4yz at MAIL"
	Rcpt4        Event = "4yz at RCPT"
	Data4        Event = "4yz at DATA"
	Dropped      Event = "dropped"
	Rejected     Event = "5yz at MAIL or later"
	Accepted     Event = "accepted"
	NothingToTry Event = "no host left"
)

// Step is what a sender does then.
type Step string

// The steps.
const (
	NextHost Step = "tries the next host"
	Later    Step = "tries again later"
	Bounce   Step = "bounces"
	Done     Step = "is done"
)

// Model is how a mail server steps through MX hosts. Where an event is not in Steps, it
// tries the next host.
type Model struct {
	Name  string
	Steps map[Event]Step
	// Addresses and Sessions bound one attempt: addresses tried, and handshakes completed;
	// 0: no bound.
	Addresses, Sessions int
	// Remembers is how long a host that did not answer is skipped.
	Remembers time.Duration
	// Order changes the order of the hops; nil keeps that of RFC 5321 §5.1.
	Order func([]deliver.Hop)
}

// Postfix steps as src/smtp/smtp_trouble.c and smtp_connect.c do: smtp_mx_address_limit is
// 5, smtp_mx_session_limit 2.
func Postfix() Model {
	return Model{Name: "Postfix", Steps: map[Event]Step{Rejected: Bounce}, Addresses: 5, Sessions: 2}
}

// Exim steps as its specification says in "Errors in outgoing SMTP"; its retry hints begin
// with 15 minutes.
func Exim() Model {
	return Model{Name: "Exim", Steps: map[Event]Step{Rejected: Bounce}, Addresses: 50, Remembers: 15 * time.Minute}
}

// Sendmail steps as deliver.c does since 8.12; Timeout.hoststatus is 30 minutes.
func Sendmail() Model {
	return Model{Name: "Sendmail", Steps: map[Event]Step{Rejected: Bounce}, Remembers: 30 * time.Minute}
}

// Qmail steps as qmail-remote.c does: once a host has accepted the connection, no other is
// tried. tcpto.c remembers hosts that timed out for about an hour.
func Qmail() Model {
	return Model{Name: "qmail", Steps: map[Event]Step{
		Greeting4: Later, Greeting5: Later, Mail4: Later, Rcpt4: Later, Data4: Later, Dropped: Later, Rejected: Bounce,
	}, Remembers: time.Hour}
}

// Spammer goes to the highest number first, hoping for a backup without filters, and never
// comes back.
func Spammer() Model {
	return Model{Name: "spammer", Steps: map[Event]Step{
		Greeting4: Bounce, Greeting5: Bounce, Mail4: Bounce, Rcpt4: Bounce, Data4: Bounce, Dropped: Bounce, Rejected: Bounce,
	}, Order: slices.Reverse[[]deliver.Hop]}
}

// Knock is one address that a sender tried.
type Knock struct {
	Hop   deliver.Hop
	Event Event
	Reply mail.Reply
	Step  Step
}

// met says what the sender met, with the host's words if it said any.
func (k Knock) met() string {
	if k.Reply.Code == 0 {
		return string(k.Event)
	}
	return string(k.Event) + ", " + k.Reply.String()
}

// Sender is a mail server of the small internet.
type Sender struct {
	Model  Model
	Name   string // its host name, for HELO
	Finder *deliver.Finder
	// Dial opens connections from the sender's own address.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Port uint16
	// OnKnock is told of every knock; may be nil.
	OnKnock func(Knock)

	dead map[string]time.Time
}

// Result is what became of one message in one attempt.
type Result struct {
	Event  Event // the last
	Step   Step  // what the sender does with the message now: Done, Later or Bounce
	Reply  mail.Reply
	Knocks []Knock
}

// Attempt tries to send one message to one recipient, once.
func (s *Sender) Attempt(ctx context.Context, from, to mail.Address, message string) Result {
	route, err := s.Finder.Find(ctx, to)
	if err != nil {
		return s.noRoute(err)
	}
	hops := slices.Clone(route.Hops)
	if s.Model.Order != nil {
		s.Model.Order(hops)
	}
	result := Result{Event: NothingToTry, Step: Later}
	sessions := 0
	for i, hop := range hops {
		if s.skips(hop) {
			continue
		}
		k := s.knock(ctx, hop, from, to, message)
		if k.Event != Refused && k.Event != TimedOut && k.Event != Greeting4 && k.Event != Greeting5 {
			sessions++
		}
		last := i == len(hops)-1 || s.spent(len(result.Knocks)+1, sessions)
		k.Step = s.step(k.Event, last)
		if s.OnKnock != nil {
			s.OnKnock(k)
		}
		result.Knocks = append(result.Knocks, k)
		result.Event, result.Step, result.Reply = k.Event, k.Step, k.Reply
		if k.Step != NextHost {
			break
		}
	}
	return result
}

func (s *Sender) noRoute(err error) Result {
	result := Result{Event: NothingToTry, Step: Later}
	var none *deliver.NoRoute
	if errors.As(err, &none) {
		result.Reply = none.Reply
		if none.Reply.Permanent() {
			result.Step = Bounce
		}
	}
	return result
}

// step looks the event up in the model; without another host, the next host is later.
func (s *Sender) step(e Event, last bool) Step {
	if e == Accepted {
		return Done
	}
	step, ok := s.Model.Steps[e]
	if !ok {
		step = NextHost
	}
	if step == NextHost && last {
		return Later
	}
	return step
}

func (s *Sender) spent(addresses, sessions int) bool {
	m := s.Model
	return m.Addresses > 0 && addresses >= m.Addresses || m.Sessions > 0 && sessions >= m.Sessions
}

func (s *Sender) skips(hop deliver.Hop) bool {
	return time.Since(s.dead[hop.Addr.String()]) < s.Model.Remembers
}

func (s *Sender) remember(hop deliver.Hop) {
	if s.dead == nil {
		s.dead = map[string]time.Time{}
	}
	s.dead[hop.Addr.String()] = time.Now()
}

// knock tries one address.
func (s *Sender) knock(ctx context.Context, hop deliver.Hop, from, to mail.Address, message string) Knock {
	conn, err := s.Dial(ctx, "tcp", net.JoinHostPort(hop.Addr.String(), fmt.Sprint(s.Port)))
	if err != nil {
		s.remember(hop)
		event := Refused
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
			event = TimedOut
		}
		return Knock{Hop: hop, Event: event}
	}
	client, err := smtp.Handshake(ctx, conn, smtp.ClientConfig{Hello: s.Name})
	if err != nil {
		var failed *smtp.Error
		errors.As(err, &failed)
		return Knock{Hop: hop, Event: eventOf(failed.Stage, failed.Reply), Reply: failed.Reply}
	}
	defer client.Close()
	env := mail.Envelope{From: mail.Path{Address: from}, Recipients: []mail.Recipient{{Address: to}}}
	outcome := client.Send(ctx, env, strings.NewReader(message))[0]
	if outcome.Status == mail.Delivered {
		return Knock{Hop: hop, Event: Accepted, Reply: outcome.Reply}
	}
	if !outcome.Remote {
		outcome.Reply = mail.Reply{}
	}
	return Knock{Hop: hop, Event: eventOf(outcome.Stage, outcome.Reply), Reply: outcome.Reply}
}

// eventOf names what happened at a stage; no reply means that the connection was lost.
func eventOf(stage mail.Stage, r mail.Reply) Event {
	switch {
	case r.Code == 0:
		return Dropped
	case r.Permanent() && stage == mail.StageGreeting:
		return Greeting5
	case r.Permanent():
		return Rejected
	case stage == mail.StageGreeting, stage == mail.StageHello, stage == mail.StageStartTLS:
		return Greeting4
	case stage == mail.StageMail:
		return Mail4
	case stage == mail.StageRcpt:
		return Rcpt4
	}
	return Data4
}
