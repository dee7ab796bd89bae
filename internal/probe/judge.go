package probe

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

// What a session is recognised by; ours, in milliseconds.
const (
	spreadMS = 3000  // between the first octet of a reply and the last: on purpose
	holdMS   = 5000  // before the greeting, where all else is quick: on purpose
	quickMS  = 1000  // no host that is quick takes longer
	slowMS   = 10000 // for one reply
)

// last is the step where the session stands, or ended.
func (s Session) last() Step {
	if len(s.Steps) == 0 {
		return Step{}
	}
	return s.Steps[len(s.Steps)-1]
}

// At gives the last step of a stage; false where the session never came so far.
func (s Session) At(stage mail.Stage) (Step, bool) {
	for _, step := range slices.Backward(s.Steps) {
		if step.Stage == stage {
			return step, true
		}
	}
	return Step{}, false
}

// Connected reports whether there was a connection.
func (s Session) Connected() bool {
	step, ok := s.At(mail.StageConnect)
	return ok && step.Trouble == ""
}

// Greeted reports whether the host said a reply of its own first, whichever.
func (s Session) Greeted() bool {
	step, ok := s.At(mail.StageGreeting)
	return ok && step.Code != 0
}

// Listens reports whether the host would listen to a message, if need be in plain text.
func (s Session) Listens() bool {
	step, ok := s.At(mail.StageHello)
	return ok && step.Code == 250
}

// End is the step that kept the host from listening, or the last one.
func (s Session) End() Step {
	greeting, greeted := s.At(mail.StageGreeting)
	hello, helloed := s.At(mail.StageHello)
	switch {
	case greeted && (greeting.Trouble != "" || greeting.Code != 220):
		return greeting
	case helloed && !s.Listens():
		return hello
	}
	return s.last()
}

// Extension tells whether the host offers an extension in its last reply to EHLO, and with which
// parameters.
func (s Session) Extension(name string) (params string, ok bool) {
	step, ok := s.At(mail.StageHello)
	if !ok || step.Code != 250 || !strings.HasPrefix(step.Said, "EHLO ") {
		return "", false
	}
	for _, line := range step.Lines[min(1, len(step.Lines)):] {
		keyword, params, _ := strings.Cut(line, " ")
		if strings.EqualFold(keyword, name) {
			return params, true
		}
	}
	return "", false
}

// OffersTLS reports whether STARTTLS was offered; the second EHLO must not offer it again
// (RFC 3207 §4.2).
func (s Session) OffersTLS() bool {
	_, tried := s.At(mail.StageStartTLS)
	return tried
}

// TLSFault says why STARTTLS did not work, though it is offered; "" where it did.
func (s Session) TLSFault() string {
	step, tried := s.At(mail.StageStartTLS)
	shake, shook := s.At(StageTLS)
	switch {
	case !tried:
		return ""
	case shook:
		return shake.Error
	case step.Error != "":
		return step.Error
	case step.Code != 220:
		return "the host says " + step.Reply()
	}
	return ""
}

// Masked reports whether something on the way puts other characters over what the host says, as
// firewalls do that know but few extensions: XXXXXXXA for STARTTLS, or a greeting of stars.
func (s Session) Masked() bool {
	greeting, _ := s.At(mail.StageGreeting)
	if len(greeting.Lines) > 0 && strings.Count(greeting.Lines[0], "*") > len(greeting.Lines[0])/2 {
		return true
	}
	hello, _ := s.At(mail.StageHello)
	return slices.ContainsFunc(hello.Lines, func(line string) bool {
		rest, ok := strings.CutPrefix(line, "XXXXXXX")
		return ok && len(rest) == 1 && rest >= "A" && rest <= "Z"
	})
}

// Mute reports whether the host hung up in place of its greeting, without an octet: it may do so
// to us alone.
func (s Step) Mute() bool {
	return s.Stage == mail.StageGreeting && s.Trouble == Closed && s.Octets == 0
}

// TLSLimit reports whether the handshake ended by what Go's TLS cannot do and others can: cipher
// suites with DHE, which it has none of, and certificates and keys that it does not read. A host
// says no more of the first than that the handshake failed (RFC 8446 §6.2).
func (s Session) TLSLimit() bool {
	step, _ := s.At(StageTLS)
	return step.Trouble == BadTLS && slices.ContainsFunc(goLimits, func(text string) bool { return strings.HasPrefix(step.Error, text) })
}

