package main

import (
	"os"
	"path/filepath"
	"testing"

	"mxward/internal/audit/render"
	"mxward/internal/dns"
)

// TestCheckOutput: whoever reads the file sees the old one until the new one is whole, and nothing
// else is left in the folder.
func TestCheckOutput(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "mail.prom")
	link := filepath.Join(folder, "link")
	if err := os.Symlink("mail.prom", link); err != nil {
		t.Fatal(err)
	}
	holds := func(want string) {
		t.Helper()
		got, err := os.ReadFile(path)
		if err != nil || (string(got) == "old") != (want == "old") {
			t.Errorf("it holds %q, %v", got, err)
		}
	}
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		output string
		finish bool
		want   string
	}{
		{path, false, "old"}, // interrupted
		{link, true, "new"},  // the link stays one
	} {
		f := checkFlags{outputFlags: outputFlags{format: "prometheus", output: c.output}}
		out, err := f.open(nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := out.add(render.Report{Domain: dns.MustName("example.com")}); err != nil {
			t.Fatal(err)
		}
		holds("old")
		if c.finish {
			if err := out.finish(); err != nil {
				t.Fatal(err)
			}
		}
		out.drop()
		holds(c.want)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
	if files, err := os.ReadDir(folder); err != nil || len(files) != 2 {
		t.Errorf("%v, %v", files, err)
	}
}
