package dkim

import (
	"bufio"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

// SignatureField is the name of the field that holds a signature.
const SignatureField = "DKIM-Signature"

// Signer is one signature to be made. The zero values of all but Domain, Selector and Key
// are good ones.
type Signer struct {
	Domain   dns.Name
	Selector string
	Key      crypto.Signer // *rsa.PrivateKey of 1024 bits or more, or ed25519.PrivateKey
	Identity string        // i=, an address of Domain or of a name below it; "" leaves it out

	Header, Body Canonicalization // Relaxed where empty

	// Fields are the names to sign, each as often as the message has it; nil is
	// SignedFields. Oversigned ones are signed once more than that, so that no field of the
	// name can be added (RFC 6376 §8.15); nil is OversignedFields.
	Fields, Oversigned []string

	Expires time.Duration // how long the signature holds; 0 for ever
}

// SignedFields are the fields whose change would change what the message says
// (RFC 6376 §5.4.1).
func SignedFields() []string {
	return []string{
		"From", "Sender", "Reply-To", "Subject", "Date", "Message-ID", "To", "Cc",
		"MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Content-ID", "Content-Description",
		"In-Reply-To", "References",
		"Resent-Date", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Message-ID",
		"List-Id", "List-Help", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Subscribe", "List-Post", "List-Owner", "List-Archive",
	}
}

// OversignedFields are those of which a second one would show the reader something else.
func OversignedFields() []string {
	return []string{"From", "Reply-To", "Subject", "Date", "To", "Cc", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"}
}

// ErrSign is the class of the errors of Sign that lie with the message or the Signer, not
// with the reader.
var ErrSign = errors.New("cannot sign with DKIM")

// Sign reads a message and gives the DKIM-Signature fields to put before it, in the order of
// the signers, each ended with CRLF. The body is read once for all of them.
//
// The message is what will be sent: where its lines end with LF alone, they count as the
// CRLF that they are on the wire.
func Sign(r io.Reader, signers ...Signer) (string, error) {
	for i := range signers {
		if err := signers[i].check(); err != nil {
			return "", err
		}
	}
	buffered := bufio.NewReader(r)
	h, err := mail.ReadHeader(buffered)
	switch {
	case errors.Is(err, mail.ErrHeaderMalformed), errors.Is(err, mail.ErrHeaderTooLarge):
		return "", fmt.Errorf("%w: %w", ErrSign, err)
	case err != nil:
		return "", fmt.Errorf("read the message to sign: %w", err)
	}
	// Who signs two authors vouches for the one that the reader does not see (RFC 6376 §8.15).
	if n := len(h.All("From")); n != 1 {
		return "", fmt.Errorf("%w: the message has %d From fields, expected one", ErrSign, n)
	}
	bodies := Bodies{}
	for i := range signers {
		bodies.Add(signers[i].Body)
	}
	if err := bodies.readFrom(buffered); err != nil {
		return "", fmt.Errorf("read the message to sign: %w", err)
	}
	sorted := NewFields(h)
	var fields strings.Builder
	for i := range signers {
		field, err := signers[i].sign(sorted, bodies.Sum(signers[i].Body))
		if err != nil {
			return "", err
		}
		fields.WriteString(field)
	}
	return fields.String(), nil
}

// check refuses what would be a bad signature and fills in what was left empty.
func (s *Signer) check() error {
	if _, err := KeyName(s.Selector, s.Domain); err != nil || s.Domain.IsZero() {
		return fmt.Errorf("%w: selector %q and domain %q make no name", ErrSign, s.Selector, s.Domain)
	}
	if s.Key == nil {
		return fmt.Errorf("%w: no private key for %s", ErrSign, s.Domain)
	}
	if _, err := KeyOf(s.Key); err != nil {
		return fmt.Errorf("%w: %w", ErrSign, err)
	}
	if public, ok := s.Key.Public().(*rsa.PublicKey); ok && public.N.BitLen() < MinRSABits {
		return fmt.Errorf("%w: the key has %d bits, less than %d (RFC 8301 §3.2)", ErrSign, public.N.BitLen(), MinRSABits)
	}
	if s.Identity != "" && (strings.ContainsAny(s.Identity, space+";") || !identityIn(s.Identity, s.Domain, false)) {
		return fmt.Errorf("%w: the identity %q is not of %s", ErrSign, s.Identity, s.Domain)
	}
	if s.Header == "" {
		s.Header = Relaxed
	}
	if s.Body == "" {
		s.Body = Relaxed
	}
	if !s.Header.known() || !s.Body.known() {
		return fmt.Errorf("%w: unknown canonicalization %s/%s", ErrSign, s.Header, s.Body)
	}
	if s.Fields == nil {
		s.Fields = SignedFields()
	}
	if s.Oversigned == nil {
		s.Oversigned = OversignedFields()
	}
	for _, names := range [][]string{s.Fields, s.Oversigned} {
		for _, name := range names {
			if name == "" || strings.ContainsAny(name, space+":;") {
				return fmt.Errorf("%w: %q is no name of a field", ErrSign, name)
			}
		}
	}
	isFrom := func(name string) bool { return strings.EqualFold(name, "From") }
	if !slices.ContainsFunc(s.Fields, isFrom) {
		return fmt.Errorf("%w: From has to be among the fields (RFC 6376 §5.4)", ErrSign)
	}
	return nil
}

// names gives the value of h=.
func (s *Signer) names(p *Fields) []string {
	var names []string
	add := func(name string) {
		for range p.Count(name) {
			names = append(names, name)
		}
	}
	for _, name := range s.Fields {
		add(name)
	}
	for _, name := range s.Oversigned {
		if !slices.ContainsFunc(s.Fields, func(f string) bool { return strings.EqualFold(f, name) }) {
			add(name)
		}
	}
	return append(names, s.Oversigned...)
}

func (s *Signer) sign(p *Fields, bodyHash []byte) (string, error) {
	names := s.names(p)
	field := s.field(names, bodyHash)
	digest := p.Digest(names, s.Header, field, -1)
	options := crypto.SignerOpts(crypto.SHA256)
	if _, ok := s.Key.Public().(ed25519.PublicKey); ok {
		options = crypto.Hash(0) // the hash is what gets signed: RFC 8463 §3
	}
	signature, err := s.Key.Sign(rand.Reader, digest, options)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSign, err)
	}
	const width = 72
	value := base64.StdEncoding.EncodeToString(signature)
	var whole strings.Builder
	whole.Grow(len(field) + len(value) + len("\r\n ")*(2+len(value)/width))
	whole.WriteString(strings.TrimSuffix(field, "\r\n"))
	for len(value) > 0 {
		n := min(width, len(value))
		whole.WriteString("\r\n ")
		whole.WriteString(value[:n])
		value = value[n:]
	}
	whole.WriteString("\r\n")
	return whole.String(), nil
}

