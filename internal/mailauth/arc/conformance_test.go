package arc_test

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/arc"
	"mxward/internal/mailauth/dkim"
)

// The suites lie beside the project, not in it.
const suites = "../../../../shared/conformance/arc/"

// scenario is one document of the suites.
type scenario struct {
	Description string
	Tests       cases
	Domain      string
	Sel         string
	PrivateKey  string            `yaml:"privatekey"`
	Records     map[string]string `yaml:"txt-records"`
}

type testCase struct {
	Name    string `yaml:"-"`
	Message string
	CV      string
	// Of the signing suite:
	T          int64
	SigHeaders string `yaml:"sig-headers"`
	SrvID      string `yaml:"srv-id"`
	AS         string `yaml:"AS"`
	AMS        string `yaml:"AMS"`
	AAR        string `yaml:"AAR"`
}

// cases are a map in the suite. Some of its keys stand twice, with different tests.
type cases []testCase

func (c *cases) UnmarshalYAML(n *yaml.Node) error {
	for i := 0; i+1 < len(n.Content); i += 2 {
		tt := testCase{Name: n.Content[i].Value}
		if err := n.Content[i+1].Decode(&tt); err != nil {
			return err
		}
		*c = append(*c, tt)
	}
	return nil
}

// scenarios reads a suite, and holds it to its number of tests.
func scenarios(t *testing.T, name string, want int) []scenario {
	t.Helper()
	file, err := os.Open(suites + name)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("left out: the ARC test suite is not in ../shared/conformance/arc")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var all []scenario
	count := 0
	for documents := yaml.NewDecoder(file); ; {
		var s scenario
		if err := documents.Decode(&s); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		count += len(s.Tests)
		all = append(all, s)
	}
	if count != want {
		t.Errorf("%s has %d tests, and had %d", name, count, want)
	}
	return all
}

func (s scenario) zone() keyRecords {
	zone := keyRecords{}
	for name, text := range s.Records {
		zone[name] = []string{strings.Join(strings.Fields(text), " ")}
	}
	return zone
}

// decided are the cases where RFC 8617 says otherwise than the draft for which they were
// written. The suite wants no status there; RFC 8617 §5.2 step 2 has "fail" for them.
func decided() map[string]arc.Status {
	return map[string]arc.Status{
		"cv_fail_i1_as_cv_fail": arc.Fail, // RFC 8617 §5.2 step 2: the newest seal says cv=fail
		"cv_fail_i2_as2_fail":   arc.Fail, // RFC 8617 §5.2 step 2: likewise
		"cv_fail_i2_as1_fail":   arc.Fail, // RFC 8617 §5.2 step 3.C: an older seal says cv=fail
	}
}

// TestValidationSuite runs the validation suite.
func TestValidationSuite(t *testing.T) {
	rulings := decided()
	for _, s := range scenarios(t, "arc-draft-validation-tests.yml", 175) {
		zone := s.zone()
		for _, tt := range s.Tests {
			want := arc.Status(strings.ToLower(tt.CV))
			if ruling, ok := rulings[tt.Name]; ok {
				if want != "" {
					t.Errorf("%s: the suite wants %q now, the RFC's ruling is not needed", tt.Name, want)
				}
				want = ruling
			}
			t.Run(s.Description+"/"+tt.Name, func(t *testing.T) {
				got, err := arc.Verifier{Resolver: zone}.Validate(t.Context(), strings.NewReader(tt.Message))
				if err != nil || got.Status != want {
					t.Errorf("want %s, got %v\n%s", want, err, got)
				}
			})
		}
	}
}

// TestSigningSuite runs the signing suite. As its own runner does, it compares tags as a set
// and without white space; the signatures too, so that what is hashed is the same to the
// octet. The results to be sealed are given, not gathered from the message: that is for
// whoever wrote them.
func TestSigningSuite(t *testing.T) {
	for _, s := range scenarios(t, "arc-draft-sign-tests.yml", 17) {
		key, err := dkim.ParsePrivate([]byte(s.PrivateKey))
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range s.Tests {
			t.Run(s.Description+"/"+tt.Name, func(t *testing.T) {
				sealer := arc.Sealer{
					Domain: dns.MustName(s.Domain), Selector: s.Sel, Key: key,
					Fields: strings.Split(tt.SigHeaders, ":"), At: time.Unix(tt.T, 0),
				}
				_, results, _ := strings.Cut(strings.Join(strings.Fields(tt.AAR), " "), "; ")
				if results == "" {
					results = tt.SrvID + "; arc=fail"
				}
				fields, err := seal(t, sealer, s.zone(), tt.Message, results)
				if strings.TrimSpace(tt.AS) == "" {
					if !errors.Is(err, arc.ErrEnded) || fields != "" {
						t.Fatalf("sealed an ended chain: %v\n%s", err, fields)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				h, err := mail.ReadHeader(bufio.NewReader(strings.NewReader(fields)))
				if err != nil || len(h) != 3 {
					t.Fatalf("%v\n%s", err, fields)
				}
				for i, want := range []string{tt.AS, tt.AMS, tt.AAR} {
					if got := h[i].Folded(); !slices.Equal(tagSet(got), tagSet(want)) {
						t.Errorf("%s:\n%s\nwant\n%s", h[i].Name, got, want)
					}
				}
			})
		}
	}
}

func tagSet(s string) []string {
	tags := strings.Split(strings.Join(strings.Fields(s), ""), ";")
	slices.Sort(tags)
	return tags
}
