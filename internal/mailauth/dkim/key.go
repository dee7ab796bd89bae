package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"mxward/internal/dns"
)

// Sizes of RSA keys in bits. Below the least and above the most nobody has to verify
// (RFC 8301 §3.2).
const (
	MinRSABits  = 1024
	GoodRSABits = 2048 // what signers should use
	MaxRSABits  = 4096
)

// MaxRecord is the size in octets above which a record is not read: the key of 4096 bits
// takes 740.
const MaxRecord = 16 << 10

// KeyType is the value of k= (RFC 6376 §3.6.1).
type KeyType string

// The key types.
const (
	RSA     KeyType = "rsa"
	Ed25519 KeyType = "ed25519" // RFC 8463 §4
)

// Key is a key record: the TXT record at SELECTOR._domainkey.DOMAIN (RFC 6376 §3.6.1).
type Key struct {
	Version  bool     // v=DKIM1 stands in front, as it should
	Type     KeyType  // k=; RSA where the record says none
	Hashes   []string // h=; nil allows all
	Services []string // s=; nil serves all
	Testing  bool     // t=y: the domain tries DKIM out
	Strict   bool     // t=s: i= must be of the signing domain itself, of no subdomain
	Notes    string   // n=, for people, as it stands
	Public   []byte   // p=: SubjectPublicKeyInfo for RSA, 32 octets for Ed25519; empty if revoked
	Other    Tags     // tags that this standard does not know, and flags of t= it does not know
}

// Revoked reports whether the domain has withdrawn the key: p= is empty.
func (k Key) Revoked() bool { return len(k.Public) == 0 }

// ParseKey reads a key record, its strings joined. The error wraps ErrNotKey for a record
// of another kind, ErrPermanent for a broken one. What the key itself is worth, PublicKey
// tells.
func ParseKey(text string) (Key, error) {
	if len(text) > MaxRecord {
		return Key{}, fmt.Errorf("%w: it has %d octets, more than %d", ErrPermanent, len(text), MaxRecord)
	}
	tags, err := ParseTags(text)
	if err != nil {
		if looksLikeKey(text) {
			return Key{}, fmt.Errorf("%w: %w", ErrPermanent, err)
		}
		return Key{}, fmt.Errorf("%w: %w", ErrNotKey, err)
	}
	k := Key{Type: RSA}
	if err := k.readVersion(tags); err != nil {
		return Key{}, err
	}
	for _, tag := range tags {
		k.readTag(tags, tag)
	}
	if k.Public, err = decodeBase64(tags.Compact("p")); err != nil {
		return Key{}, fmt.Errorf("%w: p= is not base64: %w", ErrPermanent, err)
	}
	if !slices.Contains([]KeyType{RSA, Ed25519}, k.Type) {
		return Key{}, fmt.Errorf("%w: unknown key type k=%s", ErrPermanent, excerpt(string(k.Type)))
	}
	return k, nil
}

// looksLikeKey tells a broken key record from another record.
func looksLikeKey(text string) bool {
	text = strings.ToLower(withoutSpace(text))
	return strings.HasPrefix(strings.TrimLeft(text, `"'`), "v=dkim1") || strings.HasPrefix(text, "p=") || strings.Contains(text, ";p=")
}

// readVersion: v= is optional, but where it stands it is the first and says DKIM1; records
// of another version are not for us (RFC 6376 §3.6.1).
func (k *Key) readVersion(tags Tags) error {
	version, has := tags.Get("v")
	_, hasKey := tags.Get("p")
	switch {
	case has && version != "DKIM1":
		return fmt.Errorf("%w: v=%s", ErrNotKey, excerpt(version))
	case has && tags[0].Name != "v":
		return fmt.Errorf("%w: v=DKIM1 must stand first", ErrPermanent)
	case !hasKey && !has:
		return fmt.Errorf("%w: it has neither v= nor p=", ErrNotKey)
	case !hasKey:
		return fmt.Errorf("%w: it has no p=", ErrPermanent)
	}
	k.Version = has
	return nil
}

func (k *Key) readTag(tags Tags, tag Tag) {
	switch tag.Name {
	case "v", "p":
	case "k":
		k.Type = KeyType(tags.Compact("k"))
	case "h":
		k.Hashes = tags.List("h")
	case "s":
		k.Services = tags.List("s")
	case "n":
		k.Notes = tag.Value
	case "t":
		k.readFlags(tags.List("t"))
	default:
		k.Other = append(k.Other, tag)
	}
}

// readFlags reads t=; unknown flags are to be ignored (RFC 6376 §3.6.1), and kept.
func (k *Key) readFlags(flags []string) {
	var other []string
	for _, flag := range flags {
		switch flag {
		case "y":
			k.Testing = true
		case "s":
			k.Strict = true
		case "":
		default:
			other = append(other, flag)
		}
	}
	if other != nil {
		k.Other = slices.Insert(k.Other, 0, Tag{"t", strings.Join(other, ":")}) // where String puts it
	}
}

// String gives the record as it goes into the DNS, on one line. ParseKey reads it back.
func (k Key) String() string {
	var parts []string
	add := func(name, value string) { parts = append(parts, name+"="+value) }
	if k.Version {
		add("v", "DKIM1")
	}
	if k.Type != RSA || k.Version {
		add("k", string(k.Type))
	}
	if k.Hashes != nil {
		add("h", strings.Join(k.Hashes, ":"))
	}
	if k.Services != nil {
		add("s", strings.Join(k.Services, ":"))
	}
	if flags := k.flags(); flags != nil {
		add("t", strings.Join(flags, ":"))
	}
	if k.Notes != "" {
		add("n", k.Notes)
	}
	for _, tag := range k.Other {
		if tag.Name != "t" {
			add(tag.Name, tag.Value)
		}
	}
	add("p", base64.StdEncoding.EncodeToString(k.Public))
	return strings.Join(parts, "; ")
}

