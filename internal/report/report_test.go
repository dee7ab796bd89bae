package report_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"mxward/internal/mailauth/dmarcrpt"
	"mxward/internal/report"
)

func seen() dmarcrpt.Observation {
	return dmarcrpt.Observation{
		Time: time.Date(2026, 5, 4, 23, 59, 59, 0, time.UTC), Source: netip.MustParseAddr("192.0.2.1"),
		HeaderFrom: "example.com", EnvelopeFrom: "example.net",
		Policy: dmarcrpt.Policy{Domain: "example.com", P: "reject"},
		SPF:    dmarcrpt.SPFResult{Domain: "example.net", Scope: "mfrom", Result: "pass"},
		DKIM:   []dmarcrpt.DKIMResult{{Domain: "example.com", Selector: "s1", Result: "pass"}}, DKIMAligned: true,
	}
}

// TestCount: all but the time of the day comes back.
func TestCount(t *testing.T) {
	o := seen()
	c, err := report.Of(o)
	if err != nil {
		t.Fatal(err)
	}
	o.Time = time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC)
	if got, err := c.Observation(); err != nil || !reflect.DeepEqual(got, o) {
		t.Errorf("got %+v, %v, want %+v", got, err, o)
	}
	if c.Domain != "example.com" || !c.Day.Equal(o.Time) || c.Messages != 1 {
		t.Errorf("counted as %+v", c)
	}
}

// TestSame: messages that differ in nothing but the time of the day are one row.
func TestSame(t *testing.T) {
	for _, test := range []struct {
		why    string
		change func(*dmarcrpt.Observation)
		same   bool
	}{
		{"an hour earlier", func(o *dmarcrpt.Observation) { o.Time = o.Time.Add(-time.Hour) }, true},
		{"the same moment elsewhere", func(o *dmarcrpt.Observation) { o.Time = o.Time.In(time.FixedZone("", 3600)) }, true},
		{"the next day", func(o *dmarcrpt.Observation) { o.Time = o.Time.Add(time.Second) }, false},
		{"another client", func(o *dmarcrpt.Observation) { o.Source = o.Source.Next() }, false},
		{"another result", func(o *dmarcrpt.Observation) { o.SPF.Result = "fail" }, false},
	} {
		a, errA := report.Of(seen())
		changed := seen()
		test.change(&changed)
		b, errB := report.Of(changed)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if (a == b) != test.same {
			t.Errorf("%s: %+v and %+v", test.why, a, b)
		}
	}
}

// TestTooLarge: what is too large to tell is counted all the same.
func TestTooLarge(t *testing.T) {
	o := seen()
	o.PolicyError = strings.Repeat("x", report.MaxWhat)
	if c, err := report.Of(o); err != nil || c.What != "" || c.Messages != 1 {
		t.Errorf("got %d octets, %d messages, %v", len(c.What), c.Messages, err)
	}
}
