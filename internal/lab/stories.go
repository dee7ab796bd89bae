package lab

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/queue"
	"mxward/internal/reputation"
	"mxward/internal/smtp/smtptest"
)

// The addresses of mail hosts.
const (
	addrMX1     = "127.20.0.10"
	addrMX2     = "127.20.0.20"
	addrPlain   = "127.20.0.60"
	addrOurs    = "127.20.0.70"
	addrPostfix = "127.40.0.1"
	addrSpammer = "127.41.0.1"
)

const (
	alice = "alice@example.net"
	bob   = "bob@example.com"
)

// soon is how long the lab waits for what should happen at once.
const soon = 15 * time.Second

func scripts() []script {
	return []script{
		{"MX 10 refuses the connection, MX 20 takes the message", refusedThenTaken},
		{"the primary is down, the backup holds the message, the primary comes back", backupHolds},
		{"no MX, so the A record serves; a null MX, so the sender gets a bounce at once", implicitAndNull},
		{"a spammer goes to the highest number first; a Postfix walks down the ladder", outOfOrder},
		{"all name servers of a domain are dark, and come back", darkServers},
	}
}

// ladder is example.com with two MX hosts.
func ladder() domain {
	return domain{name: "example.com", servers: []string{addrNS1}, records: `
@   300 MX 10 mx1
@   300 MX 20 mx2
mx1 300 A  ` + addrMX1 + `
mx2 300 A  ` + addrMX2 + `
`}
}

// planOf is the plan of example.com; roles are those of mx1 and mx2, extra more keys of mx1.
func planOf(name, role1, role2, extra string) string {
	if role1 != "refuse" { // nobody listens there
		extra += "\nlisten = [\"" + addrMX1 + ":PORT\"]"
	}
	return fmt.Sprintf(`
[site]
name  = %q
store = "sqlite:queue.db"
[[host]]
name      = "mx1.example.com"
addresses = [%q]
%s
[[host]]
name      = "mx2.example.com"
addresses = [%q]
listen    = ["%s:PORT"]
[[domain]]
name    = "example.com"
deliver = "maildir:mail"
[[domain.mx]]
preference = 10
host       = "mx1.example.com"
role       = %q
[[domain.mx]]
preference = 20
host       = "mx2.example.com"
role       = %q
[smtp]
trap-pace = "2ms"
`, name, addrMX1, extra, addrMX2, addrMX2, role1, role2)
}

// oursPlan is the plan of example.net, from whose queue mail goes out.
const oursPlan = `
[site]
name  = "mx.example.net"
store = "sqlite:queue.db"
[[host]]
name      = "mx.example.net"
addresses = ["` + addrOurs + `"]
listen    = ["` + addrOurs + `:PORT"]
[[domain]]
name    = "example.net"
deliver = "maildir:mail"
[[domain.mx]]
preference = 10
host       = "mx.example.net"
role       = "gate"
`

func refusedThenTaken(ctx context.Context, w *world) error {
	if err := w.internet(ladder()); err != nil {
		return err
	}
	g, err := w.gate(ctx, "mx2", "mx2.example.com", addrMX2, planOf("mx2.example.com", "refuse", "gate", ""))
	if err != nil {
		return err
	}
	s := w.sender(Postfix(), "mail.example.net", addrPostfix)
	result := s.Attempt(ctx, address(alice), address(bob), letter(alice, bob, "story 1"))

	w.fact("MX 10 refuses the connection", len(result.Knocks) > 0 && result.Knocks[0].Event == Refused, "%s", knocks(result))
	w.fact("MX 20 takes the message with 250", result.Step == Done && result.Reply.Code == 250, "%s", result.Reply)
	w.arrivesOnce(ctx, g, "story 1")
	return nil
}

