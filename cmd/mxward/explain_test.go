package main

import (
	"strings"
	"testing"

	"mxward/docs/checks"
)

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		words []string
		has   []string // each must stand in it
		fault string
	}{
		{[]string{"spf.ptr"}, []string{"spf.ptr: SPF uses ptr\n", "\nHow to mend it\n", "\n    dig example.com TXT"}, ""},
		{[]string{"caa.missing", "spf.ptr"}, []string{"caa.missing: ", "\nspf.ptr: "}, ""}, // in the order in which they were named
		{[]string{"dane"}, []string{"dane.mismatch ", "critical", "the TLSA records mean another certificate\n"}, ""},
		{nil, []string{"resolver.unreachable ", "plan.unsafe-order "}, ""},
		{[]string{"spf.ptr", "spf.prt"}, nil, "there is no check and no area \"spf.prt\"; did you mean spf.ptr?"}, // nothing is printed then
		{[]string{"SPF"}, nil, "there is no check and no area \"SPF\"; did you mean spf?"},
		{[]string{"dmarcs"}, nil, "; did you mean dmarc?"},
		{[]string{"nosuch"}, nil, "there is no check and no area \"nosuch\": mxward explain lists them"},
		{[]string{"../checks"}, nil, "there is no check"},
		{[]string{""}, nil, "there is no check"},
	} {
		got, err := explain(c.words)
		if c.fault != "" {
			if err == nil || !strings.Contains(err.Error(), c.fault) || got != "" {
				t.Errorf("%q: expected the error %q, got %v and %q", c.words, c.fault, err, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.words, err)
		}
		for _, text := range c.has {
			if !strings.Contains(got, text) {
				t.Errorf("%q: %q is missing in\n%s", c.words, text, got)
			}
		}
	}
}

// TestPlainPage: no page has marks of Markdown left, and none is lost.
func TestPlainPage(t *testing.T) {
	ids := checks.IDs()
	if len(ids) == 0 {
		t.Fatal("no pages are built in")
	}
	for _, id := range ids {
		page, ok := checks.Page(id)
		text := plainPage(page)
		if !ok || !strings.HasPrefix(text, id+": ") || strings.Contains(text, "```") || strings.Contains(text, "\n#") {
			t.Errorf("%s:\n%s", id, text)
		}
	}
	const in = "# a.b: c\n\nSay `x`.\n\n```sh\n# `kept`\ndig x\n```\n"
	if got, want := plainPage(in), "a.b: c\n\nSay x.\n\n    # `kept`\n    dig x\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestPageCommands: the mxward commands that the pages show exist, and take these arguments.
func TestPageCommands(t *testing.T) {
	count := 0
	for _, id := range checks.IDs() {
		page, _ := checks.Page(id)
		for line := range strings.Lines(page) {
			words, ok := strings.CutPrefix(strings.TrimSpace(line), "mxward ")
			if !ok {
				continue
			}
			count++
			args := strings.Fields(strings.Split(words, `"`)[0])
			if strings.Contains(words, `"`) {
				args = append(args, "quoted")
			}
			cmd, rest, err := newRoot().Find(args)
			if err == nil {
				err = cmd.ParseFlags(rest)
			}
			if err == nil {
				err = cmd.ValidateArgs(cmd.Flags().Args())
			}
			if err != nil || cmd.Name() == "mxward" {
				t.Errorf("%s: %s: %v", id, strings.TrimSpace(line), err)
			}
		}
	}
	if count == 0 {
		t.Error("no commands were found")
	}
}
