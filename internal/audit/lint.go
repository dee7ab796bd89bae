package audit

import (
	"cmp"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/mailauth/lint"
)

// The rooms of the mail standards have the rules for their records; a row here stands for
// one id of theirs.

// survey is what such a room found out.
type survey struct {
	findings []lint.Finding
	err      error // something could not be had; what was found holds all the same
	theirs   Blame // whose trouble that is where our own side works
	none     string
	asked    []dns.Question
	change   func(lint.Finding) []Change // records to paste, where they are known; may be nil
	open     []verdict                   // of a row without a finding, once that was asked; nobody changes it
}

// once makes a survey for the first of the rows that need it, and gives it to the others of the
// same judgment. None of them changes it.
func (f *Facts) once(name string, look func(*Facts) survey) survey {
	s, ok := f.surveys[name]
	if !ok {
		s = look(f)
		s.open = s.orElse(f, nil)
		if f.surveys != nil {
			f.surveys[name] = s
		}
	}
	return s
}

// linted makes the judge of a row out of a survey. none is why the row does not apply.
func linted(id string, look func(*Facts) survey) func(*Facts) []verdict {
	return func(f *Facts) []verdict {
		s := look(f)
		var all []verdict
		for _, found := range s.findings {
			if found.ID == id {
				all = append(all, s.verdict(found))
			}
		}
		return s.orElse(f, all)
	}
}

// orElse gives the verdicts, or where there is none what the survey leaves open.
func (s survey) orElse(f *Facts, all []verdict) []verdict {
	switch {
	case len(all) > 0:
		return all
	case len(s.open) > 0:
		return s.open
	case s.err != nil:
		return []verdict{unknown(f, s.err, s.theirs, s.asked...)}
	case s.none != "":
		return na(s.none)
	}
	return nil
}

func (s survey) verdict(found lint.Finding) verdict {
	text := found.Text
	if found.Found != "" {
		text = quoted(found.Found) + ": " + text
	}
	v := fail(clip(text), s.asked...).at(found.Domain).as(Severity(found.Severity)).mend(clip(cmp.Or(found.Fix, usualFix(found.ID))))
	if s.change != nil {
		v.fix.Records = s.change(found)
	}
	return v
}

func quoted(s string) string {
	return `"` + strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return '?'
		}
		return c
	}, strings.ToValidUTF8(s, "?")) + `"`
}

// row is a check whose rule stands in the room of its standard.
func row(look func(*Facts) survey, id, title string, worst Severity, refs ...string) Check {
	return Check{ID: id, Title: title, Severity: worst, Refs: refs, judge: linted(id, look)}
}

// inDoubt is the judge of a row for records that nobody can ask for. It fails only where the
// zone's own side is to blame: then every receiver meets the same.
func inDoubt(look func(*Facts) ([]dns.Question, error), detail string) func(*Facts) []verdict {
	return func(f *Facts) []verdict {
		asked, err := look(f)
		if err == nil {
			return nil
		}
		side := f.blame(err, ZoneServers)
		if !side.theirs() || !f.confirms(err) {
			return []verdict{unknown(f, err, ZoneServers, asked...)}
		}
		return []verdict{fail(detail+": "+clip(err.Error()), asked...).by(side).mend("see that the zone's servers answer this question, and that its signatures hold")}
	}
}

// confirms reports whether trouble was seen in a second way than by the resolver alone: the
// zone's own servers fail too, or a validator says why.
func (f *Facts) confirms(err error) bool {
	if f.bogus(err) {
		return true
	}
	return f.failsDirectly(err) || f.live() == 0 && len(f.Zone.Servers) > 0 && f.rootsHeard()
}
