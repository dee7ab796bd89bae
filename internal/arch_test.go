// Package internal holds no code: its test is the map of the house.
package internal

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rooms says which packages of this module a package may import, and in one line what it
// is for. A trailing /... stands for everything below. The map is the document: whoever
// needs another arrow changes it here, and says why in the commit.
var rooms = map[string][]string{
	// 0: the words of the DNS
	"internal/dns": {},
	// 1: the words of mail; the parts of the DNS
	"internal/mail":         {"internal/dns"},
	"internal/dns/dnstest":  {"internal/dns", "internal/dns/zone", "internal/dns/server", "internal/dns/dnssec"}, // tests and lab
	"internal/dns/server":   {"internal/dns"},
	"internal/dns/zone":     {"internal/dns"},
	"internal/dns/dnssec":   {"internal/dns"},
	"internal/dns/resolver": {"internal/dns", "internal/dns/dnssec"},
	"internal/dns/health":   {"internal/dns", "internal/dns/blocklist"}, // is a host's DNS fit for mail
	// which lists there are, and what their answers mean: for all who ask one
	"internal/dns/blocklist": {"internal/dns"},
	"internal/durable":       {}, // files that last
	// 2: one room, one matter
	"internal/smtp":              {"internal/mail", "internal/dns"},
	"internal/smtp/smtptest":     {"internal/mail", "internal/smtp", "internal/dns"}, // tests and lab
	"internal/queue":             {"internal/mail", "internal/dns"},
	"internal/reputation":        {"internal/mail", "internal/dns"},
	"internal/mailauth/arc":      {"internal/dns", "internal/mail", "internal/mailauth/dkim"},
	"internal/mailauth/dkim":     {"internal/dns", "internal/mail", "internal/mailauth/lint"},
	"internal/mailauth/dmarc":    {"internal/dns", "internal/mail", "internal/mailauth/lint"}, // results of SPF and DKIM come as plain values
	"internal/mailauth/bimi":     {"internal/mailauth/lint"},                                  // one text, nothing asked
	"internal/mailauth/mtasts":   {"internal/dns", "internal/mailauth/fetch", "internal/mailauth/lint"},
	"internal/mailauth/tlsa":     {"internal/dns", "internal/mailauth/lint"},
	"internal/mailauth/spf":      {"internal/dns", "internal/mail", "internal/mailauth/lint"},
	"internal/mailauth/lint":     {},                // how they all say what is wrong with a record
	"internal/mailauth/fetch":    {},                // files that mail's records lead to: one request at addresses that are known
	"internal/mailauth/attach":   {"internal/mail"}, // how reports travel
	"internal/mailauth/dmarcrpt": {"internal/dns", "internal/mail", "internal/mailauth/attach"},
	"internal/mailauth/tlsrpt":   {"internal/dns", "internal/mail", "internal/mailauth/attach", "internal/mailauth/lint"},
	"internal/site":              {"internal/mail", "internal/mailauth/mtasts", "internal/mailauth/spf", "internal/dns", "internal/dns/zone", "internal/dns/dnssec"},
	"internal/mailauth":          {"internal/dns", "internal/mail", "internal/mailauth/spf", "internal/mailauth/dkim", "internal/mailauth/arc", "internal/mailauth/dmarc"}, // one judgement of one message
	// 3: rooms that join two
	"internal/deliver": {"internal/dns", "internal/durable", "internal/mail", "internal/smtp"},
	// the checks of a domain from outside: facts, and a table that judges them
	"internal/audit":           {"internal/dns", "internal/dns/blocklist", "internal/mail", "internal/mailauth/...", "internal/probe", "internal/site"}, // site: what the plan wants is compared with what is there
	"internal/audit/render":    {"internal/audit", "internal/dns", "internal/mailauth/spf", "internal/probe"},                                           // how a report looks, in each format
	"internal/rdap":            {"internal/dns"},                                                                                                        // when a registration ends, by registries over HTTPS
	"internal/probe/probetest": {},                                                                                                                      // tests
	"internal/scan":            {"internal/dns", "internal/durable", "internal/audit", "internal/mailauth/dmarc"},                                       // very many domains: lines in, results out
	"internal/scan/columns":    {"internal/audit", "internal/scan"},                                                                                     // their results as Parquet
	"internal/watch":           {"internal/dns", "internal/durable", "internal/audit", "internal/audit/render", "internal/mail", "internal/smtp"},       // the site's own domains at intervals: what has changed, what ends soon
	"internal/edge":            {"internal/dns", "internal/mail", "internal/mailauth", "internal/smtp", "internal/queue", "internal/reputation", "internal/site"},
	"internal/report":          {"internal/dns", "internal/mail", "internal/mailauth/...", "internal/queue"},                                                     // reports, sent and received
	"internal/store":           {"internal/dns", "internal/mail", "internal/queue", "internal/report", "internal/reputation", "internal/scan"},                   // scan: the jobs that machines share
	"internal/store/storetest": {"internal/dns", "internal/mail", "internal/queue", "internal/report", "internal/reputation", "internal/scan", "internal/store"}, // tests
	// one visit to a mail host
	"internal/probe": {"internal/dns", "internal/mail", "internal/smtp", "internal/mailauth/fetch", "internal/mailauth/mtasts", "internal/mailauth/tlsa"},
	// what an audit heard, taken down and played again
	"internal/audit/tape": {"internal/audit", "internal/dns", "internal/dns/blocklist", "internal/mail", "internal/mailauth/fetch", "internal/mailauth/mtasts", "internal/probe"},
	// 4: the wiring
	"internal/app": {"internal/dns/...", "internal/mail", "internal/mailauth/...", "internal/smtp", "internal/queue", "internal/report", "internal/reputation", "internal/site", "internal/deliver", "internal/edge", "internal/store", "internal/audit/...", "internal/probe", "internal/rdap", "internal/watch"}, // the last four watch the site's own domains
	// 5: the small internet. It is above the wiring, so that its gate is the whole real
	// daemon and not a second assembly of the same parts.
	"internal/lab": {"internal/app", "internal/dns/...", "internal/mail", "internal/smtp/...", "internal/queue", "internal/reputation", "internal/site", "internal/deliver"},
	// the pages of those checks, built in so that the command can print them; no code
	"docs/checks": {},
	// 6: the commands
	"cmd/mxward":  {"docs/checks", "docs/schema", "internal/app", "internal/durable", "internal/audit/...", "internal/rdap", "internal/scan/...", "internal/lab", "internal/deliver", "internal/site", "internal/dns/...", "internal/mail", "internal/queue", "internal/report", "internal/store", "internal/smtp", "internal/mailauth/...", "internal/probe", "internal/watch"},
	"docs/schema": {}, // the published schemas, embedded
	// test-only packages
	"internal":      {},
	"test/e2e":      {"internal/..."},
	"test/load":     {"internal/..."},
	"test/dnsdiff":  {"internal/..."},
	"test/internet": {"internal/..."},
	"test/report":   {},
}

