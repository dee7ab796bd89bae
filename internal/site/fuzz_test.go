package site

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

func addPlans(f *testing.F) {
	f.Helper()
	for _, glob := range []string{"testdata/bad/*.toml", "testdata/good/*.toml"} {
		files, err := filepath.Glob(glob)
		if err != nil || len(files) == 0 {
			f.Fatalf("%s matches nothing (%v)", glob, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
}

// Whatever the text: a plan or mistakes, never both and never neither; each mistake has
// one line, and stands in the file.
func FuzzParse(f *testing.F) {
	addPlans(f)
	f.Add([]byte(Sample()))
	f.Fuzz(func(t *testing.T, text []byte) {
		plan, err := Parse(text, "mxward.toml")
		if (plan == nil) == (err == nil) {
			t.Fatalf("plan %+v, error %v", plan, err)
		}
		if err == nil {
			return
		}
		var list Errors
		if !errors.As(err, &list) || len(list) == 0 {
			t.Fatalf("got %T without a mistake", err)
		}
		lines := strings.Count(string(text), "\n") + 1
		for _, e := range list {
			if e.Kind == "" || e.Expected == "" || e.Got == "" || strings.Contains(e.Error(), "\n") || e.Line < 0 || e.Line > lines {
				t.Errorf("odd mistake %+v", e)
			}
		}
	})
}

// The tree takes what the library's decoder takes, refuses what it refuses for keys that
// come twice, and holds the same.
func FuzzTree(f *testing.F) {
	addPlans(f)
	for _, text := range []string{
		"[a.b]\n[a]\nx=1\n", "[a]\n[a.b]\n[a]\n", "a.b=1\na.c=2\n[a]\n", "a.b=1\n[a.c]\n", "[[a]]\n[a.b]\n[[a]]\n[a.b]\n",
		"[[a.b]]\n[a]\n", "[a]\nb.c=1\n[a.b]\n", "a={b=1}\n[a.c]\n", "a=[{b=1}]\n[[a]]\n", "a={b.c=1,b.d=2}\n", "a={b=1,b.c=2}\n",
		"[a.b.c]\n[a]\nb.d=1\n", "\"\"=1\n", "[[a]]\nb.c=1\n[a.b]\n", "a=[[1,[2]],[]]\n", "a={}\na.b=1\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var faults Errors
		tree := parseTree(text, func(e *Error) { faults = append(faults, e) })
		var want map[string]any
		err := toml.Unmarshal(text, &want)
		if err == nil && len(faults) > 0 {
			t.Fatalf("the library takes it, and the tree says %v", faults)
		}
		if err != nil && len(faults) == 0 && strings.Contains(err.Error(), "already") {
			t.Fatalf("the tree takes it, and the library says %v", err)
		}
		if err == nil {
			same(t, "", tree.root, want)
		}
	})
}

// same compares the keys and the strings; other scalars are read by the forms.
func same(t *testing.T, path string, n *node, want any) {
	switch want := want.(type) {
	case map[string]any:
		if !isTable(n) || len(n.keys) != len(want) {
			t.Fatalf("%s: got %+v, want %v", path, n, want)
		}
		for _, e := range n.keys {
			if _, ok := want[e.name]; !ok {
				t.Fatalf("%s: %s is too much", path, e.name)
			}
			same(t, path+"."+e.name, e.value, want[e.name])
		}
	case []any:
		if !isList(n) || len(n.items) != len(want) {
			t.Fatalf("%s: got %+v, want %v", path, n, want)
		}
		for i, item := range n.items {
			same(t, path, item, want[i])
		}
	case string:
		if n.kind != unstable.String || n.text != want {
			t.Fatalf("%s: got %+v, want %q", path, n, want)
		}
	}
}

// What ParseTarget takes it takes again, as String writes it.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"smtp://mail.example.com", "lmtp://[2001:db8::1]:24", "lmtp:/run/lmtp", "maildir:/var/mail", "mx:", "smtp://[::ffff:192.0.2.1]", "smtp://x:", ":", "smtp://:::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := ParseTarget(s)
		if err != nil {
			if target != (Target{}) {
				t.Fatalf("a target beside an error: %+v", target)
			}
			return
		}
		if again, err := ParseTarget(target.String()); err != nil || again != target {
			t.Fatalf("%q: %+v is written as %q, and read as %+v, %v", s, target, target, again, err)
		}
	})
}
