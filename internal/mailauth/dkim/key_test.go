package dkim_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"mxward/internal/mailauth/dkim"
)

// madeUp gives p= of an RSA key of so many bits that nobody has the private half of.
func madeUp(bits int) string {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	n.Add(n, big.NewInt(15))
	return base64.StdEncoding.EncodeToString(must(x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: 65537})))
}

// ed25519Public is the key of RFC 8463 §A.2.
const ed25519Public = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

func TestParseKey(t *testing.T) {
	p := madeUp(2048)
	tests := []struct {
		text, want string // want: what String gives
		err        error
		why        string
	}{
		{"v=DKIM1; k=rsa; p=" + p, "v=DKIM1; k=rsa; p=" + p, nil, "as it should be"},
		{"v=DKIM1; p=" + p, "v=DKIM1; k=rsa; p=" + p, nil, "k= is rsa by default"},
		{"p=" + p, "p=" + p, nil, "v= is optional"},
		{"k=rsa;p=" + p, "p=" + p, nil, "no spaces"},
		{"v=DKIM1;k=ed25519;p=" + ed25519Public, "v=DKIM1; k=ed25519; p=" + ed25519Public, nil, "RFC 8463 §A.2"},
		{"v=DKIM1; p=", "v=DKIM1; k=rsa; p=", nil, "revoked, RFC 6376 §3.6.1"},
		{"v=DKIM1; p=;", "v=DKIM1; k=rsa; p=", nil, "revoked, with the last semicolon"},
		{"v=DKIM1; p=" + p[:100] + " \t\r\n" + p[100:], "v=DKIM1; k=rsa; p=" + p, nil, "white space in p="},
		{"v=DKIM1; k=ed25519; p=" + strings.TrimRight(ed25519Public, "="), "v=DKIM1; k=ed25519; p=" + ed25519Public, nil, "no padding"},
		{"v=DKIM1; h=sha1 : sha256; s=email:tlsrpt; t=y:s; n=hello there; p=" + p, "v=DKIM1; k=rsa; h=sha1:sha256; s=email:tlsrpt; t=y:s; n=hello there; p=" + p, nil, "every tag"},
		{"v=DKIM1; foo=1; t=z; p=" + p, "v=DKIM1; k=rsa; t=z; foo=1; p=" + p, nil, "what is unknown is kept"},

		{"v=spf1 -all", "", dkim.ErrNotKey, "an SPF record"},
		{"v=DMARC1; p=none", "", dkim.ErrNotKey, "a DMARC record, whose p= is another"},
		{"v=DKIM2; p=" + p, "", dkim.ErrNotKey, "another version, RFC 6376 §3.6.1"},
		{"google-site-verification=abc", "", dkim.ErrNotKey, "something else"},
		{"hello", "", dkim.ErrNotKey, "free text"},
		{"", "", dkim.ErrNotKey, "empty"},
		{"k=rsa; v=DKIM1; p=" + p, "", dkim.ErrPermanent, "v= must stand first"},
		{"v=DKIM1; k=rsa", "", dkim.ErrPermanent, "no p="},
		{"v=DKIM1; k=dsa; p=" + p, "", dkim.ErrPermanent, "an unknown type"},
		{"v=DKIM1; k=RSA; p=" + p, "", dkim.ErrPermanent, "the case of values counts, RFC 6376 §3.2"},
		{"v=DKIM1; p==", "", dkim.ErrPermanent, "padding of nothing is no revocation"},
		{"v=DKIM1; p=!!!", "", dkim.ErrPermanent, "not base64"},
		{"v=DKIM1; p=" + p + "; p=" + p, "", dkim.ErrPermanent, "twice"},
		{"v=DKIM1 k=rsa p=" + p, "", dkim.ErrNotKey, "no semicolons: v= says something else"},
		{"v=DKIM1; k=rsa; nonsense; p=" + p, "", dkim.ErrPermanent, "no ="},
		{"v=DKIM1; n=" + strings.Repeat("x", dkim.MaxRecord) + "; p=" + p, "", dkim.ErrPermanent, "too long"},
	}
	for _, tt := range tests {
		k, err := dkim.ParseKey(tt.text)
		if !errors.Is(err, tt.err) || (tt.err == nil) != (err == nil) {
			t.Errorf("%s: got %v, want %v", tt.why, err, tt.err)
			continue
		}
		if err != nil {
			if !reflect.DeepEqual(k, dkim.Key{}) || errors.Is(err, dkim.ErrNotKey) && errors.Is(err, dkim.ErrPermanent) {
				t.Errorf("%s: %+v beside %v", tt.why, k, err)
			}
			continue
		}
		if k.String() != tt.want {
			t.Errorf("%s: got %q, want %q", tt.why, k, tt.want)
		}
		if again, err := dkim.ParseKey(k.String()); err != nil || !reflect.DeepEqual(again, k) {
			t.Errorf("%s: %q reads as %+v, not %+v: %v", tt.why, k, again, k, err)
		}
	}
}

