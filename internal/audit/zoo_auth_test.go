package audit

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// spfIs is a domain with these texts at its apex in place of its policy; terms in net are
// records of example.net.
func spfIs(why, text, fails string) animal {
	return animal{why: why, drop: []string{"@ TXT"}, add: "@ TXT \"" + text + "\"\n", fails: fails}
}

func spfZoo() []animal {
	includes := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, " exists:e%d.example.net", i)
		}
		return b.String()
	}
	var nets strings.Builder
	for i := range 12 {
		fmt.Fprintf(&nets, "e%d.example A 192.0.2.25\n", i)
	}
	with := func(a animal, net string) animal { a.net = net; return a }
	return []animal{
		{why: "no policy", drop: []string{"@ TXT"}, fails: "spf.missing"},
		{why: "two policies", add: "@ TXT \"v=spf1 -all\"\n", fails: "spf.multiple"},
		spfIs("v=spf10 is no policy", "v=spf10 mx -all", "spf.missing spf.syntax"),
		spfIs("an unknown mechanism", "v=spf1 ipv4:203.0.113.1 -all", "spf.syntax"),
		with(spfIs("eleven look-ups", "v=spf1"+includes(11)+" -all", "spf.lookups-exceeded"), nets.String()),
		with(spfIs("ten look-ups and an explanation, which is not counted", "v=spf1"+includes(10)+" -all exp=why.example.com", "spf.lookups-near"), nets.String()),
		spfIs("three names that are gone", "v=spf1 a:x.example.net a:y.example.net a:z.example.net -all", "spf.void-exceeded"),
		spfIs("a loop", "v=spf1 include:example.com -all", "spf.loop"),
		with(spfIs("an include without a policy", "v=spf1 include:none.example.net -all", "spf.include-none"), "none.example A 192.0.2.25\n"),
		spfIs("an include that does not exist", "v=spf1 include:gone.example.net -all", "spf.include-nxdomain spf.include-unregistered"),
		spfIs("redirect beside all", "v=spf1 mx -all redirect=example.net", "spf.redirect-ignored"),
		spfIs("terms behind all", "v=spf1 -all mx", "spf.after-all"),
		spfIs("no all", "v=spf1 mx", "spf.no-all"),
		spfIs("the whole world", "v=spf1 mx +all", "spf.plus-all"),
		spfIs("nobody in particular", "v=spf1 mx ?all", "spf.neutral-all"),
		spfIs("ptr", "v=spf1 ptr -all", "spf.ptr"),
		{why: "a long policy", drop: []string{"@ TXT"}, add: "@ TXT \"v=spf1 " + strings.Repeat("ip4:9.9.9.9 ", 20) + "\" \"" + strings.Repeat("ip4:8.8.8.8 ", 20) + "-all\"\n", fails: "spf.oversize spf.duplicate-term"},
		spfIs("a wide network", "v=spf1 ip4:8.0.0.0/8 -all", "spf.too-broad"),
		spfIs("a private network", "v=spf1 ip4:10.0.0.0/24 -all", "spf.private-range"),
		spfIs("a term twice", "v=spf1 mx mx -all", "spf.duplicate-term"),
		{why: "neither mail nor senders", drop: []string{"@ MX", "@ TXT", "_dmarc"}, add: "@ TXT \"v=spf1 -all\"\n_dmarc TXT \"v=DMARC1; p=reject; rua=mailto:d@mx1.example.com\"\n", fails: "mx.missing", gone: "mtasts.txt-missing"},
		{why: "an include whose servers are silent: a third party's", drop: []string{"@ TXT"}, add: "@ TXT \"v=spf1 include:spf.dark.example.net -all\"\n",
			net: "dark.example NS ns.dark.example\nns.dark.example A 203.0.113.9\n", unknown: "spf.include-none@third-party spf.lookups-exceeded@third-party"},
	}
}

// dmarcIs is a domain with this record; "" leaves it out.
func dmarcIs(why, text, fails string) animal {
	a := animal{why: why, drop: []string{"_dmarc"}, fails: fails}
	if text != "" {
		a.add = "_dmarc TXT \"" + text + "\"\n"
	}
	return a
}

