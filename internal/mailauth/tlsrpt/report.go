package tlsrpt

import (
	"net/netip"
	"time"

	"mxward/internal/mailauth/attach"
)

// The classes of errors of reports; those of no class are the reader's own.
var (
	ErrNotReport = attach.ErrNotReport
	ErrMalformed = attach.ErrMalformed
	ErrTooLarge  = attach.ErrTooLarge
)

// Limits of one report, all ours; those of its compression are in attach. Objects and
// commas are counted before JSON becomes values.
const (
	MaxReport  = 8 << 20 // octets of JSON
	maxObjects = 50_000  // failures, policies and what has them
	maxCommas  = 500_000
	MaxText    = 1024    // octets of a value; what is longer is cut
	MaxCount   = 1 << 40 // sessions
	MaxFaults  = 20      // that are worth telling
)

// Report is what one sender saw of the TLS of one domain in one period (RFC 8460 §4.4).
type Report struct {
	Org      string // who reports
	Contact  string
	ID       string
	Begin    time.Time
	End      time.Time
	Policies []Policy

	// Faults are what a parser overlooked, for people. They are never written.
	Faults []string
}

// Policy is one policy that was applied, and what came of it.
type Policy struct {
	Type       string   // "sts", "tlsa", "no-policy-found"
	Strings    []string // the lines of the MTA-STS policy, or the TLSA records
	Domain     string
	MXHosts    []string // patterns of the MTA-STS policy
	Successful int64    // sessions
	Failed     int64
	Failures   []Failure
}

// Failure is a number of sessions that failed in the same way.
type Failure struct {
	Result      string // RFC 8460 §4.3: "certificate-expired", …
	SendingIP   netip.Addr
	MXHost      string
	MXHelo      string
	ReceivingIP netip.Addr
	Sessions    int64
	Information string // more of it, perhaps a URL
	Reason      string // a code of the TLS library
}

// The types of policies and of failures (RFC 8460 §4.2, §4.3).
const (
	TypeSTS      = "sts"
	TypeTLSA     = "tlsa"
	TypeNoPolicy = "no-policy-found"

	STARTTLSNotSupported    = "starttls-not-supported"
	CertificateHostMismatch = "certificate-host-mismatch"
	CertificateExpired      = "certificate-expired"
	CertificateNotTrusted   = "certificate-not-trusted"
	ValidationFailure       = "validation-failure"
	TLSAInvalid             = "tlsa-invalid"
	DNSSECInvalid           = "dnssec-invalid"
	DANERequired            = "dane-required"
	STSPolicyFetchError     = "sts-policy-fetch-error"
	STSPolicyInvalid        = "sts-policy-invalid"
	STSWebPKIInvalid        = "sts-webpki-invalid"
)
