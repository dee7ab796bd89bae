package internal

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	citation = regexp.MustCompile(`RFC (\d{3,5})`)
	rfcRow   = regexp.MustCompile(`(?m)^\| (\d+) \| .+ \| (yes|part|no|read) \| .*\|$`)
)

// TestStandards: docs/rfc.md names every RFC that the code cites, and no other.
func TestStandards(t *testing.T) {
	text, err := os.ReadFile("../docs/rfc.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, row := range rfcRow.FindAllStringSubmatch(string(text), -1) {
		listed[row[1]] = true
	}
	cited := map[string]string{}
	for _, file := range goFiles(t) {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range citation.FindAllStringSubmatch(string(code), -1) {
			cited[c[1]] = file
		}
	}
	if len(listed) == 0 || len(cited) == 0 {
		t.Fatalf("%d RFCs listed, %d cited", len(listed), len(cited))
	}
	for number, file := range cited {
		if !listed[number] {
			t.Errorf("%s cites RFC %s, which docs/rfc.md lacks", file, number)
		}
	}
	for number := range listed {
		if cited[number] == "" {
			t.Errorf("docs/rfc.md lists RFC %s, which no code cites", number)
		}
	}
}

// TestVerdicts: docs/verdicts.md explains every reason that the edge may have, and no other.
func TestVerdicts(t *testing.T) {
	code, err := os.ReadFile("edge/decide.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../docs/verdicts.md")
	if err != nil {
		t.Fatal(err)
	}
	first := func(pattern string, in []byte) []string {
		var found []string
		for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(in, -1) {
			found = append(found, string(m[1]))
		}
		slices.Sort(found)
		return found
	}
	reasons := first(`(?m)^\t\w+ +Reason = "([^"]+)"`, code)
	explained := first("(?m)^\\| `([a-z.]+)` \\|", text)
	if len(reasons) == 0 || !slices.Equal(reasons, explained) {
		t.Errorf("the edge's reasons are %v, docs/verdicts.md explains %v", reasons, explained)
	}
}

// TestHouseRules: what review would have to say again and again.
func TestHouseRules(t *testing.T) {
	rules := []struct {
		name  string
		found *regexp.Regexp
	}{
		{"func init hides work", regexp.MustCompile(`(?m)^func init\(\)`)},
		{"an exported variable that is no error is global state", regexp.MustCompile(`(?m)^var ([A-DF-Z]\w*|E[a-qs-z]\w*)\b`)},
		{"an unfinished piece", regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)},
	}
	for _, file := range goFiles(t) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules {
			// dns.Root is a constant for which Go has no const.
			if at := r.found.Find(code); at != nil && string(at) != "var Root" {
				t.Errorf("%s: %q: %s", file, at, r.name)
			}
		}
	}
}

// goFiles gives every Go file of the module.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && slices.Contains([]string{".git", "bin", "testdata"}, d.Name()) {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "docs_test.go") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
