package spf

import (
	"fmt"
	"strings"
)

// String tells the whole evaluation, for people: the verdict, then each term with what it
// resolved to and what it cost. What strangers wrote is made printable.
func (v Verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s %s)", v.Result, v.Identity, printable(v.Domain))
	switch {
	case v.Matched != "":
		fmt.Fprintf(&b, ", by %s", v.Matched)
	case v.Err != nil:
		fmt.Fprintf(&b, ": %s", wording(v.Err))
	case v.Result == Neutral:
		b.WriteString(", as no mechanism matched")
	}
	fmt.Fprintf(&b, "; %d of %d look-ups, %d of %d void\n", v.Lookups, MaxLookups, v.Voids, MaxVoids)
	if v.Explanation != "" {
		fmt.Fprintf(&b, "they explain: %s\n", v.Explanation)
	}
	if v.Trace != nil {
		v.Trace.write(&b, "")
	}
	return b.String()
}

func (t *Trace) write(b *strings.Builder, indent string) {
	record := t.Record
	switch {
	case record != "":
	case t.Result == TempError: // which is not "there is none"
		record = "the DNS could not be asked"
	case t.Result == PermError:
		record = "no policy that can be used"
	default:
		record = "no policy"
	}
	fmt.Fprintf(b, "%s%s: %s\n", indent, printable(t.Domain), printable(record))
	for _, s := range t.Steps {
		fmt.Fprintf(b, "%s  %s: %s\n", indent, s.Term, s.words())
		if s.Trace != nil {
			s.Trace.write(b, indent+"    ")
		}
	}
	fmt.Fprintf(b, "%s  = %s\n", indent, t.Result)
}

// words says in one line what a step did.
func (s Step) words() string {
	var said []string
	switch {
	case s.Matched && s.Term.Modifier:
		said = append(said, "their word counts")
	case s.Matched:
		said = append(said, "matches")
	case s.Err != nil:
		said = append(said, wording(s.Err))
	default:
		said = append(said, "no match")
	}
	if s.Target != "" && s.Target != string(s.Term.Domain) {
		said = append(said, "asked "+printable(s.Target))
	}
	if len(s.Hosts) > 0 {
		said = append(said, "hosts "+list(s.Hosts))
	}
	if len(s.Addrs) > 0 {
		said = append(said, "addresses "+list(s.Addrs))
	}
	if s.Lookups > 0 {
		said = append(said, "1 look-up")
	}
	if s.Voids > 0 {
		said = append(said, "void")
	}
	return strings.Join(said, "; ")
}

// list gives the first few of many.
func list[T fmt.Stringer](all []T) string {
	const most = 10
	words := make([]string, 0, most+1)
	for i, one := range all {
		if i == most {
			words = append(words, fmt.Sprintf("and %d more", len(all)-most))
			break
		}
		words = append(words, one.String())
	}
	return strings.Join(words, " ")
}

// printable shows what is not printable ASCII as \xNN, so that no text of a stranger moves
// a terminal's cursor or hides a character.
func printable(s string) string {
	if isPrintable(s) {
		return s
	}
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

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
