// Package health says whether a host's DNS is fit for mail: each resolver that the host's
// programs ask, and our own that asks from the root down, are put the questions of a mail
// host and watched (RFC 1034; EDNS by RFC 6891 and RFC 9715, TCP by RFC 7766, block lists
// by RFC 5782, DNSSEC by RFC 4035 §3.2.3).
//
// Everything is asked at once and ends after Limit. Not implemented: DNS over TLS.
package health

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/blocklist"
)

// The bounds of an examination.
const (
	Limit       = 15 * time.Second
	Slow        = time.Second // RFC 5321's time-outs are minutes, but a message needs dozens of answers
	maxSubjects = 4
)

// Exam is what is examined, and with which questions.
type Exam struct {
	Servers []netip.AddrPort // the resolvers that this host's programs ask; at most three count, as in libc
	Own     dns.Resolver     // ours; nil leaves it out
	Roots   []netip.AddrPort // root servers: the way to them is our own's
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)

	Questions
}

// Questions are what is asked. What is zero is not asked.
type Questions struct {
	Names  []dns.Question // that exist and that mail hosts ask for
	NoSuch dns.Name       // a zone with no name like the random one that is asked for
	Signed dns.Question   // a name with a good signature
	Lists  []blocklist.List
}

// Standard gives questions about big mail domains and open block lists.
func Standard() Questions {
	q := Questions{
		NoSuch: dns.MustName("com"),
		Signed: dns.Question{Name: dns.MustName("ietf.org"), Type: dns.TypeMX, DNSSEC: true},
	}
	for _, name := range []string{"gmail.com", "outlook.com", "yahoo.com", "icloud.com", "gmx.net"} {
		q.Names = append(q.Names, dns.Question{Name: dns.MustName(name), Type: dns.TypeMX})
	}
	for _, list := range blocklist.Open() {
		if list.Kind == blocklist.Addresses && list.Weight > blocklist.Minor {
			q.Lists = append(q.Lists, list)
		}
	}
	return q
}

// Verdict is how one finding counts.
type Verdict string

// The verdicts.
const (
	Good    Verdict = "good"
	Note    Verdict = "note"    // worth knowing, and no reason to call the DNS unfit
	Bad     Verdict = "bad"     // mail suffers
	Unknown Verdict = "unknown" // could not be determined
)

// Finding is what one question, or one group of them, brought.
type Finding struct {
	ID      string        `json:"id"` // never changes its meaning; for a list with its name
	Verdict Verdict       `json:"verdict"`
	Text    string        `json:"text"`
	Took    time.Duration `json:"-"`
	TookMS  float64       `json:"took_ms"`
}

// Subject is one resolver and what was found.
type Subject struct {
	Who      string    `json:"who"` // its address, or "own"
	Findings []Finding `json:"findings"`
	Answered bool      `json:"answered"` // it answered at least once
}

// Fit is the whole of a report.
type Fit string

// The outcomes.
const (
	IsFit        Fit = "fit"
	NotFit       Fit = "not-fit"
	Undetermined Fit = "undetermined" // nothing answered: this host has no network
)

// Report is the result of an examination.
type Report struct {
	Outcome  Fit       `json:"outcome"`
	Subjects []Subject `json:"subjects"`
}

// Run examines all at once.
func (e *Exam) Run(ctx context.Context) Report {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	var subjects []*subject
	for _, at := range e.Servers {
		if len(subjects) < maxSubjects-1 {
			c := &client{at: at, dial: e.dial(), recurse: true}
			subjects = append(subjects, &subject{exam: e, who: at.String(), ask: c, ways: []*client{c}})
		}
	}
	if e.Own != nil {
		own := &subject{exam: e, who: "own", ask: e.Own}
		for _, at := range e.Roots {
			own.ways = append(own.ways, &client{at: at, dial: e.dial()})
		}
		subjects = append(subjects, own)
	}
	report := Report{Subjects: make([]Subject, len(subjects))}
	var all sync.WaitGroup
	for i, s := range subjects {
		all.Go(func() { report.Subjects[i] = s.examine(ctx) })
	}
	all.Wait()
	report.judge()
	return report
}

func (e *Exam) dial() func(ctx context.Context, network, address string) (net.Conn, error) {
	if e.Dial != nil {
		return e.Dial
	}
	return new(net.Dialer).DialContext
}

