package dkim

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"mxward/internal/mailauth/lint"
)

// Report is what Lint makes of a record.
type Report struct {
	// Key is the record as its author will have meant it; the zero Key where nobody can tell.
	Key Key
	// Findings are in the order of reading; empty for a record without fault.
	Findings []lint.Finding
	// Fix is the record to publish instead, where the text could be repaired; else "".
	Fix string
}

func (r *Report) add(id string, severity lint.Severity, format string, args ...any) {
	r.Findings = append(r.Findings, lint.Finding{ID: "dkim." + id, Severity: severity, Text: fmt.Sprintf(format, args...)})
}

// LintSet judges all TXT records at the name of a key. None is "dkim.missing"; of several,
// only one may be a key (RFC 6376 §3.6.2.2).
func LintSet(records []string) Report {
	var keys []string
	for _, text := range records {
		if _, err := ParseKey(text); !errors.Is(err, ErrNotKey) {
			keys = append(keys, text)
		}
	}
	var r Report
	switch {
	case len(records) == 0:
		r.add("missing", lint.Error, "there is no TXT record at this name: publish the key, or ask for another selector")
		return r
	case len(keys) == 0 && len(records) == 1:
		return Lint(records[0])
	case len(keys) == 0:
		r.add("missing", lint.Error, "there are %d TXT records at this name, and none is a DKIM key", len(records))
		return r
	}
	r = Lint(keys[0])
	if len(records) > 1 {
		r.add("multiple-records", lint.Error, "there are %d TXT records at this name: leave the key alone there, for receivers may take any of them", len(records))
	}
	return r
}

// Lint judges the text of one record, its strings joined, or what somebody typed or pasted
// for one. The mistakes that people make are named one by one and repaired in Fix.
func Lint(text string) Report {
	var r Report
	if strings.Contains(text, "PRIVATE KEY-----") {
		r.lintPrivate(text)
		return r
	}
	mended := r.mend(text)
	key, err := ParseKey(mended)
	if err != nil {
		r.explain(mended, err)
		return r
	}
	if whole, ok := key.unwrapped(); ok {
		r.add("key-malformed", lint.Error, "p= holds a SubjectPublicKeyInfo: of an Ed25519 key, the last 32 octets alone are published (RFC 8463 §4.2), with k=ed25519")
		mended, key = "", whole
	}
	r.Key = key
	if !key.Version {
		r.add("syntax", lint.Notice, "v=DKIM1 is missing: it is optional, but some receivers want it, and it must stand first")
	}
	r.lintTags()
	r.lintKey(key)
	if mended != text || !key.Version {
		key.Version = true
		r.Fix = key.String()
	}
	return r
}

// mistake is a way in which text gets damaged between a key file and the DNS.
type mistake struct {
	found  *regexp.Regexp
	repair string
	id     string
	detail string
}

