package audit

import (
	"slices"
	"strings"
	"testing"
)

// TestZoo looks at each animal: exactly the ids that it states fail.
func TestZoo(t *testing.T) {
	failed, passed := map[string]bool{}, map[string]bool{}
	document := published(t)
	for _, a := range zoo() {
		t.Run(a.why, func(t *testing.T) {
			facts, findings := a.audit(t)
			for _, f := range findings {
				failed[f.ID] = failed[f.ID] || f.Status == Fail
				passed[f.ID] = passed[f.ID] || f.Status == Pass
				if f.Status == Fail && f.Severity != Info && f.Fix.Text == "" {
					t.Errorf("%s says nothing of how to mend it: %s", f.ID, f.Detail)
				}
			}
			a.compare(t, facts, findings)
			conforms(t, document, facts.Domain, findings)
		})
	}
	for _, c := range Checks() {
		switch {
		case c.ID == "dkim.no-selector-known": // which can only be unknown
		case !failed[c.ID]:
			t.Errorf("no case triggers %s", c.ID)
		case !passed[c.ID]:
			t.Errorf("no case passes %s", c.ID)
		}
	}
}

func (a animal) compare(t *testing.T, facts *Facts, findings []Finding) {
	t.Helper()
	want := slices.DeleteFunc(append(strings.Fields(usual), strings.Fields(a.fails)...), func(id string) bool {
		return slices.Contains(strings.Fields(a.gone), id)
	})
	var got []string
	blamed := map[string]bool{}
	for _, f := range findings {
		blamed[f.ID+"@"+string(f.Blame)] = true
		blamed[f.ID+"@"+string(f.Blame)+"@"+f.Target] = true
		if f.Status == Fail {
			got = append(got, f.ID)
		}
	}
	for _, id := range strings.Fields(a.passes) {
		if slices.Contains(got, id) {
			t.Errorf("%s fails", id)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	want, got = slices.Compact(want), slices.Compact(got)
	if a.anyMore {
		got = slices.DeleteFunc(got, func(id string) bool { return !slices.Contains(want, id) })
	}
	if !slices.Equal(want, got) {
		t.Errorf("fails: got %s\nwant %s", strings.Join(got, " "), strings.Join(want, " "))
		for _, f := range findings {
			if f.Status == Fail && !slices.Contains(want, f.ID) {
				t.Logf("%s %s: %s (%s)", f.ID, f.Target, f.Detail, f.Blame)
			}
		}
	}
	for _, which := range strings.Fields(a.unknown + " " + a.blamed) {
		if !blamed[which] {
			t.Errorf("no finding %s", which)
			id, _, _ := strings.Cut(which, "@")
			for _, f := range findings {
				if f.ID == id {
					t.Logf("%s %s: %s %s: %s", f.ID, f.Target, f.Status, f.Blame, f.Detail)
				}
			}
		}
	}
	if facts.Zone.Err != nil {
		t.Logf("zone: %v", facts.Zone.Err)
	}
}
