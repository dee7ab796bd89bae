// Package lint is how the rooms of the mail standards say what is wrong with a record, so
// that the checker, the wizard and the commands read one type. It has no rules of its own.
package lint

import (
	"fmt"
	"strings"
	"unicode"
)

// Severity is how bad a finding is.
type Severity string

// The severities, the worst first.
const (
	Error   Severity = "error"   // receivers do not do what the record is there for, or a MUST is broken
	Warning Severity = "warning" // it does harm somewhere, or a SHOULD is broken
	Notice  Severity = "notice"  // worth knowing
	Info    Severity = "info"
)

// Finding is one thing to know about a record. IDs are stable: "dmarc.rua-invalid".
type Finding struct {
	ID       string
	Severity Severity
	Domain   string // whose record; "" where a text alone was looked at
	Pos      int    // where in the text, in octets from 0
	Found    string // what stands there; may be ""
	Text     string // what is wrong, for people
	Fix      string // what to write instead, or to do; may be ""
}

// String gives a finding in one line, without control characters. What strangers wrote is
// quoted.
func (f Finding) String() string {
	s := fmt.Sprintf("%s: %s: ", f.Severity, f.ID)
	if f.Domain != "" {
		quoted := fmt.Sprintf("%+q", f.Domain)
		s += quoted[1:len(quoted)-1] + ": "
	}
	switch {
	case f.Found != "" && f.Pos > 0:
		s += fmt.Sprintf("position %d, %q: ", f.Pos+1, f.Found)
	case f.Found != "":
		s += fmt.Sprintf("%q: ", f.Found)
	}
	s += f.Text
	if f.Fix != "" {
		s += "; " + f.Fix
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
