package audit

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/zone"
)

// stsIs is a domain with MTA-STS: its record, and its policy as the web server gives it.
func stsIs(why, record string, h http.Handler, fails string) animal {
	a := animal{why: why, add: "mta-sts A 203.0.113.80\n", policy: h, fails: fails, gone: "mtasts.txt-missing"}
	if record != "" {
		a.add += "_mta-sts TXT \"" + record + "\"\n"
	}
	return a
}

func policy(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte(text))
	})
}

func mtastsZoo() []animal {
	const (
		record = "v=STSv1; id=1;"
		mxs    = "mx: mx1.example.com\nmx: mx2.example.com\n"
		good   = "version: STSv1\nmode: enforce\n" + mxs + "max_age: 2419200\n"
	)
	status := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	with := func(a animal, add string) animal { a.add += add; return a }
	missing := stsIs("a policy and no record", "", policy(good), "mtasts.policy-without-txt mtasts.txt-missing")
	missing.gone = ""
	bad := stsIs("another name in the certificate", record, policy(good), "mtasts.cert")
	bad.badCert = true
	return []animal{
		stsIs("MTA-STS without fault", record, policy(good), ""),
		missing, bad,
		with(stsIs("two records", record, policy(good), "mtasts.txt-multiple"), "_mta-sts TXT \"v=STSv1; id=2;\"\n"),
		stsIs("a record with a mistake", "v=STSv1; id=1; a b", policy(good), "mtasts.txt-syntax"),
		stsIs("a record without an id", "v=STSv1;", policy(good), "mtasts.id-invalid"),
		{why: "a policy host without an address", add: "_mta-sts TXT \"" + record + "\"\n", gone: "mtasts.txt-missing", fails: "mtasts.host-unresolvable"},
		{why: "a policy host that hangs up", add: "mta-sts A 203.0.113.80\n_mta-sts TXT \"" + record + "\"\n", gone: "mtasts.txt-missing", fails: "mtasts.https-error", blamed: "mtasts.https-error@policy-host", unknown: "mtasts.mx-not-covered@policy-host"},
		stsIs("a redirect", record, http.RedirectHandler("https://example.net/", http.StatusMovedPermanently), "mtasts.redirect"),
		stsIs("a policy that is not there", record, status(404), "mtasts.status"),
		stsIs("a web server that fails", record, status(503), "mtasts.status"),
		stsIs("a policy as HTML", record, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(good))
		}), "mtasts.content-type"),
		stsIs("a policy of 10 MB", record, policy(strings.Repeat(good, 10<<20/len(good))), "mtasts.too-large"),
		stsIs("a policy with a mistake", record, policy("version: STSv1\nmode enforce\n"), "mtasts.policy-syntax"),
		stsIs("mode none", record, policy("version: STSv1\nmode: none\nmax_age: 2419200\n"), "mtasts.mode-none"),
		stsIs("mode testing", record, policy(strings.Replace(good, "enforce", "testing", 1)), "mtasts.mode-testing"),
		stsIs("an MX host left out", record, policy(strings.Replace(good, "mx: mx2.example.com\n", "", 1)), "mtasts.mx-not-covered"),
		stsIs("a host that is none", record, policy(strings.Replace(good, mxs, mxs+"mx: mx3.example.com\n", 1)), "mtasts.pattern-unused"),
		stsIs("a short age", record, policy(strings.Replace(good, "2419200", "3600", 1)), "mtasts.max-age-low"),
		stsIs("an age out of range", record, policy(strings.Replace(good, "2419200", "99999999", 1)), "mtasts.max-age-range"),
		{why: "the servers fail at _mta-sts", turn: failing(dns.TypeTXT, "_mta-sts.example.com"), gone: "mtasts.txt-missing", unknown: "mtasts.txt-missing@zone-ns mtasts.cert@zone-ns"},
	}
}

// signedWith is a signed domain with these lines.
func signedWith(why, lines, fails string) animal {
	return animal{why: why, add: lines, signed: &zone.Signing{}, fails: fails, gone: "dnssec.insecure"}
}

func tlsZoo() []animal {
	const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	tls := func(why, lines, fails string) animal {
		return animal{why: why, drop: []string{"_smtp._tls"}, add: lines, fails: fails}
	}
	both := func(data string) string { return "_25._tcp.mx1 TLSA " + data + "\n_25._tcp.mx2 TLSA " + data + "\n" }
	partly := signedWith("the MX records are elsewhere than the TLSA records", "", "")
	partly.why = "through another resolver, DANE is unknown"
	partly.forwarded, partly.unknown = true, "dane.missing-partial@local-resolver"
	apart := signedWith("an unsigned domain whose MX host has DANE", both("3 1 1 "+digest), "dane.insecure-zone dnssec.insecure")
	apart.domain, apart.gone, apart.anyMore = "plain.com", "", true
	apart.plain = "@ 300 SOA ns1 hostmaster 1 14400 3600 604800 3600\n@ 300 NS ns1\nns1 300 A " + plainAt + "\n@ 300 MX 10 mx1.example.com.\n@ 300 TXT \"v=spf1 mx -all\"\n"
	many := signedWith("more MX hosts than are looked at", fiftyMX(), "dane.hosts-left-out")
	many.anyMore = true
	return []animal{
		tls("no TLS reports", "", "tlsrpt.missing"),
		tls("two records", "_smtp._tls TXT \"v=TLSRPTv1; rua=mailto:a@example.com\"\n_smtp._tls TXT \"v=TLSRPTv1; rua=mailto:b@example.com\"\n", "tlsrpt.multiple"),
		tls("a record with a mistake", "_smtp._tls TXT \"v=TLSRPTv1 rua=mailto:a@example.com\"\n", "tlsrpt.syntax"),
		tls("an address that is none", "_smtp._tls TXT \"v=TLSRPTv1; rua=a@example.com\"\n", "tlsrpt.rua-invalid"),

		signedWith("DANE without fault", both("3 1 1 "+digest), ""),
		signedWith("DANE at one of two", "_25._tcp.mx1 TLSA 3 1 1 "+digest+"\n", "dane.missing-partial"),
		signedWith("usage 1", both("1 1 1 "+digest), "dane.usage-pkix dane.unusable"),
		signedWith("a short digest", both("3 1 1 0123"), "dane.digest-length dane.unusable"),
		signedWith("a whole key", both("3 1 0 302a300506032b6570032100"+digest), "dane.matching-full"),
		signedWith("two digests", both("3 1 1 "+digest)+both("3 1 2 "+digest+digest), "dane.digest-passed-over"),
		{why: "the servers fail at the TLSA records", signed: &zone.Signing{}, turn: failing(dns.TypeTLSA, "_25._tcp.mx1.example.com"), gone: "dnssec.insecure", fails: "dane.denial-broken", blamed: "dane.denial-broken@zone-ns@mx1.example.com"},
		partly, apart, many,
	}
}