// goLimits are how crypto/tls begins to say so.
var goLimits = []string{
	"tls: handshake failure", "tls: insufficient security level", "tls: server chose an unconfigured cipher suite",
	"tls: failed to parse certificate from server", "tls: server sent certificate containing RSA key larger than",
	"tls: server's certificate contains an unsupported type of public key", "tls: invalid signature by the server certificate: crypto/rsa:",
}

// Reply gives the reply in one line.
func (s Step) Reply() string {
	if s.Code == 0 {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", s.Code, strings.Join(s.Lines, " / ")))
}

// Calls gives what the host calls itself in a reply: the first word (RFC 5321 §4.2).
func (s Step) Calls() string {
	if len(s.Lines) == 0 {
		return ""
	}
	word, _, _ := strings.Cut(s.Lines[0], " ")
	return word
}

// Transcript gives the session line by line.
func (s Session) Transcript() []string {
	var all []string
	for _, step := range s.Steps {
		if step.Said != "" {
			all = append(all, "> "+step.Said)
		}
		for i, line := range step.Lines {
			sep := "-"
			if i == len(step.Lines)-1 {
				sep = " "
			}
			all = append(all, fmt.Sprintf("< %d%s%s", step.Code, sep, line))
		}
		switch {
		case step.Error != "":
			all = append(all, fmt.Sprintf("* %s: %s", step.Stage, step.Error))
		case step.Stage == StageTLS && s.TLS != nil:
			all = append(all, fmt.Sprintf("* %s, %s", s.TLS.Version, s.TLS.Cipher))
		}
	}
	return all
}

// Relays reports whether the host took a recipient that is not its own from a stranger. known is
// false where it was not asked, or did not say yes or no.
func (s Session) Relays() (relays, known bool) {
	step, ok := s.At(mail.StageRcpt)
	return ok && step.Code/100 == 2, ok && (step.Code/100 == 2 || step.Code/100 == 5)
}

// Beside reports whether we may have asked from a network for which a host may well relay: its
// own. Behind address translation nobody here knows by which address the host sees us.
func (s Session) Beside() bool {
	here, there := s.Local, s.Address.Addr().Unmap()
	bits := 24
	if there.Is6() {
		bits = 64
	}
	network, err := here.Prefix(bits)
	return here.IsValid() && !dns.Global(here) || err == nil && network.Contains(there)
}

// Deferred gives the reply by which the host puts strangers off, and whether it says that this
// is greylisting.
func (s Session) Deferred() (step Step, greylisted, ok bool) {
	for _, step := range s.Steps {
		if step.Code/100 != 4 || step.Stage == mail.StageStartTLS || step.Stage == mail.StageQuit || step.Stage == StageReset {
			continue
		}
		text := strings.ToLower(step.Reply())
		if step.Stage == mail.StageRcpt && strings.Contains(text, "relay") {
			continue // a refusal that somebody has made soft
		}
		grey := slices.ContainsFunc(greyWords, func(w string) bool { return strings.Contains(text, w) })
		return step, grey, true
	}
	return Step{}, false, false
}

// greyWords stand in the replies of greylisting.
var greyWords = []string{"greylist", "graylist", "grey list", "gray list", "grey-list", "gray-list", "postgrey"}

// Tarpit says by what the host is seen to be slow on purpose; "" where it is not.
func (s Session) Tarpit() string {
	for _, step := range s.Steps {
		if step.Octets > 0 && step.TookMS-step.FirstMS >= spreadMS {
			return fmt.Sprintf("the %d octets that it said at %s came in pieces, over %.0f s", step.Octets, step.Stage, (step.TookMS-step.FirstMS)/1000)
		}
	}
	greeting, ok := s.At(mail.StageGreeting)
	if !ok || greeting.Code == 0 || greeting.TookMS < holdMS {
		return ""
	}
	for _, step := range s.Steps {
		if step.Stage != mail.StageGreeting && step.TookMS > quickMS {
			return ""
		}
	}
	if len(s.Steps) < 3 { // nothing came after the greeting to compare with
		return ""
	}
	return fmt.Sprintf("it waits %.0f s before it greets, and answers quickly from then on", greeting.TookMS/1000)
}

// Slow gives the step that took too long, where nobody did it on purpose.
func (s Session) Slow() (Step, bool) {
	if s.Tarpit() != "" || !s.Connected() {
		return Step{}, false
	}
	for _, step := range s.Steps {
		if step.TookMS >= slowMS && step.Trouble != Stopped {
			return step, true
		}
	}
	return Step{}, false
}

// SameFamily reports whether two addresses are both of IPv4, or both of IPv6.
func SameFamily(a, b netip.Addr) bool { return a.Unmap().Is4() == b.Unmap().Is4() }
