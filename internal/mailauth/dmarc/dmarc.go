// Package dmarc is Domain-based Message Authentication, Reporting and Conformance (RFC 9989;
// records written for RFC 7489 are understood): the record, where it is found, whose name
// the message bears, and what its owner wants done with it.
//
// Evaluate judges one message from what SPF and DKIM have said. Discover finds the policy of
// a domain by the tree walk of RFC 9989 §4.10, and Authorised (RFC 9990 §4) whether a
// destination takes reports about it. Survey does all that for a domain and says what is
// wrong; Lint looks at one text without any DNS, as a person typed it.
//
// Three things that RFC 9989 leaves open are settled so. A record whose p, sp or np cannot
// be used, with no address for reports, is still a record: it ends the search for a policy
// (permerror), and counts where the walk looks for the organizational domain. Where several
// records stand at one name, all are discarded and the walk goes on. Trouble at any step
// that the verdict needs makes the whole verdict temperror. A walk never runs out of
// questions: from a long name it leaves out labels on the left, and always comes to the top.
//
// The public-suffix list, by which RFC 7489 §3.2 found the organizational domain, decides
// nothing that the walk decides. See Verdict.Old for the one case in which it softens a
// verdict, and Discovery.Old.
//
// Not implemented: the percentage of pct=, which RFC 9989 has removed; reports (RFC 9990,
// RFC 9991), which are another package's.
package dmarc

import (
	"errors"
	"time"
)

// The classes of every error of this package.
var (
	// ErrNotDMARC: there is no record, or the text is none; which is no fault.
	ErrNotDMARC = errors.New("not a DMARC record")
	// ErrTemporary: the DNS could not be asked. The *dns.Error is wrapped beside it.
	ErrTemporary = errors.New("the DMARC policy could not be determined")
	// ErrPermanent: whoever publishes the record has to mend it.
	ErrPermanent = errors.New("the DMARC record is wrong")
	// ErrAuthor: the message does not say of which domain its author is.
	ErrAuthor = errors.New("the message has no usable From")
)

// MaxQuestions is the number of names that one tree walk asks at most (RFC 9989 §4.10).
const MaxQuestions = 8

const (
	maxKept        = MaxQuestions - 1 // RFC 9989 §4.10: labels that are left of a long name
	maxText        = 65535            // RFC 1035 §3.2.1: octets of a record's data
	maxTime        = 30 * time.Second // ours: of one evaluation, discovery or authorisation
	maxAuthors     = 3                // ours: domains in From that are judged (RFC 9989 §11.5)
	maxIdentifiers = 10               // ours: signatures that are looked at; dkim verifies no more
	maxURIs        = 100              // ours: destinations in one list
	maxFrom        = 16 << 10         // ours: octets of From
)