func dmarcZoo() []animal {
	const rua = "; rua=mailto:d@example.com"
	with := func(a animal, add string) animal { a.add += add; return a }
	below := func(a animal) animal {
		a.domain, a.gone = "sub.example.com", ""
		a.add += "sub MX 10 mx1\nsub TXT \"v=spf1 mx -all\"\n_smtp._tls.sub TXT \"v=TLSRPTv1; rua=mailto:tls@example.com\"\n"
		return a
	}
	return []animal{
		dmarcIs("no policy", "", "dmarc.missing bimi.dmarc-not-enforced"),
		with(dmarcIs("two records", "v=DMARC1; p=reject"+rua, "dmarc.multiple-records dmarc.rua-missing dmarc.weak-none bimi.dmarc-not-enforced"), "_dmarc TXT \"v=DMARC1; p=none\"\n"),
		below(with(dmarcIs("two records at the parent", "v=DMARC1; p=reject"+rua, "dmarc.multiple-records dmarc.rua-missing dmarc.weak-none bimi.missing"+noPrograms), "_dmarc TXT \"v=DMARC1; p=none\"\n")),
		dmarcIs("a version in the wrong case", "v=dmarc1; p=reject", "dmarc.version-first bimi.dmarc-not-enforced"),
		with(dmarcIs("a record at the domain itself", "", "dmarc.missing dmarc.misplaced bimi.dmarc-not-enforced"), "@ TXT \"v=DMARC1; p=reject\"\n"),
		dmarcIs("a tag twice", "v=DMARC1; p=reject; p=reject"+rua, "dmarc.syntax"),
		dmarcIs("no p", "v=DMARC1"+rua, "dmarc.p-missing bimi.dmarc-not-enforced"),
		dmarcIs("a p that is none", "v=DMARC1; p=rejekt"+rua, "dmarc.p-invalid bimi.dmarc-not-enforced"),
		dmarcIs("an sp that is none", "v=DMARC1; p=reject; sp=rejekt"+rua, "dmarc.sp-invalid bimi.dmarc-not-enforced"),
		dmarcIs("p=none", "v=DMARC1; p=none"+rua, "dmarc.weak-none bimi.dmarc-not-enforced"),
		dmarcIs("t=y", "v=DMARC1; p=reject; t=y"+rua, "dmarc.testing bimi.dmarc-not-enforced"),
		dmarcIs("a weak sp", "v=DMARC1; p=reject; sp=none"+rua, "dmarc.sp-weaker bimi.dmarc-not-enforced"),
		dmarcIs("a weak np", "v=DMARC1; p=reject; np=none"+rua, "dmarc.np-weaker"),
		dmarcIs("ri", "v=DMARC1; p=reject; ri=3600"+rua, "dmarc.obsolete-tag"),
		dmarcIs("pct", "v=DMARC1; p=reject; pct=50"+rua, "dmarc.pct-ignored"),
		dmarcIs("an unknown tag", "v=DMARC1; p=reject; color=blue"+rua, "dmarc.unknown-tag"),
		dmarcIs("psd=y at an ordinary domain", "v=DMARC1; p=reject; psd=y"+rua, "dmarc.psd-misuse"),
		dmarcIs("nobody gets reports", "v=DMARC1; p=reject", "dmarc.rua-missing"),
		dmarcIs("an address that is none", "v=DMARC1; p=reject; rua=d@example.com", "dmarc.rua-invalid"),
		dmarcIs("a stranger who has not agreed", "v=DMARC1; p=reject; rua=mailto:d@example.net; ruf=mailto:d@other.example.net", "dmarc.rua-unauthorized dmarc.ruf-unauthorized dmarc.rua-no-mail"),
		dmarcIs("fo without ruf", "v=DMARC1; p=reject; fo=1"+rua, "dmarc.fo-without-ruf"),
		below(with(dmarcIs("a domain apart", "v=DMARC1; p=reject"+rua, "dmarc.walk-differs-psl bimi.missing dmarc.spf-only-reject"+noPrograms), "_dmarc.sub TXT \"v=DMARC1; p=reject; psd=n; rua=mailto:d@sub.example.com\"\n")),
		{why: "the servers fail at _dmarc", turn: failing(dns.TypeTXT, "_dmarc.example.com"), fails: "dmarc.temperror", unknown: "dmarc.missing@zone-ns dmarc.weak-none@zone-ns bimi.dmarc-not-enforced@zone-ns", blamed: "dmarc.temperror@zone-ns"},
	}
}

