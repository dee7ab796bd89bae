package edge

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/site"
)

var update = flag.Bool("update", false, "write the verdicts of testdata/verdicts.txt anew")

const script = "testdata/verdicts.txt"

// TestVerdicts plays a script: "host NAME" chooses a host of testPlan, and each line below
// it is what RCPT names, and after "=>" the verdict. An address that cannot be parsed never
// comes to a verdict.
func TestVerdicts(t *testing.T) {
	before, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	g, _, _ := newGate(t)
	var h *host
	var after bytes.Buffer
	verdicts := 0
	for line := range strings.Lines(string(before)) {
		text := strings.TrimSpace(line)
		name, isHost := strings.CutPrefix(text, "host ")
		switch {
		case text == "" || text[0] == '#':
			after.WriteString(line)
		case isHost:
			h = g.Host(dns.MustName(name)).(*host)
			after.WriteString(line)
		default:
			path, _, _ := strings.Cut(text, "=>")
			path = strings.TrimSpace(path)
			fmt.Fprintf(&after, "%-44s => %s\n", path, verdictFor(h, path))
			verdicts++
		}
	}
	if verdicts == 0 {
		t.Fatal("the script has no verdicts")
	}
	if *update {
		if err := os.WriteFile(script, after.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	compareLines(t, string(before), after.String())
}

// verdictFor judges a path as RCPT gives it, with its brackets.
func verdictFor(h *host, path string) string {
	inner := strings.TrimSuffix(strings.TrimPrefix(path, "<"), ">")
	a := mail.Address{Local: inner}
	if !strings.EqualFold(inner, "postmaster") {
		parsed, err := mail.ParseAddress(inner)
		if err != nil {
			return "(syntax)"
		}
		a = parsed
	}
	v := Decide(h.evidence(a, netip.MustParseAddr("192.0.2.99")))
	return fmt.Sprintf("%d %s %s", v.Reply.Code, v.Reply.Enhanced, v.Reason)
}

func compareLines(t *testing.T, want, got string) {
	t.Helper()
	wants, gots := bufio.NewScanner(strings.NewReader(want)), bufio.NewScanner(strings.NewReader(got))
	for n := 1; wants.Scan() && gots.Scan(); n++ {
		if strings.Join(strings.Fields(wants.Text()), " ") != strings.Join(strings.Fields(gots.Text()), " ") {
			t.Errorf("%s:%d:\n want %s\n got  %s", script, n, wants.Text(), gots.Text())
		}
	}
}

// Whatever the evidence: a recipient that is not ours is never taken, a trap takes nothing
// and refuses nothing for good, and every reply says why in both codes.
func TestDecideHolds(t *testing.T) {
	locals := []string{"user", "postmaster", "a%b", "a!b", "a@b", "|sh", "../x", ".x", "/etc/passwd", "", "%", strings.Repeat("x", 64)}
	hosts := []mail.Address{{Domain: dns.MustName("example.com")}, {Literal: netip.MustParseAddr("2001:db8::1")}, {}, {Domain: dns.MustName(strings.Repeat("a.", 120) + "example")}}
	for _, local := range locals {
		for _, at := range hosts {
			for _, ours := range []bool{true, false} {
				for _, role := range []site.Role{site.Gate, site.Backup, site.Trap, site.Refuse, ""} {
					for _, mailbox := range []Mailbox{Unknown, Listed, NotListed} {
						for _, soft := range []bool{true, false} {
							at.Local = local
							checkVerdict(t, Evidence{Recipient: at, Ours: ours, Role: role, Mailbox: mailbox, Soft: soft})
						}
					}
				}
			}
		}
	}
}

func checkVerdict(t *testing.T, e Evidence) {
	t.Helper()
	v := Decide(e)
	switch {
	case v.Reason == "" || v.Reply.Text == "" || v.Reply.Enhanced.Class != v.Reply.Code/100:
		t.Errorf("%+v: incomplete verdict %+v", e, v)
	case v.Reply.Positive() != (v.Reason == Accepted):
		t.Errorf("%+v: reply and reason disagree: %+v", e, v)
	case v.Reply.Positive() && (!e.Ours || !takesMail(e.Role)):
		t.Errorf("%+v: accepted", e)
	case v.Reply.Permanent() && (e.Ours && e.Role == site.Trap || !e.Ours && e.Soft):
		t.Errorf("%+v: a trap refused for good: %s", e, v.Reply)
	case v.Reply.Positive() && e.Mailbox != Listed && strings.ContainsAny(e.Recipient.Local, "%!@"):
		t.Errorf("%+v: a route was accepted", e)
	case len(v.Reply.Text) > 200 || strings.ContainsAny(v.Reply.Text, "\r\n"):
		t.Errorf("%+v: unfit text %q", e, v.Reply.Text)
	}
	for _, c := range v.Reply.Text {
		if c < ' ' || c > '~' {
			t.Errorf("%+v: text %q is not printable ASCII", e, v.Reply.Text)
		}
	}
}
