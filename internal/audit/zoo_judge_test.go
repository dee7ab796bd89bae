package audit

import (
	"slices"
	"strings"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/zone"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/mtasts"
)

// quiet is what profiles that do not look at mail's way in leave out of the usual.
const quiet = "mtasts.txt-missing"

func profileZoo() []animal {
	signed := func(a animal) animal { a.signed = &zone.Signing{}; return a }
	parked := []string{"@ MX", "@ TXT", "_dmarc", "_smtp._tls"}
	return []animal{
		{why: "parked as it should be", profile: Parked, drop: parked, gone: quiet,
			add: "@ MX 0 .\n@ TXT \"v=spf1 -all\"\n_dmarc TXT \"v=DMARC1; p=reject\"\n"},
		{why: "parked, and says nothing", profile: Parked, drop: parked, gone: quiet,
			fails: "mx.parked-not-null spf.parked-not-deny dmarc.parked-not-reject"},
		{why: "parked, and takes and sends mail", profile: Parked, gone: quiet, fails: "mx.parked-not-null spf.parked-not-deny"},
		{why: "parked, and the policy is milder", profile: Parked, drop: parked, gone: quiet,
			add: "@ MX 0 .\n@ TXT \"v=spf1 ~all\"\n_dmarc TXT \"v=DMARC1; p=quarantine\"\n", fails: "spf.parked-not-deny dmarc.parked-not-reject"},
		{why: "it only sends: nobody needs an MX record", profile: Send, drop: []string{"@ MX", "_smtp._tls"}, gone: quiet,
			fails: "dmarc.rua-no-mail"},
		{why: "it only sends, and SPF is missing", profile: Send, drop: []string{"@ TXT"}, gone: quiet, fails: "spf.missing"},
		{why: "it only receives: keys are no matter", profile: Receive, selectors: []string{"nosuch"}},
		{why: "it only receives: the name of the address", profile: Receive, arpa: "25.100.51.198 PTR mx2.example.com.\n", fails: "ptr.missing"},
		{why: "it sends much, and the selector is not known", profile: Bulk, unknown: "dkim.no-selector-known@unknown"},
		{why: "it sends much, without DMARC", profile: Bulk, drop: []string{"_dmarc"}, fails: "dmarc.missing bimi.dmarc-not-enforced"},
		{why: "strict: what is recommended is expected", profile: Strict, selectors: []string{"s1"}, fails: "dkim.ed25519-only dane.missing"},
		{why: "strict: the policy is milder", profile: Strict, drop: []string{"_dmarc"}, add: "_dmarc TXT \"v=DMARC1; p=quarantine; rua=mailto:d@example.com\"\n",
			fails: "dane.missing dmarc.not-reject"},
		signed(animal{why: "strict: DANE is there", profile: Strict, gone: "dnssec.insecure",
			add: "_25._tcp.mx1 TLSA 3 1 1 " + strings.Repeat("ab", 32) + "\n_25._tcp.mx2 TLSA 3 1 1 " + strings.Repeat("cd", 32) + "\n"}),
	}
}

const (
	byExample = "DKIM-Signature: v=1; a=rsa-sha256; d=example.com;\r\n s=s1; h=from; bh=x; b=y\r\n"
	byOther   = "DKIM-Signature: v=1; a=rsa-sha256; d=example.net; s=k1; h=from; bh=x; b=y\r\n"
	alice     = "From: Alice <alice@example.com>\r\n"
)

