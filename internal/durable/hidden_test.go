package durable

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Each row is a file beside "out" while a new one is begun, and whether it stays.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "out")
	random := strings.Repeat("ABC2", 7)[:26]
	rows := []struct {
		why, file string
		stays     bool
	}{
		{"of a process that was killed", ".out." + random, false},
		{"of another output", ".outer." + random, true},
		{"of another output in whose name this one's is", ".out.json." + random, true},
		{"of somebody else: too short", ".out." + random[1:], true},
		{"of somebody else: other letters", ".out." + strings.ToLower(random), true},
		{"the file itself", "out", true},
	}
	for _, row := range rows {
		if err := os.WriteFile(filepath.Join(dir, row.file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	folder := ".out." + strings.Repeat("X", 26)
	if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
		t.Fatal(err)
	}
	var living []string
	for range 2 { // the second leaves the first alone
		f, err := Hidden(name, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		living = append(living, f.Name())
	}
	for _, row := range rows {
		if _, err := os.Lstat(filepath.Join(dir, row.file)); (err == nil) != row.stays {
			t.Errorf("%s: %v", row.why, err)
		}
	}
	for _, file := range append(living, filepath.Join(dir, folder)) {
		if _, err := os.Lstat(file); err != nil {
			t.Error(err)
		}
	}
}

// TestWriteAtOnce: whoever writes one file at once with others, and sweeps, takes nobody's.
func TestWriteAtOnce(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "out")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 20 {
				if err := WriteFile(name, 0o600, []byte(fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	text, err := os.ReadFile(name)
	if err != nil || !slices.Contains([]string{"0", "1", "2", "3", "4", "5", "6", "7"}, string(text)) {
		t.Errorf("%q, %v", text, err)
	}
}
