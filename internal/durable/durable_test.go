package durable

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "state")
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		why, name, text string
		fails           string // what it did
	}{
		{"a new file", name, "one", ""},
		{"in place of the old one", name, "2", ""},
		{"a folder that is not there", filepath.Join(dir, "gone", "state"), "3", "open"},
		{"a folder has the name: nothing is left behind", filepath.Join(dir, "folder"), "4", "rename"},
	} {
		err := WriteFile(tt.name, 0o600, []byte(tt.text))
		if (err != nil) != (tt.fails != "") || err != nil && !strings.HasPrefix(err.Error(), tt.fails+" "+tt.name+": ") {
			t.Errorf("%s: %v", tt.why, err)
		}
		if text, _ := os.ReadFile(tt.name); tt.fails == "" && string(text) != tt.text {
			t.Errorf("%s: it has %q", tt.why, text)
		}
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("the folder has %v, %v", left, err)
	}
	if SyncFolder(filepath.Join(dir, "gone")) == nil {
		t.Error("a folder that is not there was synced")
	}
}