// field gives the whole field but the value of b=, which is the last tag.
func (s *Signer) field(names []string, bodyHash []byte) string {
	algorithm := algorithmRSA
	if _, ok := s.Key.Public().(ed25519.PublicKey); ok {
		algorithm = algorithmEd25519
	}
	now := time.Now()
	f := folder{}
	f.add(SignatureField + ":")
	f.add(" v=1;")
	f.add(" a=", algorithm, ";")
	f.add(" c=", string(s.Header), "/", string(s.Body), ";")
	f.add(" d=", s.Domain.String(), ";")
	f.add(" s=", s.Selector, ";")
	if s.Identity != "" {
		f.add(" i=", s.Identity, ";")
	}
	f.add(" t=", strconv.FormatInt(now.Unix(), 10), ";")
	if s.Expires > 0 {
		f.add(" x=", strconv.FormatInt(now.Add(s.Expires).Unix(), 10), ";")
	}
	before, after := " h=", ""
	for i, name := range names {
		if i == len(names)-1 {
			after = ";"
		}
		f.add(before, name, after)
		before = ":"
	}
	f.add(" bh=", base64.StdEncoding.EncodeToString(bodyHash), ";")
	f.add(" b=")
	f.WriteString("\r\n")
	return f.String()
}

// folder writes words on lines of at most 78 characters where it can (RFC 5322 §2.1.1).
type folder struct {
	strings.Builder
	column int // on the last line
}

