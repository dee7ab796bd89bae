package tlsrpt

import (
	"cmp"
	"iter"
	"slices"
	"time"
)

// Summary is what many reports say together.
type Summary struct {
	Reports  int
	Begin    time.Time
	End      time.Time
	Domains  []Domain       // by name
	Failures []FailureTotal // the one with the most sessions first
}

// Domain counts the sessions of a policy domain under one type of policy.
type Domain struct {
	Name       string
	Type       string
	Successful int64
	Failed     int64
}

// FailureTotal counts the sessions that failed in one way at one host.
type FailureTotal struct {
	Domain   string
	MXHost   string
	Result   string
	Sessions int64
}

// Summarize sums reports up. The same report twice, by organization and ID, counts once.
func Summarize(reports iter.Seq[Report]) Summary {
	var s Summary
	known := map[[2]string]bool{}
	domains, failures := map[Domain]Domain{}, map[FailureTotal]int64{}
	for r := range reports {
		id := [2]string{r.Org, r.ID}
		if r.ID != "" && known[id] {
			continue
		}
		known[id] = true
		s.Reports++
		if !r.Begin.IsZero() && (s.Begin.IsZero() || r.Begin.Before(s.Begin)) {
			s.Begin = r.Begin
		}
		if r.End.After(s.End) {
			s.End = r.End
		}
		for _, p := range r.Policies {
			key := Domain{Name: p.Domain, Type: p.Type}
			d := domains[key]
			domains[key] = Domain{p.Domain, p.Type, d.Successful + p.Successful, d.Failed + p.Failed}
			for _, f := range p.Failures {
				failures[FailureTotal{Domain: p.Domain, MXHost: f.MXHost, Result: f.Result}] += f.Sessions
			}
		}
	}
	for _, d := range domains {
		s.Domains = append(s.Domains, d)
	}
	for f, n := range failures {
		f.Sessions = n
		s.Failures = append(s.Failures, f)
	}
	slices.SortFunc(s.Domains, func(a, b Domain) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
	})
	slices.SortFunc(s.Failures, func(a, b FailureTotal) int {
		return cmp.Or(cmp.Compare(b.Sessions, a.Sessions), cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.MXHost, b.MXHost), cmp.Compare(a.Result, b.Result))
	})
	return s
}
