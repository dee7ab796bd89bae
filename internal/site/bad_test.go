package site

import (
	"errors"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected messages in testdata")

const badFolder = "testdata/bad"

// badCases gives the names of the cases of a folder: NAME.toml with its message NAME.want.
// A case without a file is one that cannot be had in a folder.
func badCases(t *testing.T) []string {
	t.Helper()
	names := map[string]bool{"unreadable": true, "too-large": true}
	for _, ext := range []string{".toml", ".want"} {
		files, err := filepath.Glob(filepath.Join(badFolder, "*"+ext))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no *%s (%v)", badFolder, ext, err)
		}
		for _, f := range files {
			names[strings.TrimSuffix(filepath.Base(f), ext)] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// loadBad loads the plan of a case.
func loadBad(name string) (*Plan, error) {
	if name == "too-large" {
		return Parse(slices.Repeat([]byte("# too large\n"), maxText/12+1), filepath.Join(badFolder, name+".toml"))
	}
	return Load(filepath.Join(badFolder, name+".toml"))
}

// Each bad plan fails with exactly its message, and the first part of its name is a kind
// of mistake that is in it.
func TestBad(t *testing.T) {
	for _, name := range badCases(t) {
		t.Run(name, func(t *testing.T) {
			plan, err := loadBad(name)
			if plan != nil {
				t.Errorf("there is a plan beside the error: %+v", plan)
			}
			var list Errors
			if !errors.As(err, &list) || len(list) == 0 {
				t.Fatalf("got %v (%T), want Errors", err, err)
			}
			kind, _, _ := strings.Cut(name, ".")
			if kind != "everything" && !slices.ContainsFunc(list, func(e *Error) bool { return e.Kind == Kind(kind) }) {
				t.Errorf("no mistake is of the kind %q:\n%v", kind, err)
			}
			file := filepath.Join(badFolder, name+".want")
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// Every kind of mistake that the code knows has a case.
func TestEveryKindHasACase(t *testing.T) {
	seen := map[Kind]bool{}
	for _, name := range badCases(t) {
		_, err := loadBad(name)
		var list Errors
		errors.As(err, &list)
		for _, e := range list {
			seen[e.Kind] = true
		}
	}
	kinds := kindsInCode(t)
	for _, k := range kinds {
		if !seen[k] {
			t.Errorf("no bad plan has the mistake %q", k)
		}
	}
	for k := range seen {
		if !slices.Contains(kinds, k) {
			t.Errorf("the kind %q is not among the constants", k)
		}
	}
}

// kindsInCode reads the constants of type Kind out of the source.
func kindsInCode(t *testing.T) []Kind {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []Kind
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Kind" {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			kinds = append(kinds, Kind(value))
		}
		return true
	})
	if len(kinds) == 0 {
		t.Fatal("errors.go has no constant of type Kind")
	}
	return kinds
}
