package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// The limits of a baseline; ours.
const (
	maxBaseline        = 4 << 20 // octets
	maxBaselineEntries = 10000
)

// AnyTarget in a baseline stands for every target.
const AnyTarget = "*"

// Baseline is what is known and shall not count for a while.
type Baseline struct{ Entries []Ignore }

// Ignore is one entry: the findings of an id at a target, until the end of a day (UTC).
type Ignore struct {
	Line   int
	ID     string
	Target string
	Until  time.Time // the first moment at which it does not hold any more
	Reason string
}

// Holds reports whether the entry counts at a time.
func (i Ignore) Holds(now time.Time) bool { return now.Before(i.Until) }

// Expired gives the entries that do not hold any more.
func (b Baseline) Expired(now time.Time) (out []Ignore) {
	for _, e := range b.Entries {
		if !e.Holds(now) {
			out = append(out, e)
		}
	}
	return out
}

// Mark marks the findings that are ignored, with the reason. Only what fails or is unknown has
// anything to ignore.
func (b Baseline) Mark(findings []Finding, now time.Time) {
	for i, f := range findings {
		if f.Status != Fail && f.Status != Unknown {
			continue
		}
		for _, e := range b.Entries {
			if e.ID == f.ID && (strings.EqualFold(e.Target, f.Target) || e.Target == AnyTarget) && e.Holds(now) {
				findings[i].Ignored = e.Reason
				break
			}
		}
	}
}

// ReadBaseline reads a baseline: tables [[ignore]] with id, target, until and reason, all of
// them required. The error has a line "FILE:LINE: …" for each mistake.
func ReadBaseline(r io.Reader, file string) (Baseline, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxBaseline+1))
	switch {
	case err != nil:
		return Baseline{}, fmt.Errorf("%s: %w", file, err)
	case len(text) > maxBaseline:
		return Baseline{}, fmt.Errorf("%s: a baseline has at most %d octets", file, maxBaseline)
	}
	var raw struct {
		Ignore []rawIgnore `toml:"ignore"`
	}
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&raw); err != nil {
		return Baseline{}, baselineError(file, err)
	}
	if len(raw.Ignore) > maxBaselineEntries {
		return Baseline{}, fmt.Errorf("%s: a baseline has at most %d entries, got %d", file, maxBaselineEntries, len(raw.Ignore))
	}
	lines := ignoreLines(text)
	ids := map[string]bool{}
	for _, c := range Checks() {
		ids[c.ID] = true
	}
	var b Baseline
	var wrong []error
	for n, e := range raw.Ignore {
		line := lines[min(n, len(lines)-1)]
		entry, err := e.read(ids)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s:%d: %w", file, line, err))
			continue
		}
		entry.Line = line
		b.Entries = append(b.Entries, entry)
	}
	return b, errors.Join(wrong...)
}

// rawIgnore is an entry as it stands.
type rawIgnore struct {
	ID     string `toml:"id"`
	Target string `toml:"target"`
	Until  any    `toml:"until"`
	Reason string `toml:"reason"`
}

func (e rawIgnore) read(ids map[string]bool) (Ignore, error) {
	out := Ignore{ID: e.ID, Target: strings.TrimSuffix(e.Target, "."), Reason: strings.TrimSpace(e.Reason)}
	switch {
	case e.ID == "":
		return out, errors.New(`expected id = "area.check"`)
	case !ids[e.ID]:
		return out, fmt.Errorf("there is no check %s", quoted(clip(e.ID)))
	case out.Target == "":
		return out, fmt.Errorf(`expected a target, such as target = "example.com", or "*" for all`)
	case out.Reason == "":
		return out, errors.New(`expected a reason, for whoever reads it next`)
	}
	var err error
	out.Until, err = endOf(e.Until)
	return out, err
}

// endOf reads the last day of an entry, with quotation marks or without.
func endOf(until any) (time.Time, error) {
	text := ""
	switch v := until.(type) {
	case nil:
		return time.Time{}, errors.New("expected until = 2027-01-31: nothing is ignored for good")
	case toml.LocalDate:
		text = v.String()
	case string:
		text = v
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("until: expected a day such as 2027-01-31, got %s", quoted(clip(fmt.Sprint(until))))
	}
	return day.AddDate(0, 0, 1), nil
}

// baselineError gives the mistakes of the form their lines.
func baselineError(file string, err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		var wrong []error
		for _, e := range strict.Errors {
			line, _ := e.Position()
			wrong = append(wrong, fmt.Errorf("%s:%d: expected [[ignore]] with id, target, until and reason, got %s", file, line, quoted(clip(strings.Join(e.Key(), ".")))))
		}
		return errors.Join(wrong...)
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		line, _ := decode.Position()
		return fmt.Errorf("%s:%d: %s", file, line, strings.TrimPrefix(decode.Error(), "toml: "))
	}
	return fmt.Errorf("%s: %w", file, err)
}

// ignoreLines gives the lines of the entries; of those that are written as a list, that of its key.
func ignoreLines(text []byte) []int {
	var parser unstable.Parser
	parser.Reset(text)
	var lines []int
	for parser.NextExpression() {
		e := parser.Expression()
		if e.Kind != unstable.ArrayTable && e.Kind != unstable.KeyValue {
			continue
		}
		keys := e.Key()
		if !keys.Next() || string(keys.Node().Data) != "ignore" {
			continue
		}
		at := min(int(keys.Node().Raw.Offset), len(text))
		lines = append(lines, 1+bytes.Count(text[:at], []byte("\n")))
	}
	if len(lines) == 0 {
		return []int{1}
	}
	return lines
}