func messageZoo() []animal {
	return []animal{
		{why: "a message in the author's name", message: "Return-Path: <alice@example.com>\r\n" + byExample + alice + "\r\nHello\r\n", fails: "dkim.ed25519-only"},
		{why: "its key is gone", message: "Return-Path: <alice@example.com>\r\n" + strings.ReplaceAll(byExample, "s1", "gone") + alice, fails: "dkim.missing"},
		{why: "a message that nobody signed", message: "Return-Path: <alice@example.com>\r\n" + alice, fails: "dkim.unsigned dmarc.spf-only-reject"},
		{why: "a message in another's name", message: "Return-Path: <bounces@example.net>\r\n" + byOther + alice, fails: "dmarc.unaligned dmarc.spf-only-reject"},
		{why: "a bounce that nobody signed", message: "Return-Path: <>\r\n" + alice, fails: "dkim.unsigned dmarc.unaligned dmarc.spf-only-reject"},
		{why: "without a Return-Path nobody can tell", message: byOther + alice, fails: "dmarc.spf-only-reject", unknown: "dmarc.unaligned@unknown"},
		{why: "nobody can tell the policy", turn: failing(dns.TypeTXT, "_dmarc.example.com"), message: "Return-Path: <>\r\n" + byExample + alice, anyMore: true, unknown: "dmarc.unaligned@zone-ns dmarc.spf-only-reject@zone-ns"},
		{why: "a subdomain signs", message: byExampleSub + alice, add: "s1._domainkey.news TXT \"v=DKIM1; p=\"\n", fails: "dkim.revoked"},
		{why: "strict alignment", drop: []string{"_dmarc"}, add: "_dmarc TXT \"v=DMARC1; p=reject; adkim=s; aspf=s; rua=mailto:d@example.com\"\n",
			message: "Return-Path: <b@news.example.com>\r\n" + byExampleSub + alice, fails: "dmarc.unaligned dmarc.spf-only-reject dkim.missing"},
		{why: "another author's message says nothing here", message: "Return-Path: <bob@example.org>\r\nFrom: bob@example.org\r\n"},
		{why: "a signature alone names its selector", message: byExample, fails: "dkim.ed25519-only"},
		{why: "it sends much, and does not sign", profile: Bulk, message: "Return-Path: <alice@example.com>\r\n" + alice, fails: "dkim.unsigned dmarc.spf-only-reject"},
	}
}

const byExampleSub = "DKIM-Signature: v=1; a=rsa-sha256; d=news.example.com; s=s1; h=from; bh=x; b=y\r\n"

func providerZoo() []animal {
	google := func(a animal) animal {
		a.drop = append(a.drop, "@ TXT")
		a.add += "@ TXT \"v=spf1 mx include:_spf.google.com -all\"\n"
		a.com += "google NS ns1.example\n" // nobody serves it
		a.anyMore = true
		return a
	}
	return []animal{
		google(animal{why: "a guessed key that is revoked", add: "google._domainkey TXT \"v=DKIM1; p=\"\n", fails: "dkim.revoked"}),
		google(animal{why: "a guessed key that is not there is not missing", unknown: "dkim.no-selector-known@unknown"}),
		google(animal{why: "an alias that leads nowhere", add: "google._domainkey CNAME gone\n", fails: "dkim.cname-dangling"}),
	}
}

// zooPlan is the plan of the zone without fault.
const zooPlan = `
site = { name = "mx1.example.com", store = "sqlite:x.db" }
[[host]]
name = "mx1.example.com"
addresses = ["192.0.2.25", "2001:db8::25"]
[[host]]
name = "mx2.example.com"
addresses = ["198.51.100.25"]
[[domain]]
name = "example.com"
deliver = "maildir:x"
[[domain.mx]]
preference = 10
host = "mx1.example.com"
role = "gate"
[[domain.mx]]
preference = 20
host = "mx2.example.com"
role = "backup"
`

// third is a host that the world does not know yet.
const third = `
[[domain.mx]]
preference = 30
host = "mx3.example.com"
role = "backup"
[[host]]
name = "mx3.example.com"
addresses = ["203.0.113.25"]
`

func zooKey() *dkim.Key {
	key, err := dkim.ParseKey("v=DKIM1; k=ed25519; p=gJqa580Xk5Zevw/xdKKftoCJ8VIhv2xckvLH7XmqGiY=")
	if err != nil {
		panic(err)
	}
	return &key
}

