package dkim_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	peer "github.com/emersion/go-msgauth/dkim"

	"mxward/internal/mailauth/dkim"
)

// beyondOpendkim tells what opendkim's test mode changes before its library sees it: it
// takes the white space around the values of fields away, which simple hashes, and loses a
// last line without an end.
func beyondOpendkim(name string, way wayOf) bool {
	if way.header == dkim.Simple && (name == "an empty field" || name == "space around a value") {
		return true
	}
	return name == "no last line end"
}

// wayOf is one way to sign.
type wayOf struct {
	selector     string
	header, body dkim.Canonicalization
}

func (w wayOf) String() string { return fmt.Sprintf("%s, %s/%s", w.selector, w.header, w.body) }

func (w wayOf) signer() dkim.Signer {
	s := signer(w.selector)
	s.Header, s.Body = w.header, w.body
	return s
}

func (w wayOf) algorithm() string { return w.selector + "-sha256" }

// ways are both algorithms with all canonicalizations.
func ways() []wayOf {
	var all []wayOf
	for _, selector := range []string{"rsa", "ed25519"} {
		for _, header := range canonicalizations {
			for _, body := range canonicalizations {
				all = append(all, wayOf{selector, header, body})
			}
		}
	}
	return all
}

func names() []string { return slices.Sorted(maps.Keys(shapes())) }

