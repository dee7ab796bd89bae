package watch

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/audit"
	"mxward/internal/audit/render"
	"mxward/internal/dns"
	"mxward/internal/mail"
)

var update = flag.Bool("update", false, "rewrite the message in testdata")

var example = dns.MustName("example.com")

// finding reads "spf.loop error", "spf.loop critical confirmed", "spf.loop unknown",
// "spf.loop pass", or with a blame: "net.port25-blocked error @local-network".
func finding(text string) audit.Finding {
	words := strings.Fields(text)
	f := audit.Finding{ID: words[0], Target: "example.com", Status: audit.Fail, Confidence: audit.Single, Blame: audit.ZoneData, Title: "title of " + words[0]}
	for _, word := range words[1:] {
		blame, isBlame := strings.CutPrefix(word, "@")
		target, isTarget := strings.CutPrefix(word, "at=")
		switch {
		case isBlame:
			f.Blame = audit.Blame(blame)
		case isTarget:
			f.Target = target
		case word == "pass":
			f.Status, f.Blame = audit.Pass, ""
		case word == "unknown":
			f.Status, f.Blame = audit.Unknown, audit.ZoneServers
		case word == "confirmed":
			f.Confidence = audit.Confirmed
		case word == "ignored":
			f.Ignored = "known"
		default:
			f.Severity = audit.Severity(word)
		}
	}
	return f
}

func look(text string) (all []audit.Finding) {
	for part := range strings.SplitSeq(text, ",") {
		all = append(all, finding(part))
	}
	return all
}

// told writes changes as "worse spf.loop", with a space between them.
func told(changes []Change) string {
	var all []string
	for _, c := range changes {
		all = append(all, string(c.Turn)+" "+c.ID)
	}
	return strings.Join(all, ", ")
}

// TestJudge: what is told after which looks, "|" between them.
func TestJudge(t *testing.T) {
	for _, row := range []struct{ why, looks, told string }{
		{"seen twice", "spf.loop error|spf.loop error|spf.loop error", "|worse spf.loop|"},
		{"seen once is a hiccup", "spf.loop error|spf.loop pass|spf.loop error", "||"},
		{"critical and confirmed is told at once", "mx.missing critical confirmed|mx.missing critical confirmed", "worse mx.missing|"},
		{"critical by one alone is not", "mx.missing critical|mx.missing critical", "|worse mx.missing"},
		{"confirmed and not critical is not", "mx.missing error confirmed|mx.missing pass", "|"},
		{"milder than what is told", "mx.no-ipv6 notice|mx.no-ipv6 notice|mx.no-ipv6 pass|mx.no-ipv6 pass", "|||"},
		{"what could not be asked in between is not gone", "spf.loop error|spf.loop unknown|spf.loop error", "||worse spf.loop"},
		{"nor is it a second sight", "spf.loop error|spf.loop unknown|spf.loop unknown|spf.loop pass|spf.loop error", "||||"},
		{"mended twice", "spf.loop error|spf.loop error|spf.loop pass|spf.loop pass|spf.loop pass", "|worse spf.loop||better spf.loop|"},
		{"mended once is a hiccup", "spf.loop error|spf.loop error|spf.loop pass|spf.loop error|spf.loop pass|spf.loop error", "|worse spf.loop||||"},
		{"a known problem that cannot be asked", "spf.loop error|spf.loop error|spf.loop unknown|spf.loop unknown|spf.loop error|spf.loop error", "|worse spf.loop||||"},
		{"mended, with trouble in between", "spf.loop error|spf.loop error|spf.loop pass|spf.loop unknown|spf.loop pass", "|worse spf.loop|||better spf.loop"},
		{"it gets worse", "ptr.generic warning|ptr.generic warning|ptr.generic error|ptr.generic error", "|worse ptr.generic||worse ptr.generic"},
		{"and milder", "ptr.generic error|ptr.generic error|ptr.generic warning|ptr.generic warning|ptr.generic pass|ptr.generic pass", "|worse ptr.generic||better ptr.generic||better ptr.generic"},
		{"so mild that it does not count any more", "ptr.generic error|ptr.generic error|ptr.generic notice|ptr.generic notice|ptr.generic pass|ptr.generic pass", "|worse ptr.generic||better ptr.generic||"},
		{"our own trouble is not the domain's", "net.port25-blocked error @local-network|net.port25-blocked error @local-network", "|"},
		{"nor does it mend anything", "smtp.tls-old error|smtp.tls-old error|smtp.tls-old error @local-network|smtp.tls-old error @local-network|smtp.tls-old error", "|worse smtp.tls-old|||"},
		{"what a baseline names is not told", "ptr.generic error ignored|ptr.generic error ignored", "|"},
		{"and counts when its day is over", "ptr.generic error ignored|ptr.generic error|ptr.generic error", "||worse ptr.generic"},
		{"what was told and is then named by a baseline is not mended, and no news afterwards", "ptr.generic error|ptr.generic error|ptr.generic error ignored|ptr.generic error ignored|ptr.generic error|ptr.generic error", "|worse ptr.generic||||"},
		{"nor does it hide that another is mended", "ptr.generic error|ptr.generic error|ptr.generic error ignored at=192.0.2.9, ptr.generic pass|ptr.generic error ignored at=192.0.2.9, ptr.generic pass", "|worse ptr.generic||better ptr.generic"},
		{"one of two targets is mended", "ptr.generic error, ptr.generic error at=192.0.2.9|ptr.generic error, ptr.generic error at=192.0.2.9|ptr.generic error|ptr.generic error", "|worse ptr.generic, worse ptr.generic||better ptr.generic"},
		{"what is not looked at stays as it is", "spf.loop error|spf.loop error|mx.null pass|mx.null pass|spf.loop error|spf.loop pass|spf.loop pass", "|worse spf.loop|||||better spf.loop"},
		{"the worst first", "spf.loop error, mx.missing critical|spf.loop error, mx.missing critical", "|worse mx.missing, worse spf.loop"},
	} {
		var d domain
		var got []string
		for text := range strings.SplitSeq(row.looks, "|") {
			got = append(got, told(d.take(render.Report{Domain: example, Findings: look(text)}, audit.Warning)))
		}
		if all := strings.Join(got, "|"); all != row.told {
			t.Errorf("%s: told %q, want %q", row.why, all, row.told)
		}
	}
}

