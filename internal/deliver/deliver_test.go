package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

const (
	first  = "192.0.2.1:25"
	second = "192.0.2.2:25"
	text   = "Subject: x\r\n\r\nhello\r\n"
)

const twoMX = "example.com. MX 10 mx1.example.com.\nexample.com. MX 20 mx2.example.com.\n" + twoHosts

// rig is a Deliverer on a network of fakes. Use it in a synctest bubble, or with fakes
// that do not hang.
func rig(t *testing.T, hosts map[string]*fake) (*Deliverer, *fakeNet) {
	t.Helper()
	if hosts[second] == nil {
		hosts[second] = &fake{says: map[mail.Stage]string{mail.StageConnect: refused}}
	}
	n := &fakeNet{hosts: hosts}
	d := &Deliverer{Finder: &Finder{Resolver: world(t, twoMX)}, Hello: "us.example.net", Dial: n.dial}
	t.Cleanup(func() { d.Close() })
	return d, n
}

func envelope(t testing.TB, to ...string) mail.Envelope {
	t.Helper()
	env := mail.Envelope{From: mail.Path{Address: address(t, "sender@example.net")}}
	for _, a := range to {
		env.Recipients = append(env.Recipients, mail.Recipient{Address: address(t, a)})
	}
	return env
}

// told gives an outcome as one line: "deferred rcpt 450 remote".
func told(o mail.Outcome) string {
	who := "ours"
	if o.Remote {
		who = "remote"
	}
	return fmt.Sprintf("%s %s %d %s", o.Status, o.Stage, o.Reply.Code, who)
}

