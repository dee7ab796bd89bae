package audit

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestProfileDocs holds docs/profiles.md against the profiles. UPDATE=1 writes it anew.
func TestProfileDocs(t *testing.T) {
	const file = "../../docs/profiles.md"
	const begin = "| id | mail | receive | send | parked | bulk | strict |\n|---|---|---|---|---|---|---|\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(text), begin)
	if !ok {
		t.Fatalf("%s has no table", file)
	}
	want := head + begin
	rows := map[Profile][]Check{}
	for _, p := range Profiles() {
		rows[p] = p.Checks()
	}
	for i, c := range table() {
		line, differs := "| `"+c.ID+"` |", false
		usual := rows[Mail][i].Severity
		for _, p := range Profiles() {
			s := rows[p][i].Severity
			differs = differs || s != usual && !(p == Strict && usual == Warning && s == Error)
			if s == outside {
				s = "–"
			}
			line += fmt.Sprintf(" %s |", s)
		}
		if differs {
			want += line + "\n"
		}
	}
	switch {
	case want == string(text):
	case os.Getenv("UPDATE") == "":
		t.Fatalf("%s is not what the profiles say: run UPDATE=1 go test -run TestProfileDocs ./internal/audit", file)
	default:
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
