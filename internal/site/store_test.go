package site

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadStore(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want, err  string // the store's path is relative to the plan's folder
	}{
		{"other mistakes do not matter", "[site]\nname = \"no name\"\nstore = \"sqlite:queue.db\"\n[[host]]\ncert = \"away.pem\"\n", "sqlite:DIR/queue.db", ""},
		{"not even a broken line does, where the store is read", "[site]\nstore = \"postgres://db.example.com/mxward\"\n= 5\n", "postgres://db.example.com/mxward", ""},
		{"a wrong store does", "[site]\nname = \"mx1.example.com\"\nstore = \"mysql:queue\"\n", "", "3: site.store: expected"},
		{"a missing store does", "[site]\nname = \"mx1.example.com\"\n", "", "site.store: expected"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "mxward.toml")
			if err := os.WriteFile(file, []byte(row.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := LoadStore(file)
			if got = strings.ReplaceAll(got, dir, "DIR"); got != row.want {
				t.Errorf("store %q, want %q", got, row.want)
			}
			if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("error %v, want %q", err, row.err)
			}
		})
	}
	if _, err := LoadStore("testdata/none.toml"); err == nil {
		t.Error("a file that is not there was read")
	}
}
