package arc

import (
	"fmt"

	"mxward/internal/mail"
	"mxward/internal/mailauth/dkim"
)

// The algorithms (RFC 8301 §3.1, RFC 8463 §3).
const (
	algorithmRSA     = "rsa-sha256"
	algorithmEd25519 = "ed25519-sha256"
)

// link is a set with its fields as they were received.
type link struct {
	Set
	results, signature, seal mail.Field
	place                    int // of the message signature in the header
}

// collect finds the sets of a header and holds the chain to its structure (RFC 8617 §5.2,
// steps 1 to 3). The chain has a status where that settles it; else there are links, by
// instance.
func collect(h mail.Header) (Chain, []link) {
	var (
		chain  Chain
		links  [MaxInstance]link
		ending int   // the highest instance with cv=fail
		seals  int   // the highest instance with a seal
		fault  error // the first
		count  int
	)
	for place, f := range h {
		instance, cv, err := 0, Status(""), error(nil)
		switch {
		case f.Is(ResultsField):
			instance, err = readResults(&links, f)
		case f.Is(SignatureField):
			instance, err = readSignature(&links, f, place)
		case f.Is(SealField):
			instance, cv, err = readSeal(&links, f)
			seals = max(seals, instance)
		default:
			continue
		}
		if count++; count > 3*MaxInstance {
			err = fmt.Errorf("%w: there are more than %d sets", ErrSyntax, MaxInstance)
			chain.Highest = MaxInstance
		}
		if err != nil && fault == nil {
			fault = fmt.Errorf("%s: %w", f.Name, err)
		}
		if cv == Fail {
			ending = max(ending, instance)
		}
		chain.Highest = max(chain.Highest, instance)
		if count > 3*MaxInstance {
			break
		}
	}
	chain.Ended = ending > 0 && ending == seals
	switch {
	case count == 0:
		chain.Status = None
	case chain.Ended:
		chain.Status, chain.Reason = Fail, fmt.Sprintf("the chain was ended by the seal of set %d, which says cv=fail", ending)
	case fault != nil:
		chain.Status, chain.Reason = Fail, fault.Error()
	default:
		if chain.Reason = structure(links[:chain.Highest]); chain.Reason != "" {
			chain.Status = Fail
		}
	}
	return chain, links[:chain.Highest]
}

// structure tells what is wrong with the sets from 1 to the highest (RFC 8617 §5.2 step 3).
func structure(links []link) string {
	for i, l := range links {
		wanted := Pass
		if i == 0 {
			wanted = None
		}
		switch {
		case l.results.Raw == "":
			return fmt.Sprintf("set %d has no %s", i+1, ResultsField)
		case l.signature.Raw == "":
			return fmt.Sprintf("set %d has no %s", i+1, SignatureField)
		case l.seal.Raw == "":
			return fmt.Sprintf("set %d has no %s", i+1, SealField)
		case l.Seal.Chain != wanted:
			return fmt.Sprintf("the seal of set %d says cv=%s, expected %s", i+1, l.Seal.Chain, wanted)
		}
	}
	return ""
}

// The readers give the instance even of a field that is otherwise broken, if it can be read:
// whoever seals next counts on from it.

func readResults(links *[MaxInstance]link, f mail.Field) (int, error) {
	a, err := ParseAuthResults(f.Folded())
	if err != nil {
		return 0, err
	}
	l := &links[a.Instance-1]
	if l.results.Raw != "" {
		return a.Instance, twice(a.Instance)
	}
	l.Instance, l.Results, l.results = a.Instance, a, f
	return a.Instance, nil
}

func readSignature(links *[MaxInstance]link, f mail.Field, place int) (int, error) {
	m, err := ParseMessageSignature(f.Folded())
	if err != nil {
		return instanceOf(f), err
	}
	l := &links[m.Instance-1]
	if l.signature.Raw != "" {
		return m.Instance, twice(m.Instance)
	}
	l.Signature, l.signature, l.place = m, f, place
	return m.Instance, nil
}

func readSeal(links *[MaxInstance]link, f mail.Field) (int, Status, error) {
	s, err := ParseSeal(f.Folded())
	if err != nil {
		return instanceOf(f), "", err
	}
	l := &links[s.Instance-1]
	if l.seal.Raw != "" {
		return s.Instance, s.Chain, twice(s.Instance)
	}
	l.Seal, l.seal = s, f
	return s.Instance, s.Chain, nil
}

func twice(instance int) error {
	return fmt.Errorf("%w: set %d has two", ErrSyntax, instance)
}

// instanceOf gives i= of a broken field; 0 where there is none to be read.
func instanceOf(f mail.Field) int {
	if len(f.Raw) > maxField {
		return 0
	}
	tags, err := dkim.ParseTags(f.Folded())
	if err != nil {
		return 0
	}
	i, err := parseInstance(tags.Compact("i"))
	if err != nil {
		return 0
	}
	return i
}