// TestThresholds: each is told once, and a renewal where one was.
func TestThresholds(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	at := func(days float64) time.Time { return now.Add(time.Duration(days * float64(day))) }
	for _, row := range []struct {
		why  string
		life float64   // in days; 0: unknown
		left []float64 // in days, look by look
		told string
	}{
		{"a year", 365, []float64{40, 31, 30, 29, 15, 14, 8, 6.9, 3, 2, 1, 0.5, -1}, "||30|||14||7|3||1||"},
		{"an end that nobody knows the beginning of", 0, []float64{31, 29, 2}, "|30|3"},
		{"three months are renewed a month before the end", 90, []float64{30, 23, 14, 60, 59, 29}, "||14||renewed|"},
		{"signatures of two weeks are renewed each week", 14, []float64{14, 7, 3.1, 3, 14, 13}, "|||3||renewed"},
		{"of a day, each hour", 1, []float64{1, 0.5, 1}, "||"},
		{"and when nobody renews them, once", 1, []float64{0.5, -0.1, -0.2}, "|1|"},
		{"first seen late", 365, []float64{2, 2}, "3|"},
		{"a balancer shows an old one and a new one by turns", 90, []float64{5, 80, 5, 80, 4.9, 80, 4.8, 80, 79}, "7||||||||renewed"},
		{"and ends nearer as the old one does", 90, []float64{5, 80, 2, 80, 1}, "7||3||1"},
		{"a later end that is near as well is told of again when it comes", 365, []float64{2, 25, 24, 13, 12}, "3|||14|"},
		{"seen once, it is none", 365, []float64{2, 25, 2, 25, 2}, "3||||"},
		{"a new one in place of one that has ended", 90, []float64{1, -3, 80, 79}, "1|||renewed"},
	} {
		var d domain
		var got []string
		for _, left := range row.left {
			c := render.Clock{Kind: "certificate", Target: "mx1.example.com 192.0.2.1", Ends: at(left)}
			if row.life != 0 {
				c.Begins = c.Ends.Add(-time.Duration(row.life * float64(day)))
			}
			text := ""
			for _, change := range d.take(render.Report{Domain: example, When: now, Clocks: []render.Clock{c}}, audit.Warning) {
				text = fmt.Sprint(d.Clocks[0].Told)
				if change.Turn == Renewed {
					text = "renewed"
				}
			}
			got = append(got, text)
		}
		if all := strings.Join(got, "|"); all != row.told {
			t.Errorf("%s: told %q, want %q", row.why, all, row.told)
		}
	}
}

