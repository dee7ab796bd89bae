package report_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/mail"
	"mxward/internal/mailauth/attach"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/dmarcrpt"
	"mxward/internal/queue"
	"mxward/internal/report"
	"mxward/internal/store"
)

// world is a gate's part in reports: a store, the DNS of others, a log.
type world struct {
	*testing.T
	store  store.Engine
	zone   dns.Resolver
	dark   atomic.Bool // the DNS does not answer
	log    *lockedBuffer
	sender *report.Sender
}

// lockedBuffer is a log that may be read meanwhile.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const top = "$TTL 300\n. SOA ns.example. x.example. 1 1 1 1 1\n. NS ns.example.\nns.example. A 192.0.2.53\n"

func newWorld(t *testing.T, records string) *world {
	t.Helper()
	engine, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "mxward.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	w := &world{T: t, store: engine, zone: dnstest.Zone(t, ".", top+records), log: &lockedBuffer{}}
	w.sender = w.newSender()
	return w
}

func (w *world) newSender() *report.Sender {
	from, err := mail.ParseAddress("dmarc-reports@example.net")
	if err != nil {
		w.Fatal(err)
	}
	return &report.Sender{
		Days: w.store, Queue: w.store, Resolver: w, From: from, Logger: slog.New(slog.NewTextHandler(w.log, nil)),
		By: dmarcrpt.Reporter{Receiver: from.Domain, Org: "Example & Sons", Email: from.String(), Software: "mxward"},
	}
}

// Resolve implements dns.Resolver.
func (w *world) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	if w.dark.Load() {
		return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.ServerFailed, Err: errors.New("dark")}
	}
	return w.zone.Resolve(ctx, q)
}

// take counts messages of a day.
func (w *world) take(policy string, at time.Time, clients ...string) {
	w.Helper()
	c := &report.Counter{Store: w.store, Reporter: w.sender.By.Receiver, Logger: w.sender.Logger}
	for _, client := range clients {
		c.Add(message(policy, at, netip.MustParseAddr(client)))
	}
	c.Flush(w.Context())
	if counted, lost := c.Counted(); counted != int64(len(clients)) || lost != 0 {
		w.Fatalf("%d counted, %d lost", counted, lost)
	}
}

// queued gives the bodies of the queue's messages.
func (w *world) queued() (all []string, entries []queue.Entry) {
	w.Helper()
	entries, err := w.store.List(context.Background(), queue.Filter{})
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range entries {
		body, err := io.ReadAll(queue.Open(context.Background(), w.store, e.Message.ID))
		if err != nil {
			w.Fatal(err)
		}
		all = append(all, string(body))
	}
	return all, entries
}

// want wants so many messages to be queued, and a line in the log.
func (w *world) want(n int, line string) {
	w.Helper()
	if all, _ := w.queued(); len(all) != n {
		w.Errorf("%d messages are queued, want %d:\n%s\n%s", len(all), n, strings.Join(all, "\n"), w.log)
	}
	if !strings.Contains(w.log.String(), line) {
		w.Errorf("the log has no %q:\n%s", line, w.log)
	}
}

const (
	policyText = "v=DMARC1; p=reject; rua=mailto:dmarc@example.com"
	comPolicy  = `_dmarc.example.com. TXT "` + policyText + "\"\nexample.com. MX 10 mx.example.com.\n"
)