// needs gives the path of a peer's program.
func needs(t *testing.T, debian string, paths ...string) string {
	t.Helper()
	for _, path := range paths {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Skipf("left out: needs Debian's %s (apt-get install %[1]s)", debian)
	return ""
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run gives what a program writes to its standard output.
func run(t *testing.T, input string, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", program, err, out.String(), said.String())
	}
	return out.String()
}

// TestOpenDKIMVerifies: what we sign, opendkim verifies, in every shape and way.
func TestOpenDKIMVerifies(t *testing.T) {
	opendkim := needs(t, "opendkim", "opendkim", "/usr/sbin/opendkim")
	dir := t.TempDir()
	var keys strings.Builder
	for name, records := range published() {
		fmt.Fprintf(&keys, "%s %s\n", name, records[0])
	}
	config := write(t, filepath.Join(dir, "conf"), "Mode v\nRequireSafeKeys no\nTestPublicKeys "+write(t, filepath.Join(dir, "keys"), keys.String())+"\n")
	var files, about []string
	for _, way := range ways() {
		for _, name := range names() {
			if beyondOpendkim(name, way) {
				continue
			}
			about = append(about, way.String()+", "+name)
			files = append(files, write(t, filepath.Join(dir, fmt.Sprintf("%d.eml", len(files))), sign(t, shapes()[name], way.signer())))
		}
	}
	out := run(t, "", opendkim, "-x", config, "-t", strings.Join(files, ","))
	for i, file := range files {
		_, said, ok := strings.Cut(out, file+": verification ")
		said, _, _ = strings.Cut(said, "\n")
		if !ok || !strings.Contains(said, "succeeded") {
			t.Errorf("%s: opendkim says %q", about[i], said)
		}
	}
}

// TestOpenDKIMSigns: what opendkim signs, we verify; with a copy of the header in z=, too.
func TestOpenDKIMSigns(t *testing.T) {
	opendkim := needs(t, "opendkim", "opendkim", "/usr/sbin/opendkim")
	dir := t.TempDir()
	for _, way := range ways() {
		if way.selector == "ed25519" && way.header == dkim.Simple {
			continue // opendkim 2.11 folds these anew after signing, and refuses them itself
		}
		for _, more := range []string{"", "Diagnostics yes\nOversignHeaders From,To,Subject\nSignatureTTL 3600\n"} {
			key := write(t, filepath.Join(dir, way.selector+".pem"), string(must(dkim.MarshalPrivate(way.signer().Key))))
			config := write(t, filepath.Join(dir, "conf"), fmt.Sprintf(
				"Mode s\nRequireSafeKeys no\nInternalHosts 0.0.0.0/0\nDomain example.com\nSelector %s\nKeyFile %s\nSignatureAlgorithm %s\nCanonicalization %s/%s\n%s",
				way.selector, key, way.algorithm(), way.header, way.body, more))
			var files, shaped []string
			for i, name := range names() {
				if !beyondOpendkim(name, way) {
					files = append(files, write(t, filepath.Join(dir, fmt.Sprintf("%d.eml", i)), shapes()[name]))
					shaped = append(shaped, name)
				}
			}
			out := run(t, "", opendkim, "-x", config, "-t", strings.Join(files, ","))
			for i, name := range shaped {
				_, field, ok := strings.Cut(out, "opendkim: "+files[i]+":\nDKIM-Signature:")
				if !ok {
					t.Fatalf("%s, %s: opendkim did not sign:\n%s", way, name, out)
				}
				field, _, _ = strings.Cut(field, "\nopendkim: ")
				field = "DKIM-Signature:" + strings.ReplaceAll(strings.TrimRight(field, "\r\n"), "\r\n", "\n") + "\n"
				got := verify(t, published(), strings.ReplaceAll(field, "\n", "\r\n")+shapes()[name])
				if len(got) != 1 || got[0].Result != dkim.Pass {
					t.Errorf("%s, %s: %+v\n%s", way, name, got, field)
				}
			}
		}
	}
}

// pythonScript reads cases as JSON from its standard input and writes what python3-dkim
// makes of each: "True" or "False" for a message, a signature for one that is to be signed.
const pythonScript = `
import sys, json, base64, dkim
def one(c):
    raw = base64.b64decode(c["message"])
    if c["key"]:
        return dkim.sign(raw, c["selector"].encode(), b"example.com", base64.b64decode(c["key"]),
            signature_algorithm=c["algorithm"].encode(),
            canonicalize=(c["header"].encode(), c["body"].encode())).decode()
    def txt(name, timeout=5):
        return c["records"].get(name.decode().rstrip("."), "").encode()
    return str(dkim.DKIM(raw).verify(dnsfunc=txt))
out = []
for c in json.load(sys.stdin):
    try:
        out.append(one(c))
    except Exception as e:
        out.append(type(e).__name__ + ": " + str(e))
json.dump(out, sys.stdout)
`

type pythonCase struct {
	Message   []byte            `json:"message"`
	Key       []byte            `json:"key"` // to sign with; verify without
	Selector  string            `json:"selector"`
	Algorithm string            `json:"algorithm"`
	Header    string            `json:"header"`
	Body      string            `json:"body"`
	Records   map[string]string `json:"records"`
}

// pythonProgram is the interpreter that has the modules; "" where none has them. Debian's
// modules belong to Debian's interpreter, which may not be the first.
var pythonProgram = sync.OnceValue(func() string {
	for _, path := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(path, "-c", "import dkim, nacl").Run() == nil {
			return path
		}
	}
	return ""
})

// python runs all cases in one process.
func python(t *testing.T, cases []pythonCase) []string {
	t.Helper()
	program := pythonProgram()
	if program == "" {
		t.Skip("left out: needs Debian's python3-dkim and python3-nacl (apt-get install python3-dkim python3-nacl)")
	}
	input, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	var results []string
	if err := json.Unmarshal([]byte(run(t, string(input), program, "-c", pythonScript)), &results); err != nil || len(results) != len(cases) {
		t.Fatalf("%d results for %d cases: %v", len(results), len(cases), err)
	}
	return results
}

// TestPythonVerifies: what we sign, python3-dkim verifies.
func TestPythonVerifies(t *testing.T) {
	records := map[string]string{}
	for name, texts := range published() {
		records[name] = texts[0]
	}
	var cases []pythonCase
	var about []string
	for _, way := range ways() {
		for _, name := range names() {
			cases = append(cases, pythonCase{Message: []byte(sign(t, shapes()[name], way.signer())), Records: records})
			about = append(about, way.String()+", "+name)
		}
	}
	for i, got := range python(t, cases) {
		if got != "True" {
			t.Errorf("%s: %s", about[i], got)
		}
	}
}

