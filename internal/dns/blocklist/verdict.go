package blocklist

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"mxward/internal/dns"
)

// Answer is what came of one question to a list.
type Answer struct {
	Addrs []netip.Addr
	Err   error
}

// Probe is what the list says of its test entries.
type Probe struct {
	Test, Never Answer
}

// Ask asks for the test entries of a list, both at once.
func (l List) Ask(ctx context.Context, r dns.Resolver, six bool) Probe {
	test, never, err := l.TestNames(six)
	if err != nil {
		return Probe{Answer{Err: err}, Answer{Err: err}}
	}
	var p Probe
	var both sync.WaitGroup
	both.Go(func() { p.Test = Look(ctx, r, test) })
	both.Go(func() { p.Never = Look(ctx, r, never) })
	both.Wait()
	return p
}

// Look asks for one name.
func Look(ctx context.Context, r dns.Resolver, name dns.Name) Answer {
	set, err := dns.LookupAddrsOf(ctx, r, name, dns.TypeA)
	return Answer{set.Records, err}
}

// Reason is why a list is unusable.
type Reason string

// The reasons. They are words for programs and never change.
const (
	Refuses     Reason = "refused"      // it does not answer whoever asks
	Silent      Reason = "no-answer"    // no answer could be had
	Everything  Reason = "everything"   // it lists whatever is asked: it is gone, or its name is somebody else's
	NoTest      Reason = "no-test"      // its test entry is not there
	Foreign     Reason = "foreign"      // the answers are no list's
	UnknownCode Reason = "unknown-code" // the answer is not in the list's table
)

// Verdict is what a list says of one address or domain, or why it says nothing.
type Verdict struct {
	Codes []Code // what the answer means; none where it is not listed
	// Unusable is why the list cannot be asked now; "" where it can. Nothing is listed then.
	Unusable Reason
	Text     string // of Unusable, for people
	Err      error  // of Silent
}

// Judge says what an answer means, in the light of the test entries. It depends on nothing else.
func (l List) Judge(a Answer, p Probe) Verdict {
	if v := l.Alive(p); v.Unusable != "" {
		return v
	}
	if a.Err != nil {
		return silent(a.Err)
	}
	var v Verdict
	for _, addr := range a.Addrs {
		if bad := l.refuses(addr); bad.Unusable != "" {
			return bad
		}
		codes := l.codes(addr)
		if len(codes) == 0 {
			return Verdict{Unusable: UnknownCode, Text: fmt.Sprintf("it answers %s, which its table does not have", addr)}
		}
		for _, c := range codes {
			if !slices.Contains(v.Codes, c) {
				v.Codes = append(v.Codes, c)
			}
		}
	}
	return v
}

// Alive says whether the list is usable, by its test entries (RFC 5782 §5).
func (l List) Alive(p Probe) Verdict {
	for _, a := range slices.Concat(p.Test.Addrs, p.Never.Addrs) {
		if bad := l.refuses(a); bad.Unusable != "" {
			return bad
		}
	}
	switch {
	case len(p.Never.Addrs) > 0:
		return Verdict{Unusable: Everything, Text: "it lists everything, also what is never listed: it is of no use now"}
	case p.Test.Err != nil:
		return silent(p.Test.Err)
	case p.Never.Err != nil:
		return silent(p.Never.Err)
	case len(p.Test.Addrs) == 0:
		return Verdict{Unusable: NoTest, Text: "its test entry is not there: it is gone, or it does not answer whoever asks from here"}
	}
	return Verdict{}
}

func silent(err error) Verdict {
	return Verdict{Unusable: Silent, Text: "it does not answer: " + err.Error(), Err: err}
}

// refuses tells answers that say something of who asks, and not of what was asked.
func (l List) refuses(a netip.Addr) Verdict {
	for _, c := range l.Codes {
		if c.Class == Refused && c.is(a) {
			return Verdict{Unusable: Refuses, Text: fmt.Sprintf("it refuses to answer: %s (%s)", c.Meaning, a)}
		}
	}
	if text := Refusal(a); text != "" {
		return Verdict{Unusable: Refuses, Text: fmt.Sprintf("it refuses to answer: %s (%s)", text, a)}
	}
	if !netip.MustParsePrefix("127.0.0.0/8").Contains(a) {
		return Verdict{Unusable: Foreign, Text: fmt.Sprintf("somebody answers in the list's place, with %s", a)}
	}
	return Verdict{}
}

// Refusal gives what a list's operator means by an answer that is no listing, "" for any other.
// Spamhaus has begun with these codes; others have taken them over.
func Refusal(a netip.Addr) string {
	if !netip.MustParsePrefix("127.255.255.0/24").Contains(a) {
		return ""
	}
	switch a.As4()[3] {
	case 252:
		return "it does not know the zone's name"
	case 254:
		return "it sees a public resolver"
	case 255:
		return "it sees too many questions"
	}
	return "an error code"
}

// Is reports whether a code of this class was given.
func (v Verdict) Is(c Class) bool {
	return slices.ContainsFunc(v.Codes, func(code Code) bool { return code.Class == c })
}