// arrivesOnce states that a message with the subject lies in the gate's Maildir, once, and
// that the queue is empty.
func (w *world) arrivesOnce(ctx context.Context, g *gate, subject string) {
	find := func() (found []string) {
		for _, m := range maildir(filepath.Join(g.dir, "mail")) {
			if strings.Contains(m, "Subject: "+subject+"\n") {
				found = append(found, m)
			}
		}
		return found
	}
	until(ctx, soon, func() bool { return len(find()) > 0 && w.queued(ctx, g) == 0 })
	w.trace.say("Maildir of "+bob, "holds %d message(s) %q", len(find()), subject)
	w.fact("the message lies in the Maildir, once", len(find()) == 1, "%d in the Maildir", len(find()))
	w.fact("the queue is empty", w.queued(ctx, g) == 0, "%d in the queue", w.queued(ctx, g))
}

// queued counts the jobs in the gate's queue; -1 if it cannot be read.
func (w *world) queued(ctx context.Context, g *gate) int {
	entries, err := g.app.Queue().List(ctx, queue.Filter{})
	if err != nil {
		return -1
	}
	return len(entries)
}

func backupHolds(ctx context.Context, w *world) error {
	if err := w.internet(ladder()); err != nil {
		return err
	}
	g, err := w.gate(ctx, "mx2", "mx2.example.com", addrMX2, planOf("mx2.example.com", "gate", "backup", ""))
	if err != nil {
		return err
	}
	s := w.sender(Postfix(), "mail.example.net", addrPostfix)
	result := s.Attempt(ctx, address(alice), address(bob), letter(alice, bob, "story 2"))
	w.fact("the primary is down", len(result.Knocks) > 0 && result.Knocks[0].Event == Refused, "%s", knocks(result))
	w.fact("the backup takes the message", result.Step == Done, "%s", result.Reply)

	var tried []queue.Entry
	until(ctx, soon, func() bool {
		tried, _ = g.app.Queue().List(ctx, queue.Filter{State: queue.Ready})
		return len(tried) == 1 && tried[0].Attempts > 0
	})
	if len(tried) == 1 {
		w.trace.say("queue of mx2", "holds %s for %s, next attempt at %s", tried[0].Message.ID, tried[0].Destination, tried[0].Next.Format(time.TimeOnly))
	}
	w.fact("the backup holds it, deferred", len(tried) == 1 && len(tried[0].Last) == 1 && tried[0].Last[0].Status == mail.Deferred, "%s", lastOf(tried))

	primary := &smtptest.Host{Name: "mx1.example.com"}
	w.trace.say("mx1.example.com", "comes back")
	if err := w.mxHost(addrMX1, primary); err != nil {
		return err
	}
	arrived := func() bool { return len(primary.Messages()) > 0 && w.queued(ctx, g) == 0 }
	if err := w.retryUntil(ctx, g, arrived); err != nil {
		return err
	}
	w.fact("the message arrives at the primary, once", len(primary.Messages()) == 1, "%d at the primary", len(primary.Messages()))
	w.fact("the backup's queue is empty", w.queued(ctx, g) == 0, "%d in the queue", w.queued(ctx, g))
	return nil
}