// mistakes in the order in which they have to be undone.
var mistakes = []mistake{
	{regexp.MustCompile("[\u200B-\u200D\u2060\uFEFF]"), "", "syntax", "there are invisible characters in it, from a web page or a word processor: type it anew"},
	{regexp.MustCompile("\u00A0"), " ", "syntax", "there are no-break spaces in it, from a web page or a word processor: use plain spaces or none"},
	{regexp.MustCompile("[\u201C\u201D\u201E\u2018\u2019\u00AB\u00BB]"), `"`, "syntax", "there are typographic quotation marks in it, which became part of the record: use plain ones around each string, in a zone file only"},
	{regexp.MustCompile(`(?is)^\s*\S+\s+(?:\d+\s+)?(?:IN\s+)?TXT\s+(.*)$`), "$1", "syntax", "a whole line of a zone file stands in the record: keep what is between the quotation marks"},
	{regexp.MustCompile(`(?s)^\s*\(\s*("[^)]*")\s*\).*$`), "$1", "syntax", "the brackets of a zone file stand in the record: keep what is between the quotation marks"},
	{regexp.MustCompile(`"\s*"`), "", "syntax", "the strings of the record are joined with their quotation marks inside: the program that publishes it has put its own around them"},
	{regexp.MustCompile(`^[\s']+|"|[\s']+$`), "", "syntax", "there are quotation marks in the record: the program that publishes it has put its own around them, so leave them out"},
	{regexp.MustCompile(`\\+;`), ";", "syntax", "there are backslashes before the semicolons: they belong into some zone files only"},
	{regexp.MustCompile(`-----(?:BEGIN|END)[A-Z0-9 ]*PUBLIC KEY-----`), "", "syntax", "the BEGIN and END lines of the key file stand in p=: keep only what is between them"},
	{regexp.MustCompile(`(?i)^(\s*v\s*=\s*)DKIM1\s*,`), "${1}DKIM1;", "syntax", "a comma follows v=DKIM1: semicolons part the tags"},
	{regexp.MustCompile(`(?i)^(\s*v\s*=\s*)(?:DKIM1|DKIM)(\s+[a-z]\s*=)`), "${1}DKIM1;$2", "syntax", "a semicolon is missing after v=DKIM1"},
	{regexp.MustCompile(`(?i)(k\s*=\s*(?:rsa|ed25519))[\s,]+(p\s*=)`), "$1; $2", "syntax", "a semicolon is missing between k= and p="},
	{regexp.MustCompile(`(?is)^(.*;)\s*(v\s*=\s*DKIM1)\s*;?\s*$`), "$2; $1", "syntax", "v=DKIM1 must stand first"},
	{regexp.MustCompile(`^(\s*v\s*=\s*)(?:dkim1|Dkim1|DKIM 1|DKIM)(\s*;)`), "${1}DKIM1$2", "syntax", "the version is not written DKIM1, in capitals: receivers will ignore the record"},
	{regexp.MustCompile(`(^|;)(\s*)V(\s*=)`), "${1}${2}v$3", "syntax", "V= must be v=: the case of tags counts"},
	{regexp.MustCompile(`(^|;)(\s*)K(\s*=)`), "${1}${2}k$3", "syntax", "K= must be k=: the case of tags counts"},
	{regexp.MustCompile(`(^|;)(\s*)P(\s*=)`), "${1}${2}p$3", "syntax", "P= must be p=: the case of tags counts"},
	{regexp.MustCompile(`(?i)(^|;)(\s*k\s*=\s*)(RSA|rsa-sha256|rsa-sha1)(\s*(?:;|$))`), "${1}${2}rsa$4", "unknown-type", "k= must be exactly rsa: receivers ignore a key of a type they do not know"},
	{regexp.MustCompile(`(?i)(^|;)(\s*k\s*=\s*)(ED25519|ed25519-sha256)(\s*(?:;|$))`), "${1}${2}ed25519$4", "unknown-type", "k= must be exactly ed25519: receivers ignore a key of a type they do not know"},
}

// lintPrivate judges a private key in the place of a record. It says nothing of the key itself.
func (r *Report) lintPrivate(text string) {
	r.add("private-key", lint.Error, "this is a PRIVATE key, which belongs to the signer alone: if it was ever published, make a new one; the record holds the public key")
	if private, err := ParsePrivate([]byte(text)); err == nil {
		if key, err := KeyOf(private); err == nil {
			r.Key, r.Fix = key, key.String()
		}
	}
}

// unwrapped gives the key that openssl writes for Ed25519 as it is published.
func (k Key) unwrapped() (Key, bool) {
	public, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		return Key{}, false
	}
	raw, ok := public.(ed25519.PublicKey)
	k.Type, k.Public = Ed25519, raw
	return k, ok
}

// mend undoes the mistakes and names them.
func (r *Report) mend(text string) string {
	text = strings.Trim(text, space)
	for _, m := range mistakes {
		if mended := m.found.ReplaceAllString(text, m.repair); mended != text {
			r.add(m.id, lint.Error, "%s", m.detail)
			text = mended
		}
	}
	return r.mendKey(strings.Trim(text, space))
}

var keyValue = regexp.MustCompile(`(?s)((?:^|;)\s*p\s*=)([^;]*)`)

// bareKey is the base64 of a key that stands alone, as a key file has it: of RSA, or of
// Ed25519, whose SubjectPublicKeyInfo always begins in this way.
var bareKey = regexp.MustCompile(`^\s*(?:MI[A-Za-z0-9+/\s]{100,}=*|MCowBQYDK2VwAyEA[A-Za-z0-9+/\s]{43,}=*)\s*$`)

// mendKey: white space in p=, and a key without any tag.
func (r *Report) mendKey(text string) string {
	if bareKey.MatchString(text) {
		r.add("syntax", lint.Error, "the key stands without tags: write v=DKIM1; k=rsa; p= before it, or k=ed25519 for such a key")
		text = "v=DKIM1; k=rsa; p=" + text
	}
	at := keyValue.FindStringSubmatchIndex(text)
	if at == nil {
		return text
	}
	value := text[at[4]:at[5]]
	inner := trimSpace(value)
	switch {
	case strings.ContainsAny(inner, "\r\n"):
		r.add("syntax", lint.Warning, "there are line breaks in p=: some receivers cannot read the key, so write it without any white space")
	case strings.ContainsAny(inner, " \t"):
		r.add("syntax", lint.Warning, "there is white space in p=: some receivers cannot read the key, so write it in one piece")
	default:
		return text
	}
	return text[:at[4]] + withoutSpace(inner) + text[at[5]:]
}