// judge: where nobody answers, the network is to blame; one that stays silent while another
// answers is itself.
func (r *Report) judge() {
	r.Outcome = Undetermined
	if !slices.ContainsFunc(r.Subjects, func(s Subject) bool { return s.Answered }) {
		return
	}
	r.Outcome = IsFit
	for _, s := range r.Subjects {
		bad := slices.ContainsFunc(s.Findings, func(f Finding) bool { return f.Verdict == Bad })
		if bad || !s.Answered {
			r.Outcome = NotFit
		}
	}
}

// subject is a resolver under examination.
type subject struct {
	exam *Exam
	who  string
	ask  dns.Resolver
	ways []*client // for what a resolver does not tell: TCP and EDNS. One that works is enough.
}

func (s *subject) examine(ctx context.Context) Subject {
	tests := []func(context.Context) Finding{s.speed, s.honesty, s.tcp, s.edns, s.dnssec}
	for _, list := range s.exam.Lists {
		tests = append(tests, func(ctx context.Context) Finding { return s.list(ctx, list) })
	}
	result := Subject{Who: s.who, Findings: make([]Finding, len(tests))}
	var all sync.WaitGroup
	for i, test := range tests {
		all.Go(func() {
			began := time.Now()
			f := test(ctx)
			if f.Took == 0 {
				f.Took = time.Since(began)
			}
			f.TookMS = float64(f.Took.Round(time.Microsecond)) / float64(time.Millisecond)
			result.Findings[i] = f
		})
	}
	all.Wait()
	result.Findings = slices.DeleteFunc(result.Findings, func(f Finding) bool { return f.ID == "" })
	for _, f := range result.Findings {
		result.Answered = result.Answered || f.Verdict == Good || f.Verdict == Note || f.Verdict == Bad && f.ID != "tcp"
	}
	return result
}

// errWrong marks an answer that is not true.
var errWrong = errors.New("a wrong answer")

// speed times the names, all at once; the middle one counts.
func (s *subject) speed(ctx context.Context) Finding {
	if len(s.exam.Names) == 0 {
		return Finding{}
	}
	times := make([]time.Duration, len(s.exam.Names))
	errs := make([]error, len(s.exam.Names))
	var all sync.WaitGroup
	for i, q := range s.exam.Names {
		all.Go(func() {
			began := time.Now()
			answer, err := s.ask.Resolve(ctx, q)
			if err == nil && (answer.Rcode != dns.NoError || len(answer.Answer) == 0) {
				err = fmt.Errorf("%w: %s is said to be %s and to have %d records", errWrong, q, answer.Rcode, len(answer.Answer))
			}
			times[i], errs[i] = time.Since(began), err
		})
	}
	all.Wait()
	var answered []time.Duration
	var failed error
	for i, err := range errs {
		if err == nil {
			answered = append(answered, times[i])
		} else if failed == nil {
			failed = err
		}
	}
	return speedOf(answered, failed, len(s.exam.Names))
}

func speedOf(answered []time.Duration, failed error, asked int) Finding {
	f := Finding{ID: "speed"}
	if len(answered) == 0 {
		if errors.Is(failed, errWrong) {
			f.Verdict, f.Text = Bad, failed.Error()
			return f
		}
		f.Verdict, f.Text = Unknown, fmt.Sprintf("none of %d names was answered: %s", asked, words(failed))
		return f
	}
	slices.Sort(answered)
	f.Took = answered[len(answered)/2]
	worst := answered[len(answered)-1]
	f.Verdict, f.Text = Good, fmt.Sprintf("%d names, the slowest in %s", len(answered), round(worst))
	switch {
	case f.Took > Slow:
		f.Verdict, f.Text = Bad, f.Text+": slow, over a second for most"
	case worst > Slow:
		f.Verdict, f.Text = Note, f.Text+": slow"
	}
	if failed != nil {
		f.Verdict, f.Text = Bad, fmt.Sprintf("%s; %d without an answer: %s", f.Text, asked-len(answered), words(failed))
	}
	return f
}

