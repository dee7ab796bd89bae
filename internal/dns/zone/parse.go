package zone

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// Limits of a record.
const (
	maxTTL         = 1<<31 - 1 // RFC 2181 §8
	maxRecordBytes = 65535
)

// parser holds what the entries of a master file hand on to the next ones.
type parser struct {
	zone   *Zone
	origin string // as last written, with its dot; relative names are completed with it
	owner  string // the last owner stated, for entries that begin with a blank

	ttl      uint32 // for records without one
	ttlKnown bool
	ttlFixed bool // by $TTL; else it is the last one stated (RFC 2308 §4)

	lines  map[dns.RR]int
	faults []fault
	wire   []byte // where records are packed
}

type fault struct {
	line int
	text string
}

// Parse reads a zone from a master file (RFC 1035 §5, RFC 2308 §4, RFC 3597 §5); file is
// its name for the errors. A zone with any fault is refused, with all of its faults, each
// as "file:line: …" with the line where the entry begins, joined in the order of the lines.
//
// Of the directives $ORIGIN and $TTL are known; $INCLUDE is refused, so that a zone file
// reads no other file. A record that is written twice is kept once (RFC 2181 §5). A quoted
// string of more than 255 octets becomes several.
func Parse(r io.Reader, origin dns.Name, file string) (*Zone, error) {
	if origin.IsZero() {
		return nil, fmt.Errorf("%s: the zone has no name", file)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	p := &parser{
		zone:   &Zone{Origin: origin, nodes: map[dns.Name]*node{}},
		origin: origin.FQDN(),
		lines:  map[dns.RR]int{},
		wire:   make([]byte, maxRecordBytes),
	}
	lex := lexer{text: string(text)}
	for e, ok := lex.next(); ok; e, ok = lex.next() {
		if err := p.entry(e); err != nil {
			p.fault(e.line, err.Error())
		}
	}
	p.check()
	if len(p.faults) > 0 {
		return nil, p.joined(file)
	}
	p.zone.link()
	return p.zone, nil
}

func (p *parser) fault(line int, format string, args ...any) {
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	p.faults = append(p.faults, fault{line, format})
}

func (p *parser) joined(file string) error {
	slices.SortFunc(p.faults, func(a, b fault) int { return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.text, b.text)) })
	errs := make([]error, len(p.faults))
	for i, f := range p.faults {
		errs[i] = fmt.Errorf("%s:%d: %s", file, f.line, f.text)
	}
	return errors.Join(errs...)
}

func (p *parser) entry(e entry) error {
	if e.err != nil {
		return e.err
	}
	first := e.tokens[0]
	if !e.sameown && strings.HasPrefix(first.text, "$") {
		return p.directive(first.text, e.tokens[1:])
	}
	fields := e.tokens
	if !e.sameown {
		owner, err := p.absolute(first)
		if err != nil {
			return err
		}
		p.owner, fields = owner, fields[1:]
	}
	if p.owner == "" {
		return errors.New("expected an owner name, got a blank on the first entry")
	}
	rr, err := p.record(fields)
	if err != nil {
		return err
	}
	return p.add(rr, e.line)
}

func (p *parser) directive(name string, args []token) error {
	switch upper := strings.ToUpper(name); {
	case upper == "$INCLUDE":
		return errors.New("$INCLUDE is not read: a zone is one file")
	case upper != "$ORIGIN" && upper != "$TTL":
		return fmt.Errorf("expected $ORIGIN or $TTL, got %s", name)
	case len(args) != 1:
		return fmt.Errorf("expected one value after %s, got %d", upper, len(args))
	case upper == "$ORIGIN":
		origin, err := p.absolute(args[0])
		if err != nil {
			return err
		}
		p.origin = origin
		return nil
	}
	ttl, ok := parseTTL(args[0].text)
	if !ok {
		return fmt.Errorf("expected a TTL of 0 to %d seconds, got %s", maxTTL, args[0].text)
	}
	p.ttl, p.ttlKnown, p.ttlFixed = ttl, true, true
	return nil
}

// absolute completes a name with the origin, and gives it in the wire library's spelling
// with the case that it has in the file (RFC 4343 §4.1).
func (p *parser) absolute(t token) (string, error) {
	name := t.text
	switch {
	case t.quoted:
		return "", fmt.Errorf("expected a name, got the string %s", name)
	case name == "@":
		return p.origin, nil
	case wire.IsFqdn(name):
	case p.origin == ".":
		name += "."
	default:
		name += "." + p.origin
	}
	if _, err := dns.ParseName(name); err != nil {
		return "", err
	}
	n, err := wire.PackDomainName(name, p.wire, 0, nil, false)
	if err != nil {
		return "", fmt.Errorf("%q: %w", name, err)
	}
	name, _, err = wire.UnpackDomainName(p.wire[:n], 0)
	return name, err
}