func TestPublicKey(t *testing.T) {
	spki := madeUp(2048)
	bare := base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(rsaKey().Public().(*rsa.PublicKey)))
	tests := []struct {
		text string
		ok   bool
		why  string
	}{
		{"p=" + spki, true, "SubjectPublicKeyInfo"},
		{"p=" + bare, true, "RSAPublicKey, erratum 3017"},
		{"k=ed25519; p=" + ed25519Public, true, "32 octets"},
		{"p=", false, "revoked"},
		{"p=aGVsbG8=", false, "no key"},
		{"p=" + spki[:len(spki)-40], false, "cut off"},
		{"p=" + ed25519Public, false, "an Ed25519 key without k="},
		{"k=ed25519; p=" + spki, false, "an RSA key with k=ed25519"},
		{"p=MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", false, "an Ed25519 key as SubjectPublicKeyInfo with k=rsa"},
	}
	for _, tt := range tests {
		public, err := must(dkim.ParseKey(tt.text)).PublicKey()
		if (err == nil) != tt.ok || err != nil && (!errors.Is(err, dkim.ErrPermanent) || public != nil) {
			t.Errorf("%s: got %T, %v", tt.why, public, err)
		}
	}
}

func TestLint(t *testing.T) {
	p := madeUp(2048)
	good := "v=DKIM1; k=rsa; p=" + p
	armour := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(base64.StdEncoding.DecodeString(p))}))
	private := base64.StdEncoding.EncodeToString(must(x509.MarshalPKCS8PrivateKey(rsaKey())))
	bare := base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(rsaKey().Public().(*rsa.PublicKey)))
	privatePEM := string(must(dkim.MarshalPrivate(rsaKey())))
	spki := base64.StdEncoding.EncodeToString(must(x509.MarshalPKIXPublicKey(rsaKey().Public())))
	syntax := "error dkim.syntax"
	tests := []struct {
		text, want, fix string // want: severity and id of each finding; fix "" where nothing is to be mended
		why             string
	}{
		{good, "", "", "nothing wrong"},
		{"v=DKIM1;k=rsa;p=" + p + ";", "", "", "no spaces are no fault"},
		{"v=DKIM1; k=rsa; n=it's ours; p=" + p, "", "", "an apostrophe in a note"},
		{"k=rsa; p=" + p, "notice dkim.syntax", good, "v= is missing"},
		{"v=DKIM1; k=rsa; p=" + p[:64] + "\n" + p[64:128] + "\n" + p[128:], "warning dkim.syntax", good, "pasted with line breaks"},
		{"v=DKIM1; k=rsa; p=" + p[:64] + " " + p[64:], "warning dkim.syntax", good, "white space where strings were joined"},
		{"v=DKIM1; k=rsa; p=" + armour, syntax + ", warning dkim.syntax", good, "a PEM file pasted"},
		{p, syntax, good, "the key alone"},
		{"\u201c" + good + "\u201d", syntax + ", " + syntax, good, "typographic quotation marks"},
		{`"` + good + `"`, syntax, good, "quotation marks inside"},
		{`"` + good[:100] + `" "` + good[100:] + `"`, syntax + ", " + syntax, good, "strings joined with their quotation marks"},
		{`"v=DKIM1; k=rsa; " "p=` + p + `"`, syntax + ", " + syntax, good, "the same at a tag"},
		{`mx1._domainkey IN TXT ( "v=DKIM1; k=rsa; "` + "\n\t" + `"p=` + p + `" )  ; ----- DKIM key mx1 for example.com`, syntax + ", " + syntax + ", " + syntax + ", " + syntax, good, "the file that opendkim-genkey writes"},
		{`v=DKIM1\; k=rsa\; p=` + p, syntax, good, "escaped semicolons"},
		{"v=DKIM1, k=rsa; p=" + p, syntax, good, "a comma"},
		{"v=DKIM1 k=rsa; p=" + p, syntax, good, "a semicolon missing after v="},
		{"v=DKIM1; k=rsa p=" + p, syntax, good, "a semicolon missing before p="},
		{"v=dkim1; k=rsa; p=" + p, syntax, good, "the version in lower case"},
		{"v=DKIM1; k=rsa; P=" + p, syntax, good, "a tag in upper case"},
		{"v=DKIM1;\u00a0k=rsa; p=" + p[:9] + "\u200b" + p[9:], syntax + ", " + syntax, good, "invisible characters"},
		{"v=DKIM1; k=RSA; p=" + p, "error dkim.unknown-type", good, "k= in upper case"},
		{"v=DKIM1; k=rsa-sha256; p=" + p, "error dkim.unknown-type", good, "the algorithm instead of the type"},
		{"v=DKIM1; k=dsa; p=" + p, "error dkim.unknown-type", "", "a type that nobody knows"},
		{"v=DKIM1; k=rsa; key=" + p, syntax, "", "a wrong tag for the key"},
		{"v=DKIM1; p=" + p + "; p=" + p, syntax, "", "twice"},
		{"k=rsa; v=DKIM1; p=" + p, syntax, "", "v= not first"},
		{"v=spf1 mx -all", syntax, "", "another record"},
		{"v=DKIM1; p=", "info dkim.revoked", "", "revoked"},
		{"v=DKIM1; p=" + madeUp(512), "error dkim.key-too-short", "", "512 bits, RFC 8301 §3.2"},
		{"v=DKIM1; p=" + madeUp(1023), "error dkim.key-too-short", "", "just too short"},
		{"v=DKIM1; p=" + madeUp(1024), "warning dkim.key-weak", "", "1024 bits"},
		{"v=DKIM1; p=" + madeUp(2047), "warning dkim.key-weak", "", "just weak"},
		{"v=DKIM1; p=" + madeUp(4096), "notice dkim.key-long", "", "4096 bits"},
		{"v=DKIM1; p=" + madeUp(4097), "warning dkim.key-long", "", "more than verifiers must know"},
		{"v=DKIM1; p=" + p[:200], "error dkim.key-malformed", "", "cut off"},
		{"v=DKIM1; p=" + p[:30] + "*" + p[31:], "error dkim.key-malformed", "", "not base64"},
		{"v=DKIM1; p=" + private, "error dkim.key-malformed", "", "the private key"},
		{"v=DKIM1; p=" + bare, "notice dkim.key-malformed", "", "PKCS #1"},
		{"v=DKIM1; k=ed25519; p=" + ed25519Public, "", "", "Ed25519"},
		{"v=DKIM1; k=ed25519; p=MCowBQYDK2VwAyEA" + ed25519Public, "error dkim.key-malformed", "v=DKIM1; k=ed25519; p=" + ed25519Public, "Ed25519 as SubjectPublicKeyInfo"},
		{"v=DKIM1; p=MCowBQYDK2VwAyEA" + ed25519Public, "error dkim.key-malformed", "v=DKIM1; k=ed25519; p=" + ed25519Public, "the same without k="},
		{"MCowBQYDK2VwAyEA" + ed25519Public, syntax + ", error dkim.key-malformed", "v=DKIM1; k=ed25519; p=" + ed25519Public, "the same alone, as openssl writes it"},
		{"v=DKIM1; k=ed25519; p=" + p, "error dkim.key-malformed", "", "an RSA key with k=ed25519"},
		{privatePEM, "error dkim.private-key", "v=DKIM1; k=rsa; p=" + spki, "the file of the private key"},
		{"-----BEGIN PRIVATE KEY-----\nbroken", "error dkim.private-key", "", "a piece of it"},
		{"k=rsa; p=" + p + "; v=DKIM1", syntax, good, "v= at the end"},
		{"v=DKIM1; k=ed25519; p=" + ed25519Public[:40], "error dkim.key-malformed", "", "Ed25519, cut off"},
		{"v=DKIM1; p=" + ed25519Public, "error dkim.key-malformed", "", "Ed25519 without k="},
		{"v=DKIM1; h=sha1; p=" + p, "error dkim.sha1-only", "", "SHA-1 only"},
		{"v=DKIM1; h=sha1:sha256; p=" + p, "", "", "SHA-256 too"},
		{"v=DKIM1; s=tlsrpt; p=" + p, "error dkim.unusable-service", "", "another service"},
		{"v=DKIM1; s=tlsrpt:email; p=" + p, "", "", "mail too"},
		{"v=DKIM1; s=*; t=s; p=" + p, "", "", "all services, and strict"},
		{"v=DKIM1; t=y; p=" + p, "notice dkim.testing", "", "testing"},
		{"v=DKIM1; g=*; p=" + p, "notice dkim.obsolete-tag", "", "g="},
		{"v=DKIM1; x=1; p=" + p, "notice dkim.syntax", "", "an unknown tag"},
		{"v=DKIM1; t=q; p=" + p, "notice dkim.syntax", "", "an unknown flag"},
	}
	for _, tt := range tests {
		r := dkim.Lint(tt.text)
		if got := idsOf(r); got != tt.want || r.Fix != tt.fix {
			t.Errorf("%s: got %q and the fix %q, want %q and %q\n%+v", tt.why, got, r.Fix, tt.want, tt.fix, r.Findings)
		}
		if r.Fix != "" && len(dkim.Lint(r.Fix).Findings) != 0 {
			t.Errorf("%s: the fix has faults of its own: %+v", tt.why, dkim.Lint(r.Fix).Findings)
		}
	}
}

