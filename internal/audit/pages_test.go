package audit

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mxward/docs/checks"
)

// The shape of a page in docs/checks. Its words are those outside headings and commands.
const (
	leastWords = 80
	mostWords  = 200
)

var (
	sections = []string{"What it means", "Why it matters", "How it is found out", "How to look yourself", "How to mend it"}
	blames   = []Blame{LocalResolver, LocalNetwork, ParentZone, ZoneData, ZoneServers, MXHost, PolicyHost, ThirdParty, Nobody}

	blameWords = regexp.MustCompile("^(`[a-z-]+` or )*`[a-z-]+`\\.$")
	inTicks    = regexp.MustCompile("`([^`]+)`")
	fenced     = regexp.MustCompile("(?ms)^```.*?^```$")
	headings   = regexp.MustCompile("(?m)^#.*$")
)

// TestPages holds docs/checks against the table: each id has its page, and each page its id.
// UPDATE=1 writes the lines that repeat the table anew.
func TestPages(t *testing.T) {
	rows := map[string]Check{}
	meanings := map[string]string{}
	for _, c := range Checks() {
		rows[c.ID] = c
		text, ok := checks.Page(c.ID)
		if !ok {
			t.Errorf("%s has no page: write docs/checks/%s.md", c.ID, c.ID)
			continue
		}
		top, rest, _ := strings.Cut(text, "\n## ")
		_, blame, _ := strings.Cut(strings.TrimSpace(top), "Usually to blame: ")
		if want := pageTop(c, blame); top != want {
			rewrite(t, c.ID, want+"\n## "+rest)
		}
		if !blameWords.MatchString(blame) {
			t.Errorf("%s: expected a side, or several with or between them, got %q", c.ID, blame)
		}
		for _, side := range inTicks.FindAllStringSubmatch(blame, -1) {
			if !slices.Contains(blames, Blame(side[1])) {
				t.Errorf("%s: there is no side %q", c.ID, side[1])
			}
		}
		pageSections(t, c.ID, rest, meanings)
		words := len(strings.Fields(headings.ReplaceAllString(fenced.ReplaceAllString(text, ""), "")))
		if words < leastWords || words > mostWords {
			t.Errorf("%s has %d words: a page has %d to %d", c.ID, words, leastWords, mostWords)
		}
	}
	for _, id := range checks.IDs() {
		if _, ok := rows[id]; !ok {
			t.Errorf("docs/checks/%s.md is about an id that is not in the table", id)
		}
	}
}

// pageTop is what a page repeats of the table.
func pageTop(c Check, blame string) string {
	refs := strings.Join(c.Refs, ", ")
	if refs == "" {
		refs = "none"
	}
	return "# " + c.ID + ": " + c.Title + "\n\nSeverity: " + pageSeverity(c) + ". Standards: " + refs + ". Usually to blame: " + blame + "\n"
}

// pageSeverity is that of the table or, where the default profile does not look at the row, that of
// the profiles that do.
func pageSeverity(c Check) string {
	if c.Severity != outside {
		return string(c.Severity)
	}
	var some []string
	for _, p := range Profiles() {
		for _, other := range p.Checks() {
			if other.ID == c.ID && other.Severity != outside {
				some = append(some, string(other.Severity)+" with `--profile "+string(p)+"`, else not looked at")
			}
		}
	}
	return strings.Join(some, ", ")
}

// pageSections: all are there, in their order, none is empty, and no page is another's copy.
func pageSections(t *testing.T, id, rest string, meanings map[string]string) {
	parts := strings.Split(rest, "\n## ")
	if len(parts) != len(sections) {
		t.Errorf("%s has %d sections: a page has %q", id, len(parts), sections)
		return
	}
	for i, part := range parts {
		title, body, _ := strings.Cut(part, "\n")
		body = strings.TrimSpace(body)
		switch {
		case title != sections[i]:
			t.Errorf("%s: expected the section %q, got %q", id, sections[i], title)
		case body == "":
			t.Errorf("%s: %q is empty", id, title)
		case i == 0 && meanings[body] != "":
			t.Errorf("%s and %s mean the same", id, meanings[body])
		case i == 0:
			meanings[body] = id
		case i == 3 && !strings.Contains(body, "```sh\n"):
			t.Errorf("%s: %q has no command", id, title)
		}
	}
}

func rewrite(t *testing.T, id, text string) {
	file := "../../docs/checks/" + id + ".md"
	if os.Getenv("UPDATE") == "" {
		t.Errorf("%s is not what the table says: run UPDATE=1 go test -run TestPages ./internal/audit", file)
		return
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}