// Each behaviour of the first host, and what it means: for a message that could go to a
// second host, and for one that has the first only.
func TestMatrix(t *testing.T) {
	at := func(s mail.Stage, word string) map[mail.Stage]string { return map[mail.Stage]string{s: word} }
	tests := []struct {
		about string
		says  map[mail.Stage]string
		next  bool   // the second host is tried, and takes the message
		alone string // the outcome without a second host
	}{
		{"takes it", nil, false, "delivered dot 250 remote"},
		{"refuses the connection", at(mail.StageConnect, refused), true, "deferred connect 451 ours"},
		{"does not answer", at(mail.StageConnect, hang), true, "deferred connect 451 ours"},
		{"greets with 421", at(mail.StageGreeting, "421 4.3.2 later"), true, "deferred greeting 421 remote"},
		{"greets with 450", at(mail.StageGreeting, "450 4.3.2 later"), true, "deferred greeting 450 remote"},
		{"greets with 554: not about the message", at(mail.StageGreeting, "554 5.7.1 no"), true, "deferred greeting 554 remote"},
		{"greets with 521", at(mail.StageGreeting, "521 5.3.2 no"), true, "deferred greeting 521 remote"},
		{"never greets", at(mail.StageGreeting, hang), true, "deferred greeting 451 ours"},
		{"drops instead of greeting", at(mail.StageGreeting, drop), true, "deferred greeting 451 ours"},
		{"greets in no protocol that we know", at(mail.StageGreeting, "HTTP/1.1 400 Bad Request"), true, "deferred greeting 451 ours"},
		{"421 to EHLO", at(mail.StageHello, "421 4.3.2 later"), true, "deferred hello 421 remote"},
		{"550 to EHLO, and HELO unknown", at(mail.StageHello, "550 5.7.1 not you"), true, "deferred hello 500 remote"},
		{"hangs at EHLO", at(mail.StageHello, hang), true, "deferred hello 451 ours"},
		{"drops at EHLO", at(mail.StageHello, drop), true, "deferred hello 451 ours"},
		{"421 at MAIL", at(mail.StageMail, "421 4.3.2 later"), true, "deferred mail 421 remote"},
		{"451 at MAIL", at(mail.StageMail, "451 4.7.1 later"), true, "deferred mail 451 remote"},
		{"550 at MAIL: the sender is not wanted", at(mail.StageMail, "550 5.7.1 no"), false, "failed mail 550 remote"},
		{"hangs at MAIL", at(mail.StageMail, hang), true, "deferred mail 451 ours"},
		{"drops at MAIL", at(mail.StageMail, drop), true, "deferred mail 451 ours"},
		{"421 at RCPT", at(mail.StageRcpt, "421 4.3.2 later"), true, "deferred rcpt 421 remote"},
		{"450 at RCPT: greylisted", at(mail.StageRcpt, "450 4.7.1 later"), true, "deferred rcpt 450 remote"},
		{"550 at RCPT: nobody of this name", at(mail.StageRcpt, "550 5.1.1 who?"), false, "failed rcpt 550 remote"},
		{"hangs at RCPT", at(mail.StageRcpt, hang), true, "deferred rcpt 451 ours"},
		{"drops at RCPT", at(mail.StageRcpt, drop), true, "deferred rcpt 451 ours"},
		{"451 at DATA", at(mail.StageData, "451 4.3.0 later"), true, "deferred data 451 remote"},
		{"554 at DATA", at(mail.StageData, "554 5.7.1 no"), false, "failed data 554 remote"},
		{"hangs at DATA", at(mail.StageData, hang), true, "deferred data 451 ours"},
		{"drops at DATA", at(mail.StageData, drop), true, "deferred data 451 ours"},
		{"452 at the dot", at(mail.StageDot, "452 4.3.1 full"), true, "deferred dot 452 remote"},
		{"421 at the dot", at(mail.StageDot, "421 4.3.2 later"), true, "deferred dot 421 remote"},
		{"554 at the dot: the message is not wanted", at(mail.StageDot, "554 5.7.1 no"), false, "failed dot 554 remote"},
		{"hangs after the dot: it may have it", at(mail.StageDot, hang), false, "deferred dot 451 ours"},
		{"drops after the dot: it may have it", at(mail.StageDot, drop), false, "deferred dot 451 ours"},
		{"has it and drops before it says so", at(mail.StageDot, swallow), false, "deferred dot 451 ours"},
	}
	for _, pipelining := range []bool{false, true} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s/pipelining=%v", tt.about, pipelining), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					one := func() *fake { return &fake{says: tt.says, pipelining: pipelining} }

					d, _ := rig(t, map[string]*fake{first: one(), second: {says: map[mail.Stage]string{mail.StageConnect: refused}}})
					o := d.Deliver(t.Context(), envelope(t, "user@example.com"), body(text))[0]
					if got := told(o); got != tt.alone {
						t.Errorf("alone: %s (%s), want %s", got, o.Reply, tt.alone)
					}

					d, n := rig(t, map[string]*fake{first: one(), second: {pipelining: pipelining}})
					o = d.Deliver(t.Context(), envelope(t, "user@example.com"), body(text))[0]
					want := tt.alone
					if tt.next {
						want = "delivered dot 250 remote"
						if o.Host != "mx2.example.com [192.0.2.2]:25" {
							t.Errorf("the host is %q", o.Host)
						}
					}
					if got := told(o); got != want {
						t.Errorf("with a second: %s (%s), want %s", got, o.Reply, want)
					}
					if o.Recipient.String() != "user@example.com" || o.When.IsZero() {
						t.Errorf("%+v", o)
					}
					if visited := n.hosts[second].dialled > 0; visited != tt.next {
						t.Errorf("the second host was tried: %v", visited)
					}
				})
			})
		}
	}
}

// Where no host takes the message, the outcome is that of the furthest stage, and of the
// last there.
func TestMostTelling(t *testing.T) {
	tests := []struct {
		about         string
		first, second map[mail.Stage]string
		want          string
	}{
		{"greylisted, then refused", map[mail.Stage]string{mail.StageRcpt: "450 4.7.1 later"}, map[mail.Stage]string{mail.StageConnect: refused}, "450 4.7.1 later"},
		{"refused, then greylisted", map[mail.Stage]string{mail.StageConnect: refused}, map[mail.Stage]string{mail.StageRcpt: "450 4.7.1 later"}, "450 4.7.1 later"},
		{"twice greylisted", map[mail.Stage]string{mail.StageRcpt: "450 4.7.1 one"}, map[mail.Stage]string{mail.StageRcpt: "450 4.7.1 two"}, "450 4.7.1 two"},
		{"a 5yz greeting and a refusal", map[mail.Stage]string{mail.StageGreeting: "554 5.7.1 no"}, map[mail.Stage]string{mail.StageConnect: refused}, "554 5.7.1 no"},
	}
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			d, _ := rig(t, map[string]*fake{first: {says: tt.first}, second: {says: tt.second}})
			o := d.Deliver(t.Context(), envelope(t, "user@example.com"), body(text))[0]
			if o.Status != mail.Deferred || o.Reply.String() != tt.want {
				t.Errorf("%s %s", o.Status, o.Reply)
			}
		})
	}
}