func idsOf(r dkim.Report) string {
	var ids []string
	for _, f := range r.Findings {
		ids = append(ids, string(f.Severity)+" "+f.ID)
	}
	return strings.Join(ids, ", ")
}

func TestLintSet(t *testing.T) {
	good := "v=DKIM1; k=rsa; p=" + madeUp(2048)
	tests := []struct {
		records []string
		want    string
		why     string
	}{
		{nil, "error dkim.missing", "none"},
		{[]string{good}, "", "one"},
		{[]string{good, good}, "error dkim.multiple-records", "two keys"},
		{[]string{"v=spf1 -all", good}, "error dkim.multiple-records", "a key and something else"},
		{[]string{"v=spf1 -all"}, "error dkim.syntax", "something else only"},
		{[]string{"v=spf1 -all", "hello"}, "error dkim.missing", "two other things"},
	}
	for _, tt := range tests {
		if got := idsOf(dkim.LintSet(tt.records)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.why, got, tt.want)
		}
	}
}

func TestProviders(t *testing.T) {
	for _, p := range dkim.Providers() {
		if p.Name == "" || len(p.Selectors) == 0 {
			t.Errorf("%+v", p)
		}
		for _, s := range p.Selectors {
			if _, err := dkim.KeyName(s, must(dkim.KeyName("x", signer("rsa").Domain))); err != nil {
				t.Error(err)
			}
		}
	}
	if !slices.ContainsFunc(dkim.Providers(), func(p dkim.Provider) bool { return slices.Contains(p.Selectors, "google") }) {
		t.Error("no google")
	}
}
