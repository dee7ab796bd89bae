// Package tlsa is DANE for SMTP: TLSA records (RFC 6698, RFC 7671), where a sender looks for
// those of an MX host, and whether a certificate is the one that they mean (RFC 7672).
//
// Nothing counts that DNSSEC has not validated. Not here: raw public keys; the usages
// PKIX-TA and PKIX-EE, which RFC 7672 §3.1.3 leaves no meaning in SMTP; TLSA for other
// protocols than TCP.
package tlsa

import (
	"cmp"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"mxward/internal/dns"
)

// The certificate usages (RFC 6698 §2.1.1).
const (
	PKIXTA = 0 // a public authority: not for SMTP
	PKIXEE = 1 // a certificate that a public authority vouches for: not for SMTP
	DANETA = 2 // the domain's own authority
	DANEEE = 3 // the very certificate or key
)

// The selectors (RFC 6698 §2.1.2): what of the certificate is meant.
const (
	Cert = 0
	SPKI = 1 // the public key
)

// The matching types (RFC 6698 §2.1.3): how it stands in the record.
const (
	Full   = 0
	SHA256 = 1
	SHA512 = 2
)

// maxData bounds the data of a record: what fits in a DNS message.
const maxData = 65535

// ErrSyntax is the class of every error of Parse.
var ErrSyntax = errors.New("not a TLSA record")

// Record is one TLSA record. It is comparable.
type Record struct {
	Usage, Selector, Matching uint8
	Data                      string // octets, not digits
}

// String gives the record as in a zone file: 3 1 1 and the data in hexadecimal.
func (r Record) String() string {
	return fmt.Sprintf("%d %d %d %x", r.Usage, r.Selector, r.Matching, r.Data)
}

// Parse reads what String writes. The digits may be in groups, of any case. The error wraps
// ErrSyntax.
func Parse(text string) (Record, error) {
	words := strings.Fields(text)
	if len(words) < 4 {
		return Record{}, fmt.Errorf("%w: expected usage, selector, matching type and data, like 3 1 1 and 64 hexadecimal digits, got %d words", ErrSyntax, len(words))
	}
	var numbers [3]uint8
	for i, name := range []string{"usage", "selector", "matching type"} {
		n, err := strconv.ParseUint(words[i], 10, 8)
		if err != nil {
			return Record{}, fmt.Errorf("%w: the %s is a number from 0 to 255, got %.20q", ErrSyntax, name, words[i])
		}
		numbers[i] = uint8(n)
	}
	data, err := hex.DecodeString(strings.Join(words[3:], ""))
	if err != nil {
		return Record{}, fmt.Errorf("%w: the data is pairs of hexadecimal digits: %v", ErrSyntax, err)
	}
	if len(data) > maxData {
		return Record{}, fmt.Errorf("%w: more than %d octets of data", ErrSyntax, maxData)
	}
	return Record{numbers[0], numbers[1], numbers[2], string(data)}, nil
}

// Of makes the record that means a certificate. For DANETA that is the authority's.
func Of(cert *x509.Certificate, usage, selector, matching uint8) Record {
	return Record{usage, selector, matching, digest(matching, selected(cert, selector))}
}

func selected(cert *x509.Certificate, selector uint8) []byte {
	if selector == SPKI {
		return cert.RawSubjectPublicKeyInfo
	}
	return cert.Raw
}

func digest(matching uint8, data []byte) string {
	switch matching {
	case SHA256:
		sum := sha256.Sum256(data)
		return string(sum[:])
	case SHA512:
		sum := sha512.Sum512(data)
		return string(sum[:])
	}
	return string(data)
}

// matches reports whether a usable record means this certificate.
func (r Record) matches(cert *x509.Certificate) bool {
	return digest(r.Matching, selected(cert, r.Selector)) == r.Data
}

// ErrUnusable: SMTP clients pass the record over.
var ErrUnusable = errors.New("unusable")

// Usable says why SMTP clients cannot use the record, or gives nil (RFC 7672
// §3.1). The error wraps ErrUnusable.
func (r Record) Usable() error {
	fault := ""
	switch {
	case r.Usage == PKIXTA || r.Usage == PKIXEE:
		fault = fmt.Sprintf("usage %d has no meaning in SMTP (RFC 7672 §3.1.3)", r.Usage)
	case r.Usage > DANEEE:
		fault = fmt.Sprintf("nobody knows the usage %d", r.Usage)
	case r.Selector > SPKI:
		fault = fmt.Sprintf("nobody knows the selector %d", r.Selector)
	case r.Matching > SHA512:
		fault = fmt.Sprintf("nobody knows the matching type %d", r.Matching)
	case r.Matching == SHA256 && len(r.Data) != sha256.Size, r.Matching == SHA512 && len(r.Data) != sha512.Size:
		fault = fmt.Sprintf("a digest of the matching type %d has not %d octets", r.Matching, len(r.Data))
	case r.Matching == Full && r.Selector == Cert:
		if _, err := x509.ParseCertificate([]byte(r.Data)); err != nil {
			fault = "the data is no certificate"
		}
	case r.Matching == Full:
		if _, err := x509.ParsePKIXPublicKey([]byte(r.Data)); err != nil {
			fault = "the data is no public key"
		}
	}
	if fault == "" {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrUnusable, fault)
}

// usable gives the records that count: of one usage and selector, digests of the strongest
// kind alone, and whole data beside them (RFC 7671 §9).
func usable(all []Record) []Record {
	strongest := map[[2]uint8]uint8{}
	for _, r := range all {
		if key := [2]uint8{r.Usage, r.Selector}; r.Usable() == nil {
			strongest[key] = max(strongest[key], r.Matching) // the number is the order
		}
	}
	var count []Record
	for _, r := range all {
		if r.Usable() == nil && (r.Matching == Full || r.Matching == strongest[[2]uint8{r.Usage, r.Selector}]) {
			count = append(count, r)
		}
	}
	return count
}

// smtpPort is that of other people's MX hosts (RFC 5321 §4.5.4.2).
const smtpPort = 25

// Name gives where the TLSA records of a host stand: _25._tcp.host (RFC 6698 §3). Port 0 is 25.
func Name(host dns.Name, port uint16) (dns.Name, error) {
	name, err := host.Child("_tcp")
	if err != nil {
		return dns.Name{}, err
	}
	return name.Child("_" + strconv.Itoa(int(cmp.Or(port, smtpPort))))
}
