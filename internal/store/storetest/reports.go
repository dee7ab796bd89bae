package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"mxward/internal/report"
)

const reporter = "gate.example.com"

// count is a count of the day, whose last message came at noon.
func count(day time.Time, domain, what string, n int64) report.Count {
	return report.Count{Day: day, Domain: domain, What: what, Last: day.Add(12 * time.Hour), Messages: n}
}

func (b *bench) addCounts(limits report.Limits, lost int64, counts ...report.Count) {
	b.Helper()
	if got, err := b.AddCounts(ctx(), limits, reporter, counts); got != lost || err != nil {
		b.Fatalf("%d lost, %v, want %d", got, err, lost)
	}
}

func (b *bench) wantCounts(day time.Time, domain string, overflow int64, rows ...report.Count) {
	b.Helper()
	got, more, err := b.DayCounts(ctx(), day, domain)
	if err != nil || more != overflow || !slices.Equal(got, rows) {
		b.Errorf("%s: %v, overflow %d, %v; want %v, %d", domain, got, more, err, rows, overflow)
	}
}

// testCounts: counts of one thing are added up, by day and domain, for all processes, and
// are there after a restart, until they are forgotten.
func testCounts(t *testing.T, b *bench) {
	monday := report.Day(b.now)
	tuesday := monday.Add(24 * time.Hour)
	later := count(monday, "example.com", "b", 3)
	later.Last = later.Last.Add(time.Hour)
	b.addCounts(report.Usual(), 0, later, count(monday, "example.com", "a", 2), count(monday, "example.com", "b", 1))
	b.addCounts(report.Usual(), 0, count(monday, "example.com", "b", 5), count(monday, "example.net", "a", 7), count(tuesday, "example.com", "a", 11))
	b.addCounts(report.Usual(), 0, count(monday, "example.com", "", 13)) // too large to tell
	b.reopen()
	later.Messages = 9
	b.wantCounts(monday, "example.com", 13, count(monday, "example.com", "a", 2), later)
	b.wantCounts(monday, "example.net", 0, count(monday, "example.net", "a", 7))
	b.wantCounts(tuesday, "example.com", 0, count(tuesday, "example.com", "a", 11))
	b.wantCounts(tuesday, "example.net", 0)
	all, err := b.PendingDays(ctx(), 10)
	if err != nil || len(all) != 3 || all[0].Day != tuesday || all[1].Domain != "example.com" || all[1].Rows != 2 || all[1].Overflow != 13 ||
		!all[1].Due.Equal(report.Due(monday, "example.com", reporter).Truncate(time.Microsecond)) {
		t.Errorf("pending: %+v, %v", all, err)
	}
	if err := b.ForgetCounts(ctx(), tuesday); err != nil {
		t.Fatal(err)
	}
	b.wantCounts(monday, "example.com", 0)
	b.wantCounts(tuesday, "example.com", 0, count(tuesday, "example.com", "a", 11))
	if all, err := b.PendingDays(ctx(), 10); err != nil || len(all) != 1 {
		t.Errorf("pending: %+v, %v after the others were forgotten", all, err)
	}
}

// testLongCounts: the longest names and rows that strangers can make find their place, though
// nothing in them repeats: an index has a limit of its own, and one row too long for it would
// keep back all that is written with it, at every attempt.
func testLongCounts(t *testing.T, b *bench) {
	day := report.Day(b.now)
	random := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) string {
		text := make([]byte, n)
		for i := range text {
			text[i] = '!' + byte(random.IntN('~'-'!'))
		}
		return string(text)
	}
	domain := noise(255)
	row := count(day, domain, noise(report.MaxWhat), 1)
	b.addCounts(report.Usual(), 0, row, count(day, "example.com", "a", 1))
	b.wantCounts(day, domain, 0, row)
}