// TestDayEnds: in its own time after the day's end, and once, the report is in the queue: it
// is what was counted, from our address, signed, and as the schema wants it.
func TestDayEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, comPolicy)
		key, err := dkim.GenerateEd25519()
		if err != nil {
			t.Fatal(err)
		}
		w.sender.Sign = &dkim.Signer{Domain: w.sender.From.Domain, Selector: "2026a", Key: key}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); w.sender.Run(ctx) }()
		w.take(policyText, time.Now(), "192.0.2.1", "192.0.2.2", "192.0.2.1")
		monday := report.Day(time.Now())
		due := report.Due(monday, "example.com", "example.net")
		time.Sleep(time.Until(due) - time.Second)
		synctest.Wait()
		w.want(0, "")
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		w.want(1, "report sent")
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		bodies, entries := w.queued()
		stop()
		<-ended
		if len(bodies) != 1 {
			t.Fatalf("%d reports some days later", len(bodies))
		}
		m := entries[0].Message
		if m.Envelope.From.String() != "dmarc-reports@example.net" || len(m.Envelope.Recipients) != 1 ||
			m.Envelope.Recipients[0].Address.String() != "dmarc@example.com" || !m.Envelope.Recipients[0].Notify.Never {
			t.Errorf("the envelope is %+v", m.Envelope)
		}
		for _, part := range []string{"DKIM-Signature: ", "d=example.net", "From: dmarc-reports@example.net\r\n", "Auto-Submitted: auto-generated\r\n",
			"Subject: Report Domain: example.com Submitter: example.net Report-ID:\r\n <", "filename=\"example.net!example.com!"} {
			if !strings.Contains(bodies[0], part) {
				t.Errorf("no %q in\n%s", part, bodies[0])
			}
		}
		reports, err := dmarcrpt.Read(strings.NewReader(bodies[0]))
		if err != nil || len(reports) != 1 {
			t.Fatal(reports, err)
		}
		r := reports[0]
		if !r.Begin.Equal(monday) || r.Org != "Example & Sons" || r.Policy.P != "reject" || len(r.Records) != 2 || r.Records[0].Count != 2 || r.Records[0].Source.String() != "192.0.2.1" {
			t.Errorf("the report is %+v", r)
		}
		if days, err := w.store.PendingDays(context.Background(), 10); err != nil || len(days) != 1 || !days[0].Due.IsZero() || days[0].Outcome != "sent" {
			t.Errorf("some days later %+v is kept, %v", days, err)
		}
	})
}

// TestSchema: what leaves is what the schema wants (RFC 9990 appendix A).
func TestSchema(t *testing.T) {
	if _, err := exec.LookPath("xmllint"); err != nil {
		t.Skip("left out: xmllint is not installed (libxml2-utils)")
	}
	w := newWorld(t, comPolicy)
	monday := report.Day(time.Now().Add(-48 * time.Hour))
	w.take(policyText, monday, "192.0.2.1", "2001:db8::1")
	w.sender.Send(t.Context(), time.Now())
	bodies, _ := w.queued()
	if len(bodies) != 1 {
		t.Fatalf("%d reports\n%s", len(bodies), w.log)
	}
	err := attach.Find(strings.NewReader(bodies[0]), func(i attach.Item) error {
		lint := exec.Command("xmllint", "--noout", "--nonet", "--schema", "../mailauth/dmarcrpt/testdata/dmarc-2.0.xsd", "-")
		lint.Stdin = i.Content
		if out, err := lint.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDestinations: who gets a report, and who not.
func TestDestinations(t *testing.T) {
	for _, test := range []struct {
		why, records string
		want         string // recipients
		line         string // of the log
	}{
		{"the domain itself", comPolicy, "dmarc@example.com", "report sent"},
		{"a stranger who did not agree", `_dmarc.example.com. TXT "v=DMARC1; p=none; rua=mailto:victim@example.org"`, "", "example.org has not consented"},
		{"a stranger who agreed", `_dmarc.example.com. TXT "v=DMARC1; p=none; rua=mailto:r@example.org"
			example.com._report._dmarc.example.org. TXT "v=DMARC1"`, "r@example.org", "report sent"},
		{"a stranger who wants them elsewhere", `_dmarc.example.com. TXT "v=DMARC1; p=none; rua=mailto:r@example.org"
			example.com._report._dmarc.example.org. TXT "v=DMARC1; rua=mailto:other@example.org"`, "other@example.org", "report sent"},
		{"a stranger who sends them on to a victim", `_dmarc.example.com. TXT "v=DMARC1; p=none; rua=mailto:r@example.org"
			example.com._report._dmarc.example.org. TXT "v=DMARC1; rua=mailto:victim@example.edu"`, "", "another host"},
		{"both, one of whom agreed", `_dmarc.example.com. TXT "v=DMARC1; p=none; rua=mailto:victim@example.org,mailto:a@example.com,mailto:a@example.com"`,
			"a@example.com", "example.org has not consented"},
		{"a size, and a scheme that nobody knows", `_dmarc.example.com. TXT "v=DMARC1; p=none; rua=https://example.com/r,mailto:a@example.com!10m"`, "a@example.com", "report sent"},
		{"the policy is gone", `example.com. MX 10 mx.example.com.`, "", "no DMARC policy any more"},
		{"it wants no reports any more", `_dmarc.example.com. TXT "v=DMARC1; p=none"`, "", "wants no reports by mail any more"},
	} {
		t.Run(test.why, func(t *testing.T) {
			w := newWorld(t, strings.ReplaceAll(test.records, "\n\t\t\t", "\n")+"\n")
			w.take(policyText, report.Day(time.Now().Add(-48*time.Hour)), "192.0.2.1")
			if n := w.sender.Send(t.Context(), time.Now()); n != 1 {
				t.Fatalf("%d days were dealt with", n)
			}
			_, entries := w.queued()
			var to []string
			for _, e := range entries {
				for _, r := range e.Message.Envelope.Recipients {
					to = append(to, r.Address.String())
				}
			}
			if strings.Join(to, " ") != test.want {
				t.Errorf("it goes to %q, want %q", to, test.want)
			}
			w.want(len(entries), test.line)
			if n := w.sender.Send(t.Context(), time.Now().Add(time.Hour)); n != 0 {
				t.Error("it is not done")
			}
		})
	}
}

// TestManyDestinations: a policy of very many names some of them gets one report each.
func TestManyDestinations(t *testing.T) {
	var uris []string
	for i := range 14 {
		uris = append(uris, fmt.Sprintf("mailto:r%d@example.com", i))
	}
	w := newWorld(t, fmt.Sprintf("_dmarc.example.com. TXT %q %q\n", "v=DMARC1; p=none; rua="+strings.Join(uris[:7], ","), ","+strings.Join(uris[7:], ",")))
	w.take(policyText, report.Day(time.Now().Add(-48*time.Hour)), "192.0.2.1")
	w.sender.Send(t.Context(), time.Now())
	_, entries := w.queued()
	if len(entries) != 1 || len(entries[0].Message.Envelope.Recipients) != report.MaxDestinations {
		t.Errorf("%d messages: %+v\n%s", len(entries), entries, w.log)
	}
}

// TestDNSTrouble: while the DNS is away a report is put off, for days, and then told of as
// lost; once it is back, the report goes.
func TestDNSTrouble(t *testing.T) {
	for _, back := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, comPolicy)
			w.take(policyText, time.Now(), "192.0.2.1")
			w.dark.Store(true)
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); w.sender.Run(ctx) }()
			defer func() { stop(); <-ended }()
			time.Sleep(72 * time.Hour) // of them 48 after the day's end
			synctest.Wait()
			w.want(0, "report postponed")
			if strings.Contains(w.log.String(), "dropped") {
				t.Errorf("it is given up too early:\n%s", w.log)
			}
			if n := strings.Count(w.log.String(), "postponed"); n < 8 || n > 40 {
				t.Errorf("%d attempts in two days", n)
			}
			if back {
				w.dark.Store(false)
				time.Sleep(10 * time.Hour)
				synctest.Wait()
				w.want(1, "report sent")
				return
			}
			time.Sleep(48 * time.Hour)
			synctest.Wait()
			w.want(0, "level=WARN msg=\"report dropped\"")
		})
	}
}