// Each recipient has a fate of its own: only those that were deferred go to the next host.
func TestRecipientsPart(t *testing.T) {
	for _, pipelining := range []bool{false, true} {
		d, n := rig(t, map[string]*fake{
			first: {pipelining: pipelining, rcpt: map[string]string{
				"gone@example.com": "550 5.1.1 who?",
				"grey@example.com": "450 4.7.1 later",
				"full@example.com": "452 4.2.2 mailbox full",
			}},
			second: {pipelining: pipelining, rcpt: map[string]string{"full@example.com": "452 4.2.2 still full"}},
		})
		outcomes := d.Deliver(t.Context(), envelope(t, "ok@example.com", "gone@example.com", "grey@example.com", "full@example.com"), body(text))
		var got []string
		for _, o := range outcomes {
			got = append(got, o.Recipient.Local+" "+told(o)+" "+o.Host)
		}
		want := []string{
			"ok delivered dot 250 remote mx1.example.com [192.0.2.1]:25",
			"gone failed rcpt 550 remote mx1.example.com [192.0.2.1]:25",
			"grey delivered dot 250 remote mx2.example.com [192.0.2.2]:25",
			"full deferred rcpt 452 remote mx2.example.com [192.0.2.2]:25",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if mails := n.hosts[first].mails; !slices.Equal(mails, []string{"ok@example.com"}) {
			t.Errorf("the first host has %q", mails)
		}
		if mails := n.hosts[second].mails; !slices.Equal(mails, []string{"grey@example.com"}) {
			t.Errorf("the second host has %q", mails)
		}
	}
}

func manyRecipients(t *testing.T, n int) mail.Envelope {
	var to []string
	for i := range n {
		to = append(to, fmt.Sprintf("user%d@example.com", i))
	}
	return envelope(t, to...)
}

// Many recipients travel in transactions of a hundred, and of fewer where the host says
// so, over one connection, and each has the message once.
func TestManyRecipients(t *testing.T) {
	tests := []struct {
		about           string
		host            *fake
		rcpts           int
		mails, sessions int
	}{
		{"a hundred in one", &fake{}, 100, 1, 1},
		{"one more in two", &fake{}, 101, 2, 1},
		{"the host takes 40 at a time (RFC 5321 §4.5.3.1.10)", &fake{maxRcpts: 40}, 100, 3, 1},
		{"the same with PIPELINING", &fake{maxRcpts: 40, pipelining: true}, 250, 9, 1},
		{"the host ends the session after each message", &fake{maxMails: 1}, 250, 3, 3},
	}
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			d, n := rig(t, map[string]*fake{first: tt.host})
			outcomes := d.Deliver(t.Context(), manyRecipients(t, tt.rcpts), body(text))
			for _, o := range outcomes {
				if o.Status != mail.Delivered {
					t.Fatalf("%s: %s %s", o.Recipient, told(o), o.Reply)
				}
			}
			var got []string
			n.change(func() {
				for _, m := range tt.host.mails {
					got = append(got, strings.Fields(m)...)
				}
				if len(tt.host.mails) > tt.mails || tt.host.sessions != tt.sessions {
					t.Errorf("%d messages over %d connections", len(tt.host.mails), tt.host.sessions)
				}
			})
			slices.Sort(got)
			if n := len(slices.Compact(slices.Clone(got))); n != tt.rcpts || n != len(got) {
				t.Errorf("%d deliveries to %d recipients", len(got), n)
			}
		})
	}
}

// A host that refuses recipients with 452 for ever is not asked for ever.
func TestTooManyForEver(t *testing.T) {
	d, n := rig(t, map[string]*fake{
		first:  {says: map[mail.Stage]string{mail.StageRcpt: "452 4.5.3 too many"}},
		second: {says: map[mail.Stage]string{mail.StageConnect: refused}},
	})
	for _, o := range d.Deliver(t.Context(), manyRecipients(t, 3), body(text)) {
		if told(o) != "deferred rcpt 452 remote" {
			t.Errorf("%s", told(o))
		}
	}
	if n.hosts[first].sessions != 1 {
		t.Errorf("%d connections", n.hosts[first].sessions)
	}
}