// testCountLimits: what is beyond the limits is counted as a number, what is known goes on.
func testCountLimits(t *testing.T, b *bench) {
	limits := report.Limits{Domains: 3, Owned: 3, Rows: 2, DayRows: 4}
	day := report.Day(b.now)
	for _, step := range []struct {
		why  string
		add  []report.Count
		lost int64
	}{
		{"the third and fourth row", []report.Count{count(day, "a.example", "1", 1), count(day, "a.example", "2", 1), count(day, "a.example", "3", 2), count(day, "a.example", "4", 3)}, 0},
		{"a row that has its place", []report.Count{count(day, "a.example", "2", 10)}, 0},
		{"the fourth and fifth domain", []report.Count{count(day, "b.example", "1", 1), count(day, "c.example", "1", 1), count(day, "d.example", "1", 20), count(day, "e.example", "1", 30)}, 50},
		{"no domain", []report.Count{count(day, "", "1", 7)}, 7},
		{"a domain that has its place, on a day that has no more", []report.Count{count(day, "c.example", "2", 40)}, 0},
		{"another day has room", []report.Count{count(day.Add(24*time.Hour), "c.example", "2", 1)}, 0},
	} {
		t.Log(step.why)
		b.addCounts(limits, step.lost, step.add...)
	}
	b.wantCounts(day, "a.example", 5, count(day, "a.example", "1", 1), count(day, "a.example", "2", 11))
	b.wantCounts(day, "c.example", 40, count(day, "c.example", "1", 1))
	b.wantCounts(day, "d.example", 0)
}

// testOwned: one owner of very many domains does not take the place of all others.
func testOwned(t *testing.T, b *bench) {
	limits := report.Limits{Domains: 10, Owned: 3, Rows: 10, DayRows: 100}
	day := report.Day(b.now)
	for n := range 3 {
		b.addCounts(limits, 0, count(day, fmt.Sprintf("d%d.example.com", n), "a", 1))
	}
	b.reopen()
	b.addCounts(limits, 7, count(day, "d3.example.com", "a", 1), count(day, "x.d4.example.com", "a", 2), count(day, "example.com", "a", 4))
	b.addCounts(limits, 0, count(day, "d0.example.com", "b", 1), count(day, "d0.example.net", "a", 1), count(day.Add(24*time.Hour), "d3.example.com", "a", 1))
	b.wantCounts(day, "d0.example.com", 0, count(day, "d0.example.com", "a", 1), count(day, "d0.example.com", "b", 1))
	b.wantCounts(day, "d3.example.com", 0)
	b.wantCounts(day, "d0.example.net", 0, count(day, "d0.example.net", "a", 1))
}

