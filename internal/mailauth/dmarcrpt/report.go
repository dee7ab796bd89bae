// Package dmarcrpt is the reports of DMARC: aggregate reports (RFC 9990, with what RFC 7489
// appendix C had otherwise) are built from what a receiver saw, written, carried in a message,
// parsed and summed up by source; failure reports (RFC 9991, RFC 6591, RFC 5965) are parsed.
// It is data and octets: no DNS, no store.
//
// Reports come from strangers. The parser is strict about sizes and counts, each of which has
// a limit, and generous about form, as senders are careless: what it had to overlook is in the
// report's Faults.
//
// Not implemented: extensions of a report (RFC 9990 §5) are read over; failure reports are not
// written; destinations, and whether they agreed to get reports (RFC 9990 §4), are the DMARC
// policy's matter.
package dmarcrpt

import (
	"net/netip"
	"time"

	"mxward/internal/mailauth/attach"
)

// The classes of errors; those of no class are the reader's own.
var (
	ErrNotReport = attach.ErrNotReport
	ErrMalformed = attach.ErrMalformed
	ErrTooLarge  = attach.ErrTooLarge
)

// Limits of one aggregate report, all ours; those of its octets are in attach. A report of
// MaxContent octets with records of the usual size has fewer records than these.
const (
	MaxRecords    = 100_000
	MaxEntries    = 500_000  // results and reasons of all records
	MaxSignatures = 100      // of a record that is written (RFC 9990 §3.1.3)
	MaxText       = 1024     // octets of a value; what is longer is cut
	MaxMarkup     = 64 << 10 // octets of a tag with its attributes, of a comment, or of text between tags
	MaxNesting    = 32       // elements within each other; the format needs 6
	MaxFaults     = 20       // that are worth telling
	MaxCount      = 1 << 40  // messages of a record
)

// Report is an aggregate report: what one receiver saw of one policy domain in one period.
// Its words ("pass", "quarantine") are lower case.
type Report struct {
	Version  string // "1.0", or "" as in most reports by RFC 7489
	Org      string // who reports, a name for people
	Email    string
	Contact  string // extra contact information
	ID       string // unique among the reporter's
	Begin    time.Time
	End      time.Time // the period's last second, or as the sender means it
	Errors   []string  // of the policy record, as the reporter met them
	Software string    // the generator
	Policy   Policy
	Records  []Record

	// Faults are what a parser overlooked, for people. They are never written.
	Faults []string
}

// Policy is the policy record as the receiver found it. Only Domain and P are always there.
type Policy struct {
	Domain    string // the policy domain
	P         string // "none", "quarantine", "reject"
	SP        string
	NP        string
	ADKIM     string // "r", "s"
	ASPF      string
	FO        string
	Testing   string // "y", "n"
	Discovery string // "treewalk", "psl"
	Pct       string // RFC 7489 only, never written
}

// Record is a number of messages for which all of this was the same.
type Record struct {
	Source       netip.Addr // the zero Addr where it could not be read
	Count        int64
	Disposition  string // "none", "pass", "quarantine", "reject": what became of them
	DKIM         string // "pass" where an aligned signature passed, else "fail"
	SPF          string // "pass" where an aligned SPF passed, else "fail"
	Reasons      []Reason
	HeaderFrom   string // domains
	EnvelopeFrom string // "" for the null sender, and where nothing is said
	EnvelopeTo   string
	DKIMResults  []DKIMResult
	SPFResults   []SPFResult // the MAIL FROM's is all that RFC 9990 knows
}

// Pass reports whether DMARC passed: one of the two is enough.
func (r Record) Pass() bool { return r.DKIM == "pass" || r.SPF == "pass" }

// Reason says why the disposition is not that of the policy.
type Reason struct {
	Type    string // "local_policy", "mailing_list", "other", "policy_test_mode", "trusted_forwarder"; RFC 7489: "forwarded", "sampled_out"
	Comment string
}

// DKIMResult is what became of one signature.
type DKIMResult struct {
	Domain   string // d=
	Selector string // s=, "" in some reports by RFC 7489
	Result   string // RFC 8601 §2.7.1
	Human    string // more of it, for people
}

// SPFResult is what SPF said.
type SPFResult struct {
	Domain string
	Scope  string // "mfrom"; RFC 7489 also "helo"
	Result string // RFC 8601 §2.7.2
	Human  string
}