// TestPartlyDark: who can be served is, at once; who cannot, later, and nobody twice.
func TestPartlyDark(t *testing.T) {
	w := newWorld(t, `_dmarc.example.com. TXT "v=DMARC1; p=none; rua=mailto:a@example.com,mailto:r@example.org"
example.com._report._dmarc.example.org. TXT "v=DMARC1"
`)
	down := true
	w.sender.Resolver = resolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		if down && strings.HasSuffix(q.Name.String(), "example.org") {
			return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.ServerFailed, Err: errors.New("dark")}
		}
		return w.Resolve(ctx, q)
	})
	w.take(policyText, report.Day(time.Now().Add(-31*time.Hour)), "192.0.2.1")
	w.sender.Send(t.Context(), time.Now())
	w.want(1, "report postponed")
	down = false
	w.sender.Send(t.Context(), time.Now().Add(5*time.Hour))
	w.want(2, "report sent")
	_, entries := w.queued()
	for i, to := range []string{"a@example.com", "r@example.org"} {
		if got := entries[i].Message.Envelope.Recipients; len(got) != 1 || got[0].Address.String() != to {
			t.Errorf("message %d goes to %+v, want %s", i, got, to)
		}
	}
}

type resolverFunc func(context.Context, dns.Question) (dns.Answer, error)

func (f resolverFunc) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	return f(ctx, q)
}

// crashed is the store of a gate that ends before it has enqueued, or before it has noted so.
type crashed struct {
	store.Engine
	crash  func()
	before bool
}

func (c crashed) Enqueue(ctx context.Context, now time.Time, m queue.Message) error {
	if c.before {
		c.crash()
		return ctx.Err()
	}
	return c.Engine.Enqueue(ctx, now, m)
}

func (c crashed) SettleDay(context.Context, report.Claim, report.Settlement) error {
	c.crash()
	return errors.New("the gate has ended")
}

