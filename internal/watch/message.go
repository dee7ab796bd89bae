package watch

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"mime/quotedprintable"
	"slices"
	"strings"
	"time"

	"mxward/internal/audit/render"
	"mxward/internal/dns"
	"mxward/internal/mail"
)

// Mail is who is told, and how. Send takes the message or gives an error: then it is tried
// again, unless it is ErrRefused.
type Mail struct {
	From mail.Address
	To   []mail.Address
	Send func(ctx context.Context, env mail.Envelope, text []byte) error
}

// send writes a message about changes and hands it on.
func (m *Mail) send(ctx context.Context, now time.Time, changes []Change, more int) error {
	env := mail.Envelope{From: mail.Path{Address: m.From}, UTF8: !m.From.IsASCII()}
	for _, to := range m.To {
		env.Recipients = append(env.Recipients, mail.Recipient{Address: to})
		env.UTF8 = env.UTF8 || !to.IsASCII()
	}
	text, err := m.message(now, rand.Text(), changes, more)
	if err != nil {
		return err
	}
	return m.Send(ctx, env, text)
}

// message writes the message, with CRLF at the ends of its lines. What strangers wrote is made
// harmless, and quoted-printable (RFC 2045 §6.7) keeps its lines short.
func (m *Mail) message(now time.Time, id string, changes []Change, more int) ([]byte, error) {
	var b bytes.Buffer
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	to := make([]string, len(m.To))
	for i, a := range m.To {
		to[i] = a.String()
	}
	field("From", m.From.String())
	field("To", strings.Join(to, ",\r\n "))
	field("Subject", subject(changes, more))
	field("Date", now.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	field("Message-ID", "<"+strings.ToLower(id)+"@"+m.From.Domain.String()+">")
	field("Auto-Submitted", "auto-generated") // RFC 3834 §5
	field("MIME-Version", "1.0")
	field("Content-Type", "text/plain; charset=utf-8")
	field("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	body := quotedprintable.NewWriter(&b)
	if _, err := body.Write([]byte(strings.ReplaceAll(words(changes, more), "\n", "\r\n"))); err != nil {
		return nil, err
	}
	if err := body.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// subject says how much of what there is; it is ASCII, as names of domains are.
func subject(changes []Change, more int) string {
	domains := domainsOf(changes)
	what := domains[0].String()
	if len(domains) > 1 || more > 0 {
		what = fmt.Sprintf("%d domains", len(domains))
	}
	var counts []string
	for _, turn := range Turns() {
		n := 0
		for _, c := range changes {
			if c.Turn == turn {
				n++
			}
		}
		if n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, turn))
		}
	}
	return "[mxward] " + what + ": " + strings.Join(counts, ", ")
}

// domainsOf gives the domains in the order in which they come first.
func domainsOf(changes []Change) (all []dns.Name) {
	for _, c := range changes {
		if !slices.Contains(all, c.Domain) {
			all = append(all, c.Domain)
		}
	}
	return all
}

// words tell of the changes, domain by domain.
func words(changes []Change, more int) string {
	var b strings.Builder
	b.WriteString("What has changed since it was told last:\n")
	for _, domain := range domainsOf(changes) {
		fmt.Fprintf(&b, "\n%s\n", domain)
		for _, c := range changes {
			if c.Domain == domain {
				b.WriteString(c.words())
			}
		}
	}
	if more > 0 {
		fmt.Fprintf(&b, "\nThere were %d more, which stand in the log alone.\n", more)
	}
	b.WriteString("\nmxward check DOMAIN shows all that is wrong now, and mxward explain ID says what it means.\n")
	return b.String()
}

func (c Change) words() string {
	head := fmt.Sprintf("  %s: %s %s", c.Turn, c.Severity, c.ID)
	if c.Turn == Better || c.Turn == Renewed {
		head = fmt.Sprintf("  %s: %s", c.Turn, c.ID)
	}
	if c.Target != c.Domain.String() {
		head += ": " + render.Clean(c.Target)
	}
	head += ": " + render.Clean(c.Title)
	if c.Turn == Worse {
		head += " [" + string(c.Blame) + "]"
	}
	lines := []string{head}
	if c.Detail != "" && c.Detail != c.Title && c.Turn != Better {
		lines = append(lines, render.Clean(c.Detail))
	}
	if c.Fix != "" {
		for line := range strings.Lines("to mend it: " + c.Fix) {
			lines = append(lines, render.Clean(strings.TrimSuffix(line, "\n")))
		}
	}
	lines = append(lines, "seen "+c.When.UTC().Format("2006-01-02 15:04 UTC"))
	return strings.Join(lines, "\n      ") + "\n"
}
