package dkim

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

// Limits of verification. RFC 6376 §6.1 leaves the number of signatures to the verifier.
const (
	MaxSignatures   = 10              // those from the top are verified, the others reported as Policy
	MaxReported     = 50              // signatures in the result; what is further down is not looked at
	maxSignature    = 16 << 10        // octets of one DKIM-Signature field
	maxSignedFields = 1000            // names in h=
	clockDrift      = 5 * time.Minute // between signers and us
	lookupTime      = 20 * time.Second
)

// Result is what became of one signature, in the words of RFC 8601 §2.7.1.
type Result string

// The results.
const (
	None      Result = "none"      // the message has no signature
	Pass      Result = "pass"      // it holds
	Fail      Result = "fail"      // it does not hold: the message or the signature was changed
	Policy    Result = "policy"    // it may hold, and is of a kind that is not accepted here
	Neutral   Result = "neutral"   // it is of a kind that cannot be verified here
	TempError Result = "temperror" // the key could not be asked for: later, perhaps
	PermError Result = "permerror" // it can never be verified: malformed, or without a usable key
)

// The algorithms (RFC 8301 §3.1, RFC 8463 §3).
const (
	algorithmRSA     = "rsa-sha256"
	algorithmEd25519 = "ed25519-sha256"
	algorithmSHA1    = "rsa-sha1"
)

// Signature is one DKIM-Signature field and what became of it. What could not be read is
// empty.
type Signature struct {
	Result    Result
	Domain    dns.Name // d=, who signs
	Selector  string   // s=
	Identity  string   // i=, on whose behalf; "@" and the domain where it has none
	Algorithm string   // a=
	Fields    []string // h=, the names as they stand
	Value     string   // b=, without white space; its first octets tell signatures apart (RFC 6008 §4)
	Signed    time.Time
	Expires   time.Time

	KeyBits int  // 0 where there is no key
	Testing bool // the key says that the domain tries DKIM out (t=y)

	Reason string // a sentence on the result; empty for a plain pass
	Err    error  // what was behind the result: ErrPermanent, or ErrTemporary with its dns.Error
}

// Verifier verifies messages.
type Verifier struct {
	Resolver dns.Resolver // for the keys
}

// Verify reads a whole message and judges its signatures, from the top; none is an empty
// list. The error is the reader's, or mail.ErrHeaderTooLarge or mail.ErrHeaderMalformed.
// The body is read even where no signature needs it.
func (v Verifier) Verify(ctx context.Context, r io.Reader) ([]Signature, error) {
	buffered := bufio.NewReader(r)
	h, err := mail.ReadHeader(buffered)
	if err != nil {
		return nil, err
	}
	check := v.Start(ctx, h)
	if err := check.bodies.readFrom(buffered); err != nil {
		return nil, fmt.Errorf("read the message to verify: %w", err)
	}
	return check.Finish(), nil
}

// Check is the verification of one message whose body is still to come.
type Check struct {
	pending []*pending
	fields  *Fields
	bodies  Bodies
}

// pending is a signature on its way.
type pending struct {
	Signature
	raw          string // the field
	place        int    // where it stands in the header
	header, body Canonicalization
	bodyHash     []byte
	value        []byte
	name         dns.Name // of the key
	key          Key
	keyErr       error
	public       crypto.PublicKey // nil once the result is known
}

