package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/dmarc"
)

// Message is what the header of a message shows of who sent it. Nothing of it is verified:
// it says where to look.
type Message struct {
	From       []string // the values of its From fields
	Author     dns.Name // the domain of From, zero where there is none
	Returned   bool     // it has a Return-Path
	Return     string   // the domain of that, "" for the null sender
	Signatures []Signed
}

// Signed is what one DKIM-Signature says of its key.
type Signed struct {
	Selector string
	Domain   dns.Name
}

// Domain gives the domain that the message is about: the author's, else that of its first
// signature.
func (m Message) Domain() dns.Name {
	if m.Author.IsZero() && len(m.Signatures) > 0 {
		return m.Signatures[0].Domain
	}
	return m.Author
}

// ReadMessage reads a message, its header alone, or a DKIM-Signature with its name or without. It
// reads no further than the header, which has mail.MaxHeader octets at most.
func ReadMessage(r io.Reader) (Message, error) {
	in, err := skipPasted(bufio.NewReader(r))
	if err != nil {
		return Message{}, err
	}
	header, err := mail.ReadHeader(in)
	if err != nil {
		return Message{}, fmt.Errorf("%w; expected a message, its header, or a DKIM-Signature", err)
	}
	var m Message
	for _, f := range header.All("From") {
		m.From = append(m.From, f.Value())
	}
	if authors, err := dmarc.Authors(m.From); err == nil {
		m.Author = authors[0]
	}
	if path := header.All("Return-Path"); len(path) > 0 {
		m.Returned = true
		if value := strings.Trim(path[0].Value(), "<> \t"); value != "" {
			m.Return = value[strings.LastIndexByte(value, '@')+1:]
		}
	}
	fields := header.All(dkim.SignatureField)
	for _, f := range fields[:min(dkim.MaxSignatures, len(fields))] {
		if s, ok := readSigned(f.Value()); ok {
			m.Signatures = append(m.Signatures, s)
		}
	}
	switch {
	case len(fields) > 0 && len(m.Signatures) == 0:
		return m, errors.New("no DKIM-Signature in it can be read: expected d= and s=")
	case m.Domain().IsZero():
		return m, errors.New("it has neither a From with one domain nor a DKIM-Signature")
	}
	return m, nil
}

const maxPasted = 100 // lines before a header; ours

// skipPasted takes away what stands before a header where people copy from, and gives a
// signature that stands alone its name.
func skipPasted(in *bufio.Reader) (*bufio.Reader, error) {
	for range maxPasted {
		head, err := in.Peek(6)
		switch {
		case len(head) == 0 && errors.Is(err, io.EOF):
			return nil, errors.New("it is empty; expected a message, its header, or a DKIM-Signature")
		case len(head) == 0:
			return nil, err
		case head[0] == '\n' || head[0] == '\r' || bytes.HasPrefix(head, []byte("From ")): // of an mbox
			if _, err := in.ReadSlice('\n'); err != nil && !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("its first line: %w", err)
			}
		case bytes.HasPrefix(head, []byte("v=1;")) || bytes.HasPrefix(head, []byte("v=1 ")):
			return bufio.NewReader(io.MultiReader(strings.NewReader(dkim.SignatureField+": "), in)), nil
		default:
			return in, nil
		}
	}
	return nil, fmt.Errorf("it begins with more than %d empty lines", maxPasted)
}

func readSigned(value string) (Signed, bool) {
	tags, err := dkim.ParseTags(value)
	if err != nil {
		return Signed{}, false
	}
	tag := func(name string) string {
		i := slices.IndexFunc(tags, func(t dkim.Tag) bool { return t.Name == name })
		if i < 0 {
			return ""
		}
		return strings.Join(strings.Fields(tags[i].Value), "")
	}
	domain, err := dns.ParseName(tag("d"))
	s := Signed{Selector: tag("s"), Domain: domain}
	return s, err == nil && domain.CountLabels() > 1 && s.Selector != ""
}

// Shown is a message that was shown, and what DMARC would say of it if SPF and each of its
// signatures passed.
type Shown struct {
	Message
	SPF, DKIM dmarc.Verdict
}

// message finds out whether what the message shows is in the name of its author.
func (g *gatherer) message(ctx context.Context) {
	if g.Message == nil || g.Message.Author != g.facts.Domain {
		return
	}
	shown := &Shown{Message: *g.Message}
	id := dmarc.Identifier{Method: dmarc.MethodSPF, Result: string(dmarc.Pass), Domain: shown.Return}
	shown.SPF = dmarc.Evaluate(ctx, g.rec, dmarc.Message{From: shown.From, SPF: id})
	var ids []dmarc.Identifier
	for _, s := range shown.Signatures {
		ids = append(ids, dmarc.Identifier{Method: dmarc.MethodDKIM, Result: string(dmarc.Pass), Domain: s.Domain.String(), Selector: s.Selector})
	}
	shown.DKIM = dmarc.Evaluate(ctx, g.rec, dmarc.Message{From: shown.From, DKIM: ids})
	g.facts.Shown = shown
}

