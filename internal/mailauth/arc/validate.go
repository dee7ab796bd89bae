package arc

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/dkim"
)

// Verifier validates chains.
type Verifier struct {
	Resolver dns.Resolver // for the keys
}

// Validate reads a whole message and judges its chain. The error is the reader's, or
// mail.ErrHeaderTooLarge or mail.ErrHeaderMalformed. The body is read even where there is no
// chain.
func (v Verifier) Validate(ctx context.Context, r io.Reader) (Chain, error) {
	buffered := bufio.NewReaderSize(r, 16<<10)
	h, err := mail.ReadHeader(buffered)
	if err != nil {
		return Chain{}, err
	}
	check := v.Start(ctx, h)
	if _, err := io.Copy(check, buffered); err != nil {
		return Chain{}, fmt.Errorf("read the message to validate: %w", err)
	}
	return check.Finish(), nil
}

// Check is the validation of one message whose body is still to come.
type Check struct {
	chain  Chain // with a Status where the structure has settled it
	links  []link
	fields *dkim.Fields
	bodies dkim.Bodies
	keys   map[dns.Name]*lookup
}

// lookup is a key that was asked for.
type lookup struct {
	key dkim.Key
	err error
}

// Start reads the chain of a header and asks for the keys, all of them before the body
// comes. The body is then to be written to the Check.
func (v Verifier) Start(ctx context.Context, h mail.Header) *Check {
	c := &Check{bodies: dkim.Bodies{}}
	c.chain, c.links = collect(h)
	if c.chain.Status != "" {
		return c
	}
	c.fields = dkim.NewFields(h)
	for _, l := range c.judged() {
		for _, w := range l.Signature.ways() {
			c.bodies.Add(w.body)
		}
	}
	c.findKeys(ctx, v.Resolver)
	return c
}

// judged gives the links whose message signatures are verified.
func (c *Check) judged() []link { return c.links[max(0, len(c.links)-MaxSignatures):] }

// findKeys asks for each key once.
func (c *Check) findKeys(ctx context.Context, r dns.Resolver) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	c.keys = map[dns.Name]*lookup{}
	turns := make(chan struct{}, maxAtOnce)
	var asking sync.WaitGroup
	ask := func(selector string, domain dns.Name) {
		name, err := dkim.KeyName(selector, domain)
		if err != nil || c.keys[name] != nil {
			return
		}
		found := &lookup{}
		c.keys[name] = found
		asking.Go(func() {
			turns <- struct{}{}
			found.key, found.err = dkim.LookupKey(ctx, r, name)
			<-turns
		})
	}
	for _, l := range c.judged() {
		ask(l.Signature.Selector, l.Signature.Domain)
	}
	for _, l := range c.links {
		ask(l.Seal.Selector, l.Seal.Domain)
	}
	asking.Wait()
}

// Write takes the next octets of the body.
func (c *Check) Write(b []byte) (int, error) { return c.bodies.Write(b) }

// Finish ends the body and gives the chain.
func (c *Check) Finish() Chain {
	if c.chain.Status != "" {
		return c.chain
	}
	c.verify()
	for _, l := range c.links {
		c.chain.Sets = append(c.chain.Sets, l.Set)
	}
	return c.chain
}

// verify follows RFC 8617 §5.2 from step 4. What cannot hold, whatever the keys that could
// not be asked for would have said, fails.
func (c *Check) verify() {
	newest := &c.links[len(c.links)-1]
	newest.SignatureResult = c.verifySignature(newest)
	if newest.SignatureResult.Status == Fail {
		c.settle(Fail, nil, "the message signature of set %d does not hold: %s", newest.Instance, newest.SignatureResult.Reason)
		return
	}
	if newest.SignatureResult.Status == Pass {
		c.datePass()
	}
	waiting := newest.SignatureResult
	digests := sealDigests(c.links)
	for i := len(c.links) - 1; i >= 0; i-- {
		l := &c.links[i]
		l.SealResult = c.verifySeal(l, digests[i])
		switch l.SealResult.Status {
		case Fail:
			c.settle(Fail, nil, "the seal of set %d does not hold: %s", l.Instance, l.SealResult.Reason)
			return
		case TempError:
			waiting = l.SealResult
		}
	}
	if waiting.Status == TempError {
		c.settle(TempError, fmt.Errorf("%w: %w", ErrTemporary, waiting.Err), "%s", waiting.Reason)
		return
	}
	c.settle(Pass, nil, "")
}

