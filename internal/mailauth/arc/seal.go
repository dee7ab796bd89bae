package arc

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/dkim"
)

// Sealer adds sets to chains. The zero values of Fields and At are good ones.
type Sealer struct {
	Domain   dns.Name
	Selector string
	Key      crypto.Signer // *rsa.PrivateKey of 1024 bits or more, or ed25519.PrivateKey; others may know RSA only

	Fields []string  // the names to sign, each as often as the message has it; nil is SignedFields
	At     time.Time // t=; now where zero
}

// SignedFields are the fields of dkim.SignedFields, and the DKIM signatures
// (RFC 8617 §4.1.2).
func SignedFields() []string { return append(dkim.SignedFields(), dkim.SignatureField) }

// Sealing is the sealing of one message whose body is still to come.
type Sealing struct {
	sealer Sealer
	before Chain // what the header says, not validated
	links  []link
	fields *dkim.Fields
	bodies dkim.Bodies
}

// Start begins with the header as it will be sent on, without the set to be made. The error
// wraps ErrSeal.
func (s Sealer) Start(h mail.Header) (*Sealing, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.Fields == nil {
		s.Fields = SignedFields()
	}
	if s.At.IsZero() {
		s.At = time.Now()
	}
	sealing := &Sealing{sealer: s, fields: dkim.NewFields(h), bodies: dkim.Bodies{}}
	sealing.before, sealing.links = collect(h)
	sealing.bodies.Add(dkim.Relaxed)
	return sealing, nil
}

// check refuses what would be a bad seal.
func (s Sealer) check() error {
	if _, err := dkim.KeyName(s.Selector, s.Domain); err != nil || s.Domain.IsZero() {
		return fmt.Errorf("%w: selector %q and domain %q make no name", ErrSeal, s.Selector, s.Domain)
	}
	if s.Key == nil {
		return fmt.Errorf("%w: no private key for %s", ErrSeal, s.Domain)
	}
	key, err := dkim.KeyOf(s.Key)
	if err == nil {
		_, err = key.PublicFor(string(key.Type) + "-sha256")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	for _, name := range s.Fields {
		if name == "" || strings.ContainsAny(name, space+":;") {
			return fmt.Errorf("%w: %q is no name of a field", ErrSeal, name)
		}
		// What others take away or add to on the way (RFC 8617 §4.1.2).
		for _, forbidden := range []string{ResultsField, SignatureField, SealField, "Authentication-Results"} {
			if strings.EqualFold(name, forbidden) {
				return fmt.Errorf("%w: %s must not be signed (RFC 8617 §4.1.2)", ErrSeal, forbidden)
			}
		}
	}
	return nil
}

// Write takes the next octets of the body.
func (s *Sealing) Write(b []byte) (int, error) { return s.bodies.Write(b) }

// Finish ends the body and gives the three fields to put before the message, each ended
// with CRLF. The chain is the validation of the same message; results is what the gate
// found, as in Authentication-Results: "mx.example.com; spf=pass …; arc=pass".
//
// A chain that failed is sealed once more, with cv=fail (RFC 8617 §5.1.2), and never again:
// ErrEnded. One that could not be validated is not sealed: ErrTemporary. All errors wrap
// ErrSeal.
func (s *Sealing) Finish(chain Chain, results string) (string, error) {
	switch {
	case chain.Highest != s.before.Highest || chain.Ended != s.before.Ended || (chain.Status == None) != (s.before.Status == None):
		return "", fmt.Errorf("%w: the chain that was validated is of another message", ErrSeal)
	case chain.Status == TempError:
		return "", fmt.Errorf("%w: %w", ErrSeal, chain.Err)
	case chain.Ended:
		return "", fmt.Errorf("%w: %w: a seal says cv=fail (RFC 8617 §5.1)", ErrSeal, ErrEnded)
	case chain.Highest == MaxInstance:
		return "", fmt.Errorf("%w: %w: it has %d sets (RFC 8617 §5.1)", ErrSeal, ErrEnded, MaxInstance)
	case !slices.Contains([]Status{None, Pass, Fail}, chain.Status):
		return "", fmt.Errorf("%w: the chain was not validated", ErrSeal)
	}
	instance := chain.Highest + 1
	own := link{}
	var err error
	if own.results.Raw, err = resultsField(instance, results); err != nil {
		return "", err
	}
	if own.signature.Raw, err = s.signature(instance); err != nil {
		return "", err
	}
	// What came before a failed chain's last seal proves nothing and is not covered
	// (RFC 8617 §5.1.2).
	before := s.links
	if chain.Status == Fail {
		before = nil
	}
	if own.seal.Raw, err = s.seal(instance, chain.Status, before, own); err != nil {
		return "", err
	}
	return own.seal.Raw + own.signature.Raw + own.results.Raw, nil
}

// resultsField writes the results, one a line.
func resultsField(instance int, text string) (string, error) {
	const longest = 998 // octets of a line (RFC 5322 §2.1.1)
	text = strings.Trim(strings.ReplaceAll(text, "\r\n", ""), space)
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return "", fmt.Errorf("%w: the results hold control characters: %q", ErrSeal, excerpt(text))
	}
	a := AuthResults{instance, text}
	if _, err := ParseAuthResults(a.String()); err != nil {
		return "", fmt.Errorf("%w: the results cannot be written: %w", ErrSeal, err)
	}
	id, rest, _ := strings.Cut(text, "; ")
	field := fmt.Sprintf("%s: i=%d; %s", ResultsField, instance, id)
	if rest != "" {
		field += ";\r\n " + strings.ReplaceAll(strings.TrimLeft(rest, " \t"), "; ", ";\r\n ")
	}
	for line := range strings.SplitSeq(field, "\r\n") {
		if len(line) > longest || strings.Trim(line, space) == "" {
			return "", fmt.Errorf("%w: the results make a line of %d octets", ErrSeal, len(line))
		}
	}
	return field + "\r\n", nil
}

