package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"mxward/internal/dns"
)

// Turn is what became of a finding between two looks at a domain.
type Turn string

// The turns. What cannot be asked today is neither gone nor new: it is unsure.
const (
	New     Turn = "new"     // it fails, and was not known to
	Same    Turn = "same"    // it failed, and does so as before
	Changed Turn = "changed" // it failed, and does so in another way
	Gone    Turn = "gone"    // it failed, and is fine now
	Unsure  Turn = "unsure"  // it failed, and could not be asked now
)

// Move is the turn of one problem. Before is nil for what is new, After for what is gone or
// unsure.
type Move struct {
	Turn          Turn
	Before, After *Finding
}

// Compare tells what became of the problems of a domain, in the order of after, and then those
// that are not there any more in the order of before. Findings are the same by id and target.
// What after did not look at, by other flags or another profile, has no turn.
func Compare(before, after []Finding) []Move {
	old := failures(before)
	var moves []Move
	for i := range after {
		if after[i].Status != Fail {
			continue
		}
		m := Move{Turn: New, After: &after[i]}
		if was := old.take(&after[i]); was != nil {
			m.Before, m.Turn = was, Same
			if was.Severity != after[i].Severity || was.Blame != after[i].Blame || was.Detail != after[i].Detail {
				m.Turn = Changed
			}
		}
		moves = append(moves, m)
	}
	for _, was := range old {
		switch seen := looked(after, was.ID); {
		case len(seen) == 0:
		case slices.Contains(seen, Unknown):
			moves = append(moves, Move{Turn: Unsure, Before: was})
		default:
			moves = append(moves, Move{Turn: Gone, Before: was})
		}
	}
	return moves
}

// problems are findings that fail and have not been met again.
type problems []*Finding

func failures(all []Finding) (out problems) {
	for i := range all {
		if all[i].Status == Fail {
			out = append(out, &all[i])
		}
	}
	return out
}

// take gives the one of the same id and target and takes it out: where there are several, the
// one that says the same.
func (l *problems) take(f *Finding) *Finding {
	at := slices.IndexFunc(*l, func(x *Finding) bool { return x.ID == f.ID && x.Target == f.Target && x.Detail == f.Detail })
	if at < 0 {
		at = slices.IndexFunc(*l, func(x *Finding) bool { return x.ID == f.ID && x.Target == f.Target })
	}
	if at < 0 {
		return nil
	}
	was := (*l)[at]
	*l = slices.Delete(*l, at, at+1)
	return was
}

// looked gives the statuses that a check has, nothing where it was not looked at. Any target that
// could not be asked leaves open what became of the others: whether it is still one may be what
// is not known.
func looked(all []Finding, id string) (seen []Status) {
	for _, f := range all {
		if f.ID == id && f.Status != Skipped && !(f.Status == NotApplicable && f.Detail == outsideProfile) {
			seen = append(seen, f.Status)
		}
	}
	return seen
}

// Carry gives what to compare the next look with: after, and from before the problems that could
// not be asked now, so that one that comes back has not been away.
func Carry(before, after []Finding) []Finding {
	out := slices.Clone(after)
	for _, m := range Compare(before, after) {
		if m.Turn == Unsure {
			out = append(out, *m.Before)
		}
	}
	return out
}

// Worsened reports whether a move counts against the domain: a problem at least this bad that was
// not known, or was milder.
func (m Move) Worsened(least Severity) bool {
	if m.After == nil || !Failed([]Finding{*m.After}, least) {
		return false
	}
	return m.Turn == New || m.Turn == Changed && !m.Before.Severity.AtLeast(least)
}

// The limits of a report that is read; ours.
const (
	maxReport int64 = 4 << 30  // octets of all documents
	maxLook         = 16 << 20 // of one; what a domain with all limits used up makes is some 5 MB
)

// Schema is the name and major version of the documents of mxward check.
const Schema = "mxward.check/1"

// Look is what an earlier run said about one domain.
type Look struct {
	Domain   dns.Name
	Profile  Profile
	Findings []Finding
}

// ReadLooks reads what mxward check --json has written: one document, or several. Where a
// domain stands twice, the later one counts.
func ReadLooks(r io.Reader) (map[dns.Name]Look, error) { return readLooks(r, maxReport) }

func readLooks(r io.Reader, most int64) (map[dns.Name]Look, error) {
	looks := map[dns.Name]Look{}
	limited := &io.LimitedReader{R: r}
	lines := &lined{Reader: limited}
	dec := json.NewDecoder(lines)
	for n := 1; ; n++ {
		limited.N = maxLook + 1
		began := dec.InputOffset()
		lines.forget(began)
		var doc struct {
			Schema   *string   `json:"schema"`
			Domain   dns.Name  `json:"domain"`
			Profile  Profile   `json:"profile"`
			Findings []reading `json:"findings"`
		}
		err := dec.Decode(&doc)
		switch {
		case limited.N <= 0:
			return nil, fmt.Errorf("document %d is larger than %d octets", n, maxLook)
		case dec.InputOffset() > most:
			return nil, fmt.Errorf("it is larger than %d octets", most)
		case errors.Is(err, io.EOF) && n > 1:
			return looks, nil
		case errors.Is(err, io.EOF):
			return nil, errors.New("it is empty; expected what mxward check --json prints")
		case err != nil:
			return nil, lines.undecoded(err, n, began)
		case doc.Schema == nil || *doc.Schema != Schema:
			return nil, fmt.Errorf("document %d: expected the schema %s, got %s", n, Schema, said(doc.Schema))
		case doc.Domain.IsZero():
			return nil, fmt.Errorf("document %d: it names no domain", n)
		}
		look := Look{Domain: doc.Domain, Profile: doc.Profile}
		if look.Profile == "" {
			look.Profile = Mail // a document of the time before profiles
		}
		for i, f := range doc.Findings {
			if err := f.check(); err != nil {
				return nil, fmt.Errorf("document %d, finding %d: %w", n, i+1, err)
			}
			look.Findings = append(look.Findings, Finding{ID: f.ID, Target: f.Target, Status: f.Status, Severity: f.Severity, Blame: f.Blame, Title: f.Title, Detail: f.Detail})
		}
		looks[doc.Domain] = look
	}
}

func said(schema *string) string {
	if schema == nil {
		return "none"
	}
	return quoted(clip(*schema))
}

// reading is what is read of a finding: neither its evidence nor its fix.
type reading struct {
	ID       string   `json:"id"`
	Target   string   `json:"target"`
	Status   Status   `json:"status"`
	Severity Severity `json:"severity"`
	Blame    Blame    `json:"blame"`
	Title    string   `json:"title"`
	Detail   string   `json:"detail"`
}

func (f reading) check() error {
	switch {
	case f.ID == "" || f.Target == "":
		return errors.New("it has no id or no target")
	case !slices.Contains([]Status{Pass, Fail, Unknown, Skipped, NotApplicable}, f.Status):
		return fmt.Errorf("expected a status, got %s", quoted(clip(string(f.Status))))
	case f.Status == Fail && !slices.Contains(Severities(), f.Severity):
		return fmt.Errorf("expected a severity, got %s", quoted(clip(string(f.Severity))))
	}
	return nil
}
