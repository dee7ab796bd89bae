package mailauth

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/arc"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/spf"
)

// Limits of the field that is written.
const (
	maxLine       = 78  // RFC 5322 §2.1.1, characters of a line where it can be folded
	maxValue      = 256 // octets of a value that a stranger chose; no path is longer (RFC 5321 §4.5.3.1.3)
	maxReason     = 120 // octets
	maxSelector   = 63
	signatureTell = 8 // characters of b= that tell signatures apart (RFC 6008 §4)
)

// MaxHeaderField is more than the octets of what Results.Header gives.
const MaxHeaderField = 32 << 10

// Forged reports whether a received field must be removed (RFC 8601 §5): it is an
// Authentication-Results field in the name of own, or nobody can tell in whose. Others
// remain, and so do those of ARC, which are signed.
func Forged(f mail.Field, own ...dns.Name) bool {
	if !f.Is(FieldName) {
		return false
	}
	p := parser{text: f.Folded()}
	id, err := p.id()
	if err != nil {
		return true
	}
	name, err := dns.ParseName(id)
	if err != nil {
		return false // no name, and ours are
	}
	for _, o := range own {
		if name == o {
			return true
		}
	}
	return false
}

// Header gives the results as a whole Authentication-Results field with its final CRLF, in
// the name of id (RFC 8601 §2.2). What strangers chose is cut, made printable, and quoted;
// it is ASCII unless the session was for SMTPUTF8 (RFC 6531).
func (r Results) Header(id dns.Name) string {
	var b strings.Builder
	b.WriteString(FieldName + ":")
	width := b.Len()
	for _, word := range r.Field(id).words() {
		if width+1+len(word) > maxLine {
			b.WriteString("\r\n\t")
			width = 8
		} else {
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += len(word)
	}
	b.WriteString("\r\n")
	return b.String()
}

// Field gives the results in the form of RFC 8601.
func (r Results) Field(id dns.Name) Field {
	f := Field{ID: id.String()}
	for _, v := range []spf.Verdict{r.SPF, r.Helo} {
		if v.Result != "" {
			f.Infos = append(f.Infos, r.spfInfo(v))
		}
	}
	for i, s := range r.DKIM {
		if i == dkim.MaxSignatures {
			break
		}
		f.Infos = append(f.Infos, r.dkimInfo(s))
	}
	if r.Judged && len(r.DKIM) == 0 {
		f.Infos = append(f.Infos, Info{Method: "dkim", Result: string(dkim.None)})
	}
	if r.ARC.Status != "" && r.ARC.Status != arc.None {
		f.Infos = append(f.Infos, r.arcInfo())
	}
	if r.DMARC.Result != "" {
		f.Infos = append(f.Infos, r.dmarcInfo())
	}
	if !r.Session.Name.IsZero() { // RFC 8601 §2.7.3
		f.Infos = append(f.Infos, Info{Method: "iprev", Result: "pass", Properties: []Property{{"policy", "iprev", r.Session.Client.String()}}})
	}
	return f
}

func (r Results) spfInfo(v spf.Verdict) Info { // RFC 8601 §2.7.2
	identity := Property{"smtp", "mailfrom", r.clean(r.Session.From, maxValue)}
	if v.Identity == spf.IdentityHelo {
		identity = Property{"smtp", "helo", r.clean(r.Session.Helo, maxValue)}
	}
	return Info{Method: "spf", Result: string(v.Result), Properties: []Property{identity}}
}

func (r Results) dkimInfo(s dkim.Signature) Info { // RFC 8601 §2.7.1
	info := Info{Method: "dkim", Result: string(s.Result), Reason: r.clean(s.Reason, maxReason)}
	for _, p := range []Property{
		{"header", "d", r.clean(s.Domain.String(), maxValue)},
		{"header", "s", r.clean(s.Selector, maxSelector)},
		{"header", "a", r.clean(s.Algorithm, maxSelector)},
		{"header", "b", r.clean(s.Value[:min(len(s.Value), signatureTell)], signatureTell)},
	} {
		if p.Value != "" {
			info.Properties = append(info.Properties, p)
		}
	}
	return info
}

func (r Results) arcInfo() Info { // RFC 8617 §7.1
	info := Info{Method: "arc", Result: string(r.ARC.Status), Reason: r.clean(r.ARC.Reason, maxReason)}
	if r.ARC.Status == arc.Pass {
		info.Reason = ""
		info.Properties = []Property{
			{"header", "oldest-pass", strconv.Itoa(r.ARC.OldestPass)},
			{"smtp", "remote-ip", r.Session.Client.String()},
		}
	}
	return info
}

func (r Results) dmarcInfo() Info { // RFC 9989 §9.2
	info := Info{Method: "dmarc", Result: string(r.DMARC.Result)}
	if !r.DMARC.Author.IsZero() {
		info.Properties = append(info.Properties, Property{"header", "from", r.clean(r.DMARC.Author.String(), maxValue)})
	}
	if r.DMARC.Discovery.Policy != "" && r.DMARC.Result != dmarc.ResultNone {
		info.Properties = append(info.Properties, Property{"policy", "dmarc", string(r.DMARC.Discovery.Policy)})
	}
	return info
}

// clean makes printable what a stranger chose, and cuts it.
func (r Results) clean(s string, most int) string {
	if len(s) > most {
		for most > 0 && !utf8.RuneStart(s[most]) {
			most--
		}
		s = s[:most]
	}
	return strings.Map(func(c rune) rune {
		switch {
		case c < ' ' || c == 0x7f || c == utf8.RuneError, c > 0x7f && (!r.Session.UTF8 || !unicode.IsPrint(c)):
			return '?'
		}
		return c
	}, s)
}
