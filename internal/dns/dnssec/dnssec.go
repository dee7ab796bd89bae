// Package dnssec judges what DNSSEC says about records: signatures over RRsets, keys that
// a DS record or a trust anchor vouches for, and proofs that something is not there
// (RFC 4033, RFC 4034, RFC 4035, RFC 5155, RFC 6840, RFC 9276). It is pure: the caller
// fetches the records, says what time it is, and hands over the Work that one question may
// cost. Package resolver builds chains of trust with it.
//
// Algorithms: RSA/SHA-256 and RSA/SHA-512 (RFC 5702), ECDSA P-256 and P-384 (RFC 6605),
// Ed25519 (RFC 8080); DS digests SHA-256 (RFC 4509) and SHA-384 (RFC 6605). All others,
// those with SHA-1 among them (RFC 9904), count as unknown: a zone that has nothing else
// is insecure, not bogus (RFC 6840 §5.2).
//
// Not here: signing (package zone), Ed448, compact denial's restored NXDOMAIN (RFC 9824 §5).
package dnssec

import (
	"errors"
	"fmt"
)

// Extended DNS errors of DNSSEC (RFC 8914 §4).
const (
	CodeUnsupportedAlgorithm = 1
	CodeUnsupportedDigest    = 2
	CodeBogus                = 6
	CodeSignatureExpired     = 7
	CodeSignatureNotYetValid = 8
	CodeKeyMissing           = 9
	CodeSignaturesMissing    = 10
	CodeNoZoneKeyBit         = 11
	CodeProofMissing         = 12
	CodeIterations           = 27
)

// Fault is why records are bogus, in words for people and as an extended DNS error.
type Fault struct {
	Code uint16
	Text string
}

func (f *Fault) Error() string { return f.Text }

func fault(code uint16, format string, args ...any) *Fault {
	return &Fault{code, fmt.Sprintf(format, args...)}
}

// ErrUnsupported says that a zone is signed in ways only that this package does not know;
// it counts as unsigned (RFC 4035 §5.2, RFC 6840 §5.2).
var ErrUnsupported = errors.New("signed in no way that is supported")

// ErrWork says that a question has cost as much as it may. Nothing is known about the
// records then.
var ErrWork = errors.New("too much work to validate")

// What validation may cost. KeyTrap (CVE-2023-50387) multiplies signatures by keys with the
// same tag; CVE-2023-50868 makes proofs of many hashes with many iterations.
const (
	maxSigsTried     = 4                        // of one RRset
	maxKeysPerTag    = 2                        // of one zone: tried for one signature
	maxVerifications = 32                       // of one question
	maxFailures      = 8                        // of one question: signatures that did not fit
	maxKeys          = 32                       // of one zone: looked at
	maxDS            = 8                        // of one zone: looked at
	maxDigests       = 4                        // of one zone: DS digests that did not fit
	maxNSEC          = 10                       // NSEC records looked at in one reply, and NSEC3 records likewise
	maxHashes        = 256                      // NSEC3 hashes of one question: two proofs for a name of 127 labels
	maxRounds        = 32 * (1 + maxIterations) // of SHA-1, for all the hashes of one question
	maxIterations    = 50                       // of NSEC3; beyond them a proof counts as insecure (RFC 9276 §3.2)
)

// Work counts what one question has cost. The zero value is ready; it belongs to one
// goroutine at a time.
type Work struct {
	Verifications int // signatures that were computed
	Failures      int // of those, the ones that did not fit
	Hashes        int // NSEC3 hashes
	Rounds        int // of SHA-1, in these hashes
}

// verify pays for one signature.
func (w *Work) verify() error {
	switch {
	case w.Verifications >= maxVerifications:
		return fmt.Errorf("%w: more than %d signatures to check for one question", ErrWork, maxVerifications)
	case w.Failures >= maxFailures:
		return fmt.Errorf("%w: more than %d wrong signatures for one question", ErrWork, maxFailures)
	}
	w.Verifications++
	return nil
}

// hash pays for one NSEC3 hash: names of IPv6 addresses have 34 labels, which few
// iterations make cheap.
func (w *Work) hash(iterations uint16) error {
	rounds := 1 + int(iterations)
	if w.Hashes >= maxHashes || w.Rounds+rounds > maxRounds {
		return fmt.Errorf("%w: more than %d NSEC3 hashes of %d rounds for one question", ErrWork, w.Hashes, rounds)
	}
	w.Hashes++
	w.Rounds += rounds
	return nil
}
