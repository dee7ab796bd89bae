// Package schema holds the published schemas of mxward's JSON documents, in JSON Schema draft
// 2020-12. Not every document of docs/json.md has one yet.
package schema

import _ "embed"

//go:embed mxward.check-1.json
var check string

// Check gives the schema of the document mxward.check/1.
func Check() string { return check }
