package watch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFileLink: a symlink stays one, and what it names is replaced.
func TestFileLink(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "state.json"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("state.json", link); err != nil {
		t.Fatal(err)
	}
	if err := File(link).Save(t.Context(), []byte("new")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || string(text) != "new" {
		t.Errorf("the file has %q (%v)", text, err)
	}
	if to, err := os.Readlink(link); err != nil || to != "state.json" {
		t.Errorf("the link names %q (%v)", to, err)
	}
}

// TestFileLock: of two watches on one file, by whatever name, one is refused until the other ends.
func TestFileLock(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "state.json"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("state.json", link); err != nil {
		t.Fatal(err)
	}
	unlock, err := File(file).Lock()
	if err != nil {
		t.Fatal(err)
	}
	if err := File(file).Save(t.Context(), []byte("new")); err != nil {
		t.Fatal(err)
	}
	if _, err := File(link).Lock(); err == nil || !strings.Contains(err.Error(), "another mxward watch") {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	unlock, err = File(link).Lock()
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