// TestWrongClock: who does not know the time says nothing about ends.
func TestWrongClock(t *testing.T) {
	var d domain
	r := render.Report{Domain: example, When: time.Now(), Findings: look("net.clock-skew error @local-network"), Clocks: []render.Clock{{Kind: "rrsig", Target: "example.com SOA", Ends: time.Now()}}}
	if changes := d.take(r, audit.Warning); len(changes) != 0 {
		t.Errorf("told %s", told(changes))
	}
}

// TestClockForgotten: what no look has shown for a month is not kept for ever; until then it is,
// so that a host that comes back is not news.
func TestClockForgotten(t *testing.T) {
	var d domain
	now := time.Now()
	shown := render.Report{Domain: example, When: now, Clocks: []render.Clock{{Kind: "certificate", Target: "mx1.example.com 192.0.2.1", Ends: now.Add(10 * day)}}}
	d.take(shown, audit.Warning)
	d.take(render.Report{Domain: example, When: now.Add(day)}, audit.Warning)
	if again := d.take(shown, audit.Warning); len(again) != 0 || len(d.Clocks) != 1 {
		t.Errorf("told %s, %d clocks", told(again), len(d.Clocks))
	}
	d.take(render.Report{Domain: example, When: now.Add(forgetTime + day)}, audit.Warning)
	if len(d.Clocks) != 0 {
		t.Errorf("%d clocks are kept", len(d.Clocks))
	}
}

// world is what the watched domains look like, and what came of the watch.
type world struct {
	mu     sync.Mutex // guards what follows while a watch runs
	began  time.Time
	looks  func(domain dns.Name, n int) []audit.Finding // the n-th look
	count  map[dns.Name]int
	seen   []string // "1h5m example.com"
	sent   []string // messages
	refuse int      // how many messages are refused at first
	log    bytes.Buffer
}

func (o *world) check(_ context.Context, domain dns.Name) render.Report {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count == nil {
		o.count = map[dns.Name]int{}
	}
	o.count[domain]++
	o.seen = append(o.seen, fmt.Sprintf("%s %s", time.Since(o.began).Round(time.Minute), domain))
	return render.Report{Domain: domain, When: time.Now(), Findings: o.looks(domain, o.count[domain])}
}

func (o *world) send(_ context.Context, env mail.Envelope, text []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refuse > 0 {
		o.refuse--
		return errors.New("the host is away")
	}
	o.sent = append(o.sent, string(text))
	return nil
}

func (o *world) watcher(t *testing.T, domains ...string) *Watcher {
	t.Helper()
	o.began = time.Now()
	w := &Watcher{Check: o.check, Logger: slog.New(slog.NewTextHandler(&o.log, &slog.HandlerOptions{ReplaceAttr: untimed})), Mail: &Mail{From: address(t, "watch@example.com"), To: []mail.Address{address(t, "admin@example.net")}, Send: o.send}}
	for _, d := range domains {
		w.Domains = append(w.Domains, dns.MustName(d))
	}
	return w
}

