package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"mxward/internal/dns"
	"mxward/internal/site"
)

// The limits of a baseline; ours.
const (
	maxBaseline        = 4 << 20 // octets
	maxBaselineEntries = 10000
)

// AnyTarget in a baseline stands for every target.
const AnyTarget = "*"

// Baseline is what is known and shall not count for a while.
type Baseline struct {
	File    string
	Entries []Ignore
}

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

// Unmatched gives the entries that hold and have nothing to ignore among all findings about some
// domains, whose hosts and servers are at these addresses. Of a check that did not run, or that could
// not be asked everywhere, nobody knows, nor of a name that is in none of the domains, or of an
// address that is none of theirs.
func (b Baseline) Unmatched(findings []Finding, domains []dns.Name, addrs map[netip.Addr]bool, now time.Time) (out []Ignore) {
	known := map[string]bool{}
	used := map[[2]string]bool{}
	for _, f := range findings {
		open := f.Status == Unknown || f.Status == Skipped
		before, seen := known[f.ID]
		known[f.ID] = !open && (before || !seen)
		if f.Status == Fail || f.Status == Unknown {
			used[[2]string{f.ID, strings.ToLower(f.Target)}] = true
			used[[2]string{f.ID, AnyTarget}] = true
		}
	}
	for _, e := range b.Entries {
		if e.Holds(now) && known[e.ID] && !elsewhere(e.Target, domains, addrs) && !used[[2]string{e.ID, strings.ToLower(e.Target)}] {
			out = append(out, e)
		}
	}
	return out
}

// elsewhere reports whether a target is a name in none of the domains, or another's address.
func elsewhere(target string, domains []dns.Name, addrs map[netip.Addr]bool) bool {
	if addr, err := netip.ParseAddr(target); err == nil {
		return !addrs[addr]
	}
	host, _, _ := strings.Cut(target, ":") // of the servers that SRV records name
	name, err := dns.ParseName(host)
	if err != nil || target == AnyTarget {
		return false
	}
	return !slices.ContainsFunc(domains, name.In)
}

// Addrs gives the addresses that findings about the domain may be at: those of its hosts and servers,
// and those that were named.
func (f *Facts) Addrs() []netip.Addr {
	all := slices.Clone(f.Own.addrs())
	for _, h := range f.Hosts {
		all = append(all, h.addrs()...)
	}
	for _, s := range f.Zone.Servers {
		all = append(all, s.Addr)
	}
	for _, s := range f.Senders {
		all = append(all, s.Addr)
	}
	if f.Plan != nil {
		for _, o := range f.Plan.Own {
			all = append(all, o.Addr)
		}
	}
	return all
}

// ReadBaseline reads a baseline: tables [[ignore]] with id, target, until and reason, all of
// them required. The error has a line "FILE:LINE: …" for each mistake, in their order.
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
	var wrong []mistake
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&raw); err != nil {
		var strict *toml.StrictMissingError
		if !errors.As(err, &strict) {
			return Baseline{}, baselineError(file, err)
		}
		wrong = unknownKeys(strict) // what it knows is read all the same
	}
	if len(raw.Ignore) > maxBaselineEntries {
		return Baseline{}, fmt.Errorf("%s: a baseline has at most %d entries, got %d", file, maxBaselineEntries, len(raw.Ignore))
	}
	lines := ignoreLines(text)
	var ids []string
	for _, c := range Checks() {
		ids = append(ids, c.ID)
	}
	b := Baseline{File: file}
	for n, e := range raw.Ignore {
		line := lines[min(n, len(lines)-1)]
		entry, mistakes := e.read(ids)
		for _, err := range mistakes {
			wrong = append(wrong, mistake{line, err})
		}
		entry.Line = line
		b.Entries = append(b.Entries, entry)
	}
	if len(wrong) > 0 {
		return Baseline{}, joined(file, wrong)
	}
	return b, nil
}

// mistake is what is wrong in one line of a baseline.
type mistake struct {
	line int
	err  error
}

func joined(file string, wrong []mistake) error {
	slices.SortStableFunc(wrong, func(a, b mistake) int { return a.line - b.line })
	all := make([]error, len(wrong))
	for i, m := range wrong {
		all[i] = fmt.Errorf("%s:%d: %w", file, m.line, m.err)
	}
	return errors.Join(all...)
}

// rawIgnore is an entry as it stands, of whatever types: a wrong one is a mistake among others.
type rawIgnore struct {
	ID     any `toml:"id"`
	Target any `toml:"target"`
	Until  any `toml:"until"`
	Reason any `toml:"reason"`
}

// read gives the entry, and all that is wrong with it.
func (e rawIgnore) read(ids []string) (out Ignore, wrong []error) {
	texts := func(key string, value any, expected string) string {
		text, isText := value.(string)
		switch text = strings.TrimSpace(text); {
		case !isText && value != nil:
			wrong = append(wrong, fmt.Errorf("%s: expected a text, got %s", key, quoted(clip(fmt.Sprint(value)))))
		case text == "":
			wrong = append(wrong, errors.New(expected))
		}
		return text
	}
	out.ID = texts("id", e.ID, `expected id = "area.check"`)
	if out.ID != "" && !slices.Contains(ids, out.ID) {
		meant := ""
		if near := site.Nearest(out.ID, ids); near != "" {
			meant = "; did you mean " + near + "?"
		}
		wrong = append(wrong, fmt.Errorf("there is no check %s%s", quoted(clip(out.ID)), meant))
	}
	out.Target = strings.TrimSuffix(texts("target", e.Target, `expected a target, such as target = "example.com", or "*" for all`), ".")
	out.Reason = texts("reason", e.Reason, `expected a reason, for whoever reads it next`)
	var err error
	if out.Until, err = endOf(e.Until); err != nil {
		wrong = append(wrong, err)
	}
	return out, wrong
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

// unknownKeys gives what stands in a baseline that nobody knows.
func unknownKeys(strict *toml.StrictMissingError) (wrong []mistake) {
	for _, e := range strict.Errors {
		line, _ := e.Position()
		wrong = append(wrong, mistake{line, fmt.Errorf("expected [[ignore]] with id, target, until and reason, got %s", quoted(clip(strings.Join(e.Key(), "."))))})
	}
	return wrong
}

// baselineError gives a mistake of the form its line. What comes after it cannot be read.
func baselineError(file string, err error) error {
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		line, _ := decode.Position()
		return fmt.Errorf("%s:%d: expected TOML with tables [[ignore]]: %s", file, line, strings.TrimPrefix(decode.Error(), "toml: "))
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