// explain turns the error of ParseKey into a finding.
func (r *Report) explain(text string, err error) {
	tags, tagsErr := ParseTags(text)
	kind, _ := tags.Get("k")
	var corrupt base64.CorruptInputError
	switch {
	case tagsErr == nil && errors.Is(err, ErrPermanent) && kind != "" && kind != string(RSA) && kind != string(Ed25519):
		r.add("unknown-type", lint.Error, "k=%s is no type of key: it must be rsa or ed25519, and receivers ignore the record", excerpt(kind))
	case errors.As(err, &corrupt):
		r.add("key-malformed", lint.Error, "p= is not base64 (at its octet %d): copy the key again, whole", int64(corrupt)+1)
	case errors.Is(err, ErrNotKey):
		r.add("syntax", lint.Error, "this is no DKIM key: expected v=DKIM1; k=rsa; p=… (%v)", err)
	default:
		r.add("syntax", lint.Error, "receivers cannot read the record: %v", err)
	}
}

// lintTags judges all tags but p=.
func (r *Report) lintTags() {
	k := r.Key
	if k.Hashes != nil && !slices.Contains(k.Hashes, "sha256") {
		r.add("sha1-only", lint.Error, "h=%s does not allow sha256, and sha1 is forbidden (RFC 8301 §3.1): leave h= out", strings.Join(k.Hashes, ":"))
	}
	if !k.servesMail() {
		r.add("unusable-service", lint.Error, "s=%s: the key serves no mail; leave s= out, or write s=email", strings.Join(k.Services, ":"))
	}
	if k.Testing {
		r.add("testing", lint.Notice, "t=y says that the domain only tries DKIM out: receivers may treat its mail as unsigned; take it away once all works")
	}
	for _, tag := range k.Other {
		switch tag.Name {
		case "g":
			r.add("obsolete-tag", lint.Notice, "g= is obsolete and ignored today (RFC 6376 §C): leave it out")
		case "t":
			r.add("syntax", lint.Notice, "t=%s: only y and s are known; receivers ignore the rest", excerpt(tag.Value))
		default:
			r.add("syntax", lint.Notice, "%s= is no tag of a key record: receivers ignore it; is it misspelt?", excerpt(tag.Name))
		}
	}
}

// lintKey judges p=.
func (r *Report) lintKey(k Key) {
	if k.Revoked() {
		r.add("revoked", lint.Info, "p= is empty: the key is revoked, and every signature by it fails")
		return
	}
	public, err := k.PublicKey()
	if err != nil {
		r.add("key-malformed", lint.Error, "receivers cannot read the key: %v%s", err, hint(k))
		return
	}
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		return
	}
	if _, err := x509.ParsePKIXPublicKey(k.Public); err != nil {
		r.add("key-malformed", lint.Notice, "p= holds a bare RSAPublicKey (PKCS #1) where a SubjectPublicKeyInfo is due: most receivers read both; openssl rsa -RSAPublicKey_in -pubout turns it")
	}
	switch bits := key.N.BitLen(); {
	case bits < MinRSABits:
		r.add("key-too-short", lint.Error, "the key has %d bits: receivers must not accept less than %d (RFC 8301 §3.2); make one of %d", bits, MinRSABits, GoodRSABits)
	case bits < GoodRSABits:
		r.add("key-weak", lint.Warning, "the key has %d bits, less than the %d that signers should use (RFC 8301 §3.2)", bits, GoodRSABits)
	case bits > MaxRSABits:
		r.add("key-long", lint.Warning, "the key has %d bits: receivers need not verify more than %d (RFC 8301 §3.2)", bits, MaxRSABits)
	case bits > GoodRSABits:
		r.add("key-long", lint.Notice, "the key has %d bits: the record is longer than one string of 255 octets and may not fit into a DNS answer over UDP", bits)
	}
}

// hint says what p= may hold instead of a key.
func hint(k Key) string {
	if k.Type == Ed25519 {
		if _, err := x509.ParsePKIXPublicKey(k.Public); err == nil {
			return "; it is an RSA key: is k=rsa meant?"
		}
		return ""
	}
	if len(k.Public) == 32 {
		return "; 32 octets are an Ed25519 key: is k=ed25519 meant?"
	}
	if _, err := x509.ParsePKCS8PrivateKey(k.Public); err == nil {
		return "; it is the PRIVATE key: it is known to the world now, make a new one"
	}
	if _, err := x509.ParsePKCS1PrivateKey(k.Public); err == nil {
		return "; it is the PRIVATE key: it is known to the world now, make a new one"
	}
	return "; is it cut off? A record over 255 octets needs several strings"
}

// servesMail: s= lists *, email, or stands not at all (RFC 6376 §3.6.1).
func (k Key) servesMail() bool {
	return k.Services == nil || slices.Contains(k.Services, "*") || slices.Contains(k.Services, "email")
}