func untimed(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func address(t *testing.T, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// sleep lets the bubble's others go on for a time, and waits until they rest.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// always gives the same findings at each look.
func always(text string) func(dns.Name, int) []audit.Finding {
	return func(dns.Name, int) []audit.Finding { return look(text) }
}

// run watches for a time, in a bubble.
func run(t *testing.T, w *Watcher, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	w.Run(ctx)
}

// TestSpread: the domains are spread over the interval, and looked at again an interval later,
// give or take a tenth.
func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &world{looks: always("spf.loop pass")}
		run(t, o.watcher(t, "example.com", "example.net", "example.org"), 50*time.Minute)
		if got := strings.Join(o.seen, ", "); got != "0s example.com, 20m0s example.net, 40m0s example.org" {
			t.Errorf("looked at %s", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		o := &world{looks: always("spf.loop pass")}
		run(t, o.watcher(t, "example.com"), 48*time.Hour+30*time.Minute)
		if n := len(o.seen); n < 44 || n > 54 {
			t.Errorf("looked %d times in two days", n)
		}
	})
}

// TestSecondLook: what is seen once is looked at again minutes later, told then, and mailed once.
func TestSecondLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &world{looks: always("spf.loop error")}
		w := o.watcher(t, "example.com")
		run(t, w, 50*time.Minute)
		if got := strings.Join(o.seen, ", "); got != "0s example.com, 5m0s example.com" {
			t.Errorf("looked at %s", got)
		}
		if len(o.sent) != 1 || !strings.Contains(o.sent[0], "worse: error spf.loop") {
			t.Errorf("sent %q", o.sent)
		}
		if want := `level=WARN msg="a domain has changed" domain=example.com change=worse id=spf.loop target=example.com severity=error blame=zone`; strings.Count(o.log.String(), "a domain has changed") != 1 || !strings.Contains(o.log.String(), want) {
			t.Errorf("logged %s", o.log.String())
		}
		changes, unsent := w.Changes()
		numbers := w.Numbers()
		if changes[Worse] != 1 || unsent != 0 || len(numbers) != 1 || numbers[0].Findings[audit.Error] != 1 {
			t.Errorf("counted %v, %d unsent, %v", changes, unsent, numbers)
		}
	})
}

// TestUnknownWaits: a second look that cannot be had is not tried every few minutes.
func TestUnknownWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &world{looks: func(_ dns.Name, n int) []audit.Finding {
			if n == 1 {
				return look("spf.loop error")
			}
			return look("spf.loop unknown")
		}}
		run(t, o.watcher(t, "example.com"), 50*time.Minute)
		if got := strings.Join(o.seen, ", "); got != "0s example.com, 5m0s example.com" || len(o.sent) != 0 {
			t.Errorf("looked at %s, sent %q", got, o.sent)
		}
	})
}

// TestUnsent: what could not be sent is kept, over a restart too, and sent once.
func TestUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := File(filepath.Join(t.TempDir(), "state.json"))
		o := &world{looks: always("mx.missing critical confirmed"), refuse: 2}
		first := o.watcher(t, "example.com")
		first.Store = file
		run(t, first, time.Minute)
		if _, unsent := first.Changes(); unsent != 1 || len(o.sent) != 0 || !strings.Contains(o.log.String(), "could not be sent, and are kept") {
			t.Errorf("%d unsent, sent %q, logged %s", unsent, o.sent, o.log.String())
		}
		second := o.watcher(t, "example.com")
		second.Store = file
		run(t, second, 20*time.Minute)
		if len(o.sent) != 1 || !strings.Contains(o.sent[0], "mx.missing") {
			t.Errorf("sent %q", o.sent)
		}
		if len(o.seen) != 1 {
			t.Errorf("a restart is no reason to look again: %s", o.seen)
		}
		third := o.watcher(t, "example.com")
		third.Store = file
		run(t, third, 3*time.Hour)
		if len(o.sent) != 1 {
			t.Errorf("sent again: %q", o.sent[1:])
		}
	})
}

// TestRestart: between the two sights of a problem there may be a restart.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := File(filepath.Join(t.TempDir(), "state.json"))
		o := &world{looks: always("spf.loop error")}
		for range 2 {
			w := o.watcher(t, "example.com")
			w.Store = file
			run(t, w, 4*time.Minute)
		}
		if len(o.seen) != 2 || len(o.sent) != 1 {
			t.Errorf("looked at %s, sent %q", o.seen, o.sent)
		}
	})
}

