package report_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/attach"
	"mxward/internal/report"
)

// shelf keeps reports in memory, by key.
type shelf struct {
	mu      sync.Mutex
	all     []report.Received
	refuses error
	wait    chan struct{} // if not nil, until it is closed
}

func (s *shelf) KeepReport(_ context.Context, _ report.Keeping, r report.Received) (bool, error) {
	if s.wait != nil {
		<-s.wait
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuses != nil {
		return false, s.refuses
	}
	for _, other := range s.all {
		if other.Key == r.Key {
			return false, nil
		}
	}
	r.Number = int64(len(s.all) + 1)
	s.all = append(s.all, r)
	return true, nil
}

func (s *shelf) ReceivedReports(_ context.Context, kind report.Kind, _ time.Time, after int64, limit int) (found []report.Received, _ error) {
	for _, r := range s.all {
		if r.Kind == kind && r.Number > after && len(found) < limit {
			found = append(found, r)
		}
	}
	return found, nil
}

func (s *shelf) ForgetReports(context.Context, time.Time) error { return nil }

// delivered is a Deliverer that reads what it delivers.
type delivered struct {
	mu     sync.Mutex
	bodies []string
}

func (d *delivered) Deliver(_ context.Context, env mail.Envelope, open func() io.ReadCloser) []mail.Outcome {
	body, err := io.ReadAll(open())
	if err != nil {
		panic(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bodies = append(d.bodies, string(body))
	return []mail.Outcome{{Recipient: env.Recipients[0].Address, Status: mail.Delivered}}
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

type reading struct {
	*testing.T
	shelf  *shelf
	next   *delivered
	log    *lockedBuffer
	reader *report.Reader
}

func newReading(t *testing.T) *reading {
	r := &reading{T: t, shelf: &shelf{}, next: &delivered{}, log: &lockedBuffer{}}
	r.reader = &report.Reader{
		Next: r.next, Reports: r.shelf, Addresses: []mail.Address{address(t, "dmarc@example.com")},
		ID: dns.MustName("mx.example.com"), Logger: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	return r
}

// deliver delivers a message as the queue does.
func (r *reading) deliver(from, to, text string) []mail.Outcome {
	env := mail.Envelope{Recipients: []mail.Recipient{{Address: address(r, to)}}}
	if from != "" {
		env.From = mail.Path{Address: address(r, from)}
	}
	return r.reader.Deliver(r.Context(), env, func() io.ReadCloser { return io.NopCloser(strings.NewReader(text)) })
}

const xmlReport = `<?xml version="1.0"?><feedback><report_metadata><org_name>google.com</org_name><email>r@example.org</email>
<report_id>%s</report_id><date_range><begin>1779148800</begin><end>1779235199</end></date_range></report_metadata>
<policy_published><domain>example.com</domain><p>none</p></policy_published>
<record><row><source_ip>192.0.2.1</source_ip><count>12</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>
<identifiers><header_from>example.com</header_from></identifiers><auth_results/></record></feedback>`

const (
	received = "Received: from x\r\n\tby mx.example.com; Mon, 1 Jun 2026 10:00:00 +0000\r\n"
	passed   = received + "Authentication-Results: mx.example.com; spf=pass smtp.mailfrom=r@example.org;\r\n\tdmarc=pass header.from=example.org policy.dmarc=reject\r\n"
	failing  = received + "Authentication-Results: mx.example.com; dmarc=fail header.from=example.org policy.dmarc=reject\r\n"
	claimed  = "Authentication-Results: mx.example.org; dmarc=pass header.from=google.com\r\n"
	rest     = "From: <r@example.org>\r\nSubject: Report Domain: example.com\r\nMIME-Version: 1.0\r\nContent-Type: application/xml; name=r.xml\r\n\r\n"
)

func aggregate(head, id string) string { return head + rest + fmt.Sprintf(xmlReport, id) + "\r\n" }

// TestRead: a report is delivered as any mail and stored once, as whose it is.
func TestRead(t *testing.T) {
	for _, test := range []struct {
		why, from, to, text string
		stored              int
		sender              string
		authentic           bool
	}{
		{"it passed DMARC", "r@example.org", "dmarc@example.com", aggregate(passed, "1"), 1, "example.org", true},
		{"another case", "r@example.org", "DMARC@example.com", aggregate(passed, "1"), 1, "example.org", true},
		{"it failed", "r@example.org", "dmarc@example.com", aggregate(failing, "1"), 1, "example.org", false},
		{"somebody else says that it passed", "r@example.org", "dmarc@example.com", aggregate(received+claimed, "1"), 1, "", false},
		{"nobody judged it", "r@example.org", "dmarc@example.com", aggregate(received, "1"), 1, "", false},
		{"one of our own, which never came in", "reports@example.com", "dmarc@example.com", aggregate("", "1"), 1, "example.com", true},
		// A notice of ours gives back what a stranger wrote.
		{"a notice of our own", "", "dmarc@example.com", aggregate("", "1"), 1, "", false},
		{"mail for somebody else", "r@example.org", "bob@example.com", aggregate(passed, "1"), 0, "", false},
		{"no report", "r@example.org", "dmarc@example.com", passed + "Subject: hello\r\n\r\nHello.\r\n", 0, "", false},
		{"no header", "r@example.org", "dmarc@example.com", "\r\n\r\n", 0, "", false},
		{"nothing", "r@example.org", "dmarc@example.com", "", 0, "", false},
	} {
		r := newReading(t)
		for range 2 {
			if o := r.deliver(test.from, test.to, test.text); len(o) != 1 || o[0].Status != mail.Delivered {
				t.Errorf("%s: %+v", test.why, o)
			}
		}
		if len(r.next.bodies) != 2 || r.next.bodies[0] != test.text {
			t.Errorf("%s: delivered %q", test.why, r.next.bodies)
		}
		if len(r.shelf.all) != test.stored {
			t.Errorf("%s: %d stored\n%s", test.why, len(r.shelf.all), r.log)
			continue
		}
		if test.stored == 0 {
			continue
		}
		got := r.shelf.all[0]
		if got.Sender != test.sender || got.Authentic != test.authentic || got.Domain != "example.com" || got.At.IsZero() {
			t.Errorf("%s: stored %+v", test.why, got)
		}
		back, err := got.Aggregate()
		if err != nil || len(back.Records) != 1 || back.Records[0].Count != 12 || back.Records[0].Source.String() != "192.0.2.1" || back.Records[0].DKIM != "pass" {
			t.Errorf("%s: read back %+v, %v", test.why, back, err)
		}
		if back.Org == "google.com" && test.sender != "" {
			t.Errorf("%s: it says whose it is, and is believed", test.why)
		}
	}
}

// TestForgerFirst: who forges a report before the true one comes does not take its place.
func TestForgerFirst(t *testing.T) {
	r := newReading(t)
	r.deliver("r@example.org", "dmarc@example.com", aggregate(failing, "1"))
	r.deliver("r@example.org", "dmarc@example.com", aggregate(strings.ReplaceAll(passed, "example.org", "example.net"), "1"))
	r.deliver("r@example.org", "dmarc@example.com", aggregate(passed, "1"))
	r.deliver("r@example.org", "dmarc@example.com", aggregate(passed, "1"))
	if len(r.shelf.all) != 3 {
		t.Errorf("%d stored", len(r.shelf.all))
	}
	if got := r.reader.Counts(); got["kept"] != 2 || got["forged"] != 1 || got["known"] != 1 {
		t.Errorf("counted %v", got)
	}
}

// TestReadKinds: TLS and failure reports come back, too.
func TestReadKinds(t *testing.T) {
	r := newReading(t)
	r.deliver("r@example.org", "dmarc@example.com", passed+`Content-Type: application/tlsrpt+json

{"organization-name":"x","date-range":{"start-datetime":"2026-05-19T00:00:00Z","end-datetime":"2026-05-19T23:59:59Z"},"report-id":"7",
"policies":[{"policy":{"policy-type":"sts","policy-domain":"example.com"},"summary":{"total-successful-session-count":40,"total-failure-session-count":2}}]}`)
	r.deliver("r@example.org", "dmarc@example.com", passed+"Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n"+
		"--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: auth-failure\r\nReported-Domain: example.com\r\nSource-IP: 192.0.2.9\r\n\r\n"+
		"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nFrom: Eve <eve@example.com>\r\nSubject: secret\r\n\r\n--b--\r\n")
	if len(r.shelf.all) != 2 {
		t.Fatalf("%d stored\n%s", len(r.shelf.all), r.log)
	}
	tls, err := r.shelf.all[0].TLS()
	if err != nil || tls.Org != "example.org" || tls.Policies[0].Successful != 40 {
		t.Errorf("%+v, %v", tls, err)
	}
	failure, from, err := r.shelf.all[1].FailureReport()
	if err != nil || failure.Source.String() != "192.0.2.9" || from != "Eve <eve@example.com>" || !failure.Arrival.IsZero() {
		t.Errorf("%+v, %q, %v", failure, from, err)
	}
}

func compressed(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	z.Close()
	return b.Bytes()
}

// carrying is a message with an attachment.
func carrying(t testing.TB, name, media string, content []byte) string {
	t.Helper()
	var b strings.Builder
	_, err := attach.Message{
		From: address(t, "r@example.org"), To: []mail.Address{address(t, "dmarc@example.com")}, Subject: "Report Domain: example.com", ID: "1@example.org",
		Date: time.Now(), Text: "x\n", Name: name, MediaType: media, Content: content,
	}.WriteTo(&b)
	if err != nil {
		t.Fatal(err)
	}
	return passed + b.String()
}

// TestHostile: bombs and hostile XML are delivered to whoever looks there, nothing of them is
// stored, and the memory stays small.
func TestHostile(t *testing.T) {
	const bomb = 1 << 28
	var zipped bytes.Buffer
	z := zip.NewWriter(&zipped)
	f, err := z.Create("r.xml")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, "<feedback>")
	io.CopyN(f, zeros{}, bomb/8)
	z.Close()
	many := strings.Replace(fmt.Sprintf(xmlReport, "1"), "<record>", strings.Repeat("<record></record>", 200_000)+"<record>", 1)
	for _, test := range []struct {
		why, text string
	}{
		{"a gzip bomb", carrying(t, "r.xml.gz", "application/gzip", compressed(t, append([]byte("<feedback>"), make([]byte, bomb/8)...)))},
		{"a zip bomb", carrying(t, "r.zip", "application/zip", zipped.Bytes())},
		{"gzip within gzip", carrying(t, "r.xml.gz", "application/gzip", compressed(t, compressed(t, []byte(xmlReport))))},
		{"a thousand million laughs", passed + rest + `<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;">]><feedback>&lol2;</feedback>`},
		{"very many records", carrying(t, "r.xml.gz", "application/gzip", compressed(t, []byte(many)))},
		{"very deep", passed + rest + strings.Repeat("<feedback>", 100_000)},
		{"one long tag", passed + rest + "<feedback " + strings.Repeat("x", 1<<20)},
		{"no report ID that ends", passed + rest + "<feedback><report_metadata><report_id>" + strings.Repeat("x", 1<<20)},
		{"half a zip", carrying(t, "r.zip", "application/zip", zipped.Bytes()[:zipped.Len()/2])},
	} {
		r := newReading(t)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		if o := r.deliver("r@example.org", "dmarc@example.com", test.text); o[0].Status != mail.Delivered {
			t.Errorf("%s: %+v", test.why, o)
		}
		runtime.ReadMemStats(&after)
		if len(r.shelf.all) != 0 || r.reader.Counts()["unreadable"] != 1 {
			t.Errorf("%s: %d stored, %v", test.why, len(r.shelf.all), r.reader.Counts())
		}
		if len(r.next.bodies) != 1 || r.next.bodies[0] != test.text {
			t.Errorf("%s: it is not delivered as it came", test.why)
		}
		if most := uint64(200 << 20); after.HeapSys-min(before.HeapSys, after.HeapSys) > most {
			t.Errorf("%s: the heap grew by %d MiB", test.why, (after.HeapSys-before.HeapSys)>>20)
		}
		if len(r.log.String()) > 2000 {
			t.Errorf("%s: the log has %d octets", test.why, len(r.log.String()))
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestStoreAway: a store that fails keeps no mail back.
func TestStoreAway(t *testing.T) {
	r := newReading(t)
	r.shelf.refuses = errors.New("the store is away")
	if o := r.deliver("r@example.org", "dmarc@example.com", aggregate(passed, "1")); o[0].Status != mail.Delivered {
		t.Errorf("%+v", o)
	}
	if r.reader.Counts()["failed"] != 1 || !strings.Contains(r.log.String(), "the store is away") {
		t.Errorf("%v\n%s", r.reader.Counts(), r.log)
	}
}

// TestReporter: whose room a report takes is the domain that somebody had to register.
func TestReporter(t *testing.T) {
	for _, test := range []struct{ head, want string }{
		{strings.ReplaceAll(passed, "header.from=example.org", "header.from=a.b.example.co.uk"), "example.co.uk"},
		{passed, "example.org"},
		{failing, ""},
		{received, ""},
	} {
		r := newReading(t)
		r.deliver("r@example.org", "dmarc@example.com", aggregate(test.head, "1"))
		if len(r.shelf.all) != 1 || r.shelf.all[0].Reporter != test.want {
			t.Errorf("%s: stored %+v, want %q", test.head, r.shelf.all, test.want)
		}
	}
}

// TestSameID: who gives the same ID to the reports of all days has sent them all.
func TestSameID(t *testing.T) {
	r := newReading(t)
	next := strings.ReplaceAll(aggregate(passed, "1"), "<end>1779235199</end>", "<end>1779321599</end>")
	for _, text := range []string{aggregate(passed, "1"), next, aggregate(passed, "1"), next} {
		r.deliver("r@example.org", "dmarc@example.com", text)
	}
	if len(r.shelf.all) != 2 {
		t.Errorf("%d reports are stored of two days\n%s", len(r.shelf.all), r.log)
	}
}

// TestNoRoom: what finds no room is delivered, counted and told of, by whose room it was.
func TestNoRoom(t *testing.T) {
	for result, err := range map[string]error{"full": report.ErrFull, "share": report.ErrShare} {
		r := newReading(t)
		r.shelf.refuses = fmt.Errorf("keep a report: %w", err)
		if o := r.deliver("r@example.org", "dmarc@example.com", aggregate(passed, "1")); o[0].Status != mail.Delivered {
			t.Errorf("%s: %+v", result, o)
		}
		if r.reader.Counts()[result] != 1 || !strings.Contains(r.log.String(), "level=WARN msg=\"report received\"") || !strings.Contains(r.log.String(), "result="+result) {
			t.Errorf("%s: %v\n%s", result, r.reader.Counts(), r.log)
		}
	}
}

// TestManySources: a report of very many sources is stored within its bounds, and its sum
// is right.
func TestManySources(t *testing.T) {
	var b strings.Builder
	record := `<record><row><source_ip>%s</source_ip><count>1</count><policy_evaluated><disposition>none</disposition></policy_evaluated></row><identifiers><header_from>example.com</header_from></identifiers></record>`
	begin, end, _ := strings.Cut(fmt.Sprintf(xmlReport, "1"), "<record>")
	b.WriteString(begin)
	for i := range 30_000 {
		fmt.Fprintf(&b, record, fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255))
	}
	b.WriteString("<record>" + end)
	r := newReading(t)
	r.deliver("r@example.org", "dmarc@example.com", carrying(t, "r.xml.gz", "application/gzip", compressed(t, []byte(b.String()))))
	if len(r.shelf.all) != 1 {
		t.Fatalf("%d stored\n%s", len(r.shelf.all), r.log)
	}
	back, err := r.shelf.all[0].Aggregate()
	total := int64(0)
	for _, record := range back.Records {
		total += record.Count
	}
	if err != nil || len(back.Records) > 10_010 || total != 30_012 {
		t.Errorf("%d records of %d messages, %v", len(back.Records), total, err)
	}
}

// TestTurns: one report is read at a time, and who waits too long comes again.
func TestTurns(t *testing.T) {
	r := newReading(t)
	r.shelf.wait = make(chan struct{})
	first := make(chan []mail.Outcome)
	go func() { first <- r.deliver("r@example.org", "dmarc@example.com", aggregate(passed, "1")) }()
	for !strings.Contains(fmt.Sprint(r.second()), "deferred") {
		time.Sleep(time.Millisecond)
	}
	close(r.shelf.wait)
	if o := <-first; o[0].Status != mail.Delivered {
		t.Errorf("the first: %+v", o)
	}
	if o := r.deliver("r@example.org", "dmarc@example.com", aggregate(passed, "2")); o[0].Status != mail.Delivered {
		t.Errorf("the second, later: %+v", o)
	}
}

// TestShortWait: a crowd of reports does not keep the queue's attempts from other mail.
func TestShortWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReading(t)
		r.shelf.wait = make(chan struct{})
		go r.deliver("r@example.org", "dmarc@example.com", aggregate(passed, "1"))
		synctest.Wait()
		began := time.Now()
		if o := r.deliver("r@example.org", "dmarc@example.com", aggregate(passed, "2")); o[0].Status != mail.Deferred || time.Since(began) > time.Second {
			t.Errorf("after %s: %+v", time.Since(began), o)
		}
		if o := r.deliver("r@example.org", "bob@example.com", aggregate(passed, "2")); o[0].Status != mail.Delivered {
			t.Errorf("other mail: %+v", o)
		}
		close(r.shelf.wait)
	})
}

// second delivers another report beside one that takes its time, without patience.
func (r *reading) second() mail.Status {
	ctx, cancel := context.WithTimeout(r.Context(), 50*time.Millisecond)
	defer cancel()
	env := mail.Envelope{Recipients: []mail.Recipient{{Address: address(r, "dmarc@example.com")}}}
	return r.reader.Deliver(ctx, env, func() io.ReadCloser { return io.NopCloser(strings.NewReader("")) })[0].Status
}

// FuzzRead: whatever comes is delivered as it came, and what is stored of it can be read.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{aggregate(passed, "1"), aggregate("", "2"), aggregate(failing, "3"), "", "\r\n", passed,
		passed + "Content-Type: application/json\r\n\r\n{\"policies\":[{\"policy\":{\"policy-domain\":\"example.com\"}}]}",
		passed + "Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		shelf, next := &shelf{}, &delivered{}
		reader := report.Reader{
			Next: next, Reports: shelf, Addresses: []mail.Address{address(t, "dmarc@example.com")},
			ID: dns.MustName("mx.example.com"), Logger: slog.New(slog.DiscardHandler),
		}
		env := mail.Envelope{Recipients: []mail.Recipient{{Address: address(t, "dmarc@example.com")}}}
		reader.Deliver(t.Context(), env, func() io.ReadCloser { return io.NopCloser(strings.NewReader(text)) })
		if len(next.bodies) != 1 || next.bodies[0] != text {
			t.Fatalf("delivered %q", next.bodies)
		}
		for _, r := range shelf.all {
			var err error
			switch r.Kind {
			case report.Aggregate:
				_, err = r.Aggregate()
			case report.TLS:
				_, err = r.TLS()
			case report.Failure:
				_, _, err = r.FailureReport()
			}
			if err != nil {
				t.Fatalf("stored %+v: %v", r, err)
			}
		}
	})
}
