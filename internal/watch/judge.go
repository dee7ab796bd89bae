package watch

import (
	"cmp"
	"slices"
	"strings"

	"mxward/internal/audit"
	"mxward/internal/audit/render"
)

// suspects reports whether something was seen once and waits for a second look.
func (d *domain) suspects() bool { return len(d.Worse)+len(d.Better) > 0 }

// fresh reports whether something is seen once now that was not before: what could not be asked a
// second time waits for its turn.
func (d *domain) fresh(worse, better []problem) bool {
	isNew := func(before []problem) func(problem) bool {
		return func(p problem) bool {
			return !slices.ContainsFunc(before, func(b problem) bool { return b.ID == p.ID && b.Target == p.Target })
		}
	}
	return slices.ContainsFunc(worse, isNew(d.Worse)) || slices.ContainsFunc(better, isNew(d.Better))
}

// take puts a look beside what is known, and gives what is to be told, the worst first.
func (d *domain) take(r render.Report, least audit.Severity) []Change {
	d.Looked = r.When
	changes := d.judge(r, least)
	if !clockIsWrong(r.Findings) {
		changes = append(changes, d.tick(r.Clocks, r.When)...)
	}
	for i := range changes {
		changes[i].Domain, changes[i].When = r.Domain, r.When
	}
	slices.SortStableFunc(changes, func(a, b Change) int {
		return cmp.Or(slices.Index(Turns(), a.Turn)-slices.Index(Turns(), b.Turn), rank(a.Severity)-rank(b.Severity))
	})
	return changes
}

func rank(s audit.Severity) int { return slices.Index(audit.Severities(), s) }

// judge compares the findings with the problems that were told. A turn for the worse or the better
// is one when the look before has seen it too.
func (d *domain) judge(r render.Report, least audit.Severity) (changes []Change) {
	now := weighed(r.Findings)
	var known, worse, better []problem
	aside, compared := split(d.Problems, r.Findings)
	told, once := findings(compared), findings(d.Worse)
	met := map[*audit.Finding]bool{}
	for _, m := range audit.Compare(told, now) {
		met[m.Before] = true
		switch {
		case isWorse(m, least):
			if has(d.Worse, m.After) || m.After.Severity == audit.Critical && m.After.Confidence == audit.Confirmed {
				known, changes = append(known, newProblem(m.After)), append(changes, newChange(Worse, m.After, m.Before))
				continue
			}
			worse = append(worse, newProblem(m.After))
			if m.Before != nil {
				known = append(known, newProblem(m.Before))
			}
		case isBetter(m):
			if !has(d.Better, m.Before) {
				known, better = append(known, newProblem(m.Before)), append(better, newProblem(m.Before))
				continue
			}
			changes = append(changes, newChange(Better, cmp.Or(m.After, m.Before), m.Before))
			if m.After != nil && m.After.Severity.AtLeast(least) {
				known = append(known, newProblem(m.After))
			}
		case m.Turn == audit.Unsure:
			known = append(known, newProblem(m.Before))
			if has(d.Better, m.Before) {
				better = append(better, newProblem(m.Before))
			}
		case m.Before != nil: // as before, but for the words
			known = append(known, newProblem(m.After))
		}
	}
	for i := range told { // and what was not looked at
		if !met[&told[i]] {
			known = append(known, compared[i])
		}
	}
	known = append(known, aside...)
	// What was seen once and could not be asked now has not gone away.
	for _, m := range audit.Compare(once, now) {
		if m.Turn == audit.Unsure {
			worse = append(worse, newProblem(m.Before))
		}
	}
	d.soon = d.fresh(worse, better)
	d.Problems, d.Worse, d.Better = known, worse, better
	return changes
}

// isWorse reports whether a move is one for the worse, of a problem that counts.
func isWorse(m audit.Move, least audit.Severity) bool {
	if m.After == nil || !m.After.Severity.AtLeast(least) {
		return false
	}
	return m.Turn == audit.New || m.Turn == audit.Changed && !m.Before.Severity.AtLeast(m.After.Severity)
}

func isBetter(m audit.Move) bool {
	return m.Turn == audit.Gone || m.Turn == audit.Changed && !m.After.Severity.AtLeast(m.Before.Severity)
}

// weighed gives the findings as the watch sees them. What fails on our own side says as little of
// the domain as what could not be asked. What a baseline has not count is as if it were fine.
func weighed(all []audit.Finding) []audit.Finding {
	out := slices.Clone(all)
	for i, f := range out {
		switch {
		case f.Status != audit.Fail:
		case f.Ignored != "":
			out[i].Status = audit.Pass
		case f.Blame.Ours():
			out[i].Status = audit.Unknown
		}
	}
	return out
}

// split takes aside the problems that were told and that a baseline names by now: they are neither
// mended, nor new when its day is over.
func split(told []problem, all []audit.Finding) (aside, rest []problem) {
	for _, p := range told {
		if slices.ContainsFunc(all, func(f audit.Finding) bool {
			return f.Status == audit.Fail && f.Ignored != "" && f.ID == p.ID && f.Target == p.Target
		}) {
			aside = append(aside, p)
			continue
		}
		rest = append(rest, p)
	}
	return aside, rest
}

// clockIsWrong reports whether a look has found that this host does not know the time.
func clockIsWrong(all []audit.Finding) bool {
	return slices.ContainsFunc(all, func(f audit.Finding) bool { return f.ID == "net.clock-skew" && f.Status == audit.Fail })
}

func has(list []problem, f *audit.Finding) bool {
	return slices.ContainsFunc(list, func(p problem) bool { return p.ID == f.ID && p.Target == f.Target })
}

func newProblem(f *audit.Finding) problem {
	return problem{f.ID, f.Target, f.Severity, f.Blame, f.Title, clip(f.Detail)}
}

func clip(s string) string {
	if len(s) > maxDetail {
		s = s[:maxDetail] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

// findings makes of problems what audit.Compare compares.
func findings(list []problem) []audit.Finding {
	out := make([]audit.Finding, len(list))
	for i, p := range list {
		out[i] = audit.Finding{ID: p.ID, Target: p.Target, Status: audit.Fail, Severity: p.Severity, Blame: p.Blame, Title: p.Title, Detail: p.Detail}
	}
	return out
}

// newChange tells of a finding; before is what it was, or nil.
func newChange(turn Turn, f, before *audit.Finding) Change {
	c := Change{Turn: turn, ID: f.ID, Target: f.Target, Severity: f.Severity, Blame: f.Blame, Title: f.Title, Detail: clip(f.Detail)}
	if before != nil && before.Severity != f.Severity {
		c.Title += " (it was " + string(before.Severity) + ")"
	}
	if turn == Worse {
		lines := []string{clip(f.Fix.Text)}
		for _, r := range f.Fix.Records[:min(len(f.Fix.Records), maxRecords)] {
			lines = append(lines, r.Do+": "+clip(r.Record))
		}
		c.Fix = strings.Trim(strings.Join(lines, "\n"), "\n")
	}
	return c
}

// maxRecords is how many records of a mending are told; mxward check shows all.
const maxRecords = 5
