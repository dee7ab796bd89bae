package arc_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"mxward/internal/mailauth/arc"
	"mxward/internal/mailauth/dkim"
)

// pythonScript reads cases as JSON from its standard input and writes what python3-dkim
// makes of each: the status of a chain, or the fields of a set for one that is to be sealed.
const pythonScript = `
import sys, json, base64, dkim
def one(c):
    raw = base64.b64decode(c["message"])
    def txt(name, timeout=5):
        return c["records"].get(name.decode().rstrip("."), "").encode()
    if c["key"]:
        fields = dkim.arc_sign(raw, b"rsa", b"example.com", base64.b64decode(c["key"]), b"mx.example.com")
        return "".join(f.decode().rstrip("\r\n") + "\r\n" for f in fields)
    status, sets, reason = dkim.arc_verify(raw, dnsfunc=txt)
    return "ended" if status is None else status.decode()
out = []
for c in json.load(sys.stdin):
    try:
        out.append(one(c))
    except Exception as e:
        out.append(type(e).__name__ + ": " + str(e))
json.dump(out, sys.stdout)
`

type pythonCase struct {
	Message []byte            `json:"message"`
	Key     []byte            `json:"key"` // to seal with; verify without
	Records map[string]string `json:"records"`
}

// python runs all cases in one process.
func python(t *testing.T, cases []pythonCase) []string {
	t.Helper()
	// Debian's module belongs to Debian's interpreter, which may not be the first.
	program := ""
	for _, path := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(path, "-c", "import dkim, nacl, authres").Run() == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("left out: needs Debian's python3-dkim, python3-nacl and python3-authres (apt-get install python3-dkim python3-nacl python3-authres)")
	}
	for i := range cases {
		cases[i].Records = map[string]string{}
		for name, texts := range published() {
			cases[i].Records[name] = texts[0]
		}
	}
	var out, said bytes.Buffer
	cmd := exec.Command(program, "-c", pythonScript)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(must(json.Marshal(cases))), &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	var got []string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got) != len(cases) {
		t.Fatalf("%d results for %d cases: %v", len(got), len(cases), err)
	}
	return got
}

// shapes are messages of all kinds that may be sealed.
func shapes() map[string]string {
	head := "From: a@example.com\r\nTo: b@example.net\r\n"
	return map[string]string{
		"plain":             message,
		"empty body":        head + "\r\n",
		"only empty lines":  head + "\r\n\r\n\r\n",
		"only white space":  head + "\r\n \t\r\n  \r\n",
		"no last line end":  head + "\r\nx",
		"trailing space":    head + "\r\na \t\r\n  b\t \tc \r\n",
		"folded":            head + "Subject: one\r\n  two \t three\r\n\tfour\r\nReferences: <a@x>\r\n <b@x>\r\n\r\nx\r\n",
		"eight bit":         head + "Subject: gr\u00fc\u00dfe\r\n\r\n\xff\xfe \u4e16\u754c\r\n",
		"signed":            "DKIM-Signature: v=1; a=rsa-sha256; d=example.net; s=x; h=from; bh=AAAA; b=AAAA\r\n" + head + "\r\nx\r\n",
		"names in any case": "fRoM: a@example.com\r\nTO: b@example.net\r\nsUBJECT: x\r\n\r\nx\r\n",
		"many lines":        head + "\r\n" + strings.Repeat("a line of the body \r\n\r\n", 2000),
	}
}

// TestPythonValidates: what we seal, python3-dkim validates; what was changed it does not.
func TestPythonValidates(t *testing.T) {
	var cases []pythonCase
	var want, about []string
	for name, text := range shapes() {
		for _, selectors := range [][]string{{"rsa"}, {"rsa", "rsa", "rsa"}} {
			good := sealed(t, text, selectors...)
			broken := strings.Replace(good, "a@example.com", "x@example.com", 2)
			ended, err := seal(t, sealer("rsa"), published(), broken, results)
			if err != nil {
				t.Fatal(err)
			}
			cases = append(cases, pythonCase{Message: []byte(good)}, pythonCase{Message: []byte(broken)}, pythonCase{Message: []byte(ended + broken)})
			want = append(want, "pass", "fail", "ended")
			about = append(about, name+", good", name+", broken", name+", ended")
		}
	}
	for i, got := range python(t, cases) {
		if got != want[i] {
			t.Errorf("%s: %s, want %s", about[i], got, want[i])
		}
	}
}

// TestPythonSeals: what python3-dkim seals, we validate: the first set, and the next upon
// ours.
func TestPythonSeals(t *testing.T) {
	key := must(dkim.MarshalPrivate(rsaKey()))
	var cases []pythonCase
	var about []string
	for name, text := range shapes() {
		const found = "Authentication-Results: mx.example.com; spf=pass smtp.mailfrom=a@example.com; arc="
		cases = append(cases,
			pythonCase{Key: key, Message: []byte(found + "none\r\n" + text)},
			pythonCase{Key: key, Message: []byte(found + "pass\r\n" + sealed(t, text, "rsa"))})
		about = append(about, name+", first", name+", second")
	}
	for i, fields := range python(t, cases) {
		if !strings.HasPrefix(fields, arc.SealField) {
			t.Errorf("%s: %s", about[i], fields)
			continue
		}
		if got := validate(t, published(), fields+string(cases[i].Message)); got.Status != arc.Pass {
			t.Errorf("%s: %s\n%s", about[i], got, fields)
		}
	}
}