// keyIs is a domain with this record at the selector key.
func keyIs(why, lines, fails string) animal {
	return animal{why: why, add: lines, selectors: []string{"key"}, fails: fails}
}

func rsaKey(bits int) string {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// shortKey has 512 bits; nobody here makes one, and nobody verifies with it.
func shortKey() string {
	n := new(big.Int).SetBit(big.NewInt(1), 511, 1)
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: 65537})
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func quotedTXT(name, text string) string {
	line := name + " TXT"
	for len(text) > 200 {
		line, text = line+" \""+text[:200]+"\"", text[200:]
	}
	return line + " \"" + text + "\"\n"
}

func dkimZoo() []animal {
	const ed = "p=gJqa580Xk5Zevw/xdKKftoCJ8VIhv2xckvLH7XmqGiY="
	good := rsaKey(2048)
	at := func(text string) string { return quotedTXT("key._domainkey", text) }
	small := rsaKey(1024)
	return []animal{
		keyIs("a good key", at("v=DKIM1; k=rsa; p="+good), ""),
		keyIs("no key", "", "dkim.missing"),
		keyIs("two records", at("v=DKIM1; k=rsa; p="+good)+at("v=DKIM1; p="), "dkim.multiple-records"),
		keyIs("a key in the wrong place", quotedTXT("key._domainkey.example.com", "v=DKIM1; k=rsa; p="+good), "dkim.missing dkim.misplaced"),
		keyIs("a record that cannot be read", at("v=DKIM1; k=rsa; p"), "dkim.syntax"),
		keyIs("a revoked key", at("v=DKIM1; p="), "dkim.revoked"),
		keyIs("a short key", at("v=DKIM1; k=rsa; p="+shortKey()), "dkim.key-too-short"),
		keyIs("a key of 1024 bits", at("v=DKIM1; k=rsa; p="+small), "dkim.key-weak"),
		keyIs("a key of 3072 bits", at("v=DKIM1; k=rsa; p="+rsaKey(3072)), "dkim.key-long"),
		keyIs("a key that is cut off", at("v=DKIM1; k=rsa; p="+good[:100]), "dkim.key-malformed"),
		keyIs("a private key", at("-----BEGIN PRIVATE KEY-----MIIB"), "dkim.private-key"),
		{why: "Ed25519 alone", selectors: []string{"s1"}, fails: "dkim.ed25519-only"},
		keyIs("SHA-1 alone", at("v=DKIM1; k=rsa; h=sha1; p="+good), "dkim.sha1-only"),
		keyIs("a key that is tried out", at("v=DKIM1; k=rsa; t=y; p="+good), "dkim.testing"),
		keyIs("a key that serves no mail", at("v=DKIM1; k=rsa; s=tlsrpt; p="+good), "dkim.unusable-service"),
		keyIs("a key of no known type", at("v=DKIM1; k=dsa; "+ed), "dkim.unknown-type"),
		keyIs("g=", at("v=DKIM1; k=rsa; g=*; p="+good), "dkim.obsolete-tag"),
		keyIs("an alias that leads nowhere", "key._domainkey CNAME gone.example.net.\n", "dkim.missing dkim.cname-dangling"),
		{why: "the servers fail at the selector: it is not missing", selectors: []string{"s1"}, turn: failing(dns.TypeTXT, "s1._domainkey.example.com"), unknown: "dkim.missing@zone-ns dkim.revoked@zone-ns"},
		{why: "no selector: nothing is missing", unknown: "dkim.no-selector-known@unknown", hosts: map[string]dnstest.Behaviour{}},
	}
}