// testManySources: a day of very many sources stays within its bounds, and goes in pieces.
func testManySources(t *testing.T, b *bench) {
	const sources, batch, rows, dayRows = 5_000, 500, 750, 1_200
	limits := report.Limits{Domains: 10, Owned: 10, Rows: rows, DayRows: dayRows}
	day := report.Day(b.now)
	for from := 0; from < sources; from += batch {
		counts := make([]report.Count, batch)
		for i := range counts {
			counts[i] = count(day, []string{"a.example", "b.example"}[i%2], fmt.Sprintf("source %06d", from+i), 1)
		}
		b.addCounts(limits, 0, counts...)
	}
	total := int64(0)
	kept := 0
	for _, domain := range []string{"a.example", "b.example"} {
		got, overflow, err := b.DayCounts(ctx(), day, domain)
		if err != nil || len(got) > rows {
			t.Fatalf("%s: %d rows, %v", domain, len(got), err)
		}
		kept += len(got)
		total += int64(len(got)) + overflow
	}
	if kept != dayRows || total != sources {
		t.Errorf("%d rows and %d messages, want %d and %d", kept, total, dayRows, sources)
	}
	if err := b.ForgetCounts(ctx(), day.Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	b.wantCounts(day, "a.example", 0)
}

// claim wants a domain's day to be claimed, "" for none.
func (b *bench) claim(e report.Days, domain string) report.Claim {
	b.Helper()
	c, ok, err := e.ClaimDay(ctx(), b.now, b.now.Add(leaseTime))
	if err != nil || ok != (domain != "") || c.Domain != domain {
		b.Fatalf("claimed %+v, %t, %v, want %q", c, ok, err, domain)
	}
	return c
}

// testClaims: a day is due in its time, has one reporter at once, and once it is done it is
// done; a lease that ends, or a day that is put off, comes again.
func testClaims(t *testing.T, b *bench) {
	day := report.Day(b.now)
	b.addCounts(report.Usual(), 0, count(day, "example.com", "a", 1))
	other := b.another()
	b.now = report.Due(day, "example.com", reporter).Add(-time.Second)
	b.claim(b.Engine, "")
	b.pass(2 * time.Second)
	first := b.claim(b.Engine, "example.com")
	if !first.Day.Equal(day) || first.Attempt != 1 || len(first.Sent) != 0 {
		t.Errorf("claimed %+v", first)
	}
	b.claim(other, "")
	b.pass(2 * leaseTime)
	second := b.claim(other, "example.com")
	if err := b.SettleDay(ctx(), first, report.Settlement{Outcome: "sent"}); !errors.Is(err, report.ErrClaimLost) {
		t.Errorf("a claim that was lost is settled: %v", err)
	}
	put := report.Settlement{Next: b.now.Add(time.Hour), Sent: []string{"a@example.com", "b@example.com"}, Outcome: "no DNS"}
	if err := other.SettleDay(ctx(), second, put); err != nil {
		t.Fatal(err)
	}
	b.claim(b.Engine, "")
	b.addCounts(report.Usual(), 0, count(day, "example.com", "late", 1)) // it will be in the report
	b.pass(2 * time.Hour)
	b.reopen()
	third := b.claim(b.Engine, "example.com")
	if third.Attempt != 3 || !slices.Equal(third.Sent, put.Sent) {
		t.Errorf("claimed %+v", third)
	}
	if err := b.SettleDay(ctx(), third, report.Settlement{Sent: put.Sent, Outcome: "sent"}); err != nil {
		t.Fatal(err)
	}
	if err := b.SettleDay(ctx(), third, report.Settlement{Outcome: "sent"}); !errors.Is(err, report.ErrClaimLost) {
		t.Errorf("a day is done twice: %v", err)
	}
	b.pass(48 * time.Hour)
	b.claim(other, "")
	b.addCounts(report.Usual(), 5, count(day, "example.com", "too late", 5))
	all, err := b.PendingDays(ctx(), 10)
	if err != nil || len(all) != 1 || !all[0].Due.IsZero() || all[0].Outcome != "sent" || all[0].Rows != 2 {
		t.Errorf("pending %+v, %v", all, err)
	}
}

// testClaimRace: of many reporters each day has one.
func testClaimRace(t *testing.T, b *bench) {
	day := report.Day(b.now)
	const domains = 40
	for i := range domains {
		b.addCounts(report.Usual(), 0, count(day, fmt.Sprintf("d%d.example", i), "a", 1))
	}
	b.now = day.Add(48 * time.Hour)
	engines := []report.Days{b.Engine, b.another(), b.another()}
	var mu sync.Mutex
	claimed := map[string]int{}
	var running sync.WaitGroup
	for _, e := range slices.Concat(engines, engines) {
		running.Go(func() {
			for {
				c, ok, err := e.ClaimDay(ctx(), b.now, b.now.Add(leaseTime))
				if err != nil {
					t.Error(err)
				}
				if err != nil || !ok {
					return
				}
				mu.Lock()
				claimed[c.Domain]++
				mu.Unlock()
			}
		})
	}
	running.Wait()
	if len(claimed) != domains {
		t.Errorf("%d domains claimed, want %d", len(claimed), domains)
	}
	for domain, n := range claimed {
		if n != 1 {
			t.Errorf("%s was claimed %d times", domain, n)
		}
	}
}

// testReceived: a report is kept once, those that are not authentic have their own room, and
// old ones make it again.
func testReceived(t *testing.T, b *bench) {
	limits := report.Keeping{Reports: 20, Bytes: 100}
	keep := func(r report.Received, kept bool, want error) {
		t.Helper()
		if got, err := b.KeepReport(ctx(), limits, r); got != kept || !errors.Is(err, want) {
			t.Errorf("%s: kept %t, %v; want %t, %v", r.Key, got, err, kept, want)
		}
	}
	one := func(key string, authentic bool, size int) report.Received {
		return report.Received{
			Key: key, Kind: report.Aggregate, At: b.now, End: b.now.Add(-time.Hour), Domain: "example.com", Sender: "example.net",
			Authentic: authentic, Data: make([]byte, size),
		}
	}
	keep(one("a", true, 40), true, nil)
	keep(one("a", true, 40), false, nil) // the same once more
	b.reopen()
	keep(one("a", true, 40), false, nil)
	keep(one("b", false, 4), true, nil)
	keep(one("c", false, 4), true, nil)
	keep(one("d", false, 1), false, report.ErrFull) // a tenth of the reports
	keep(one("e", true, 61), false, report.ErrFull)
	b.pass(time.Hour)
	odd := one("f\x00\xff", true, 60)
	odd.Kind, odd.Sender = report.TLS, "\x00"
	keep(odd, true, nil)
	got, err := b.ReceivedReports(ctx(), report.Aggregate, time.Time{}, 0, 2)
	if err != nil || len(got) != 2 || got[0].Key != "a" || got[1].Key != "b" || !got[0].Authentic || got[1].Authentic || len(got[0].Data) != 40 ||
		!got[0].At.Equal(b.now.Add(-time.Hour)) || got[0].Sender != "example.net" || got[0].Number >= got[1].Number {
		t.Fatalf("got %+v, %v", got, err)
	}
	if got, err := b.ReceivedReports(ctx(), report.Aggregate, time.Time{}, got[1].Number, 2); err != nil || len(got) != 1 || got[0].Key != "c" {
		t.Errorf("the next page is %+v, %v", got, err)
	}
	if got, err := b.ReceivedReports(ctx(), report.Aggregate, b.now, 0, 2); err != nil || len(got) != 0 {
		t.Errorf("since now there are %+v, %v", got, err)
	}
	if err := b.ForgetReports(ctx(), b.now); err != nil {
		t.Fatal(err)
	}
	if got, err := b.ReceivedReports(ctx(), report.Aggregate, time.Time{}, 0, 2); err != nil || len(got) != 0 {
		t.Errorf("old reports are %+v, %v", got, err)
	}
	keep(one("g", true, 40), true, nil)
	keep(one("h", true, 1), false, report.ErrFull)
	keep(one("i", false, 10), true, nil)
}

// testReporterShare: one reporter has a part of the room, in reports and in octets, whoever
// else is there; what is forgotten is his again, and what is older than the count of it harms
// nobody.
func testReporterShare(t *testing.T, b *bench) {
	limits := report.Keeping{Reports: 120, Bytes: 4_000} // of one reporter 30 and 1,000
	keep := func(reporter string, n, size int, want error) {
		t.Helper()
		r := report.Received{
			Key: fmt.Sprint(reporter, n), Kind: report.Aggregate, At: b.now, End: b.now, Domain: "example.com",
			Sender: "mx." + reporter, Authentic: reporter != "", Reporter: reporter, Data: make([]byte, size),
		}
		if kept, err := b.KeepReport(ctx(), limits, r); kept != (want == nil) || !errors.Is(err, want) {
			t.Errorf("report %d of %q: kept %t, %v; want %v", n, reporter, kept, err, want)
		}
	}
	for n := range 30 {
		keep("many.example", n, 1, nil)
	}
	b.reopen()
	keep("many.example", 30, 1, report.ErrShare)
	keep("large.example", 0, 999, nil)
	keep("large.example", 1, 2, report.ErrShare)
	keep("large.example", 2, 1, nil)
	keep("other.example", 0, 1, nil)
	keep("", 0, 1, nil) // no reporter: forged reports have their own room
	b.pass(time.Hour)
	keep("other.example", 1, 1, nil)
	if err := b.ForgetReports(ctx(), b.now); err != nil { // in several pieces
		t.Fatal(err)
	}
	for n := range 30 {
		keep("many.example", n, 1, nil)
	}
	keep("many.example", 30, 1, report.ErrShare)
	keep("large.example", 0, 1_000, nil)
	keep("other.example", 2, 999, nil)
	keep("other.example", 3, 1, report.ErrShare)
}