// honesty asks for a name that nobody has: a resolver that makes up an address for it takes
// away the only word by which mail to a mistyped domain can be refused.
func (s *subject) honesty(ctx context.Context) Finding {
	if s.exam.NoSuch.IsZero() {
		return Finding{}
	}
	name, err := s.exam.NoSuch.Child("mxward-" + strings.ToLower(rand.Text()))
	if err != nil {
		return Finding{ID: "nxdomain", Verdict: Unknown, Text: err.Error()}
	}
	answer, err := s.ask.Resolve(ctx, dns.Question{Name: name, Type: dns.TypeA})
	f := Finding{ID: "nxdomain", Verdict: Good, Text: "a name that does not exist is said not to exist"}
	switch {
	case err != nil:
		f.Verdict, f.Text = Unknown, words(err)
	case answer.Rcode != dns.NXDomain:
		f.Verdict, f.Text = Bad, fmt.Sprintf("%s, which does not exist, is said to be %s with %d records", name, answer.Rcode, len(answer.Answer))
	}
	return f
}

func (s *subject) tcp(ctx context.Context) Finding {
	return s.way(ctx, "tcp", "TCP works", Bad, func(ctx context.Context, c *client) error {
		_, err := c.exchange(ctx, "tcp", dns.Question{Name: dns.Root, Type: dns.TypeNS})
		return err
	})
}

// edns: without it, each answer beyond 512 octets costs a connection, and signatures do not
// come at all.
func (s *subject) edns(ctx context.Context) Finding {
	return s.way(ctx, "edns", fmt.Sprintf("EDNS works, up to %d octets over UDP", ednsSize), Note, func(ctx context.Context, c *client) error {
		m, err := c.exchange(ctx, "udp", dns.Question{Name: dns.Root, Type: dns.TypeNS, DNSSEC: true})
		if err == nil && m.IsEdns0() == nil {
			err = fmt.Errorf("%s does not know EDNS", c.at)
		}
		return err
	})
}

// way tries the servers until one is fine.
func (s *subject) way(ctx context.Context, id, good string, otherwise Verdict, try func(context.Context, *client) error) Finding {
	if len(s.ways) == 0 {
		return Finding{}
	}
	var first error
	for _, c := range s.ways {
		err := try(ctx, c)
		if err == nil {
			return Finding{ID: id, Verdict: Good, Text: good}
		}
		if first == nil {
			first = err
		}
	}
	if dns.TroubleOf(first) == dns.NoReply && id != "tcp" {
		otherwise = Unknown
	}
	return Finding{ID: id, Verdict: otherwise, Text: words(first)}
}

// dnssec: DANE needs a resolver that validates, and one that is asked over loopback.
func (s *subject) dnssec(ctx context.Context) Finding {
	if s.exam.Signed.Name.IsZero() {
		return Finding{}
	}
	q := s.exam.Signed
	q.DNSSEC = true
	answer, err := s.ask.Resolve(ctx, q)
	f := Finding{ID: "dnssec", Verdict: Note, Text: "it strips signatures: nobody behind it can validate"}
	signed := slices.ContainsFunc(answer.Answer, func(rr dns.RR) bool { return dns.Type(rr.Header().Rrtype).String() == "RRSIG" })
	switch {
	case err != nil:
		f.Verdict, f.Text = Unknown, words(err)
	case answer.Authentic:
		f.Verdict, f.Text = Good, "it validates"
	case signed:
		f.Text = "it passes signatures on and does not say that it validates"
	}
	return f
}

// list looks at the test entries of a block list (RFC 5782 §5): 127.0.0.2 is listed,
// 127.0.0.1 never is. What the list's operator thinks of who asks, it says with
// 127.255.255.0/24.
func (s *subject) list(ctx context.Context, list blocklist.List) Finding {
	f := Finding{ID: "list." + list.Zone.String(), Verdict: Good, Text: "it answers"}
	switch v := list.Alive(list.Ask(ctx, s.ask, false)); v.Unusable {
	case "":
	case blocklist.Silent:
		f.Verdict, f.Text = Unknown, words(v.Err)
	case blocklist.Everything:
		f.Verdict, f.Text = Note, v.Text
	default:
		f.Verdict, f.Text = Bad, v.Text
	}
	return f
}

// words says an error shorter than it says itself: the finding tells the question.
func words(err error) string {
	var e *dns.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	text := e.Trouble.String()
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Err != nil {
		cause := e.Err
		for inner := cause; inner != nil; inner = errors.Unwrap(inner) {
			cause = inner
		}
		text += ": " + cause.Error()
	}
	return text
}

func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