// Start reads the signatures of a header and asks for their keys, all at once. The body is
// then to be written to the Check.
func (v Verifier) Start(ctx context.Context, h mail.Header) *Check {
	c := &Check{fields: NewFields(h), bodies: Bodies{}}
	now := time.Now()
	for place, f := range h {
		if !f.Is(SignatureField) {
			continue
		}
		if len(c.pending) == MaxReported {
			break
		}
		p := &pending{raw: f.Raw, place: place}
		p.read(f, now)
		if len(c.pending) >= MaxSignatures {
			p.settle(Policy, nil, "not verified: the message has more than %d signatures", MaxSignatures)
		}
		c.pending = append(c.pending, p)
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	var asking sync.WaitGroup
	for _, p := range c.pending {
		if p.Result == "" {
			asking.Go(func() { p.key, p.keyErr = LookupKey(ctx, v.Resolver, p.name) })
		}
	}
	asking.Wait()
	for _, p := range c.pending {
		if p.Result == "" {
			p.useKey()
		}
		if p.Result == "" {
			c.bodies.Add(p.body)
		}
	}
	return c
}

// Write takes the next octets of the body.
func (c *Check) Write(b []byte) (int, error) { return c.bodies.Write(b) }

// Finish ends the body and gives the signatures, from the top.
func (c *Check) Finish() []Signature {
	signatures := make([]Signature, len(c.pending))
	for i, p := range c.pending {
		if p.Result == "" {
			p.verify(c.fields, c.bodies.Sum(p.body))
		}
		signatures[i] = p.Signature
	}
	return signatures
}

// settle gives the result, unless there is one.
func (p *pending) settle(result Result, err error, reason string, args ...any) {
	if p.Result == "" {
		p.Result, p.Err, p.Reason = result, err, fmt.Sprintf(reason, args...)
	}
}

// read takes the field apart. It goes on after a fault as far as it can, so that a report
// can tell whose signature it was; the first fault counts.
func (p *pending) read(f mail.Field, now time.Time) {
	if len(f.Raw) > maxSignature {
		p.settle(Policy, nil, "the signature has more than %d octets", maxSignature)
		return
	}
	tags, err := ParseTags(f.Folded())
	if err != nil {
		p.settle(PermError, err, "the signature cannot be read: %v", err)
		return
	}
	p.Selector, p.Algorithm, p.Value = tags.Compact("s"), tags.Compact("a"), tags.Compact("b")
	p.Domain, _ = dns.ParseName(tags.Compact("d"))
	if version, ok := tags.Get("v"); ok && version != "1" {
		p.settle(Neutral, nil, "signatures of version %q are unknown here", excerpt(version))
	}
	for _, name := range []string{"v", "a", "b", "bh", "d", "h", "s"} {
		if value, ok := tags.Get(name); !ok || value == "" {
			p.settle(PermError, nil, "the signature lacks %s= (RFC 6376 §3.5)", name)
		}
	}
	p.readNames(tags)
	p.readMethods(tags)
	p.readTimes(tags, now)
	if _, ok := tags.Get("l"); ok {
		p.settle(Policy, nil, "the signature covers a part of the body only (l=), to which anybody can add")
	}
}

// readNames reads who signs what: d=, s=, i= and h=.
func (p *pending) readNames(tags Tags) {
	var err error
	if p.Domain.IsZero() || p.Domain == dns.Root {
		p.settle(PermError, nil, "d=%s is no domain", excerpt(tags.Compact("d")))
		return
	}
	if p.name, err = KeyName(p.Selector, p.Domain); err != nil {
		p.settle(PermError, err, "s=%s makes no name of a key", excerpt(p.Selector))
	}
	p.Identity = tags.Compact("i")
	if p.Identity == "" {
		p.Identity = "@" + p.Domain.String()
	}
	if !identityIn(p.Identity, p.Domain, false) {
		p.settle(PermError, nil, "i=%s is not of the domain %s", excerpt(p.Identity), p.Domain)
	}
	p.Fields = tags.List("h")
	if len(p.Fields) > maxSignedFields {
		p.settle(Policy, nil, "h= names more than %d fields", maxSignedFields)
	}
	if !slices.ContainsFunc(p.Fields, func(name string) bool { return strings.EqualFold(name, "From") }) {
		p.settle(PermError, nil, "From is not signed (RFC 6376 §5.4)")
	}
}

// identityIn: the domain of i= is d= or, unless strict, below it (RFC 6376 §3.5).
func identityIn(identity string, domain dns.Name, strict bool) bool {
	at := strings.LastIndexByte(identity, '@')
	if at < 0 {
		return false
	}
	of, err := dns.ParseName(identity[at+1:])
	return err == nil && (of == domain || !strict && of.In(domain))
}

// readMethods reads how it was signed: a=, c=, q=, bh= and b=.
func (p *pending) readMethods(tags Tags) {
	var err error
	switch p.Algorithm {
	case algorithmRSA, algorithmEd25519, "":
	case algorithmSHA1:
		p.settle(Policy, nil, "rsa-sha1 is not to be accepted (RFC 8301 §3.1)")
	default:
		p.settle(Neutral, nil, "the algorithm %s is unknown here", excerpt(p.Algorithm))
	}
	if p.header, p.body, err = ParseCanonicalization(tags.Compact("c")); err != nil {
		p.settle(Neutral, err, "%v", err)
	}
	if methods := tags.List("q"); methods != nil && !slices.Contains(methods, "dns/txt") && !slices.Contains(methods, "dns") {
		p.settle(Neutral, nil, "the key cannot be asked for with q=%s", excerpt(strings.Join(methods, ":")))
	}
	if p.bodyHash, err = decodeBase64(tags.Compact("bh")); err != nil || len(p.bodyHash) != sha256.Size {
		p.settle(PermError, err, "bh= is not the base64 of a SHA-256 hash")
	}
	if p.value, err = decodeBase64(p.Value); err != nil {
		p.settle(PermError, err, "b= is not base64")
	}
}

// readTimes reads t= and x=.
func (p *pending) readTimes(tags Tags, now time.Time) {
	for _, tag := range []struct {
		name string
		at   *time.Time
	}{{"t", &p.Signed}, {"x", &p.Expires}} {
		value, ok := tags.Get(tag.name)
		if !ok {
			continue
		}
		seconds, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			p.settle(PermError, err, "%s=%s is no time", tag.name, excerpt(value))
			return
		}
		*tag.at = time.Unix(int64(min(seconds, 1<<40)), 0) // 1<<40 is far from now (RFC 6376 §3.5)
	}
	switch {
	case !p.Expires.IsZero() && !p.Signed.IsZero() && !p.Expires.After(p.Signed):
		p.settle(PermError, nil, "the signature expires before it was made (x= and t=)")
	case !p.Expires.IsZero() && now.After(p.Expires.Add(clockDrift)):
		p.settle(PermError, nil, "the signature expired at %s", p.Expires.UTC().Format(time.RFC3339))
	case p.Signed.After(now.Add(clockDrift)):
		p.settle(Policy, nil, "the signature was made in the future, at %s", p.Signed.UTC().Format(time.RFC3339))
	}
}

