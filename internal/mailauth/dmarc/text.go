package dmarc

import (
	"errors"
	"fmt"
	"strings"
)

// String tells the whole judgement, for people.
func (v Verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", v.Result)
	if v.Result == Fail {
		fmt.Fprintf(&b, " (%s)", v.Disposition)
	}
	fmt.Fprintf(&b, ": %s\n", v.Reason)
	if v.Author.IsZero() {
		return b.String()
	}
	fmt.Fprintf(&b, "author's domain: %s\n", v.Author)
	b.WriteString(v.Discovery.String())
	for _, c := range v.Checks {
		fmt.Fprintf(&b, "%s\n", c)
		for _, s := range c.Walk.Steps {
			fmt.Fprintf(&b, "  %s\n", s)
		}
	}
	return b.String()
}

// String gives a check in one line.
func (c Check) String() string {
	word := "not aligned"
	switch {
	case c.Aligned:
		word = "aligned"
	case c.Err != nil:
		word = "alignment unknown"
	}
	mode := "relaxed"
	if c.Strict {
		mode = "strict"
	}
	return fmt.Sprintf("%s of %s (%s): %s (%s): %s", c.Method, printable(c.Domain), printable(c.Result), word, mode, printable(c.Why))
}

// String tells what was asked and found, and what follows.
func (d Discovery) String() string {
	var b strings.Builder
	for _, s := range d.Steps {
		fmt.Fprintf(&b, "%s\n", s)
	}
	switch {
	case !d.Domain.IsZero() && d.Err == nil:
		fmt.Fprintf(&b, "policy: %s=%s, from %s", d.Tag, d.Policy, d.Domain)
		if d.Record.Testing && d.Policy != None {
			fmt.Fprintf(&b, "; t=y: applied as %s", d.Policy.tested())
		}
		if d.Existence != nil {
			fmt.Fprintf(&b, "; %s %s", d.Start, map[bool]string{true: "exists", false: "does not exist"}[*d.Existence])
		}
		b.WriteByte('\n')
	case errors.Is(d.Err, ErrNotDMARC):
		b.WriteString("policy: there is none\n")
	default:
		fmt.Fprintf(&b, "policy: %s\n", wording(d.Err))
	}
	if !d.Org.IsZero() {
		fmt.Fprintf(&b, "organizational domain: %s", d.Org)
		if d.Old != d.Org {
			fmt.Fprintf(&b, "; by the public-suffix list of RFC 7489 %s", d.Old)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// String gives a step in one line.
func (s Step) String() string {
	text := "_dmarc." + s.Domain.String() + ": "
	switch {
	case isTemporary(s.Err), len(s.Records) > 1:
		text += wording(s.Err)
	case s.Found():
		text += printable(s.Records[0])
		if s.Err != nil {
			text += " [" + wording(s.Err) + "]"
		}
	case len(s.Others) > 0:
		text += fmt.Sprintf("no DMARC record among %d texts", len(s.Others))
	case s.Exists:
		text += "no text"
	default:
		text += "no such name"
	}
	if s.Stale {
		text += " (expired, nothing newer could be had)"
	}
	return text
}

// printable shows what is not printable ASCII as \xNN, so that no text of a stranger moves
// a terminal's cursor or hides a character.
func printable(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// wording gives an error in printable ASCII; the section sign in it is ours.
func wording(err error) string {
	return printable(strings.ReplaceAll(err.Error(), "§", "section "))
}