// TestWrongTimes: a state that was written by a wrong clock, years ahead, keeps nobody from
// watching.
func TestWrongTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newState()
		s.Holder, s.Until = "mx1.example.com", time.Now().Add(1000*day)
		s.domain(example).Looked = time.Now().Add(1000 * day)
		store := &shared{}
		store.text, _ = s.text()
		o := &world{looks: always("spf.loop pass")}
		w := o.watcher(t, "example.com")
		w.Store, w.Gate = store, "mx2.example.com"
		run(t, w, 2*time.Hour)
		if len(o.seen) == 0 {
			t.Error("nobody watches")
		}
	})
}

// TestStoreDown: a store that is down is no reason to tell all again; with a lease nobody may watch
// until it is back.
func TestStoreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shared{down: true}
		o := &world{looks: always("mx.missing critical confirmed")}
		w := o.watcher(t, "example.com")
		w.Store, w.Gate = store, "mx1.example.com"
		ctx, cancel := context.WithCancel(t.Context())
		go w.Run(ctx)
		sleep(time.Hour)
		if len(o.seen) != 0 {
			t.Errorf("looked at %s without a lease", o.seen)
		}
		store.set(false)
		sleep(time.Hour)
		sent := len(o.sent)
		store.set(true)
		sleep(3 * time.Hour)
		store.set(false)
		sleep(3 * time.Hour)
		if sent != 1 || len(o.sent) != 1 {
			t.Errorf("sent %d messages, then %d", sent, len(o.sent)-sent)
		}
		cancel()
		synctest.Wait()
	})
}

// TestInterrupted: a look that was cut short says nothing.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		o := &world{looks: func(dns.Name, int) []audit.Finding { cancel(); return look("mx.missing critical confirmed") }}
		w := o.watcher(t, "example.com")
		w.Run(ctx)
		if len(o.sent) != 0 || o.log.Len() != 0 {
			t.Errorf("sent %q, logged %s", o.sent, o.log.String())
		}
	})
}

// TestPanic: a fault in a look ends neither the watch nor the looks at others.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &world{looks: func(domain dns.Name, _ int) []audit.Finding {
			if domain == example {
				panic("a bug")
			}
			return look("spf.loop pass")
		}}
		run(t, o.watcher(t, "example.com", "example.net"), 50*time.Minute)
		if len(o.seen) != 2 || !strings.Contains(o.log.String(), "a bug") {
			t.Errorf("looked at %s, logged %s", o.seen, o.log.String())
		}
	})
}

// shared is a store of several gates.
type shared struct {
	mu   sync.Mutex
	text []byte
	down bool
}

func (s *shared) set(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

var errDown = errors.New("the store is down")

func (s *shared) Load(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errDown
	}
	return s.text, nil
}

func (s *shared) Save(_ context.Context, text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errDown
	}
	s.text = slices.Clone(text)
	return nil
}

// TestLease: of two gates one watches; the other goes on where it is gone, at once after a stop
// and a while after a crash, and what was told is known to it.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shared{}
		o := &world{looks: always("mx.missing critical confirmed")}
		gate := func(name string) *Watcher {
			w := o.watcher(t, "example.com")
			w.Store, w.Gate = store, name
			return w
		}
		a, b := gate("mx1.example.com"), gate("mx2.example.com")
		ctxA, stopA := context.WithCancel(t.Context())
		go a.Run(ctxA)
		sleep(time.Second)
		ctxB, stopB := context.WithCancel(t.Context())
		go b.Run(ctxB)
		sleep(5 * time.Hour)
		if len(b.Numbers()) != 0 || len(a.Numbers()) != 1 || len(o.seen) < 4 {
			t.Errorf("a has %v, b has %v, %d looks", a.Numbers(), b.Numbers(), len(o.seen))
		}
		stopA()
		sleep(2 * time.Hour)
		if len(b.Numbers()) != 1 || len(o.sent) != 1 {
			t.Errorf("after the stop b has %v, sent %d", b.Numbers(), len(o.sent))
		}
		stopB()
		sleep(time.Minute)
		s, err := readState(store.text)
		if err != nil || time.Now().Before(s.Until) {
			t.Errorf("the lease holds until %v (%v)", s.Until, err)
		}
		s.Holder, s.Until = "mx9.example.com", time.Now().Add(leaseTime) // it has crashed
		store.text, _ = s.text()
		c := gate("mx3.example.com")
		looks := len(o.seen)
		run(t, c, leaseTime-time.Minute)
		if len(o.seen) != looks {
			t.Error("two gates watch at the same time")
		}
		run(t, c, 2*time.Hour)
		if len(o.seen) == looks {
			t.Error("nobody watches after a crash")
		}
	})
}