// wireOnlyBelow: the DNS library's types stay where DNS is made and read.
const (
	wireLibrary   = "github.com/miekg/dns"
	wireOnlyBelow = "mxward/internal/dns"
)

func TestArrows(t *testing.T) {
	packages := goList(t)
	if len(packages) == 0 {
		t.Fatal("go list found no package")
	}
	for path, imports := range packages {
		room := strings.TrimPrefix(path, "mxward/")
		allowed, ok := rooms[room]
		if !ok {
			t.Errorf("%s is not on the map in arch_test.go", room)
			continue
		}
		for _, imp := range imports {
			if imp == wireLibrary && !strings.HasPrefix(path, wireOnlyBelow) {
				t.Errorf("%s imports %s; only packages below internal/dns may", room, wireLibrary)
			}
			to, ours := strings.CutPrefix(imp, "mxward/")
			if ours && !permitted(allowed, to) {
				t.Errorf("%s imports %s: there is no such arrow", room, to)
			}
		}
	}
	for room := range rooms {
		if _, ok := packages["mxward/"+room]; !ok {
			t.Errorf("the map names %s, which does not exist", room)
		}
	}
}

func permitted(allowed []string, to string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		tree, whole := strings.CutSuffix(a, "/...")
		return a == to || whole && (to == tree || strings.HasPrefix(to, tree+"/"))
	})
}

// goList gives every package of the module with what its code, not its tests, imports.
func goList(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "mxward/...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	packages := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		packages[fields[0]] = fields[1:]
	}
	return packages
}