// signature makes the ARC-Message-Signature field.
func (s *Sealing) signature(instance int) (string, error) {
	m := MessageSignature{
		Instance: instance, Algorithm: s.sealer.algorithm(), Header: dkim.Relaxed, Body: dkim.Relaxed,
		Domain: s.sealer.Domain, Selector: s.sealer.Selector, Fields: s.names(),
		BodyHash: s.bodies.Sum(dkim.Relaxed), Signed: s.sealer.At, Value: s.sealer.blank(),
	}
	digest := s.fields.Digest(m.Fields, m.Header, fold(SignatureField, m.tags()), -1)
	var err error
	if m.Value, err = s.sealer.sign(digest); err != nil {
		return "", err
	}
	return fold(SignatureField, m.tags()), nil
}

// names gives h=. From stands in it always (RFC 6376 §5.4).
func (s *Sealing) names() []string {
	var names []string
	from := false
	for _, name := range s.sealer.Fields {
		isFrom := strings.EqualFold(name, "From")
		times := s.fields.Count(name)
		if isFrom && !from {
			times = max(1, times)
		}
		names = append(names, slices.Repeat([]string{name}, times)...)
		from = from || isFrom
	}
	if !from {
		names = append(names, slices.Repeat([]string{"From"}, max(1, s.fields.Count("From")))...)
	}
	return names
}

// seal makes the ARC-Seal field.
func (s *Sealing) seal(instance int, status Status, before []link, own link) (string, error) {
	seal := Seal{
		Instance: instance, Algorithm: s.sealer.algorithm(), Chain: status,
		Domain: s.sealer.Domain, Selector: s.sealer.Selector, Signed: s.sealer.At, Value: s.sealer.blank(),
	}
	own.seal.Raw = fold(SealField, seal.tags())
	digests := sealDigests(append(slices.Clone(before), own))
	var err error
	if seal.Value, err = s.sealer.sign(digests[len(digests)-1]); err != nil {
		return "", err
	}
	return fold(SealField, seal.tags()), nil
}

func (s Sealer) algorithm() string {
	if _, ok := s.Key.Public().(ed25519.PublicKey); ok {
		return algorithmEd25519
	}
	return algorithmRSA
}

// blank is as long as a signature, so that a field folds alike before and after signing.
func (s Sealer) blank() []byte {
	if public, ok := s.Key.Public().(*rsa.PublicKey); ok {
		return make([]byte, public.Size())
	}
	return make([]byte, ed25519.SignatureSize)
}

func (s Sealer) sign(digest []byte) ([]byte, error) {
	options := crypto.SignerOpts(crypto.SHA256)
	if s.algorithm() == algorithmEd25519 {
		options = crypto.Hash(0) // the hash is what gets signed: RFC 8463 §3
	}
	value, err := s.Key.Sign(rand.Reader, digest, options)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	return value, nil
}

// fold writes a field on lines of at most 78 characters where it can (RFC 5322 §2.1.1). A
// signature stays on one line: a fold in it would be hashed by all later seals as white
// space, which is more than some who fold anew keep.
func fold(name string, tags []string) string {
	const width = 78
	field := []byte(name + ":")
	start := 0 // of the line
	put := func(gap, word string) {
		if len(field)-start+len(gap)+len(word) > width {
			field = append(field, "\r\n"...)
			start, gap = len(field), " "
		}
		field = append(append(field, gap...), word...)
	}
	for _, tag := range tags {
		if !strings.HasPrefix(tag, "h=") {
			put(" ", tag)
			continue
		}
		gap := " "
		for word := range strings.SplitAfterSeq(tag, ":") {
			put(gap, word)
			gap = ""
		}
	}
	return string(field) + "\r\n"
}