func planZoo() []animal {
	of := func(mode string) string {
		return "version: STSv1\r\nmode: " + mode + "\r\nmx: mx1.example.com\r\nmx: mx2.example.com\r\nmax_age: 1209600\r\n"
	}
	sts := "_mta-sts TXT \"v=STSv1; id=2026\"\nmta-sts A 192.0.2.80\n"
	testing := strings.Replace(zooPlan, "deliver =", "mta-sts = \"testing\"\ndeliver =", 1) + "[mta-sts]\nlisten = [\"192.0.2.80:443\"]\ncert = \"x\"\nkey = \"x\"\n"
	planned := mtasts.Policy{Mode: mtasts.Testing, MaxAge: 1209600e9, MX: []mtasts.Pattern{{Name: dns.MustName("mx1.example.com")}, {Name: dns.MustName("mx2.example.com")}}}
	reports := zooPlan + "[reports]\nfrom = \"dmarc@example.com\"\ndkim-selector = \"s1\"\ndkim-key = \"x.pem\"\n"
	return []animal{
		{why: "the world sees what the plan has", plan: zooPlan},
		{why: "another preference", plan: strings.Replace(zooPlan, "= 20", "= 30", 1), fails: "plan.drift", blamed: "plan.drift@zone@example.com"},
		{why: "an address is not there", plan: strings.Replace(zooPlan, `"198.51.100.25"`, `"198.51.100.25", "2001:db8::26"`, 1), fails: "plan.missing-record spf.own-ip-not-covered", blamed: "plan.missing-record@zone@mx2.example.com"},
		{why: "an address too many", plan: zooPlan, add: "mx2 A 203.0.113.25\n", anyMore: true, fails: "plan.extra-record"},
		{why: "a host that is an alias of another's", plan: zooPlan, drop: []string{"mx2 "}, add: "mx2 CNAME other\nother A 198.51.100.25\n", anyMore: true, fails: "plan.foreign-record"},
		{why: "the servers fail for addresses", plan: zooPlan, turn: failing(dns.TypeA, "mx2.example.com"), anyMore: true, unknown: "plan.drift@zone-ns plan.missing-record@zone-ns"},
		{why: "an MX record before its host's address", plan: zooPlan + third, fails: "plan.missing-record plan.unsafe-order spf.own-ip-not-covered"},
		{why: "the address is there first", plan: zooPlan + third, add: "mx3 A 203.0.113.25\n", fails: "plan.missing-record spf.own-ip-not-covered"},
		{why: "an MX record before the policy that names it", plan: zooPlan + third, add: "mx3 A 203.0.113.25\n" + sts, policy: policy(of("enforce")), gone: "mtasts.txt-missing",
			fails: "plan.missing-record plan.unsafe-order spf.own-ip-not-covered"},
		{why: "the policy is new and the id is old", plan: testing, add: sts, policy: policy(of("testing")), gone: "mtasts.txt-missing", fails: "mtasts.id-stale mtasts.mode-testing plan.drift"},
		{why: "the policy and the id are the plan's", plan: testing, add: strings.Replace(sts, "2026", planned.ID(), 1), policy: policy(of("testing")), gone: "mtasts.txt-missing", fails: "mtasts.mode-testing"},
		{why: "the plan's key", plan: reports, planKey: zooKey(), fails: "dkim.ed25519-only"},
		{why: "the plan's key is two years old", plan: reports, planKey: zooKey(), keyAge: 730 * 24 * time.Hour, fails: "dkim.key-old dkim.ed25519-only", blamed: "dkim.key-old@zone@s1._domainkey.example.com"},
		{why: "the plan's key is of last week", plan: reports, planKey: zooKey(), keyAge: 7 * 24 * time.Hour, fails: "dkim.ed25519-only"},
		{why: "the servers fail at the plan's key", plan: reports, planKey: zooKey(), keyAge: 730 * 24 * time.Hour, turn: failing(dns.TypeTXT, "s1._domainkey.example.com"), unknown: "dkim.key-old@zone-ns@s1._domainkey.example.com"},
		{why: "another key than the plan's", plan: reports, planKey: zooKey(), drop: []string{"s1._domainkey"}, add: "s1._domainkey TXT \"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"\n",
			fails: "dkim.mismatch-with-plan dkim.ed25519-only"},
		{why: "SPF leaves out the host that reports", plan: reports, planKey: zooKey(), drop: []string{"@ TXT"}, add: "@ TXT \"v=spf1 a:mx2.example.com -all\"\n",
			fails: "spf.own-ip-not-covered dkim.ed25519-only", blamed: "spf.own-ip-not-covered@zone@192.0.2.25"},
	}
}