func (k Key) flags() []string {
	var flags []string
	if k.Testing {
		flags = append(flags, "y")
	}
	if k.Strict {
		flags = append(flags, "s")
	}
	if other, ok := k.Other.Get("t"); ok {
		flags = append(flags, other)
	}
	return flags
}

// decodeBase64 reads base64 without white space. Some records lack the padding; it says
// nothing, so that is let pass.
func decodeBase64(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	bare := strings.TrimRight(s, "=")
	if bare == "" {
		return nil, base64.CorruptInputError(0)
	}
	return base64.RawStdEncoding.DecodeString(bare)
}

// PublicKey gives the key itself: *rsa.PublicKey or ed25519.PublicKey. RSA keys may also
// stand as a bare RSAPublicKey, as RFC 6376 §3.6.1 had it before its erratum 3017. The
// error wraps ErrPermanent.
func (k Key) PublicKey() (crypto.PublicKey, error) {
	if k.Revoked() {
		return nil, fmt.Errorf("%w: it is revoked, p= is empty", ErrPermanent)
	}
	if k.Type == Ed25519 {
		if len(k.Public) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: an Ed25519 key has %d octets, p= has %d", ErrPermanent, ed25519.PublicKeySize, len(k.Public))
		}
		return ed25519.PublicKey(k.Public), nil
	}
	public, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		bare, bareErr := x509.ParsePKCS1PublicKey(k.Public)
		if bareErr != nil {
			return nil, fmt.Errorf("%w: p= is no RSA public key: %w", ErrPermanent, err)
		}
		return bare, nil
	}
	if _, ok := public.(*rsa.PublicKey); !ok {
		return nil, fmt.Errorf("%w: k=rsa, but p= holds a key of another type (%T)", ErrPermanent, public)
	}
	return public, nil
}

// PublicFor gives the key itself, where it may verify mail signed by an algorithm such as
// "rsa-sha256". The error wraps ErrPermanent, and ErrKeySize where nothing but the size is
// wrong (RFC 8301 §3.2); the key stands beside that one.
func (k Key) PublicFor(algorithm string) (crypto.PublicKey, error) {
	public, err := k.PublicKey()
	if err != nil {
		return nil, err
	}
	kind, hash, _ := strings.Cut(algorithm, "-")
	bits := bitsOf(public)
	switch {
	case kind != string(k.Type):
		return nil, fmt.Errorf("%w: it is for %s, the signature is by %s", ErrPermanent, k.Type, excerpt(algorithm))
	case k.Hashes != nil && !slices.Contains(k.Hashes, hash):
		return nil, fmt.Errorf("%w: it does not allow %s (h=)", ErrPermanent, excerpt(hash))
	case !k.servesMail():
		return nil, fmt.Errorf("%w: it is not for mail (s=)", ErrPermanent)
	case k.Type == RSA && bits < MinRSABits:
		return public, fmt.Errorf("%w: %w: it has %d bits, less than %d (RFC 8301 §3.2)", ErrPermanent, ErrKeySize, bits, MinRSABits)
	case k.Type == RSA && bits > MaxRSABits:
		return public, fmt.Errorf("%w: %w: it has %d bits, more than %d", ErrPermanent, ErrKeySize, bits, MaxRSABits)
	}
	return public, nil
}

// bitsOf gives the size of a key.
func bitsOf(public crypto.PublicKey) int {
	switch public := public.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen()
	case ed25519.PublicKey:
		return 8 * len(public)
	}
	return 0
}

// maxString is how many octets one string of a TXT record holds (RFC 1035 §3.3).
const maxString = 255

// Strings gives the record cut into the strings of a TXT record.
func (k Key) Strings() []string {
	var parts []string
	for part := range slices.Chunk([]byte(k.String()), maxString) {
		parts = append(parts, string(part))
	}
	return parts
}

// MasterLine gives the record as a line of a master file (RFC 1035 §5.1):
//
//	mx1._domainkey.example.com. IN TXT "v=DKIM1; k=rsa; p=…" "…"
func (k Key) MasterLine(selector string, domain dns.Name) (string, error) {
	name, err := KeyName(selector, domain)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(name.FQDN() + " IN TXT")
	for _, s := range k.Strings() {
		b.WriteString(` "` + masterString(s) + `"`)
	}
	return b.String(), nil
}

func masterString(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, "\\%03d", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// KeyName gives the name of a key record: SELECTOR._domainkey.DOMAIN (RFC 6376 §3.6.2.1). A
// selector may have dots; it is not escaped like a label.
func KeyName(selector string, domain dns.Name) (dns.Name, error) {
	if !isSelector(selector) {
		return dns.Name{}, fmt.Errorf("not a DKIM selector: %q", excerpt(selector))
	}
	return dns.ParseName(selector + "._domainkey." + domain.FQDN())
}

// isSelector: labels of letters, digits and hyphens (RFC 6376 §3.1), or of UTF-8 (RFC 8616
// §4). Underscores are let pass, since many have them.
func isSelector(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" {
			return false
		}
		for _, c := range label {
			plain := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
			if !plain && (c < 0x80 || c == '\uFFFD') {
				return false
			}
		}
	}
	return true
}
