// Package arc validates and seals the Authenticated Received Chain of a message (RFC 8617),
// with the algorithms and key sizes of RFC 8301 and RFC 8463.
//
// A message is read once, as a stream, in bounded memory: Verifier.Start takes the header,
// the Check takes the body, Finish gives the Chain. A Sealing takes the same body beside it
// and then makes the next set by that Chain.
//
// RFC 8617 §5.2.1 makes every failure permanent, trouble of the DNS too. Here that trouble
// is kept apart, as TempError: nothing is known about such a chain, and a seal that says
// cv=fail would end it for ever. It is not sealed; whoever cannot have the sender try again
// passes it on as it is.
//
// Not implemented: signatures that cover a part of the body (l=), which others can add to;
// rsa-sha1, which RFC 8301 §3.1 forbids; key servers other than the DNS (q=). What a chain is
// worth is for whoever knows its sealers: none of them is trusted here.
package arc

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The names of the header fields of a set (RFC 8617 §4.1).
const (
	ResultsField   = "ARC-Authentication-Results"
	SignatureField = "ARC-Message-Signature"
	SealField      = "ARC-Seal"
)

// Limits.
const (
	MaxInstance   = 50 // of i= (RFC 8617 §4.2.1), thus of sets
	MaxSignatures = 10 // message signatures verified, from the newest; the older only date the chain
	maxAtOnce     = 10 // keys asked for at the same time, of MaxInstance + MaxSignatures at most
	lookupTime    = 20 * time.Second
	clockDrift    = 5 * time.Minute // between signers and us
	maxField      = 16 << 10        // octets of one ARC-Seal or ARC-Message-Signature
	maxResults    = 64 << 10        // octets of one ARC-Authentication-Results
	maxNames      = 1000            // names in h=
)

// Status is the chain validation status (RFC 8617 §4.4), and the result of one signature.
type Status string

// The statuses.
const (
	None      Status = "none"      // there is no chain; of a signature: it was not looked at
	Pass      Status = "pass"      // it holds
	Fail      Status = "fail"      // it does not hold
	TempError Status = "temperror" // a key could not be asked for: later, perhaps
)

// The classes of errors.
var (
	// ErrSyntax: a field of a set is malformed.
	ErrSyntax = errors.New("malformed ARC field")
	// ErrTemporary: a key could not be asked for; a dns.Error goes with it.
	ErrTemporary = errors.New("the chain could not be validated")
	// ErrSeal: the message or the Sealer does not allow to seal.
	ErrSeal = errors.New("cannot seal")
	// ErrEnded: the chain has ended, by a seal with cv=fail, or by its length; nobody may seal
	// it any more. ErrSeal goes with it.
	ErrEnded = errors.New("the chain has ended")
)

// Result is what became of one signature.
type Result struct {
	Status Status
	Reason string // a sentence; empty for a plain pass
	Err    error  // what was behind it: of dkim's key classes, or nil
}

// Set is one link of the chain: what one handler of the message said (RFC 8617 §4.2).
type Set struct {
	Instance  int // from 1, the first who sealed
	Results   AuthResults
	Signature MessageSignature
	Seal      Seal

	SignatureResult Result // None of those that were not looked at
	SealResult      Result
}

// Chain is the result of a validation (RFC 8617 §5.2).
type Chain struct {
	Status Status
	Reason string // a sentence on the status
	Err    error  // ErrTemporary and its dns.Error for TempError, else nil

	// OldestPass is the lowest instance whose message signature still holds, with all that
	// are newer; 0 if that of every one does (RFC 8617 §5.2 step 5). It counts in a chain
	// that passes. Where a signature could not be judged, it ends above that one.
	OldestPass int

	// Highest is the highest instance among the ARC fields that could be read, of a broken
	// chain too.
	Highest int
	// Ended: the highest seal says cv=fail (RFC 8617 §5.1); no set may be added.
	Ended bool

	Sets []Set // by instance; nil where the structure of the chain is broken
}

// String tells the whole validation, for people: the status, then each set from the newest.
// What strangers wrote is made printable.
func (c Chain) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "arc=%s", c.Status)
	if c.Reason != "" {
		b.WriteString(": " + c.Reason)
	}
	if c.Status == Pass && c.OldestPass > 0 {
		fmt.Fprintf(&b, "; the message was last changed before set %d", c.OldestPass)
	}
	b.WriteString("\n")
	for i := len(c.Sets) - 1; i >= 0; i-- {
		s := c.Sets[i]
		fmt.Fprintf(&b, "set %d, sealed by %s (%s, cv=%s)\n", s.Instance, s.Seal.Domain, s.Seal.Selector, s.Seal.Chain)
		fmt.Fprintf(&b, "  seal: %s\n", s.SealResult)
		fmt.Fprintf(&b, "  message signature by %s (%s): %s\n", s.Signature.Domain, s.Signature.Selector, s.SignatureResult)
		fmt.Fprintf(&b, "  they said: %s\n", printable(s.Results.Text))
	}
	return b.String()
}

// String gives the status with its reason.
func (r Result) String() string {
	switch {
	case r.Status == None || r.Status == "":
		return "not looked at"
	case r.Reason == "":
		return string(r.Status)
	}
	return string(r.Status) + ", " + r.Reason
}

// printable makes text of strangers fit for a terminal and one line.
func printable(s string) string {
	const most = 500
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\uFFFD' {
			return '?'
		}
		return r
	}, s)
}

// excerpt cuts what goes into an error.
func excerpt(s string) string {
	const most = 60
	if len(s) > most {
		s = s[:most] + "…"
	}
	return printable(s)
}