// TestCrash: a gate that ends between the claim and the queue loses nothing; one that ends
// between the queue and the store's note sends the same report a second time, with its name.
func TestCrash(t *testing.T) {
	for _, test := range []struct {
		why    string
		before bool
		want   int
	}{{"before it is queued", true, 1}, {"after it", false, 2}} {
		t.Run(test.why, func(t *testing.T) {
			w := newWorld(t, comPolicy)
			w.take(policyText, report.Day(time.Now().Add(-31*time.Hour)), "192.0.2.1")
			ctx, crash := context.WithCancel(t.Context())
			first := w.newSender()
			c := crashed{w.store, crash, test.before}
			first.Queue, first.Days = c, c
			now := time.Now()
			first.Send(ctx, now)
			second := w.newSender()
			if n := second.Send(t.Context(), now.Add(time.Minute)); n != 0 {
				t.Fatal("the lease does not hold")
			}
			if n := second.Send(t.Context(), now.Add(time.Hour)); n != 1 {
				t.Fatal("nobody takes over")
			}
			w.want(test.want, "report sent")
			if n := second.Send(t.Context(), now.Add(10*time.Hour)); n != 0 {
				t.Error("it is sent again and again")
			}
			bodies, _ := w.queued()
			ids := map[string]bool{}
			for _, body := range bodies {
				_, rest, _ := strings.Cut(body, "filename=")
				name, _, _ := strings.Cut(rest, "\r\n")
				ids[name] = true
			}
			if len(ids) != 1 {
				t.Errorf("the same report has the names %v", ids)
			}
		})
	}
}

// TestStop: a gate that is stopped while it sends a report notes that it has.
func TestStop(t *testing.T) {
	w := newWorld(t, comPolicy)
	w.take(policyText, report.Day(time.Now().Add(-31*time.Hour)), "192.0.2.1")
	ctx, stop := context.WithCancel(t.Context())
	w.sender.Wake = stop
	w.sender.Send(ctx, time.Now())
	w.want(1, "report sent")
	if n := w.newSender().Send(t.Context(), time.Now().Add(time.Hour)); n != 0 {
		t.Error("it is sent again")
	}
}

// deaf never notes what came of a day, until it does.
type deaf struct {
	store.Engine
	hears bool
}

func (d *deaf) SettleDay(ctx context.Context, c report.Claim, s report.Settlement) error {
	if !d.hears {
		return errors.New("the store is away")
	}
	return d.Engine.SettleDay(ctx, c, s)
}

// TestUnsettled: a report that comes again and again, since nobody notes that it was sent, ends.
func TestUnsettled(t *testing.T) {
	w := newWorld(t, comPolicy)
	w.take(policyText, report.Day(time.Now().Add(-31*time.Hour)), "192.0.2.1")
	days := &deaf{Engine: w.store}
	w.sender.Days = days
	now := time.Now()
	for range 60 { // of leases
		w.sender.Send(t.Context(), now)
		now = now.Add(20 * time.Minute)
	}
	days.hears = true
	w.sender.Send(t.Context(), now)
	w.want(50, "given up after 50 attempts")
	if n := w.sender.Send(t.Context(), now.Add(time.Hour)); n != 0 {
		t.Error("it comes again")
	}
}

// TestGates: several gates on one store send each report once.
func TestGates(t *testing.T) {
	w := newWorld(t, comPolicy)
	for d := range 8 {
		w.take(policyText, report.Day(time.Now()).Add(-time.Duration(d+2)*24*time.Hour), "192.0.2.1")
	}
	var gates sync.WaitGroup
	for range 5 {
		s := w.newSender()
		gates.Go(func() { s.Send(t.Context(), time.Now()) })
	}
	gates.Wait()
	w.want(8, "report sent")
}

// TestOverflow: what had no room is told in the report.
func TestOverflow(t *testing.T) {
	w := newWorld(t, comPolicy)
	day := report.Day(time.Now().Add(-31 * time.Hour))
	w.take(policyText, day, "192.0.2.1")
	lost, err := w.store.AddCounts(t.Context(), report.Usual(), "example.net", []report.Count{{Day: day, Domain: "example.com", Last: day, Messages: 70}})
	if lost != 0 || err != nil {
		t.Fatal(lost, err)
	}
	w.sender.Send(t.Context(), time.Now())
	bodies, _ := w.queued()
	reports, err := dmarcrpt.Read(strings.NewReader(strings.Join(bodies, "")))
	if err != nil || len(reports) != 1 || len(reports[0].Errors) != 1 || !strings.Contains(reports[0].Errors[0], "70 messages more") {
		t.Errorf("%+v, %v", reports, err)
	}
}
