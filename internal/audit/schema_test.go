package audit

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"mxward/docs/schema"
	"mxward/internal/dns"
)

// published compiles the schema of the JSON document.
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

// conforms: the document of these findings is one that the schema describes.
func conforms(t *testing.T, s *jsonschema.Schema, domain dns.Name, findings []Finding) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"schema": "mxward.check/1", "domain": domain, "findings": findings})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(doc); err != nil {
		t.Errorf("not what docs/schema says: %v", err)
	}
}