// TestPythonSigns: what python3-dkim signs, we verify.
func TestPythonSigns(t *testing.T) {
	type about struct {
		way  wayOf
		name string
	}
	var cases []pythonCase
	var abouts []about
	for _, way := range ways() {
		for _, name := range names() {
			cases = append(cases, pythonCase{
				Message: []byte(shapes()[name]), Key: pythonKey(way.signer().Key), Selector: way.selector,
				Algorithm: way.algorithm(), Header: string(way.header), Body: string(way.body),
			})
			abouts = append(abouts, about{way, name})
		}
	}
	for i, field := range python(t, cases) {
		a := abouts[i]
		if !strings.HasPrefix(field, "DKIM-Signature:") {
			t.Errorf("%s, %s: %s", a.way, a.name, field)
			continue
		}
		if got := verify(t, published(), field+shapes()[a.name]); len(got) != 1 || got[0].Result != dkim.Pass {
			t.Errorf("%s, %s: %+v\n%s", a.way, a.name, got, field)
		}
	}
}

// pythonKey writes a private key as python3-dkim reads it: PEM, or the seed in base64.
func pythonKey(key crypto.Signer) []byte {
	if key, ok := key.(ed25519.PrivateKey); ok {
		return []byte(base64.StdEncoding.EncodeToString(key.Seed()))
	}
	return must(dkim.MarshalPrivate(key))
}

// TestLibrary: what we sign, the go-msgauth library verifies, and the other way round.
func TestLibrary(t *testing.T) {
	lookup := func(name string) ([]string, error) { return published()[name], nil }
	for _, way := range ways() {
		for _, name := range names() {
			text := shapes()[name]
			verified, err := peer.VerifyWithOptions(strings.NewReader(sign(t, text, way.signer())), &peer.VerifyOptions{LookupTXT: lookup})
			if err != nil || len(verified) != 1 || verified[0].Err != nil {
				t.Errorf("%s, %s: the library says %v %+v", way, name, err, verified)
			}
			var signed bytes.Buffer
			err = peer.Sign(&signed, strings.NewReader(text), &peer.SignOptions{
				Domain: "example.com", Selector: way.selector, Signer: way.signer().Key,
				HeaderCanonicalization: peer.Canonicalization(way.header), BodyCanonicalization: peer.Canonicalization(way.body),
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := verify(t, published(), signed.String()); len(got) != 1 || got[0].Result != dkim.Pass {
				t.Errorf("%s, %s: we say %+v", way, name, got)
			}
		}
	}
}

// FuzzLikeLibrary: of changed messages, the library and we think alike, but for what one of
// the two refuses to judge.
func FuzzLikeLibrary(f *testing.F) {
	for _, way := range ways()[4:] {
		f.Add([]byte(sign(f, message, way.signer())))
	}
	records := published()
	lookup := func(name string) ([]string, error) { return records[name], nil }
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 64<<10 || bytes.Contains(bytes.ReplaceAll(text, []byte("\r\n"), nil), []byte("\r")) {
			return // the library reads a CR alone in its own way, and empty lines slowly
		}
		ours, err := dkim.Verifier{Resolver: records}.Verify(context.Background(), bytes.NewReader(text))
		if err != nil || len(ours) != 1 {
			return
		}
		theirs, err := peer.VerifyWithOptions(bytes.NewReader(text), &peer.VerifyOptions{LookupTXT: lookup})
		if err != nil || len(theirs) != 1 {
			return
		}
		if theirs[0].Err == nil && ours[0].Result == dkim.Fail {
			t.Errorf("the library says pass, we say fail: %s", ours[0].Reason)
		}
	})
}
