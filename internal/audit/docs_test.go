package audit

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mxward/internal/dns/blocklist"
)

// TestDocs holds docs/checks.md against the table. UPDATE=1 writes it anew.
func TestDocs(t *testing.T) {
	const file = "../../docs/checks.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin = "| id | what is wrong | severity | by |\n|---|---|---|---|\n"
	head, rest, ok := strings.Cut(string(text), begin)
	if !ok {
		t.Fatalf("%s has no table", file)
	}
	want := head + begin
	for _, c := range table() {
		want += fmt.Sprintf("| `%s` | %s | %s | %s |\n", c.ID, c.Title, c.Severity, strings.Join(c.Refs, ", "))
	}
	_, tail, _ := strings.Cut(rest, "\n## ")
	want += "\n## What the block-list codes mean\n" + listDocs(t, "## "+tail)
	if want == string(text) {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("%s is not what the table says: run UPDATE=1 go test -run TestDocs ./internal/audit", file)
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// listDocs gives what stands below that heading: words, and a table of the lists that are known.
func listDocs(t *testing.T, text string) string {
	t.Helper()
	const begin = "| list | answer | class | what it means |\n|---|---|---|---|\n"
	words, _, ok := strings.Cut(text, begin)
	words, found := strings.CutPrefix(words, "## What the block-list codes mean\n")
	if !ok || !found {
		t.Fatal("there is no table of lists")
	}
	var b strings.Builder
	b.WriteString(words + begin)
	for _, l := range blocklist.Known() {
		name := fmt.Sprintf("%s, `%s`", l.Name, l.Zone)
		if l.Registration {
			name += " (not asked unless `--lists` names it: it answers only those who are registered)"
		}
		for _, c := range l.Codes {
			answer := c.Answer
			if l.Bits && c.Class != blocklist.Refused {
				answer = "bit " + answer[strings.LastIndexByte(answer, '.')+1:]
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, answer, c.Class, c.Meaning)
			name = ""
		}
	}
	b.WriteString("\nAs documented by:\n\n")
	for _, l := range blocklist.Known() {
		fmt.Fprintf(&b, "- %s: <%s>; to look it up and to change it: <%s>\n", l.Name, l.Source, l.Removal)
	}
	return b.String()
}

// TestTable: ids are unique, each row can be understood, names its standard, and is checked.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range table() {
		switch {
		case seen[c.ID]:
			t.Errorf("%s stands twice", c.ID)
		case !regexp.MustCompile(`^[a-z0-9]+\.[a-z0-9-]+$`).MatchString(c.ID):
			t.Errorf("%q is no id", c.ID)
		case c.Title == "" || !slices.Contains(Severities(), c.Severity):
			t.Errorf("%s: %+v", c.ID, c)
		case len(c.Refs) == 0:
			t.Errorf("%s is checked by no standard", c.ID)
		case c.judge == nil:
			t.Errorf("%s is checked by no function", c.ID)
		}
		seen[c.ID] = true
	}
}

// TestLintIDs: whatever the rooms of the mail standards find has its row, so that nothing that
// they find is lost here.
func TestLintIDs(t *testing.T) {
	rows := map[string]bool{}
	for _, c := range Checks() {
		rows[c.ID] = true
	}
	out, err := exec.Command("grep", "-rhoE", "--include=*.go", `"(spf|dkim|dmarc|mtasts|tlsrpt|dane|bimi)\.[a-z0-9-]+"`, "../mailauth").Output()
	if err != nil {
		t.Fatal(err)
	}
	// Trouble is no finding here: rows are unknown then.
	trouble := []string{"dane.temperror", "mtasts.temperror"}
	found := 0
	for line := range strings.Lines(string(out)) {
		id := strings.Trim(strings.TrimSpace(line), `"`)
		found++
		if !rows[id] && !slices.Contains(trouble, id) {
			t.Errorf("%s has no row that is checked", id)
		}
	}
	if found == 0 {
		t.Error("no ids were found")
	}
}