// 4yz to MAIL on a long list: the recipients beyond the first hundred know the reason, too.
func TestLateRecipientsKnowTheReason(t *testing.T) {
	for _, word := range []string{drop, "421 4.3.2 later", "451 4.3.2 later"} {
		d, _ := rig(t, map[string]*fake{
			first:  {says: map[mail.Stage]string{mail.StageMail: word}},
			second: {says: map[mail.Stage]string{mail.StageConnect: refused}},
		})
		outcomes := d.Deliver(t.Context(), manyRecipients(t, 150), body(text))
		if o := outcomes[149]; o.Stage != mail.StageMail || o.Recipient.Local != "user149" {
			t.Errorf("%s: %s %s", word, told(o), o.Recipient)
		}
	}
}

// No route: each kind of answer, and the outcome that the queue sees.
func TestNoRoute(t *testing.T) {
	tests := []struct{ about, to, want string }{
		{"a null MX fails at once", "user@null.example.com", "failed route 556 ours"},
		{"a domain that is not there fails", "user@gone.example.org", "failed route 550 ours"},
		{"DNS trouble defers", "user@dark.example.com", "deferred route 451 ours"},
	}
	resolver := world(t, "null.example.com. MX 0 .\n", "dark.example.com MX")
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			d := &Deliverer{Finder: &Finder{Resolver: resolver}}
			outcomes := d.Deliver(t.Context(), envelope(t, tt.to, tt.to), body(text))
			for _, o := range outcomes {
				if told(o) != tt.want || o.Host != "" {
					t.Errorf("%s at %q: %s", told(o), o.Host, o.Reply)
				}
			}
		})
	}
}

// TLS: used where offered, whatever the certificate; done without where it fails.
func TestTLS(t *testing.T) {
	tests := []struct {
		about    string
		host     *fake
		sessions int
	}{
		{"offered, with a certificate for somebody else", &fake{cert: certificate(t)}, 1},
		{"the handshake fails: the same host in plain text", &fake{badTLS: true}, 2},
		{"STARTTLS is refused: the same", &fake{cert: certificate(t), says: map[mail.Stage]string{mail.StageStartTLS: "454 4.7.0 not now"}}, 2},
		{"STARTTLS is dropped: the same", &fake{cert: certificate(t), says: map[mail.Stage]string{mail.StageStartTLS: drop}}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			d, n := rig(t, map[string]*fake{first: tt.host, second: {}})
			o := d.Deliver(t.Context(), envelope(t, "user@example.com"), body(text))[0]
			if o.Status != mail.Delivered || o.Host != "mx1.example.com [192.0.2.1]:25" {
				t.Errorf("%s by %s: %s", told(o), o.Host, o.Reply)
			}
			n.change(func() {
				if tt.host.sessions != tt.sessions || n.hosts[second].dialled != 0 {
					t.Errorf("%d connections, %d to the second host", tt.host.sessions, n.hosts[second].dialled)
				}
			})
		})
	}
}