// TestProfiles: what each profile makes of a row.
func TestProfiles(t *testing.T) {
	rows := map[Profile]map[string]Check{}
	for _, p := range Profiles() {
		rows[p] = map[string]Check{}
		for _, c := range p.Checks() {
			rows[p][c.ID] = c
		}
	}
	for _, tt := range []struct {
		id   string
		want string // of mail, receive, send, parked, bulk and strict; - is outside
	}{
		{"resolver.unreachable", "critical critical critical critical critical critical"},
		{"mx.cname", "error error error error error error"},
		{"mx.missing", "notice notice - - notice notice"},
		{"mx.implicit", "warning warning - - warning error"},
		{"mx.parked-not-null", "- - - warning - -"},
		{"ptr.missing", "error warning error - error error"},
		{"ptr.multiple", "notice notice notice - notice notice"},
		{"ptr.generic", "warning warning warning - error error"},
		{"spf.missing", "warning warning warning - error error"},
		{"spf.parked-not-deny", "- - - warning - -"},
		{"dmarc.missing", "warning warning warning - error error"},
		{"dmarc.weak-none", "notice notice notice - notice error"},
		{"dkim.missing", "error - error - error error"},
		{"dkim.private-key", "critical - critical critical critical critical"},
		{"dkim.no-selector-known", "info - info - error info"},
		{"mtasts.txt-missing", "info info - - info error"},
		{"dane.missing", "- - - - - error"},
		{"smtp.starttls-missing", "warning warning - - error error"},
		{"smtp.open-relay", "critical critical critical - critical critical"},
		{"dnsbl.listed-ip", "error warning error - error error"},
	} {
		var got []string
		for _, p := range Profiles() {
			s := string(rows[p][tt.id].Severity)
			if s == "" {
				s = "-"
			}
			got = append(got, s)
		}
		if text := strings.Join(got, " "); text != tt.want {
			t.Errorf("%s: got %s, want %s", tt.id, text, tt.want)
		}
	}
	if _, err := ParseProfile("parcked"); err == nil {
		t.Error("parcked is a profile")
	}
}

// TestSharedVerdict: a profile weighs what fails, and changes nothing that rows share.
func TestSharedVerdict(t *testing.T) {
	shared, failed := na("there is no record"), []verdict{fail("it is wrong")}
	for _, verdicts := range [][]verdict{shared, failed} {
		Strict.reweighed(Check{Severity: Warning, judge: func(*Facts) []verdict { return verdicts }}, Warning, false)(nil)
	}
	if shared[0].severity != "" || failed[0].severity != Error {
		t.Errorf("shared %q, failed %q", shared[0].severity, failed[0].severity)
	}
}

// TestProfileNames: a profile names rows and areas that there are.
func TestProfileNames(t *testing.T) {
	for _, p := range Profiles() {
		for what := range p.weights() {
			if !slices.ContainsFunc(Checks(), func(c Check) bool { return c.ID == what || c.Area() == what }) {
				t.Errorf("%s names %s, which is no check", p, what)
			}
		}
	}
}

// TestWeight: what a verdict says of itself is weighed too, and what is outside leaves nothing open.
func TestWeight(t *testing.T) {
	find := func(a animal, id string) Finding {
		_, findings := a.audit(t)
		i := slices.IndexFunc(findings, func(f Finding) bool { return f.ID == id })
		if i < 0 {
			t.Fatalf("no finding %s", id)
		}
		return findings[i]
	}
	for _, tt := range []struct {
		why  string
		a    animal
		id   string
		want string
	}{
		{"the room of the standard says warning", animal{drop: []string{"@ TXT"}}, "spf.missing", "fail warning"},
		{"and bulk says error", animal{profile: Bulk, drop: []string{"@ TXT"}}, "spf.missing", "fail error"},
		{"a whole area is milder", animal{profile: Receive, arpa: "25.100.51.198 PTR mx2.example.com.\n"}, "ptr.missing", "fail warning"},
		{"outside", animal{profile: Parked}, "ptr.missing", "not_applicable "},
		{"outside, while the servers fail", animal{profile: Send, turn: failing(dns.TypeMX, "example.com")}, "mx.missing", "not_applicable "},
		{"strict", animal{profile: Strict, drop: []string{"@ TXT"}}, "spf.missing", "fail error"},
		{"strict leaves notices", animal{profile: Strict, drop: []string{"mx1 AAAA"}}, "mx.no-ipv6", "fail notice"},
	} {
		f := find(tt.a, tt.id)
		if got := string(f.Status) + " " + string(f.Severity); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.why, got, tt.want)
		}
	}
	hint := find(animal{drop: []string{"@ MX", "@ TXT"}, add: "@ MX 0 .\n@ TXT \"v=spf1 -all\"\n"}, "mx.null")
	if !strings.Contains(hint.Detail, "--profile parked") {
		t.Errorf("an evidently parked domain is not told so: %s", hint.Detail)
	}
}
