// Package spf is the Sender Policy Framework (RFC 7208; RFC 8616 for senders in other
// scripts): the record, the judgement of one client by it, the tree of includes behind it,
// and what is wrong with it.
//
// Check judges, with every mechanism, modifier and macro and every limit, and tells what it
// did step by step. Survey walks the whole tree without a client, and NetworksOf gives the
// networks that it passes. Lint looks at one text without any DNS, as a person typed it.
// Build writes a record.
//
// Not implemented: records of type SPF, which RFC 7208 §3.1 forbids, and the header field
// Received-SPF (§9.1), whose place Authentication-Results has taken.
package spf

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"mxward/internal/dns"
)

// Result is what check_host() gives (RFC 7208 §2.6), in the words of Authentication-Results.
type Result string

// The results.
const (
	None      Result = "none"      // there is no policy
	Neutral   Result = "neutral"   // the policy does not say
	Pass      Result = "pass"      // the client may use the name
	Fail      Result = "fail"      // it may not
	SoftFail  Result = "softfail"  // it probably may not
	TempError Result = "temperror" // the DNS could not be asked: try again
	PermError Result = "permerror" // the policy cannot be read, or costs too much
)

// The classes of every error of this package.
var (
	// ErrNotSPF: the text is no SPF record at all, which is none and no fault.
	ErrNotSPF = errors.New("not an SPF record")
	// ErrTemporary: the DNS could not be asked. The *dns.Error is wrapped beside it.
	ErrTemporary = errors.New("the SPF policy could not be determined")
	// ErrPermanent: whoever publishes the policy has to mend it.
	ErrPermanent = errors.New("the SPF policy is wrong")
)

// The limits of an evaluation that a policy has to keep.
const (
	MaxLookups = 10 // RFC 7208 §4.6.4: terms that ask the DNS
	MaxVoids   = 2  // RFC 7208 §4.6.4: of these, those that find nothing
)

const (
	maxMXHosts   = 10               // RFC 7208 §4.6.4: more is an error
	maxPTRNames  = 10               // RFC 7208 §4.6.4: more are not looked at
	maxTime      = 20 * time.Second // RFC 7208 §4.6.4: at least 20 s
	maxTarget    = 253              // RFC 7208 §7.3: octets of an expanded name
	maxExpansion = 4096             // ours: octets of any other expansion
	maxExplained = 400              // ours: octets of an explanation, so that it fits a reply line (RFC 5321 §4.5.3.1.5)
	maxText      = 65535            // RFC 1035 §3.2.1: octets of a record's data
)

// Session is who comes and what they say. Where From is empty (the null sender), the name
// of HELO is judged, as postmaster@helo (RFC 7208 §2.4). Nothing needs to be set: without a
// name there is no policy.
type Session struct {
	Client   netip.Addr // an IPv4-mapped address counts as IPv4
	Helo     string     // as the client said it
	From     string     // the reverse-path without its angle brackets
	Receiver string     // this host's name, for the macro r; "" is "unknown"
}

// The identities that a policy may be about (RFC 7208 §2.3, §2.4).
const (
	IdentityMailFrom = "mailfrom"
	IdentityHelo     = "helo"
)

// Verdict is the judgement of one Session.
type Verdict struct {
	Result   Result
	Identity string // IdentityMailFrom or IdentityHelo
	Domain   string // whose policy was asked for; as the client wrote it

	// Matched is the mechanism that decided, "-all"; "" where none did.
	Matched string
	// Explanation is what the domain's owner wants a refused sender to read, printable
	// ASCII; only with Fail, and often "". The words are a stranger's.
	Explanation string
	// Err is why, with TempError (it wraps ErrTemporary and, from the DNS, a *dns.Error),
	// PermError (ErrPermanent) and None.
	Err error

	Lookups, Voids int // what it cost, of the limits of RFC 7208 §4.6.4
	Trace          *Trace
}

// identity splits a session's sender (RFC 7208 §4.3: "postmaster" where there is no local part).
func (s Session) identity() (which, local, domain string) {
	if s.From == "" {
		return IdentityHelo, "postmaster", s.Helo
	}
	at := strings.LastIndexByte(s.From, '@')
	if local = s.From[:max(at, 0)]; local == "" {
		local = "postmaster"
	}
	return IdentityMailFrom, local, s.From[at+1:]
}

// policyName gives the name at which a policy would be; false for what RFC 7208 §4.3 calls
// malformed: no host name of several labels, an address.
func policyName(domain string) (dns.Name, bool) {
	if strings.ContainsAny(domain, "[]\\") {
		return dns.Name{}, false
	}
	name, err := dns.ParseName(domain)
	if err != nil || name.CountLabels() < 2 {
		return dns.Name{}, false
	}
	if _, isAddr := name.Addr(); isAddr {
		return dns.Name{}, false
	}
	return name, true
}