func implicitAndNull(ctx context.Context, w *world) error {
	if err := w.internet(
		domain{name: "example.net", servers: []string{addrNS1}, records: "@ 300 MX 10 mx\nmx 300 A " + addrOurs + "\n"},
		domain{name: "example.org", servers: []string{addrNS2}, records: "plain 300 A " + addrPlain + "\nnull 300 MX 0 .\nnull 300 A " + addrPlain + "\n"},
	); err != nil {
		return err
	}
	g, err := w.gate(ctx, "ours", "mx.example.net", addrOurs, oursPlan)
	if err != nil {
		return err
	}
	plain := &smtptest.Host{Name: "plain.example.org"}
	if err := w.mxHost(addrPlain, plain); err != nil {
		return err
	}
	if err := w.submit(ctx, g, alice, "bob@plain.example.org", letter(alice, "bob@plain.example.org", "story 3 by A")); err != nil {
		return err
	}
	until(ctx, soon, func() bool { return len(plain.Messages()) > 0 })
	w.fact("without an MX, the address of the domain itself is used", len(plain.Messages()) == 1, "%d at plain.example.org", len(plain.Messages()))

	began := time.Now()
	if err := w.submit(ctx, g, alice, "bob@null.example.org", letter(alice, "bob@null.example.org", "story 3 by null MX")); err != nil {
		return err
	}
	bounce := ""
	until(ctx, soon, func() bool {
		for _, m := range maildir(filepath.Join(g.dir, "mail")) {
			if strings.Contains(m, "bob@null.example.org") {
				bounce = m
			}
		}
		return bounce != ""
	})
	took := time.Since(began).Round(time.Millisecond)
	w.fact("a null MX bounces at once", bounce != "" && took < soon, "the sender had the bounce after %s", took)
	w.fact("the bounce says why: 5.1.10, the domain takes no mail", strings.Contains(bounce, "Status: 5.1.10"), "%s", lineWith(bounce, "Status:"))
	w.fact("the host behind the null MX was left alone", len(plain.Transcripts()) == 1, "%d session(s) at its address", len(plain.Transcripts()))
	return nil
}

func outOfOrder(ctx context.Context, w *world) error {
	if err := w.internet(ladder()); err != nil {
		return err
	}
	drained, err := w.gate(ctx, "site", "mx1.example.com,mx2.example.com", addrMX1, planOf("mx1.example.com", "gate", "trap", "drain = true"))
	if err != nil {
		return err
	}
	postfix := w.sender(Postfix(), "mail.example.net", addrPostfix)
	walk := postfix.Attempt(ctx, address(alice), address(bob), letter(alice, bob, "story 4"))
	w.fact("a Postfix that meets 421 at MX 10 goes on to MX 20, a trap, and keeps its mail", len(walk.Knocks) == 2 && walk.Step == Later, "%s", knocks(walk))
	drained.stop()

	g, err := w.gate(ctx, "site", "mx1.example.com,mx2.example.com", addrMX1, planOf("mx1.example.com", "gate", "trap", ""))
	if err != nil {
		return err
	}
	spammer := w.sender(Spammer(), "203.0.113.9", addrSpammer)
	raid := spammer.Attempt(ctx, address("offers@example.org"), address(bob), letter("offers@example.org", bob, "cheap"))
	w.fact("the spammer gets 451 at the trap, and nothing else", len(raid.Knocks) == 1 && raid.Reply.Code == 451, "%s", knocks(raid))

	retry := postfix.Attempt(ctx, address(alice), address(bob), letter(alice, bob, "story 4"))
	w.fact("the Postfix comes again and is served at MX 10", retry.Step == Done && len(retry.Knocks) == 1, "%s", knocks(retry))
	w.judge(ctx, g, addrSpammer, true)
	w.judge(ctx, g, addrPostfix, false)
	w.arrivesOnce(ctx, g, "story 4")
	return nil
}

// judge reads a client's contacts and states whether its knock at the trap was out of order.
func (w *world) judge(ctx context.Context, g *gate, client string, want bool) {
	rungs := []reputation.Rung{
		{Preference: 10, Host: dns.MustName("mx1.example.com")},
		{Preference: 20, Host: dns.MustName("mx2.example.com")},
	}
	var contacts []reputation.Contact
	atTrap := -1
	until(ctx, soon, func() bool {
		contacts, _ = g.app.Contacts(ctx, netip.MustParseAddr(client), time.Now().Add(-time.Hour))
		for i, c := range contacts {
			if c.Host == rungs[1].Host && !c.Domain.IsZero() {
				atTrap = i
			}
		}
		return atTrap >= 0
	})
	if atTrap < 0 {
		w.fact(client+" was noted at the trap", false, "%d contacts", len(contacts))
		return
	}
	var path []string
	for _, c := range contacts {
		path = append(path, fmt.Sprintf("%s (%s)", c.Host, c.Stage))
	}
	got := reputation.OutOfOrder(rungs, contacts, contacts[atTrap])
	words := map[bool]string{true: "out of order", false: "in order"}
	w.trace.say("reputation", "judges %s %s: %s", client, words[got], strings.Join(path, ", then "))
	w.fact(fmt.Sprintf("%s is noted as %s", client, words[want]), got == want, "%s: %s", words[got], strings.Join(path, ", then "))
}

