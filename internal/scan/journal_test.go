package scan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mxward/internal/audit"
)

// wrote makes an output with these lines.
func wrote(t *testing.T, text string, id Identity) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out")
	j, err := Create(path, id, "full=false")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func resultLine(n int) string {
	var b bytes.Buffer
	if err := (Result{Line: n, Status: Checked, Domain: "example.com", Provider: "example.net", Questions: 7}).Write(&b, false); err != nil {
		panic(err)
	}
	return b.String()
}

// summaryLine is one as --summary-line writes it.
func summaryLine(t *testing.T) string {
	t.Helper()
	text, err := json.Marshal((&Tally{}).Summary(true))
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// TestResume: whole lines count, a torn one is cut off, and what cannot be is refused.
func TestResume(t *testing.T) {
	id := Identity{Size: 5, Prefix: "ab"}
	for _, row := range []struct {
		why, text string
		id        Identity
		mode      string
		lines     int
		refused   string
	}{
		{"nothing yet", "", id, "", 0, ""},
		{"out of order", resultLine(3) + resultLine(1), id, "", 2, ""},
		{"a torn line", resultLine(1) + resultLine(2)[:40], id, "", 1, ""},
		{"only its end is missing", resultLine(1) + strings.TrimSuffix(resultLine(2), "\n"), id, "", 1, ""},
		{"zeros of a file system", resultLine(1) + "\x00\x00\x00\x00", id, "", 1, ""},
		{"a summary at its end", resultLine(1) + summaryLine(t), id, "", 1, ""},
		{"zeros of a file system, and then what came later", resultLine(1) + "\x00\x00\x00" + resultLine(2) + resultLine(3), id, "", 1, ""},
		{"zeros at the end of a line", resultLine(1) + resultLine(2)[:20] + "\x00\x00\n" + resultLine(3), id, "", 1, ""},
		{"twice", resultLine(1) + resultLine(1), id, "", 0, "twice"},
		{"another file", "hello\n", id, "", 0, "no result"},
		{"a line that cannot be", `{"line":99999999999}` + "\n", id, "", 0, "no result"},
		{"another size", resultLine(1), Identity{Size: 6, Prefix: "ab"}, "", 0, "the input is not the one"},
		{"another beginning", resultLine(1), Identity{Size: 5, Prefix: "cd"}, "", 0, "the input is not the one"},
		{"other options", resultLine(1), id, "full=true", 0, "other options"},
	} {
		path := wrote(t, row.text, id)
		mode := row.mode
		if mode == "" {
			mode = "full=false"
		}
		var tally Tally
		j, err := Resume(path, row.id, mode, &tally)
		if row.refused != "" {
			if err == nil || !strings.Contains(err.Error(), row.refused) {
				t.Errorf("%s: %v", row.why, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", row.why, err)
			continue
		}
		if sum := tally.Summary(true); sum.Lines != row.lines || sum.Resumed != row.lines || sum.Questions != 7*row.lines {
			t.Errorf("%s: %+v", row.why, sum)
		}
		fmt.Fprint(j, "after\n")
		j.Close()
		text, _ := os.ReadFile(path)
		if n := strings.Count(string(text), "\n"); n != row.lines+1 || !strings.HasSuffix(string(text), "}\nafter\n") && row.lines > 0 {
			t.Errorf("%s: %q", row.why, text)
		}
	}
	if _, err := Create(wrote(t, "", id), id, ""); err == nil {
		t.Error("an output is overwritten")
	}
	path := filepath.Join(t.TempDir(), "strange")
	if err := os.WriteFile(path, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Resume(path, id, "", &Tally{}); err == nil {
		t.Error("a stranger's file is gone on with")
	}
}

// TestResumeOurs: what our own side was at fault for is known again, also where the line leaves
// out what says so.
func TestResumeOurs(t *testing.T) {
	id := Identity{Size: 5, Prefix: "ab"}
	var b bytes.Buffer
	dark := []audit.Finding{{ID: "mx.missing", Status: audit.Unknown, Blame: audit.LocalResolver}}
	if err := (Result{Line: 1, Status: Checked, Findings: dark}).Write(&b, false); err != nil {
		t.Fatal(err)
	}
	var tally Tally
	j, err := Resume(wrote(t, b.String(), id), id, "full=false", &tally)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if sum := tally.Summary(true); sum.Ours != 1 || !sum.MostlyOurs() {
		t.Errorf("%+v: %s", sum, &b)
	}
}

// TestJournalsPlace: the journal lies beside its output, and nothing of anybody else's is lost for
// it.
func TestJournalsPlace(t *testing.T) {
	id := Identity{Size: 5, Prefix: "ab"}
	for _, row := range []struct {
		why, text string
		refused   bool
	}{
		{"a file of somebody else", "dear diary\n", true},
		{"JSON of somebody else", `{"schema":"diary/1"}`, true},
		{"an empty file", "", true},
		{"a journal whose output is gone", `{"schema":"` + JournalSchema + `","input":{"size":1,"prefix_sha256":"cd"},"mode":"x"}` + "\n", false},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "out")
		if err := os.WriteFile(headFile(path), []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Create(path, id, "full=false")
		text, readErr := os.ReadFile(headFile(path))
		if readErr != nil {
			t.Fatal(readErr)
		}
		if !row.refused {
			if err != nil || !strings.Contains(string(text), `"mode":"full=false"`) {
				t.Errorf("%s: %v: %q", row.why, err, text)
			}
			if err := j.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), headFile(path)+" is there") || !strings.Contains(err.Error(), "move it away, or give the output another name") {
			t.Errorf("%s: %v", row.why, err)
		}
		if _, err := Resume(path, id, "full=false", &Tally{}); err == nil || !strings.Contains(err.Error(), "it is no journal of a scan, and so nobody can say") {
			t.Errorf("%s: resumed: %v", row.why, err)
		}
		if left, err := os.ReadDir(dir); string(text) != row.text || err != nil || len(left) != 1 {
			t.Errorf("%s: %q, %v", row.why, text, left)
		}
	}
}

// TestResumeBeginning: a scan that was killed before its head was written has begun nothing, and
// can be gone on with.
func TestResumeBeginning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	id := Identity{Size: 5, Prefix: "ab"}
	for range 2 {
		j, err := Resume(path, id, "full=false", &Tally{})
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := Resume(path, id, "full=true", &Tally{}); err == nil {
		t.Error("it was begun with other options")
	}
}

// TestBeginTwice: of two who begin an output in the same moment, whoever has it has the file that
// is there.
func TestBeginTwice(t *testing.T) {
	id := Identity{Size: 5, Prefix: "ab"}
	for range 100 {
		path := filepath.Join(t.TempDir(), "out")
		var both sync.WaitGroup
		var begun [2]*Journal
		both.Go(func() { begun[0], _ = Create(path, id, "") })
		both.Go(func() { begun[1], _ = Resume(path, id, "", &Tally{}) })
		both.Wait()
		for _, j := range begun {
			if j == nil {
				continue // the other has it
			}
			mine, err := j.Stat()
			there, errThere := os.Stat(path)
			if err := errors.Join(err, errThere, j.Close()); err != nil || !os.SameFile(mine, there) {
				t.Fatalf("its file is not there: %v", err)
			}
		}
	}
}