// record reads "[TTL] [class] type data", or "[class] [TTL] type data" (RFC 1035 §5.1).
func (p *parser) record(fields []token) (dns.RR, error) {
	ttl, ttlStated, classStated := p.ttl, false, false
	for len(fields) > 0 {
		word := fields[0].text
		if n, ok := parseTTL(word); ok && !ttlStated {
			ttl, ttlStated = n, true
		} else if in, ok := parseClass(word); ok && !classStated {
			if !in {
				return nil, fmt.Errorf("expected class IN, got %s", word)
			}
			classStated = true
		} else {
			break
		}
		fields = fields[1:]
	}
	if len(fields) == 0 {
		return nil, errors.New("expected a record type, got the end of the entry")
	}
	t, err := dataType(fields[0])
	if err != nil {
		return nil, err
	}
	switch {
	case ttlStated && !p.ttlFixed:
		p.ttl, p.ttlKnown = ttl, true
	case !ttlStated && !p.ttlKnown:
		return nil, errors.New("expected a TTL, or $TTL before the first record")
	}
	return p.data(t, ttl, fields[1:])
}

// dataType reads the type and refuses those that are for questions only.
func dataType(t token) (dns.Type, error) {
	typ, ok := dns.ParseType(t.text)
	switch {
	case !ok && t.text[0] >= '0' && t.text[0] <= '9':
		return 0, fmt.Errorf("expected a TTL of 0 to %d seconds or a record type, got %s", maxTTL, t.text)
	case !ok || t.quoted:
		return 0, fmt.Errorf("expected a record type, got %s", t.text)
	case typ == 0 || typ == dns.Type(wire.TypeOPT) || typ >= 128 && typ <= 255: // RFC 6895 §3.1
		return 0, fmt.Errorf("expected a record type, got %s, which no zone holds", typ)
	}
	return typ, nil
}

// data has the wire library read the record's data. The detour over the wire makes sure
// that the record can be sent, and gives its names one spelling.
func (p *parser) data(t dns.Type, ttl uint32, fields []token) (dns.RR, error) {
	if len(fields) == 0 {
		return nil, fmt.Errorf("expected the data of the %s record, got the end of the entry", t)
	}
	var b strings.Builder
	fmt.Fprintf(&b, ". %d IN %s", ttl, t)
	for _, f := range fields {
		b.WriteString(" " + f.text)
	}
	b.WriteByte('\n')
	zp := wire.NewZoneParser(strings.NewReader(b.String()), p.origin, "")
	rr, ok := zp.Next()
	if err := zp.Err(); err != nil {
		return nil, fmt.Errorf("%s record: %s", t, libraryFault(err))
	}
	if _, more := zp.Next(); !ok || more || dns.Type(rr.Header().Rrtype) != t {
		return nil, fmt.Errorf("%s record: its data cannot be read", t)
	}
	rr.Header().Name = p.owner
	n, err := wire.PackRR(rr, p.wire, 0, nil, false)
	if err != nil {
		return nil, fmt.Errorf("%s record: %w", t, err)
	}
	rr, _, err = wire.UnpackRR(p.wire[:n], 0)
	if err != nil {
		return nil, fmt.Errorf("%s record: %w", t, err)
	}
	return rr, nil
}

// libraryFault takes the library's name and its idea of the line out of its message, which
// is "dns: what is bad: the word at line: n:m".
func libraryFault(err error) string {
	text := strings.TrimPrefix(err.Error(), "dns: ")
	if at := strings.LastIndex(text, " at line: "); at >= 0 {
		text = text[:at]
	}
	if what, word, ok := strings.Cut(text, ": "); ok {
		return fmt.Sprintf("cannot read %s (%s)", word, what)
	}
	return text
}

// add puts a record into the zone.
func (p *parser) add(rr dns.RR, line int) error {
	name, t := dns.NameOf(rr.Header().Name), dns.Type(rr.Header().Rrtype)
	if !name.In(p.zone.Origin) {
		return fmt.Errorf("%s is outside the zone %s", name, p.zone.Origin)
	}
	n := p.zone.grow(name)
	for _, old := range n.sets[t] {
		// The TTL of a signature is that of what it covers (RFC 4034 §3).
		if old.Header().Ttl != rr.Header().Ttl && t != typeRRSIG {
			return fmt.Errorf("expected TTL %d as on line %d for all %s records of %s (RFC 2181 §5.2), got %d",
				old.Header().Ttl, p.lines[old], t, name, rr.Header().Ttl)
		}
		if wire.IsDuplicate(old, rr) {
			return nil
		}
	}
	n.sets[t] = append(n.sets[t], rr)
	p.lines[rr] = line
	return nil
}

// parseClass recognises a class by name or as CLASSnnn (RFC 3597 §5). ANY is no class that
// a record could have.
func parseClass(s string) (in, ok bool) {
	s = strings.ToUpper(s)
	if n, found := strings.CutPrefix(s, "CLASS"); found {
		_, err := strconv.ParseUint(n, 10, 16)
		return n == "1", err == nil
	}
	class, ok := wire.StringToClass[s]
	return class == wire.ClassINET, ok && class != wire.ClassANY
}

// parseTTL reads seconds, or BIND's units ("1h30m"). Digits must come first, so that a
// type or class is never taken for a TTL.
func parseTTL(s string) (uint32, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	units := map[byte]uint64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}
	var total uint64
	for s != "" {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
		n, err := strconv.ParseUint(s[:digits], 10, 32)
		if err != nil {
			return 0, false
		}
		if s = s[digits:]; s != "" {
			unit, ok := units[s[0]|0x20]
			if !ok {
				return 0, false
			}
			n, s = n*unit, s[1:]
		}
		if total += n; total > maxTTL {
			return 0, false
		}
	}
	return uint32(total), true
}
