// Report runs `go test -json …`, shows what a person wants to see of it while it runs, and
// ends with what was left out, and why, and a count:
//
//	1234 passed, 0 failed, 2 skipped
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	notes := flag.String("notes", "", "a file whose lines are also left out")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: report [-notes FILE] -- go test -json …")
		os.Exit(2)
	}
	cmd := exec.Command(flag.Arg(0), flag.Args()[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report: start the tests:", err)
		os.Exit(1)
	}
	sum := summary{output: map[key][]string{}}
	sum.read(out)
	testErr := cmd.Wait()
	if *notes != "" {
		if text, err := os.ReadFile(*notes); err == nil {
			sum.leftOut = append(sum.leftOut, strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })...)
		}
	}
	sum.print(os.Stdout)
	if testErr != nil || sum.failed > 0 || sum.passed == 0 {
		os.Exit(1)
	}
}

// event is one line of test2json (go doc test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

type key struct{ pkg, test string }

type summary struct {
	passed, failed, skipped int
	leftOut                 []string
	failures                []string
	output                  map[key][]string
}

func (s *summary) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text()) // a build error, say
			continue
		}
		s.take(e)
	}
}

func (s *summary) take(e event) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "output", "build-output":
		s.output[k] = append(s.output[k], e.Output)
		if e.Action == "build-output" {
			fmt.Print(e.Output)
		}
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	if e.Test == "" {
		s.packageDone(e, k)
	} else {
		s.testDone(e, k)
	}
	delete(s.output, k)
}

func (s *summary) testDone(e event, k key) {
	switch e.Action {
	case "pass":
		s.passed++
	case "skip":
		s.skipped++
		s.leftOut = append(s.leftOut, e.Test+": "+skipReason(s.output[k]))
	case "fail":
		s.failed++
		s.failures = append(s.failures, e.Package+" "+e.Test)
		fmt.Printf("--- FAIL %s %s\n%s", e.Package, e.Test, strings.Join(s.output[k], ""))
	}
}

func (s *summary) packageDone(e event, k key) {
	switch e.Action {
	case "fail":
		fmt.Printf("FAIL %s (%.1fs)\n%s", e.Package, e.Elapsed, strings.Join(s.output[k], ""))
		if !slices.ContainsFunc(s.failures, func(f string) bool { return strings.HasPrefix(f, e.Package+" ") }) {
			s.failed++ // it did not build, or died outside a test
			s.failures = append(s.failures, e.Package)
		}
	case "pass":
		fmt.Printf("ok   %s (%.1fs)\n", e.Package, e.Elapsed)
	}
}

// skipReason gives the text of t.Skip, which is the last line before the verdict.
func skipReason(output []string) string {
	for _, line := range slices.Backward(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "---") || strings.HasPrefix(line, "===") {
			continue
		}
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			_, text, _ = strings.Cut(text, ": ")
			return text
		}
		return line
	}
	return "no reason given"
}

func (s *summary) print(w io.Writer) {
	for _, f := range s.failures {
		fmt.Fprintln(w, "failed:", f)
	}
	slices.Sort(s.leftOut)
	for _, l := range slices.Compact(s.leftOut) {
		fmt.Fprintln(w, "left out:", l)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
}