// add writes the parts of a word together. What begins a new line begins with a space.
func (f *folder) add(parts ...string) {
	const width = 78
	n := 0
	for _, part := range parts {
		n += len(part)
	}
	if f.column+n > width {
		f.WriteString("\r\n")
		f.column = 0
		if parts[0][0] != ' ' {
			f.WriteByte(' ')
			f.column++
		}
	}
	for _, part := range parts {
		f.WriteString(part)
	}
	f.column += n
}

// Bodies hashes a body in each canonicalization that was added, at once. Its zero value is
// made with Bodies{}.
type Bodies map[Canonicalization]*bodyHash

type bodyHash struct {
	hash   hash.Hash
	writer io.WriteCloser
}

// Add asks for the hash in one canonicalization, before the body comes.
func (b Bodies) Add(c Canonicalization) {
	if b[c] == nil {
		h := sha256.New()
		b[c] = &bodyHash{h, c.Body(h)}
	}
}

// Write takes the next octets of the body.
func (b Bodies) Write(p []byte) (int, error) {
	for _, h := range b {
		if _, err := h.writer.Write(p); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// readFrom takes what is left of a message out of its reader's own buffer.
func (b Bodies) readFrom(r *bufio.Reader) error {
	for {
		_, err := r.Peek(1)
		p, _ := r.Peek(r.Buffered())
		_, _ = b.Write(p) // a hash takes everything
		_, _ = r.Discard(len(p))
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// Sum ends the body and gives its SHA-256 in a canonicalization that was added; it may be
// called again.
func (b Bodies) Sum(c Canonicalization) []byte {
	h := b[c]
	if h.writer != nil {
		_ = h.writer.Close() // a hash takes everything
		h.writer = nil
	}
	return h.hash.Sum(nil)
}

// Fields gives the fields of a header by name, from the bottom to the top
// (RFC 6376 §5.4.2).
type Fields struct {
	header mail.Header
	byName map[string]int // lower case → place in last
	last   []int          // of each name, the field at the bottom
	above  []int          // of each field, the next one up with its name; -1 if there is none
}

// NewFields sorts the fields of a header by name.
func NewFields(h mail.Header) *Fields {
	p := &Fields{header: h, byName: make(map[string]int, len(h)), above: make([]int, len(h))}
	for i, f := range h {
		name, known := p.find(f.Name)
		if known {
			p.above[i], p.last[name] = p.last[name], i
			continue
		}
		p.byName[strings.ToLower(f.Name)] = len(p.last)
		p.above[i], p.last = -1, append(p.last, i)
	}
	return p
}

// find gives the place of a name in last.
func (p *Fields) find(name string) (place int, known bool) {
	var buffer [40]byte // of the stack: names are looked for often, and few are longer
	lower := buffer[:0]
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		lower = append(lower, c)
	}
	place, known = p.byName[string(lower)]
	return place, known
}

// Count tells how many fields have a name, in any case.
func (p *Fields) Count(name string) int {
	n := 0
	if place, known := p.find(name); known {
		for i := p.last[place]; i >= 0; i = p.above[i] {
			n++
		}
	}
	return n
}

// Digest hashes the fields that names lists with SHA-256, and at the end the signature's own
// field without the value of b= (RFC 6376 §3.7). Names that the header lacks count for
// nothing.
//
// place is where the own field stands in the header; -1 before it is there. It is never one
// of the listed fields: it was not there when they were signed, and DKIM-Signature in h=
// means the others (RFC 6376 §5.4).
func (p *Fields) Digest(names []string, c Canonicalization, own string, place int) []byte {
	h := sha256.New()
	next := slices.Clone(p.last)
	line := make([]byte, 0, 1<<10)
	for _, listed := range names {
		name, known := p.find(listed)
		if !known {
			continue
		}
		i := next[name]
		if i >= 0 && i == place {
			i = p.above[i]
		}
		if i >= 0 {
			line = c.AppendField(line[:0], p.header[i].Raw)
			h.Write(line)
			i = p.above[i]
		}
		next[name] = i
	}
	line = c.AppendField(line[:0], WithoutSignature(own))
	h.Write(line[:len(line)-len("\r\n")])
	return h.Sum(nil)
}
