// Package audit looks at a domain's mail DNS as the outside world sees it and says what is
// wrong, whose fault it is, and how to mend it. Its rules are those of the standards that
// each row of the table of checks names, among them RFC 1034, RFC 5321, RFC 7208, RFC 9989,
// RFC 8461, RFC 8460, RFC 7672, RFC 4035, RFC 8659, RFC 5782, RFC 6186 and RFC 8555.
//
// It works in two steps. Gather asks, and keeps for every fact also that it could not be
// had; Judge asks nobody: it puts the facts to the table (checks.go), one row for each id.
// "Could not ask" is never "is not there": a check whose facts are missing is unknown, and
// triage.go says on whose side the trouble lies.
//
// Not implemented: the files that BIMI names; mailboxes, and what a mail host does after RCPT;
// revoked certificates; other versions of TLS than the one that a host chooses; the age of
// others' keys, which does not show from outside. docs/checks.md lists what is.
package audit

import (
	"net/netip"
	"time"

	"mxward/internal/dns"
)

// Status is what came of one check.
type Status string

// The statuses.
const (
	Pass          Status = "pass"
	Fail          Status = "fail"
	Unknown       Status = "unknown"        // it could not be determined
	Skipped       Status = "skipped"        // switched off, or nothing was named to look at
	NotApplicable Status = "not_applicable" // the domain has nothing that it is about
)

// Severity is how bad a failed check is.
type Severity string

// The severities.
const (
	Critical Severity = "critical" // mail does not flow, or anybody can take it
	Error    Severity = "error"    // common receivers refuse, or a MUST is broken
	Warning  Severity = "warning"  // it does harm somewhere, or a SHOULD is broken
	Notice   Severity = "notice"   // worth knowing
	Info     Severity = "info"
)

// Severities gives all of them, the worst first.
func Severities() []Severity { return []Severity{Critical, Error, Warning, Notice, Info} }

// AtLeast reports whether s is as bad as other, or worse.
func (s Severity) AtLeast(other Severity) bool { return s.rank() <= other.rank() }

func (s Severity) rank() int {
	for i, known := range Severities() {
		if s == known {
			return i
		}
	}
	return len(Severities())
}

// Confidence is how sure a finding is.
type Confidence string

// The confidences.
const (
	Confirmed Confidence = "confirmed" // seen in at least two ways that do not depend on each other
	Single    Confidence = "single"
	Flapping  Confidence = "flapping" // answers disagree
)

// Blame is on whose side the trouble lies.
type Blame string

// The sides.
const (
	LocalResolver Blame = "local-resolver"
	LocalNetwork  Blame = "local-network"
	ParentZone    Blame = "parent-zone" // the delegation, or the servers above
	ZoneData      Blame = "zone"        // what stands in the zone
	ZoneServers   Blame = "zone-ns"
	MXHost        Blame = "mx-host" // an MX host itself, or the DNS of one elsewhere
	PolicyHost    Blame = "policy-host"
	ThirdParty    Blame = "third-party"
	Nobody        Blame = "unknown"
)

// Blames gives all of them, our own first.
func Blames() []Blame {
	return []Blame{LocalResolver, LocalNetwork, ParentZone, ZoneData, ZoneServers, MXHost, PolicyHost, ThirdParty, Nobody}
}

// Finding is what one check says about one target. Ids never change their meaning.
type Finding struct {
	ID         string     `json:"id"`
	Target     string     `json:"target"` // the domain, a host, an address
	Status     Status     `json:"status"`
	Severity   Severity   `json:"severity"` // of a fail; else ""
	Confidence Confidence `json:"confidence"`
	Blame      Blame      `json:"blame"` // of a fail or unknown; else ""
	Title      string     `json:"title"` // what is wrong where it fails
	Detail     string     `json:"detail"`
	Refs       []string   `json:"refs"`
	Fix        Fix        `json:"fix"`
	Evidence   []Exchange `json:"evidence"`
	Ignored    string     `json:"ignored"` // why a baseline has it not count; else ""
	Turn       Turn       `json:"change"`  // what became of it since an earlier look; else ""

	aside bool // unknown, and nothing about the domain's own DNS is open by that: for want of IPv6 here alone, or of a list that answers
}

// Fix is how to mend it: in words, and as lines of a zone file to change.
type Fix struct {
	Text    string   `json:"text"`
	Records []Change `json:"records"`
}

// Change is one line of a zone file to add, to replace what is there by, or to delete.
type Change struct {
	Do     string `json:"do"` // "add", "replace", "delete"
	Record string `json:"record"`
}

// Exchange is one question that was asked and what came of it.
type Exchange struct {
	Name      dns.Name  `json:"name"`
	Type      string    `json:"type"`
	Server    string    `json:"server"`    // address and port; "" where a resolver from the root down was asked
	Transport string    `json:"transport"` // "udp", "tcp"; "" where the resolver chose
	Rcode     string    `json:"rcode"`     // "" where there was no answer
	AA        bool      `json:"aa"`
	AD        bool      `json:"ad"`
	Extended  uint16    `json:"extended"` // RFC 8914; 0 for none
	Records   []string  `json:"records"`  // of the answer; may be cut
	Error     string    `json:"error"`
	RTT       float64   `json:"rtt_ms"`
	When      time.Time `json:"when"`
	Again     string    `json:"again"` // the command that shows it again

	question dns.Question
	err      error
	server   netip.AddrPort
	records  []dns.RR // what Records is made of
	packets  int
}