func (c *Check) settle(status Status, err error, reason string, args ...any) {
	c.chain.Status, c.chain.Err, c.chain.Reason = status, err, fmt.Sprintf(reason, args...)
}

// datePass finds the oldest message signature that holds (RFC 8617 §5.2 step 5). The newest
// does.
func (c *Check) datePass() {
	for i := len(c.links) - 2; i >= 0; i-- {
		l := &c.links[i]
		c.chain.OldestPass = l.Instance + 1
		if len(c.links)-i > MaxSignatures {
			return
		}
		l.SignatureResult = c.verifySignature(l)
		if l.SignatureResult.Status != Pass {
			return
		}
	}
	c.chain.OldestPass = 0
}

func (c *Check) verifySignature(l *link) Result {
	m := l.Signature
	if !m.Expires.IsZero() && time.Now().After(m.Expires.Add(clockDrift)) {
		return Result{Fail, "it expired at " + m.Expires.UTC().Format(time.RFC3339), nil}
	}
	ways := slices.DeleteFunc(m.ways(), func(w way) bool { return !bytes.Equal(c.bodies.Sum(w.body), m.BodyHash) })
	if len(ways) == 0 {
		return Result{Fail, "the body was changed after signing", nil}
	}
	public, trouble := c.keyFor(m.Selector, m.Domain, m.Algorithm)
	if trouble.Status != "" {
		return trouble
	}
	for _, w := range ways {
		if dkim.Verifies(public, c.fields.Digest(m.Fields, w.header, l.signature.Raw, l.place), m.Value) {
			return Result{Status: Pass}
		}
	}
	return Result{Fail, "the header was changed after signing, or another key signed it", nil}
}

// way is how a message signature may have been made.
type way struct{ header, body dkim.Canonicalization }

// ways gives what c= says. Where it does not stand, RFC 6376 §3.5 has simple/simple for it,
// and those who seal mean relaxed/relaxed; what either proves is proven.
func (m MessageSignature) ways() []way {
	if m.Header == "" {
		return []way{{dkim.Relaxed, dkim.Relaxed}, {dkim.Simple, dkim.Simple}}
	}
	return []way{{m.Header, m.Body}}
}

func (c *Check) verifySeal(l *link, digest []byte) Result {
	public, trouble := c.keyFor(l.Seal.Selector, l.Seal.Domain, l.Seal.Algorithm)
	if trouble.Status != "" {
		return trouble
	}
	if !dkim.Verifies(public, digest, l.Seal.Value) {
		return Result{Fail, "a field of the chain was changed after sealing, or another key sealed it", nil}
	}
	return Result{Status: Pass}
}

// keyFor gives a key that was asked for, if it may verify the algorithm; the result where
// there is none.
func (c *Check) keyFor(selector string, domain dns.Name, algorithm string) (crypto.PublicKey, Result) {
	if algorithm != algorithmRSA && algorithm != algorithmEd25519 {
		return nil, Result{Fail, fmt.Sprintf("the algorithm %s is not accepted", excerpt(algorithm)), nil}
	}
	name, err := dkim.KeyName(selector, domain)
	if err != nil {
		return nil, Result{Fail, err.Error(), err}
	}
	found := c.keys[name]
	if found.err != nil {
		if errors.Is(found.err, dkim.ErrTemporary) {
			return nil, Result{TempError, found.err.Error(), found.err}
		}
		return nil, Result{Fail, found.err.Error(), found.err}
	}
	public, err := found.key.PublicFor(algorithm)
	if err != nil {
		return nil, Result{Fail, fmt.Sprintf("the key at %s: %v", name, err), err}
	}
	return public, Result{}
}

// sealDigests gives what each seal signs: all sets up to its own, from the first, relaxed,
// and at the end itself without the value of b= (RFC 8617 §5.1.1).
func sealDigests(links []link) [][]byte {
	digests := make([][]byte, len(links))
	before := sha256.New()
	var line []byte
	add := func(h hash.Hash, raw string) {
		line = dkim.Relaxed.AppendField(line[:0], raw)
		h.Write(line)
	}
	for i, l := range links {
		add(before, l.results.Raw)
		add(before, l.signature.Raw)
		own, err := before.(hash.Cloner).Clone()
		if err != nil {
			panic(err) // SHA-256 can be cloned
		}
		line = dkim.Relaxed.AppendField(line[:0], dkim.WithoutSignature(l.seal.Raw))
		own.Write(line[:len(line)-len("\r\n")])
		digests[i] = own.Sum(nil)
		add(before, l.seal.Raw)
	}
	return digests
}