// TestSameMoment: of two that take the watch in the same moment one goes on.
func TestSameMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shared{}
		o, p := &world{looks: always("spf.loop pass")}, &world{looks: always("spf.loop pass")}
		a, b := o.watcher(t, "example.com"), p.watcher(t, "example.com")
		a.Store, a.Gate, b.Store, b.Gate = store, "mx1.example.com", store, "mx2.example.com"
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		go a.Run(ctx)
		go b.Run(ctx)
		synctest.Wait()
		sleep(time.Hour)
		if len(o.seen)+len(p.seen) != 1 {
			t.Errorf("looks %s and %s", o.seen, p.seen)
		}
	})
}

// TestState: what is no state is not taken for one, nor written over.
func TestState(t *testing.T) {
	for _, row := range []struct{ why, text, want string }{
		{"another document", `{"schema":"mxward.check/1"}`, `expected the schema mxward.watch/1, got "mxward.check/1"`},
		{"no JSON", "[watch]", "it is no state of a watch: expected JSON of the schema mxward.watch/1, and it is none"},
		{"cut off", `{"schema":"mxward.watch/1","domains":{`, "it is no state of a watch"},
		{"empty", "", "it is no state of a watch: it is empty"},
	} {
		name := filepath.Join(t.TempDir(), "state.json")
		if err := os.WriteFile(name, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		o := &world{looks: always("spf.loop pass")}
		w := o.watcher(t, "example.com")
		w.Store = File(name)
		_, err := w.Once(t.Context())
		if !errors.Is(err, ErrState) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: error %v", row.why, err)
		}
		if text, err := os.ReadFile(name); err != nil || string(text) != row.text || len(o.seen) != 0 {
			t.Errorf("%s: the file has now %q (%v), looks %s", row.why, text, err, o.seen)
		}
	}
}

// TestStateBounds: what waits to be sent is bounded, and nobody who is not watched is kept.
func TestStateBounds(t *testing.T) {
	s := newState()
	s.domain(example)
	s.domain(dns.MustName("example.net"))
	s.forget([]dns.Name{example})
	s.keep(make([]Change, maxUnsent-1), true)
	s.keep(make([]Change, 3), true)
	if len(s.Domains) != 1 || len(s.Unsent) != maxUnsent || s.More != 2 {
		t.Errorf("%d domains, %d unsent, %d more", len(s.Domains), len(s.Unsent), s.More)
	}
	s.keep(nil, false)
	if len(s.Unsent) != 0 || s.More != 0 {
		t.Error("what nobody wants is kept")
	}
}