// useKey judges whether the key that was found fits the signature.
func (p *pending) useKey() {
	key, err := p.key, p.keyErr
	switch {
	case errors.Is(err, ErrTemporary):
		p.settle(TempError, err, "%v", err)
		return
	case err != nil:
		p.settle(PermError, err, "%v", err)
		return
	}
	p.Testing = key.Testing
	public, err := key.PublicFor(p.Algorithm)
	p.KeyBits = bitsOf(public)
	switch {
	case errors.Is(err, ErrKeySize):
		p.settle(Policy, err, "the key at %s: %v", p.name, err)
	case err != nil:
		p.settle(PermError, err, "the key at %s: %v", p.name, err)
	case key.Strict && !identityIn(p.Identity, p.Domain, true):
		p.settle(PermError, ErrPermanent, "the key at %s allows no subdomains (t=s), and the signature is for %s", p.name, excerpt(p.Identity))
	}
	p.public = public
}

// Panic is a mistake of ours while a key was asked for.
type Panic struct {
	Value any
	Stack string
}

// Error implements error. The value is for the log, not for strangers.
func (*Panic) Error() string { return "the look-up failed inside" }

// LookupKey asks for the key at a name that KeyName made. The error wraps ErrTemporary and
// the dns.Error where no answer could be had; ErrNotKey where there is no key; ErrPermanent
// where there are several (RFC 6376 §3.6.2.2), or a broken one. Records of other kinds
// beside the key are not minded.
//
// A panic is a Panic, and temporary: keys are asked for in goroutines, where it would end
// the process.
func LookupKey(ctx context.Context, r dns.Resolver, name dns.Name) (key Key, err error) {
	defer func() {
		if value := recover(); value != nil {
			key, err = Key{}, fmt.Errorf("%w: %w", ErrTemporary, &Panic{value, string(debug.Stack())})
		}
	}()
	return lookupKey(ctx, r, name)
}

func lookupKey(ctx context.Context, r dns.Resolver, name dns.Name) (Key, error) {
	set, err := dns.LookupTXT(ctx, r, name)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrTemporary, err)
	}
	found, key, broken := 0, Key{}, error(nil)
	for _, text := range set.Records {
		k, err := ParseKey(text)
		if errors.Is(err, ErrNotKey) {
			continue
		}
		found++
		key, broken = k, err
	}
	switch {
	case !set.Exists:
		return Key{}, fmt.Errorf("%w: %s does not exist", ErrNotKey, name)
	case found == 0:
		return Key{}, fmt.Errorf("%w: there is none among the TXT records at %s", ErrNotKey, name)
	case found > 1:
		return Key{}, fmt.Errorf("%w: there are %d at %s", ErrPermanent, found, name)
	case broken != nil:
		return Key{}, fmt.Errorf("the record at %s: %w", name, broken)
	}
	return key, nil
}

// verify compares the hashes.
func (p *pending) verify(fields *Fields, bodyHash []byte) {
	if !bytes.Equal(bodyHash, p.bodyHash) {
		p.settle(Fail, nil, "the body was changed after signing")
		return
	}
	digest := fields.Digest(p.Fields, p.header, p.raw, p.place)
	if !Verifies(p.public, digest, p.value) {
		p.settle(Fail, nil, "the header was changed after signing, or another key signed it")
		return
	}
	p.Result = Pass
	if p.Testing {
		p.Reason = "the domain only tries DKIM out (t=y)"
	}
}

// Verifies tells whether the signature of a SHA-256 digest is by the key, an *rsa.PublicKey
// or ed25519.PublicKey.
func Verifies(public crypto.PublicKey, digest, signature []byte) bool {
	switch public := public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest, signature) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(public, digest, signature)
	}
	return false
}