// aligned reports whether one of the identifiers is in the author's name, or why that is not
// known.
func aligned(v dmarc.Verdict) (bool, error) {
	var err error
	if v.Result == dmarc.TempError {
		err = v.Err
	}
	for _, c := range v.Checks {
		if c.Aligned {
			return true, nil
		}
		if c.Err != nil {
			err = c.Err
		}
	}
	return false, err
}

func messageChecks() []Check {
	return []Check{
		{"dkim.unsigned", "the message that was shown has no DKIM signature", Warning, []string{"RFC 6376 §3.5"}, needShown(func(f *Facts) []verdict {
			if len(f.Shown.Signatures) > 0 {
				return nil
			}
			return []verdict{fail("receivers have nothing but the address that it came from").mend("sign with DKIM (mxward dkim key makes a key and its record)")}
		})},
		{"dmarc.unaligned", "the message that was shown fails DMARC, whatever SPF and DKIM say", Error, []string{"RFC 9989 §4.4"}, needShown(unaligned)},
	}
}

// needShown: a message of the domain was shown.
func needShown(judge func(*Facts) []verdict) func(*Facts) []verdict {
	return func(f *Facts) []verdict {
		if f.Shown == nil {
			return []verdict{{status: Skipped, detail: "no message of this author's domain was shown"}}
		}
		return judge(f)
	}
}

func unaligned(f *Facts) []verdict {
	bySPF, spfErr := aligned(f.Shown.SPF)
	byDKIM, dkimErr := aligned(f.Shown.DKIM)
	asked := f.below("_dmarc", dns.TypeTXT)
	switch {
	case bySPF || byDKIM:
		return nil
	case f.DMARC.Err != nil && !errors.Is(f.DMARC.Err, dmarc.ErrTemporary):
		return na("no DMARC policy applies")
	case dkimErr != nil:
		return []verdict{unknown(f, dkimErr, f.whose(dkimErr), asked)}
	case spfErr != nil:
		return []verdict{unknown(f, spfErr, f.whose(spfErr), asked)}
	case !f.Shown.Returned:
		return []verdict{{status: Unknown, blame: Nobody, detail: "no signature is in the author's name, and without a Return-Path nobody can tell whether SPF's domain is", asked: []dns.Question{asked}}}
	}
	return []verdict{fail(fmt.Sprintf("its author is at %s; %s", f.Domain, f.Shown.others()), asked).
		mend("sign with a key of " + f.Domain.String() + ", or send with a Return-Path there")}
}

// whose side it is that one of the domains in a message could not be asked about.
func (f *Facts) whose(err error) Blame {
	var e *dns.Error
	if errors.As(err, &e) && !f.inZone(e.Question.Name) {
		return ThirdParty
	}
	return ZoneServers
}

// others says in whose names the message is.
func (s *Shown) others() string {
	words := []string{"its Return-Path is the null sender"}
	if s.Return != "" {
		words[0] = "its Return-Path is at " + clipTo(s.Return, 255)
	}
	for _, sig := range s.Signatures {
		words = append(words, "a signature is of "+sig.Domain.String())
	}
	if len(s.Signatures) == 0 {
		words = append(words, "nobody has signed it")
	}
	return strings.Join(words, ", ")
}

// spfOnlyReject: forwarders break SPF, and a DKIM signature outlives them.
func spfOnlyReject(f *Facts) []verdict {
	switch {
	case f.Shown == nil:
		return needShown(nil)(f)
	case errors.Is(f.DMARC.Err, dmarc.ErrTemporary):
		return []verdict{unknown(f, f.DMARC.Err, ZoneServers, f.below("_dmarc", dns.TypeTXT))}
	case f.DMARC.Err != nil || f.DMARC.Policy != dmarc.Reject:
		return na("no DMARC policy of reject applies")
	}
	byDKIM, err := aligned(f.Shown.DKIM)
	switch {
	case byDKIM:
		return nil
	case err != nil:
		return []verdict{unknown(f, err, f.whose(err), f.below("_dmarc", dns.TypeTXT))}
	}
	return []verdict{fail("the message that was shown has no DKIM signature in its author's name: SPF breaks where mail is forwarded, and then it is refused", f.below("_dmarc", dns.TypeTXT)).
		mend("sign with a key of " + f.Domain.String())}
}