// FuzzState: a file that anybody may have written harms nothing, and what is read can be written.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"schema":"mxward.watch/1","domains":{"example.com":{"looked":"2026-11-01T00:00:00Z","problems":[{"id":"spf.loop","target":"example.com","severity":"error"}]}}}`))
	f.Add([]byte(`{"schema":"mxward.watch/1","domains":{"example.com":null},"unsent":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := readState(text)
		if err != nil {
			return
		}
		s.domain(example).take(render.Report{Domain: example, Findings: look("spf.loop error")}, audit.Warning)
		again, err := s.text()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readState(again); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}

// TestMessage: the whole message, as it is sent.
func TestMessage(t *testing.T) {
	when := time.Date(2026, 11, 27, 21, 46, 0, 0, time.UTC)
	m := &Mail{From: address(t, "watch@example.com"), To: []mail.Address{address(t, "admin@example.net"), address(t, "ops@example.org")}}
	var d domain
	first := render.Report{Domain: example, When: when, Findings: look("mx.missing critical confirmed, spf.loop pass, ptr.generic error"),
		Clocks: []render.Clock{{Kind: "certificate", Target: "mx1.example.com 192.0.2.1", Ends: when.Add(6 * day)}, {Kind: "registration", Target: "example.com", Ends: when.Add(20 * day)}}}
	first.Findings[0].Detail = "nobody says where mail goes"
	first.Findings[0].Fix = audit.Fix{Text: "publish where mail goes", Records: []audit.Change{{Do: "add", Record: "example.com. MX 10 mx1.example.com."}}}
	first.Findings[2].Target, first.Findings[2].Blame = "192.0.2.1", audit.MXHost
	first.Findings[2].Detail = "the name is \x1b[31mhost-1\u202e.example.net\r\nBcc: all@example.net, and this goes on for so long that the line has to be broken"
	changes := d.take(first, audit.Warning)
	changes = append(changes, d.take(first, audit.Warning)...)
	mended := first
	mended.Findings, mended.Clocks = look("mx.missing pass, ptr.generic pass"), nil
	d.take(mended, audit.Warning)
	changes = append(changes, d.take(mended, audit.Warning)...)
	other := Change{When: when, Domain: dns.MustName("example.org"), Turn: Renewed, ID: "clock.rrsig", Target: "example.org SOA", Title: "renewed", Detail: "it ends on 2026-12-27 00:00 UTC"}
	text, err := m.message(when, "ABC", append(changes, other), 2)
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/message.eml"
	if *update {
		if err := os.WriteFile(golden, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("got\n%s", text)
	}
	if got := subject(changes[:1], 0); got != "[mxward] example.com: 1 worse" {
		t.Errorf("subject %q", got)
	}
}

// TestInVain: what a baseline has in vain is in the log when all domains were looked at, and once.
func TestInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		other := dns.MustName("example.org")
		found := map[dns.Name]string{example: "spf.ptr unknown,mx.cname error", other: "spf.ptr pass,mx.cname pass"}
		at := map[dns.Name][]netip.Addr{other: {netip.MustParseAddr("192.0.2.25")}}
		until := time.Now().Add(100 * time.Hour)
		w := &Watcher{
			Domains: []dns.Name{example, other},
			Check: func(_ context.Context, d dns.Name) render.Report {
				return render.Report{Domain: d, When: time.Now(), Findings: look(found[d]), Addrs: at[d]}
			},
			Known: audit.Baseline{File: "known.toml", Entries: []audit.Ignore{
				{Line: 1, ID: "spf.ptr", Target: "example.com", Until: until}, {Line: 6, ID: "mx.cname", Target: "example.com", Until: until},
				{Line: 11, ID: "mx.null", Target: "192.0.2.25", Until: until}, {Line: 16, ID: "mx.null", Target: "198.51.100.25", Until: until},
			}},
			Logger: slog.New(slog.NewTextHandler(&text, nil)),
		}
		told := func() string {
			var lines []string
			for line := range strings.Lines(text.String()) {
				if _, rest, ok := strings.Cut(line, "baseline=known.toml "); ok {
					lines = append(lines, strings.TrimSpace(rest))
				}
			}
			return strings.Join(lines, "; ")
		}
		once := func(why, want string) {
			if _, err := w.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := told(); got != want {
				t.Errorf("%s: %q", why, got)
			}
		}
		once("one could not be asked, and one is there", "")
		found[example] = "spf.ptr pass,mx.cname error"
		once("one is mended", "line=1 id=spf.ptr target=example.com")
		once("it was told", "line=1 id=spf.ptr target=example.com")
		found[example] = "spf.ptr pass,mx.cname pass"
		once("the other too", "line=1 id=spf.ptr target=example.com; line=6 id=mx.cname target=example.com")
		found[other] += ",mx.null pass"
		once("at an address of one of them, and at another's", "line=1 id=spf.ptr target=example.com; line=6 id=mx.cname target=example.com; line=11 id=mx.null target=192.0.2.25")
	})
}
