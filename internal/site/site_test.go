package site

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

// Each good plan gives exactly what stands beside it, as JSON.
func TestGood(t *testing.T) {
	files, err := filepath.Glob("testdata/good/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no good plans (%v)", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			plan, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(plan, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			golden := strings.TrimSuffix(file, ".toml") + ".want"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// The full plan has every key of the format in it, so that its golden file proves each.
func TestFullPlanHasEveryKey(t *testing.T) {
	text, err := os.ReadFile("testdata/good/full.toml")
	if err != nil {
		t.Fatal(err)
	}
	d := parseDraft(text, "full.toml")
	have := map[string]bool{}
	for p := range d.lines {
		have[p.option()] = true
	}
	for _, f := range fields {
		if !have[f.table+"."+f.key] && f.key != "max-per-client" { // left out for its own default
			t.Errorf("testdata/good/full.toml has no %s.%s", f.table, f.key)
		}
	}
}

const plain = `[site]
name = "gate.example.com"
store = "sqlite:/var/lib/mxward/mxward.db"
[[host]]
name = "mx1.example.com"
addresses = ["192.0.2.1", "2001:db8::1"]
[[domain]]
name = "example.com"
deliver = "lmtp://127.0.0.1"
[[domain.mx]]
preference = 10
host = "mx1.example.com"
role = "gate"
`

func mustParse(t *testing.T, text string) *Plan {
	t.Helper()
	p, err := Parse([]byte(text), "mxward.toml")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What a user leaves out has its default.
func TestDefaults(t *testing.T) {
	p := mustParse(t, plain)
	want := SMTP{MaxSize: 50 << 20, MaxRecipients: 100, MaxSessions: 5000, MaxPerClient: 50, TrapPace: time.Second}
	if p.SMTP != want {
		t.Errorf("smtp: got %+v, want %+v", p.SMTP, want)
	}
	if got, want := fmt.Sprint(p.Hosts[0].Listen), "[192.0.2.1:25 [2001:db8::1]:25]"; got != want {
		t.Errorf("host.listen: got %s, want %s", got, want)
	}
	if got, want := p.Domains[0].Deliver.String(), "lmtp://127.0.0.1:24"; got != want {
		t.Errorf("domain.deliver: got %s, want %s", got, want)
	}
	if p.DNS.Listen != nil || p.Resolver.Listen != nil || p.Resolver.RootHints != "" {
		t.Errorf("there are listeners that nobody asked for: %+v %+v", p.DNS, p.Resolver)
	}
}

// The plan finds its parts, whether it was parsed or written as a literal.
func TestFind(t *testing.T) {
	parsed := mustParse(t, plain)
	literal := &Plan{Hosts: parsed.Hosts, Domains: parsed.Domains}
	for _, p := range []*Plan{parsed, literal} {
		mx1, other := dns.MustName("mx1.example.com"), dns.MustName("example.net")
		if h, ok := p.Host(mx1); !ok || h.Name != mx1 {
			t.Errorf("the host is not found: %+v", h)
		}
		d, ok := p.Domain(dns.MustName("example.com"))
		if !ok {
			t.Fatal("the domain is not found")
		}
		if r, ok := d.Rung(mx1); !ok || r.Role != Gate {
			t.Errorf("the rung is not found: %+v", r)
		}
		_, host := p.Host(other)
		_, domain := p.Domain(other)
		_, rung := d.Rung(other)
		if host || domain || rung {
			t.Error("what is not there was found")
		}
	}
}

// The sample is a plan, and stays one with everything in effect that can be together.
func TestSample(t *testing.T) {
	mustParse(t, Sample())
	var all strings.Builder
	for line := range strings.Lines(Sample()) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(rest, " ") && !strings.HasPrefix(rest, "alias") {
			line = rest
		}
		all.WriteString(line)
	}
	p := mustParse(t, all.String())
	if len(p.DNS.Zones) != 1 || len(p.Domains[0].Recipients) != 3 || p.Hosts[0].Cert == "" {
		t.Errorf("the sample's comments are not in effect: %+v", p)
	}
	for _, f := range fields {
		if !regexp.MustCompile(`(?m)^#?` + regexp.QuoteMeta(f.key) + ` = `).MatchString(Sample()) {
			t.Errorf("the sample has no %s.%s", f.table, f.key)
		}
	}
}

// Every field says all of itself, and its default can be read.
func TestFields(t *testing.T) {
	for _, f := range fields {
		if f.doc == "" || f.example == "" || !f.required && f.byDefault == "" && f.otherwise == "" {
			t.Errorf("%s.%s lacks its doc, its example, or what holds without it", f.table, f.key)
		}
	}
	d := newDraft("")
	d.read([]byte(defaults()))
	for _, e := range d.errs {
		if e.Kind != Missing { // they are no whole plan
			t.Errorf("the defaults: %v", e)
		}
	}
}

// The manual is roff that groff reads without a warning, and knows every key.
func TestManual(t *testing.T) {
	for _, f := range fields {
		if !strings.Contains(Manual(), `\fB`+roff(f.key)+`\fR`) {
			t.Errorf("the manual has no %s.%s", f.table, f.key)
		}
	}
	if _, err := exec.LookPath("groff"); err != nil {
		t.Skip("left out: needs Debian's groff-base (apt-get install groff-base)")
	}
	cmd := exec.Command("groff", "-man", "-Tutf8", "-ww", "-Kutf8")
	cmd.Stdin = strings.NewReader(Manual())
	var faults strings.Builder
	cmd.Stderr = &faults
	out, err := cmd.Output()
	if err != nil || faults.Len() > 0 {
		t.Errorf("groff: %v\n%s", err, &faults)
	}
	if !strings.Contains(string(out), `got "mx9.example.com"; add a [[host]]`) { // quotes and brackets come through
		t.Errorf("the page lacks its diagnostics:\n%s", out)
	}
}

// A byte-order mark, carriage returns and no newline at the end are how some editors write.
func TestEditors(t *testing.T) {
	want := mustParse(t, plain)
	for _, text := range []string{
		"\ufeff" + plain,
		strings.ReplaceAll(plain, "\n", "\r\n"),
		strings.TrimSuffix(plain, "\n"),
		strings.ReplaceAll(plain, "\n", "\n\n# a comment\n"),
	} {
		if got := mustParse(t, text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q...: got %+v", text[:10], got)
		}
	}
}

// Things that look odd and are allowed.
func TestAllowed(t *testing.T) {
	for name, text := range map[string]string{
		"two gates at one preference": plain + "[[domain.mx]]\npreference = 10\nhost = \"mx2.example.com\"\nrole = \"gate\"\n" +
			"[[host]]\nname = \"mx2.example.com\"\naddresses = [\"10.0.0.2\"]\n",
		"a refuse rung first, as nolisting has it": plain + "[[domain.mx]]\npreference = 5\nhost = \"mx2.example.com\"\nrole = \"refuse\"\n" +
			"[[host]]\nname = \"mx2.example.com\"\naddresses = [\"192.0.2.2\"]\n",
		"every address of either family":  strings.Replace(plain, "[[domain]]", "listen = [\"0.0.0.0:25\", \"[::]:25\"]\n[[domain]]", 1),
		"another port of our own machine": strings.Replace(plain, "lmtp://127.0.0.1", "smtp://mx1.example.com:10025", 1),
		"a name server alone":             "[site]\nname = \"ns.example.com\"\nstore = \"sqlite:/x\"\n[[dns.zone]]\nname = \".\"\nfile = \"root.zone\"\n",
		"dotted keys":                     "site.name = \"ns.example.com\"\nsite.store = \"sqlite:/x\"\nresolver.listen = [\"127.0.0.53:53\"]\n",
		"a host on no ladder":             plain + "[[host]]\nname = \"mx2.example.com\"\naddresses = [\"192.0.2.2\"]\n",
	} {
		if _, err := Parse([]byte(text), "mxward.toml"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTarget(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Target
		back string // as String writes it
	}{
		{"smtp://mail.example.com", Target{Scheme: ToSMTP, Host: "mail.example.com", Port: 25}, "smtp://mail.example.com:25"},           // the port of SMTP
		{"SMTP://Mail.Example.com.:2525", Target{Scheme: ToSMTP, Host: "mail.example.com", Port: 2525}, "smtp://mail.example.com:2525"}, // one spelling
		{"lmtp://[2001:DB8::1]", Target{Scheme: ToLMTP, Host: "2001:db8::1", Port: 24}, "lmtp://[2001:db8::1]:24"},                      // IPv6, and the port of LMTP
		{"lmtp://mailbox:24", Target{Scheme: ToLMTP, Host: "mailbox", Port: 24}, "lmtp://mailbox:24"},                                   // one label, as in /etc/hosts
		{"lmtp:/run/lmtp", Target{Scheme: ToLMTP, Path: "/run/lmtp"}, "lmtp:/run/lmtp"},                                                 // a socket
		{"maildir:/var/mail/../mail/", Target{Scheme: ToMaildir, Path: "/var/mail"}, "maildir:/var/mail"},                               // a clean path
		{"mx:", Target{Scheme: ToMX}, "mx:"},
	} {
		got, err := ParseTarget(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v", tt.text, got, err)
		}
		if got.String() != tt.back {
			t.Errorf("%s: written as %s, want %s", tt.text, got, tt.back)
		}
	}
	if (Target{}).String() != "" {
		t.Error("no target is written as something")
	}
	var e *Error
	if _, err := ParseTarget("ftp://x"); !errors.As(err, &e) || e.Kind != BadTarget || !strings.HasPrefix(err.Error(), "expected smtp://") {
		t.Errorf("got %v", err)
	}
}

func TestSizes(t *testing.T) {
	parse := sizeBetween(minMaxSize, maxMaxSize)
	for text, want := range map[string]int64{
		"65536": 65536, "64KiB": 65536, "64 kib": 65536, "100kB": 100_000, "50MB": 50e6, "50MiB": 50 << 20, "1GB": 1e9, "2GiB": 2 << 30, "70000B": 70000,
	} {
		if got, e := parse(text); e != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, e, want)
		}
	}
	for _, text := range []string{"", "MB", "-1MB", "1.5MB", "50 M", "50TB", "65535", "2000000001B1", "3GB", "9000000000000GB"} {
		if got, e := parse(text); e == nil {
			t.Errorf("%s: got %d, want an error", text, got)
		}
	}
}

// A plan of 1,000 domains is read in a moment: nothing in it is quadratic.
func TestThousandDomains(t *testing.T) {
	var b strings.Builder
	b.WriteString("[site]\nname = \"gate.example.com\"\nstore = \"sqlite:/x\"\n")
	const n = 1000
	for i := range n {
		fmt.Fprintf(&b, "[[host]]\nname = \"mx%d.example.com\"\naddresses = [\"10.0.%d.%d\"]\n", i, i/250, i%250+1)
		fmt.Fprintf(&b, "[[domain]]\nname = \"d%d.example.com\"\ndeliver = \"smtp://192.0.2.1:2525\"\nrecipients = [\"a@d%d.example.com\"]\n", i, i)
		fmt.Fprintf(&b, "[[domain.mx]]\npreference = 10\nhost = \"mx%d.example.com\"\nrole = \"gate\"\n", i)
		fmt.Fprintf(&b, "[[domain.mx]]\npreference = 20\nhost = \"mx%d.example.com\"\nrole = \"backup\"\n", (i+1)%n)
	}
	began := time.Now()
	p := mustParse(t, b.String())
	took := time.Since(began)
	if len(p.Domains) != n {
		t.Fatalf("got %d domains", len(p.Domains))
	}
	t.Logf("%d octets in %v", b.Len(), took)
	if took > 20*time.Second { // some 30 ms on a small machine that has nothing else to do
		t.Errorf("it took %v", took)
	}
}

// An error tells its place to programs too.
func TestErrorFields(t *testing.T) {
	_, err := Parse([]byte(strings.Replace(plain, `"gate"`, `"gait"`, 1)), "mxward.toml")
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	want := &Error{Kind: BadRole, File: "mxward.toml", Line: 13, Option: "domain.mx.role", Expected: "gate, backup, trap or refuse", Got: `"gait"`}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("got %+v, want %+v", e, want)
	}
}

// Recipients keep what the address grammar makes of them.
func TestRecipients(t *testing.T) {
	p := mustParse(t, strings.Replace(plain, "[[domain.mx]]", `recipients = ['"a b"@EXAMPLE.com']`+"\n[[domain.mx]]", 1))
	if want := (mail.Address{Local: "a b", Domain: dns.MustName("example.com")}); p.Domains[0].Recipients[0] != want {
		t.Errorf("got %+v", p.Domains[0].Recipients)
	}
}

// The watch is there where its table is, with all defaults; the sample does not switch it on.
func TestWatch(t *testing.T) {
	on := mustParse(t, plain+"[watch]\n").Watch
	if !on.On || on.Interval != time.Hour || !on.SMTP || on.Registries || on.Severity != "warning" || on.Profile != "mail" {
		t.Errorf("got %+v", on)
	}
	if mustParse(t, plain).Watch.On || mustParse(t, Sample()).Watch.On {
		t.Error("somebody watches whom nobody asked to")
	}
	p := mustParse(t, plain+"[reports]\nfrom = \"reports@example.com\"\n[watch]\nmail-to = [\"admin@example.net\"]\n")
	if got := p.WatchSender().String(); got != "reports@example.com" {
		t.Errorf("the sender is %s", got)
	}
}
