package render

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"mxward/docs/schema"
	"mxward/internal/audit"
)

func published(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema.Check()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("mxward.check-1.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("mxward.check-1.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// TestSchema holds the published schema against the golden files, and against what is wrong.
func TestSchema(t *testing.T) {
	s := published(t)
	validate := func(text []byte) error {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return s.Validate(doc)
	}
	read := func(file string) []byte {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, file := range []string{"testdata/one.json", "testdata/hostile.json", "../../../cmd/mxward/testdata/check.golden.json"} {
		if err := validate(read(file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	for line := range bytes.Lines(read("testdata/several.json")) {
		if err := validate(line); err != nil {
			t.Errorf("several.json: %v", err)
		}
	}
	var empty bytes.Buffer
	if err := JSON(&empty, Report{Domain: hostileReport().Domain, Profile: "mail"}, true); err != nil {
		t.Fatal(err)
	}
	if err := validate(empty.Bytes()); err != nil {
		t.Errorf("no findings: %v", err)
	}
	good := string(read("testdata/one.json"))
	for _, c := range []struct{ old, new string }{
		{`"mxward.check/1"`, `"mxward.check/2"`},
		{`"severity": "error"`, `"severity": "awful"`},
		{`"severity": "error"`, `"severity": ""`}, // of a fail
		{`"blame": "zone"`, `"blame": ""`},        // of a fail
		{`"id": "mx.cname",`, ``},
		{`"do": "replace"`, `"do": "burn"`},
		{`"refs": [`, `"refs": null, "x": [`},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if bad == good || validate([]byte(bad)) == nil {
			t.Errorf("with %s for %s it is still valid", c.new, c.old)
		}
	}
	if more := strings.Replace(good, `"schema":`, `"ignored": 1, "schema":`, 1); validate([]byte(more)) != nil {
		t.Error("keys may be added")
	}
}

// TestSchemaWords: the schema knows the words that the code knows.
func TestSchemaWords(t *testing.T) {
	properties := published(t).Properties["findings"].Items2020.Ref.Properties
	words := func(key string) (out []string) {
		for _, v := range properties[key].Enum.Values {
			if v != "" {
				out = append(out, v.(string))
			}
		}
		return out
	}
	var severities, blames []string
	for _, s := range audit.Severities() {
		severities = append(severities, string(s))
	}
	for _, b := range audit.Blames() {
		blames = append(blames, string(b))
	}
	if got := words("severity"); !slices.Equal(got, severities) {
		t.Errorf("severities: %v, want %v", got, severities)
	}
	if got := words("blame"); !slices.Equal(got, blames) {
		t.Errorf("sides: %v, want %v", got, blames)
	}
}
