package storetest

import (
	"slices"
	"testing"
	"time"

	"mxward/internal/report"
)

// testCounts: counts of one thing are added up, by day and domain, for all processes, and
// are there after a restart, until they are forgotten.
func testCounts(t *testing.T, b *bench) {
	monday := report.Day(b.now)
	tuesday := monday.Add(24 * time.Hour)
	count := func(day time.Time, domain, what string, n int64) report.Count {
		return report.Count{Day: day, Domain: domain, What: what, Messages: n}
	}
	add := func(counts ...report.Count) {
		t.Helper()
		if lost, err := b.AddCounts(ctx(), report.Usual(), counts); lost != 0 || err != nil {
			t.Fatalf("%d lost, %v", lost, err)
		}
	}
	want := func(day time.Time, domain string, overflow int64, rows ...report.Count) {
		t.Helper()
		got, more, err := b.Counts(ctx(), day, domain)
		if err != nil || more != overflow || !slices.Equal(got, rows) {
			t.Errorf("%s: %v, overflow %d, %v; want %v, %d", domain, got, more, err, rows, overflow)
		}
	}
	add(count(monday, "example.com", "b", 1), count(monday, "example.com", "a", 2), count(monday, "example.com", "b", 3))
	add(count(monday, "example.com", "b", 5), count(monday, "example.net", "a", 7), count(tuesday, "example.com", "a", 11))
	add(count(monday, "example.com", "", 13)) // too large to tell
	b.reopen()
	want(monday, "example.com", 13, count(monday, "example.com", "a", 2), count(monday, "example.com", "b", 9))
	want(monday, "example.net", 0, count(monday, "example.net", "a", 7))
	want(tuesday, "example.com", 0, count(tuesday, "example.com", "a", 11))
	want(tuesday, "example.net", 0)
	if got, err := b.CountedDomains(ctx(), monday); err != nil || !slices.Equal(got, []string{"example.com", "example.net"}) {
		t.Errorf("domains %v, %v", got, err)
	}
	if err := b.ForgetCounts(ctx(), tuesday); err != nil {
		t.Fatal(err)
	}
	want(monday, "example.com", 0)
	want(tuesday, "example.com", 0, count(tuesday, "example.com", "a", 11))
	if got, err := b.CountedDomains(ctx(), monday); err != nil || len(got) != 0 {
		t.Errorf("domains %v, %v after they were forgotten", got, err)
	}
}

// testCountLimits: what is beyond the limits is counted as a number, what is known goes on.
func testCountLimits(t *testing.T, b *bench) {
	limits := report.Limits{Domains: 3, Rows: 2}
	count := func(domain, what string, n int64) report.Count {
		return report.Count{Day: report.Day(b.now), Domain: domain, What: what, Messages: n}
	}
	for _, step := range []struct {
		why  string
		add  []report.Count
		lost int64
	}{
		{"the third and fourth row", []report.Count{count("a.example", "1", 1), count("a.example", "2", 1), count("a.example", "3", 2), count("a.example", "4", 3)}, 0},
		{"a row that has its place", []report.Count{count("a.example", "2", 10)}, 0},
		{"the fourth and fifth domain", []report.Count{count("b.example", "1", 1), count("c.example", "1", 1), count("d.example", "1", 20), count("e.example", "1", 30)}, 50},
		{"no domain", []report.Count{count("", "1", 7)}, 7},
		{"a domain that has its place", []report.Count{count("c.example", "2", 1)}, 0},
	} {
		if lost, err := b.AddCounts(ctx(), limits, step.add); lost != step.lost || err != nil {
			t.Errorf("%s: %d lost, %v, want %d", step.why, lost, err, step.lost)
		}
	}
	rows, overflow, err := b.Counts(ctx(), report.Day(b.now), "a.example")
	if want := []report.Count{count("a.example", "1", 1), count("a.example", "2", 11)}; err != nil || overflow != 5 || !slices.Equal(rows, want) {
		t.Errorf("rows %v, overflow %d, %v", rows, overflow, err)
	}
	domains, err := b.CountedDomains(ctx(), report.Day(b.now))
	if err != nil || !slices.Equal(domains, []string{"a.example", "b.example", "c.example"}) {
		t.Errorf("domains %v, %v", domains, err)
	}
}
