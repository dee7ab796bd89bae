package audit_test

import (
	"bytes"
	"fmt"
	"testing"

	"mxward/internal/audit"
	"mxward/internal/audit/render"
	"mxward/internal/audit/tape"
	"mxward/internal/dns"
)

// TestTape: each animal of the zoo is judged from its recording as it was when it was there, with
// the same evidence, octet by octet.
func TestTape(t *testing.T) {
	for _, a := range audit.Zoo() {
		t.Run(a.Why(), func(t *testing.T) {
			t.Parallel()
			a.Visit(t, func(t *testing.T, auditor *audit.Auditor, domain dns.Name, checks []audit.Check) {
				var recording bytes.Buffer
				recorder, err := tape.Record(&recording, auditor, []dns.Name{domain}, "test")
				if err != nil {
					t.Fatal(err)
				}
				taped, end := recorder.Begin(auditor, domain)
				want := document(t, taped.Gather(t.Context(), domain), checks)
				end()
				if err := recorder.Err(); err != nil {
					t.Fatal(err)
				}
				played, err := tape.Read(&recording)
				if err != nil {
					t.Fatal(err)
				}
				again := played.Auditor(domain)
				again.Lists = auditor.Lists // the zoo's own, which nobody knows by their zones
				again.Plan, again.PlanKey, again.Message = auditor.Plan, auditor.PlanKey, auditor.Message
				got := document(t, again.Gather(t.Context(), domain), checks)
				if !bytes.Equal(got, want) {
					t.Errorf("%s", firstDifference(got, want))
				}
			})
		})
	}
}

// document is all that is said about a domain, and then all that was asked.
func document(t *testing.T, facts *audit.Facts, checks []audit.Check) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, f := range audit.Judge(facts, checks) { // each in a line, for who has to find what differs
		if err := render.JSON(&b, render.NewReport(facts, []audit.Finding{f}), true); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range facts.Log {
		fmt.Fprintf(&b, "%s %s %s %s %s %v %s %s\n", x.Name, x.Type, x.Server, x.Rcode, x.Error, x.RTT, x.When, x.Records)
	}
	return b.Bytes()
}

// firstDifference gives the first line of got that is another in want.
func firstDifference(got, want []byte) string {
	theirs := bytes.Split(want, []byte("\n"))
	for i, line := range bytes.Split(got, []byte("\n")) {
		if i >= len(theirs) || !bytes.Equal(line, theirs[i]) {
			return "got  " + string(line) + "\nwant " + string(theirs[min(i, len(theirs)-1)])
		}
	}
	return "it ends early"
}

// TestCutTape: what is missing of a recording is unknown. It makes nothing fail that did not, and
// is held against nobody outside.
func TestCutTape(t *testing.T) {
	const cuts = 12 // of each
	for _, a := range audit.Zoo() {
		switch a.Why() {
		case "a domain without fault", "through a resolver of somebody else", "MX hosts without fault", "MX hosts without fault, and MTA-STS", "no MX host answers, and others do":
		default:
			continue
		}
		t.Run(a.Why(), func(t *testing.T) {
			t.Parallel()
			a.Visit(t, func(t *testing.T, auditor *audit.Auditor, domain dns.Name, checks []audit.Check) {
				var recording bytes.Buffer
				recorder, err := tape.Record(&recording, auditor, []dns.Name{domain}, "test")
				if err != nil {
					t.Fatal(err)
				}
				taped, end := recorder.Begin(auditor, domain)
				known := map[string]bool{}
				for _, f := range audit.Judge(taped.Gather(t.Context(), domain), checks) {
					known[f.ID+" "+string(f.Status)], known[f.ID+" on "+string(f.Blame)] = true, true
				}
				end()
				lines := bytes.SplitAfter(recording.Bytes(), []byte("\n"))
				for i := range cuts {
					n := 2 + i*(len(lines)-2)/cuts
					played, err := tape.Read(bytes.NewReader(bytes.Join(lines[:n], nil)))
					if err != nil {
						t.Fatal(err)
					}
					for _, f := range audit.Judge(played.Auditor(domain).Gather(t.Context(), domain), checks) {
						if f.Status == audit.Fail && !known[f.ID+" fail"] {
							t.Errorf("of %d lines: %s %s: %s", n, f.ID, f.Target, f.Detail)
						}
						if f.Status == audit.Unknown && f.Blame != audit.Nobody && !f.Blame.Ours() && !known[f.ID+" on "+string(f.Blame)] {
							t.Errorf("of %d lines: %s is put on %s: %s", n, f.ID, f.Blame, f.Detail)
						}
					}
				}
			})
		})
	}
}