func fiftyMX() string {
	var b strings.Builder
	for i := range 50 {
		fmt.Fprintf(&b, "@ MX 30 many%d\nmany%d A 192.0.2.25\n", i, i)
	}
	return b.String()
}

func dnssecZoo() []animal {
	noDS := animal{why: "keys without a DS record", signed: &zone.Signing{}, noDS: true, fails: "dnssec.key-without-ds"}
	sha1 := signedWith("a DS record with SHA-1", "", "dnssec.digest-sha1")
	otherDS := signedWith("a DS record of another key", "", "dnssec.ds-without-key dnssec.bogus dmarc.temperror caa.servfail")
	otherDS.ds = "example 3600 DS 1 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"
	otherDS.gone = usual
	sha1.ds = "example 3600 DS 1 13 1 0123456789abcdef0123456789abcdef01234567\n"
	sha1.anyMore = true
	return []animal{
		signedWith("a signed domain without fault", "", ""),
		noDS, otherDS, sha1,
		{why: "signatures that have ended", signed: &zone.Signing{}, lasts: -time.Hour, gone: usual, fails: "dnssec.rrsig-expired dnssec.bogus dmarc.temperror caa.servfail", blamed: "dnssec.bogus@zone", unknown: "mx.null@zone spf.missing@zone"},
		{why: "signatures that end soon", signed: &zone.Signing{}, lasts: time.Hour, gone: "dnssec.insecure", fails: "dnssec.rrsig-expiring"},
		{why: "a resolver behind which nothing is signed", signed: &zone.Signing{}, forwarded: true, strips: true, gone: "dnssec.insecure", fails: "resolver.strips-dnssec"},
		{why: "a resolver that does not validate", signed: &zone.Signing{}, credulous: true, gone: "dnssec.insecure", fails: "resolver.no-dnssec"},
		{why: "an algorithm of the past", oldAlgorithm: true, fails: "dnssec.algo-deprecated dnssec.key-without-ds dnssec.key-size"},
		{why: "a bogus zone behind another resolver", signed: &zone.Signing{}, lasts: -time.Hour, forwarded: true, gone: usual, fails: "dnssec.rrsig-expired dnssec.bogus dmarc.temperror caa.servfail", unknown: "mx.null@zone spf.missing@zone"},
	}
}

func otherZoo() []animal {
	bimi := func(why, lines, fails string) animal {
		return animal{why: why, drop: []string{"default._bimi"}, add: lines, fails: fails}
	}
	caa := func(why, lines, fails string) animal {
		return animal{why: why, drop: []string{"@ CAA"}, add: lines, fails: fails}
	}
	const image = "l=https://example.com/logo.svg"
	return []animal{
		bimi("no BIMI", "", "bimi.missing"),
		bimi("two BIMI records", strings.Repeat("default._bimi TXT \"v=BIMI1; "+image+"; a=https://example.com/a.pem\"\n", 1)+"default._bimi TXT \"v=BIMI1; "+image+"; a=https://example.com/b.pem\"\n", "bimi.multiple"),
		bimi("a BIMI record with a mistake", "default._bimi TXT \"v=BIMI1; l=http://example.com/logo.svg\"\n", "bimi.syntax"),
		bimi("no image wanted", "default._bimi TXT \"v=BIMI1; l=; a=\"\n", "bimi.declined"),
		bimi("a PNG", "default._bimi TXT \"v=BIMI1; l=https://example.com/logo.png; a=https://example.com/logo.pem\"\n", "bimi.svg-location"),
		bimi("no certificate", "default._bimi TXT \"v=BIMI1; "+image+"\"\n", "bimi.cert-missing"),
		caa("no CAA", "", "caa.missing"),
		caa("an issuer that is none", "@ CAA 0 issue \"https://ca.example.net\"\n", "caa.syntax"),
		caa("a critical property that nobody knows", "@ CAA 128 tbs \"x\"\n", "caa.critical-unknown"),
		caa("nobody may issue", "@ CAA 0 issue \";\"\n", ""),
		{why: "the servers fail at CAA", turn: failing(dns.TypeCAA, "example.com"), fails: "caa.servfail", blamed: "caa.servfail@zone-ns", unknown: "caa.missing@zone-ns"},
	}
}
