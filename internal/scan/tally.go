package scan

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"mxward/internal/audit"
)

// SummarySchema is that of a Summary.
const SummarySchema = "mxward.scan-summary/1"

// maxProviders is how many are counted by name; the rest is counted as one. Ours.
const (
	maxProviders = 10_000
	others       = "(others)"
)

// maxFaults is how many faults of ours are kept to be shown.
const maxFaults = 10

// Tally counts results. The zero value is ready, for several goroutines.
type Tally struct {
	mu        sync.Mutex
	began     time.Time
	status    map[Status]int
	resumed   int
	questions int
	unknown   int
	again     int
	holding   int
	ours      int
	failed    [8]int // lines by their worst finding
	ids       map[string]*IDCount
	blames    map[audit.Blame]int
	providers map[string]*ProviderCount
	faults    []string
}

// IDCount is how often one check failed, by severity, or was unknown.
type IDCount struct {
	ID       string `json:"id"`
	Critical int    `json:"critical"`
	Error    int    `json:"error"`
	Warning  int    `json:"warning"`
	Notice   int    `json:"notice"`
	Info     int    `json:"info"`
	Unknown  int    `json:"unknown"`
}

// ProviderCount is how many domains have their mail taken by one.
type ProviderCount struct {
	Name    string `json:"name"`
	Domains int    `json:"domains"`
	Failing int    `json:"failing"` // of them, those with an error or worse
	Unknown int    `json:"unknown"` // those with something unknown
}

// Summary is what a Tally has counted. Its fields are only ever added to.
type Summary struct {
	Schema    string              `json:"schema"`
	Complete  bool                `json:"complete"`
	Lines     int                 `json:"lines"`
	Resumed   int                 `json:"resumed"` // of the lines, those that an earlier run had done
	Status    map[Status]int      `json:"status"`
	Worst     map[string]int      `json:"worst"`   // checked lines by the worst that was found
	Unknown   int                 `json:"unknown"` // checked lines with something unknown
	Ours      int                 `json:"ours"`    // checked lines where the resolver or the network here was at fault
	Again     int                 `json:"asked_again"`
	Questions int                 `json:"questions"`
	PerDomain float64             `json:"questions_per_domain"`
	Seconds   float64             `json:"seconds"`
	Rate      float64             `json:"lines_per_second"`
	IDs       []IDCount           `json:"ids"`
	Blames    map[audit.Blame]int `json:"unknown_by_blame"`
	Providers []ProviderCount     `json:"providers"`
}

// none is the place of lines without a fail in Tally.failed.
var none = len(audit.Severities())

func (t *Tally) add(b brief) { t.count(b, false) }

// Recount counts a document that was stored before.
func (t *Tally) Recount(document []byte) error {
	var b brief
	if err := json.Unmarshal(document, &b); err != nil {
		return err
	}
	t.count(b, true)
	return nil
}

func (t *Tally) count(b brief, resumed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.status == nil {
		t.began = time.Now()
		t.status, t.ids, t.blames, t.providers = map[Status]int{}, map[string]*IDCount{}, map[audit.Blame]int{}, map[string]*ProviderCount{}
	}
	t.status[b.Status]++
	if resumed {
		t.resumed++
	}
	if b.Status != Checked {
		return
	}
	t.questions += b.Questions
	if b.Again {
		t.again++
	}
	if b.Ours {
		t.ours++
	}
	worst, unknown := none, false
	for _, f := range b.Findings {
		t.finding(f)
		switch {
		case f.Status == audit.Unknown && f.ID != "dkim.no-selector-known":
			unknown = true
		case f.Status == audit.Fail && !f.Blame.Ours():
			worst = min(worst, slices.Index(audit.Severities(), f.Severity))
		}
	}
	if unknown {
		t.unknown++
	}
	t.failed[max(worst, 0)]++
	t.provider(b.Provider, worst <= slices.Index(audit.Severities(), audit.Error), unknown)
}

func (t *Tally) finding(f said) {
	if f.Status != audit.Fail && f.Status != audit.Unknown {
		return
	}
	id := t.ids[f.ID]
	if id == nil {
		id = &IDCount{ID: f.ID}
		t.ids[f.ID] = id
	}
	if f.Status == audit.Unknown {
		id.Unknown++
		t.blames[f.Blame]++
		return
	}
	switch f.Severity {
	case audit.Critical:
		id.Critical++
	case audit.Error:
		id.Error++
	case audit.Warning:
		id.Warning++
	case audit.Notice:
		id.Notice++
	default:
		id.Info++
	}
}

func (t *Tally) provider(name string, failing, unknown bool) {
	p := t.providers[name]
	if p == nil && len(t.providers) >= maxProviders {
		name = others
		p = t.providers[name]
	}
	if p == nil {
		p = &ProviderCount{Name: name}
		t.providers[name] = p
	}
	p.Domains++
	if failing {
		p.Failing++
	}
	if unknown {
		p.Unknown++
	}
}

// hold counts domains that wait for a second look.
func (t *Tally) hold(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holding += n
}

func (t *Tally) fault(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.faults) < maxFaults {
		t.faults = append(t.faults, what)
	}
}

// Faults gives the first faults of ours, with their stacks.
func (t *Tally) Faults() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.faults)
}

// Progress is how far a scan is.
type Progress struct {
	Lines, Resumed, Holding, Unknown int
}

// Progress may be asked at any time.
func (t *Tally) Progress() Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Progress{t.lines(), t.resumed, t.holding, t.unknown}
}

func (t *Tally) lines() int {
	n := 0
	for _, of := range t.status {
		n += of
	}
	return n
}

// Summary gives what was counted. Ids come by name, providers by the number of their domains.
func (t *Tally) Summary(complete bool) Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Summary{
		Schema: SummarySchema, Complete: complete, Lines: t.lines(), Resumed: t.resumed, Unknown: t.unknown, Ours: t.ours, Again: t.again, Questions: t.questions,
		Status: map[Status]int{Checked: 0, Invalid: 0, Duplicate: 0, Failed: 0}, Worst: map[string]int{"none": t.failed[none]},
		IDs: []IDCount{}, Blames: map[audit.Blame]int{}, Providers: []ProviderCount{},
	}
	for status, n := range t.status {
		s.Status[status] = n
	}
	for i, severity := range audit.Severities() {
		s.Worst[string(severity)] = t.failed[i]
	}
	for blame, n := range t.blames {
		s.Blames[blame] = n
	}
	for _, id := range t.ids {
		s.IDs = append(s.IDs, *id)
	}
	for _, p := range t.providers {
		s.Providers = append(s.Providers, *p)
	}
	slices.SortFunc(s.IDs, func(a, b IDCount) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Providers, func(a, b ProviderCount) int {
		return cmp.Or(b.Domains-a.Domains, strings.Compare(a.Name, b.Name))
	})
	if n := s.Status[Checked]; n > 0 {
		s.PerDomain = float64(t.questions) / float64(n)
	}
	if took := time.Since(t.began).Seconds(); !t.began.IsZero() && took > 0 {
		s.Seconds, s.Rate = took, float64(s.Lines-t.resumed)/took
	}
	return s
}

// Failed gives how many lines have a finding at least this bad.
func (s Summary) Failed(least audit.Severity) int {
	n := 0
	for _, severity := range audit.Severities() {
		if severity.AtLeast(least) {
			n += s.Worst[string(severity)]
		}
	}
	return n
}

// MostlyOurs reports whether most lines say little about their domains, for it was our own side
// that failed.
func (s Summary) MostlyOurs() bool { return 2*s.Ours > s.Status[Checked] }
