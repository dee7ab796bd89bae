package watch

import (
	"fmt"
	"slices"
	"time"

	"mxward/internal/audit"
	"mxward/internal/audit/render"
)

const day = 24 * time.Hour

// thresholds are the days before an end at which it is told, once each.
var thresholds = [...]int{30, 14, 7, 3, 1}

// clock is what is kept of something that ends.
type clock struct {
	Kind   string    `json:"kind"`
	Target string    `json:"target"`
	Ends   time.Time `json:"ends"`
	Seen   time.Time `json:"seen"`
	Told   int       `json:"told"` // the threshold that was told last; 0 for none
}

// tick puts the clocks of a look beside what is known, and gives what is to be told. One that a
// look does not show, as its host does not answer, is kept for a while.
func (d *domain) tick(seen []render.Clock, now time.Time) (changes []Change) {
	for _, c := range earliest(seen) {
		i := slices.IndexFunc(d.Clocks, func(k clock) bool { return k.Kind == c.Kind && k.Target == c.Target })
		if i < 0 {
			i = len(d.Clocks)
			d.Clocks = append(d.Clocks, clock{Kind: c.Kind, Target: c.Target})
		}
		k := &d.Clocks[i]
		at, sure := crossed(c, now), crossed(earlier(c, k.Ends), now)
		k.Ends, k.Seen = c.Ends, now
		switch {
		case at != 0 && (k.Told == 0 || at < k.Told):
			k.Told = at
			changes = append(changes, clockChange(Ends, c, now, at))
		case sure == 0 && k.Told != 0:
			k.Told = 0
			changes = append(changes, clockChange(Renewed, c, now, 0))
		case sure > k.Told && k.Told != 0: // a later end, but one that is near as well
			k.Told = sure
		}
	}
	d.Clocks = slices.DeleteFunc(d.Clocks, func(k clock) bool { return now.Sub(k.Seen) > forgetTime })
	return changes
}

// earlier gives the clock with the end of the look before, where that was earlier: of a later end,
// only what two looks in a row have seen counts. A balancer that shows an old certificate and a new
// one by turns has renewed nothing.
func earlier(c render.Clock, before time.Time) render.Clock {
	if before.IsZero() || !before.Before(c.Ends) {
		return c
	}
	if !c.Begins.IsZero() {
		c.Begins = c.Begins.Add(before.Sub(c.Ends)) // it lives as long
	}
	c.Ends = before
	return c
}

// earliest gives one clock for each kind and target: of several signatures of a record, that which
// ends first.
func earliest(seen []render.Clock) (out []render.Clock) {
	for _, c := range seen {
		i := slices.IndexFunc(out, func(o render.Clock) bool { return o.Kind == c.Kind && o.Target == c.Target })
		switch {
		case i < 0:
			out = append(out, c)
		case c.Ends.Before(out[i].Ends):
			out[i] = c
		}
	}
	return out
}

// crossed gives the least threshold that is reached, 0 for none. One of more than a quarter of the
// whole life is none: what lives for two weeks, as signatures do, is renewed every few days, and
// would be told of for ever.
func crossed(c render.Clock, now time.Time) (days int) {
	left, life := c.Ends.Sub(now), c.Ends.Sub(c.Begins)
	for _, t := range thresholds {
		span := time.Duration(t) * day
		if left <= span && (c.Begins.IsZero() || span <= life/4) || left <= 0 {
			days = t
		}
	}
	return days
}

// clockChange tells of a clock. How bad it is depends on how soon it ends.
func clockChange(turn Turn, c render.Clock, now time.Time, at int) Change {
	end := c.Ends.UTC().Format("2006-01-02 15:04 UTC")
	out := Change{Turn: turn, ID: "clock." + c.Kind, Target: c.Target, Severity: audit.Notice, Blame: clockBlame(c.Kind)}
	switch left := c.Ends.Sub(now); {
	case turn == Renewed:
		out.Title, out.Detail = "renewed", "it ends on "+end
		return out
	case left <= 0:
		out.Title, out.Detail = "has ended", "on "+end
	default:
		out.Title, out.Detail = fmt.Sprintf("ends within %s", countDays(at)), "on "+end
	}
	switch {
	case at <= 3:
		out.Severity = audit.Error
	case at <= 7:
		out.Severity = audit.Warning
	}
	return out
}

func countDays(n int) string {
	if n == 1 {
		return "a day"
	}
	return fmt.Sprintf("%d days", n)
}

// clockBlame says on whose side it is that something is renewed.
func clockBlame(kind string) audit.Blame {
	switch kind {
	case "certificate":
		return audit.MXHost
	case "policy-certificate":
		return audit.PolicyHost
	case "registration":
		return audit.ParentZone
	}
	return audit.ZoneData
}