func darkServers(ctx context.Context, w *world) error {
	if err := w.internet(
		domain{name: "example.net", servers: []string{addrNS1}, records: "@ 300 MX 10 mx\nmx 300 A " + addrOurs + "\n"},
		domain{name: "example.org", servers: []string{addrNS2}, records: "@ 300 MX 10 mx\nmx 300 A " + addrPlain + "\n"},
	); err != nil {
		return err
	}
	g, err := w.gate(ctx, "ours", "mx.example.net", addrOurs, oursPlan)
	if err != nil {
		return err
	}
	far := &smtptest.Host{Name: "mx.example.org"}
	if err := w.mxHost(addrPlain, far); err != nil {
		return err
	}
	w.trace.say("network", "is cut in front of the name servers of example.org")
	w.dark(addrNS2, true)
	if err := w.submit(ctx, g, alice, "carol@example.org", letter(alice, "carol@example.org", "story 5")); err != nil {
		return err
	}
	var tried []queue.Entry
	until(ctx, soon, func() bool {
		tried, _ = g.app.Queue().List(ctx, queue.Filter{State: queue.Ready})
		return len(tried) == 1 && tried[0].Attempts > 0
	})
	w.fact("the message is deferred with 4.4.3, and stays in the queue", len(tried) == 1 && strings.Contains(lastOf(tried), "4.4.3"), "%s", lastOf(tried))
	w.fact("nothing bounced", len(maildir(filepath.Join(g.dir, "mail"))) == 0, "%d bounces", len(maildir(filepath.Join(g.dir, "mail"))))

	w.trace.say("network", "is mended")
	w.dark(addrNS2, false)
	if err := w.retryUntil(ctx, g, func() bool { return len(far.Messages()) > 0 && w.queued(ctx, g) == 0 }); err != nil {
		return err
	}
	w.fact("the message arrives when they are back, once", len(far.Messages()) == 1, "%d at mx.example.org", len(far.Messages()))
	w.fact("the queue is empty", w.queued(ctx, g) == 0, "%d in the queue", w.queued(ctx, g))
	return nil
}

// retryUntil has the operator retry until what should follow does: for some seconds the
// resolver remembers a failure (RFC 9520), and the deliverer a host that did not answer.
func (w *world) retryUntil(ctx context.Context, g *gate, holds func() bool) error {
	for range 5 {
		w.trace.say("operator", "mxward queue retry --all")
		if _, err := g.app.Queue().Change(ctx, time.Now(), queue.Filter{}, queue.ActRetry); err != nil {
			return err
		}
		g.app.Wake()
		if until(ctx, 3*time.Second, holds) {
			return nil
		}
	}
	return nil
}

// address parses an address of the lab's own.
func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err) // the lab's own text
	}
	return a
}

func knocks(r Result) string {
	var list []string
	for _, k := range r.Knocks {
		list = append(list, fmt.Sprintf("MX %d %s: %s", k.Hop.Preference, k.Hop.Host, k.met()))
	}
	if len(list) == 0 {
		return "no knock: " + r.Reply.String()
	}
	return strings.Join(list, "; ")
}

func lastOf(entries []queue.Entry) string {
	if len(entries) == 0 {
		return "the queue is empty"
	}
	if len(entries[0].Last) == 0 {
		return "not tried yet"
	}
	o := entries[0].Last[0]
	return fmt.Sprintf("%s at %s: %s", o.Status, o.Stage, o.Reply)
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return strings.TrimSpace(line)
		}
	}
	return "no line with " + part
}