// TestTLSDuty: a host that wants TLS, when TLS does not work for the moment, has not
// refused the message; one that offers none and wants it has.
func TestTLSDuty(t *testing.T) {
	at := func(s mail.Stage, word string) map[mail.Stage]string { return map[mail.Stage]string{s: word} }
	tests := []struct {
		about string
		host  *fake
		want  string
	}{
		{"the handshake fails", &fake{badTLS: true, says: at(mail.StageMail, "530 5.7.0 STARTTLS first")}, "deferred mail 530 remote"},
		{"the same, said at RCPT", &fake{badTLS: true, says: at(mail.StageRcpt, "550 5.7.10 encryption needed")}, "deferred rcpt 550 remote"},
		{"another reason", &fake{badTLS: true, says: at(mail.StageRcpt, "550 5.1.1 who?")}, "failed rcpt 550 remote"},
		{"TLS is not offered", &fake{says: at(mail.StageMail, "530 5.7.0 log in first")}, "failed mail 530 remote"},
	}
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			d, _ := rig(t, map[string]*fake{first: tt.host})
			if got := told(d.Deliver(t.Context(), envelope(t, "user@example.com"), body(text))[0]); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// Fixed targets: SMTP, LMTP over TCP and over a socket; no MX is looked up.
func TestTargets(t *testing.T) {
	lmtp := func() *fake {
		return &fake{lmtp: true, rcpt: map[string]string{"dot full@example.com": "452 4.2.2 full", "dot gone@example.com": "550 5.1.1 gone"}}
	}
	tests := []struct {
		about   string
		target  Target
		address string
		host    *fake
		want    string // status by recipient
		who     string // Outcome.Host
	}{
		{"smtp to a name", Target{Scheme: ToSMTP, Host: "inside.example.com", Port: 2525}, "inside.example.com:2525", &fake{}, "delivered delivered delivered", "inside.example.com:2525"},
		{"smtp to an address", Target{Scheme: ToSMTP, Host: "2001:db8::1", Port: 25}, "[2001:db8::1]:25", &fake{}, "delivered delivered delivered", "[2001:db8::1]:25"},
		{"smtp that greets with 554 may be better tomorrow", Target{Scheme: ToSMTP, Host: "192.0.2.9", Port: 25}, "192.0.2.9:25", &fake{says: map[mail.Stage]string{mail.StageGreeting: "554 no"}}, "deferred deferred deferred", "[192.0.2.9]:25"},
		{"lmtp has an outcome for each", Target{Scheme: ToLMTP, Host: "192.0.2.9", Port: 24}, "192.0.2.9:24", lmtp(), "delivered deferred failed", "[192.0.2.9]:24"},
		{"over a socket", Target{Scheme: ToLMTP, Path: "/run/lmtp"}, "/run/lmtp", lmtp(), "delivered deferred failed", "/run/lmtp"},
	}
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			d, _ := rig(t, map[string]*fake{tt.address: tt.host})
			d.Finder = nil
			d.Targets = func(a mail.Address) (Target, bool) { return tt.target, a.Domain == dns.MustName("example.com") }
			outcomes := d.Deliver(t.Context(), envelope(t, "ok@example.com", "full@example.com", "gone@example.com"), body(text))
			var got []string
			for _, o := range outcomes {
				got = append(got, string(o.Status))
				if o.Host != tt.who {
					t.Errorf("host %q, want %q", o.Host, tt.who)
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestMaildirTarget(t *testing.T) {
	root := t.TempDir()
	d := &Deliverer{Targets: func(mail.Address) (Target, bool) { return Target{Scheme: ToMaildir, Path: root}, true }}
	for _, o := range d.Deliver(t.Context(), envelope(t, "a@example.com", "b@example.com"), body(text)) {
		if told(o) != "delivered deliver 250 ours" || o.Host != "maildir:"+root {
			t.Errorf("%s by %q: %s", told(o), o.Host, o.Reply)
		}
	}
	if got := files(t, root, "example.com", "*", "new"); len(got) != 2 {
		t.Errorf("files %v", got)
	}
	if _, err := filepath.Rel(root, files(t, root, "example.com", "a", "new")[0]); err != nil {
		t.Error(err)
	}
}

// A message that cannot be read to its end is deferred, by nobody's fault, and is not
// offered to the next host.
func TestUnreadableMessage(t *testing.T) {
	for _, before := range []int{0, 1000, 200_000} {
		d, n := rig(t, map[string]*fake{first: {}, second: {}})
		broken := func() io.ReadCloser {
			return io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x\r\n", before/3)), iotest.ErrReader(errors.New("the store is down"))))
		}
		o := d.Deliver(t.Context(), envelope(t, "user@example.com"), broken)[0]
		if o.Status != mail.Deferred || o.Remote || !strings.Contains(o.Reply.Text, "the store is down") {
			t.Errorf("after %d octets: %s %s", before, told(o), o.Reply)
		}
		n.change(func() {
			if len(n.hosts[first].mails) > 0 || n.hosts[second].dialled > 0 {
				t.Errorf("after %d octets: %v, second host dialled %d times", before, n.hosts[first].mails, n.hosts[second].dialled)
			}
		})
	}
}

// A panic below is one message's trouble, and not the program's.
func TestPanic(t *testing.T) {
	d, _ := rig(t, map[string]*fake{first: {}})
	o := d.Deliver(t.Context(), envelope(t, "user@example.com"), func() io.ReadCloser { panic("boom") })[0]
	if told(o) != "deferred deliver 451 ours" {
		t.Errorf("%s %s", told(o), o.Reply)
	}
	o = d.Deliver(t.Context(), envelope(t, "user@example.com"), body(text))[0]
	if o.Status != mail.Delivered {
		t.Errorf("afterwards: %s %s", told(o), o.Reply)
	}
}

// The end of the context ends the attempt at any stage, soon, with an outcome for each.
func TestContextEnds(t *testing.T) {
	for _, stage := range []mail.Stage{mail.StageConnect, mail.StageGreeting, mail.StageMail, mail.StageDot} {
		t.Run(string(stage), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, n := rig(t, map[string]*fake{first: {says: map[mail.Stage]string{stage: hang}}, second: {}})
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				began := time.Now()
				o := d.Deliver(ctx, envelope(t, "user@example.com"), body(text))[0]
				if o.Status != mail.Deferred || o.Reply.Code == 0 {
					t.Errorf("%s %s", told(o), o.Reply)
				}
				if took := time.Since(began); took > 11*time.Second {
					t.Errorf("took %s", took)
				}
				if n.hosts[second].dialled > 0 {
					t.Error("the second host was tried after the end")
				}
				// Our own end says nothing of the host: the next message knocks.
				n.change(func() { n.hosts[first].says = nil })
				if o := d.Deliver(t.Context(), envelope(t, "user@example.com"), body(text))[0]; o.Status != mail.Delivered || o.Host != "mx1.example.com [192.0.2.1]:25" {
					t.Errorf("afterwards: %s by %s", told(o), o.Host)
				}
			})
		})
	}
}

// The number of addresses and the time of one attempt are bounded.
func TestBounds(t *testing.T) {
	var records strings.Builder
	for i := range 40 {
		fmt.Fprintf(&records, "example.com. MX 10 mx%d.example.com.\nmx%d.example.com. A 198.51.100.%d\n", i, i, i+1)
	}
	for _, tt := range []struct {
		about   string
		connect time.Duration
		most    time.Duration
	}{
		{"addresses", time.Second, 20 * time.Second},
		{"time", 5 * time.Minute, 35 * time.Minute},
	} {
		t.Run(tt.about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &Deliverer{
					Finder:  &Finder{Resolver: world(t, records.String()), MaxHosts: 40},
					Dial:    (&fakeNet{}).dial,
					Connect: tt.connect,
				}
				began := time.Now()
				o := d.Deliver(t.Context(), envelope(t, "user@example.com"), body(text))[0]
				if told(o) != "deferred connect 451 ours" || time.Since(began) > tt.most {
					t.Errorf("%s after %s", told(o), time.Since(began))
				}
			})
		})
	}
}

// Local parts travel unchanged.
func TestQuotedLocalPart(t *testing.T) {
	d, n := rig(t, map[string]*fake{first: {}})
	if o := d.Deliver(t.Context(), envelope(t, `"john Doe"@example.com`), body(text))[0]; o.Status != mail.Delivered {
		t.Fatalf("%s", o.Reply)
	}
	if got := n.hosts[first].mails[0]; got != `"john Doe"@example.com` {
		t.Errorf("got %s", got)
	}
}

func TestNoRecipients(t *testing.T) {
	if got := new(Deliverer).Deliver(t.Context(), mail.Envelope{}, body("")); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// Over real sockets, with nothing injected but the port.
func TestRealSocket(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	n, h := &fakeNet{}, &fake{cert: certificate(t), pipelining: true}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go n.serve(h, conn)
		}
	}()
	d := &Deliverer{
		Finder: &Finder{Resolver: world(t, "example.com. MX 10 mx.example.com.\nmx.example.com. A 127.0.0.1\n")},
		Hello:  "us.example.net",
		Port:   uint16(ln.Addr().(*net.TCPAddr).Port),
	}
	defer d.Close()
	for range 3 {
		if o := d.Deliver(t.Context(), envelope(t, "user@example.com"), body(text))[0]; o.Status != mail.Delivered {
			t.Errorf("%s %s", told(o), o.Reply)
		}
	}
	n.change(func() {
		if h.sessions != 1 || len(h.mails) != 3 {
			t.Errorf("%d connections for %d messages", h.sessions, len(h.mails))
		}
	})
}
