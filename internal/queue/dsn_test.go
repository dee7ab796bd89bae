package queue

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	vocabulary "mxward/internal/mail"
)

var update = flag.Bool("update", false, "rewrite the notices in testdata")

const original = "Received: from mail.example.net\r\nFrom: sender@example.net\r\nSubject: lunch\r\n\r\nAt noon?\r\n"

// failure is what a host says that refuses a recipient.
func failure(to string) vocabulary.Outcome {
	return vocabulary.Outcome{
		Recipient: mustAddress(to), Status: vocabulary.Failed, Stage: vocabulary.StageRcpt,
		Host: "mx.example.com [192.0.2.2]:25", Remote: true, Reply: vocabulary.NewReply(550, 1, 1, "no such user here"),
		When: time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC),
	}
}

// noticeCase is one attempt and the notice that it makes.
type noticeCase struct {
	name   string // of the file in testdata; "" for none
	job    func(*Job)
	change func(*report)
	body   string
}

func (c noticeCase) notice() *Message {
	job := testJob(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), "user@example.com")
	job.Message.Size = int64(len(original))
	if c.job != nil {
		c.job(&job)
	}
	r := report{recipient: job.Message.Envelope.Recipients[0], outcome: failure("user@example.com")}
	if c.change != nil {
		c.change(&r)
	}
	r.outcome.Recipient = r.recipient.Address
	body := c.body
	if body == "" {
		body = original
	}
	return reporter{name: "gate.example.org"}.notice(job, []report{r}, []byte(body), time.Date(2026, 1, 1, 0, 2, 0, 0, time.UTC))
}

func noticeCases() []noticeCase {
	return []noticeCase{
		{name: "refused"},
		{name: "expired", change: func(r *report) {
			r.expired = true
			r.outcome = vocabulary.Outcome{
				Status: vocabulary.Failed, Stage: vocabulary.StageConnect, When: r.outcome.When,
				Reply: vocabulary.NewReply(451, 4, 1, "connecting to mx.example.com: connection refused"),
			}
		}},
		{name: "parameters", job: func(j *Job) {
			j.Message.Envelope.ID = "QQ+2B314159"
			j.Message.Envelope.Recipients[0].Original = "rfc822;U+2BSER@example.com"
		}},
		{name: "full", job: func(j *Job) { j.Message.Envelope.Return = vocabulary.ReturnFull }},
		{name: "relayed", change: func(r *report) {
			r.recipient.Notify.Success = true
			r.outcome.Status, r.outcome.Stage = vocabulary.Delivered, vocabulary.StageDot
			r.outcome.Reply = vocabulary.NewReply(250, 0, 0, "queued as 4711")
		}},
		{name: "delivered", change: func(r *report) {
			r.recipient.Notify.Success = true
			r.outcome = vocabulary.Outcome{Status: vocabulary.Delivered, Stage: vocabulary.StageDeliver, Reply: vocabulary.NewReply(250, 0, 0, "stored")}
		}},
		{name: "international", job: func(j *Job) {
			j.Message.Envelope.UTF8 = true
			j.Message.Envelope.Recipients[0].Address = mustAddress("用户@example.com")
		}, change: func(r *report) { r.outcome.Reply.Text = "нет такого" }, body: strings.Replace(original, "lunch", "обед", 1)},
		{name: "hostile", change: func(r *report) {
			r.outcome.Reply.Text = "no\r\nAction: delivered\r\n\r\n--=_\x00\xff\n" + strings.Repeat("long ", 40) + strings.Repeat("x", 1500)
			r.outcome.Host = "evil\r\nStatus: 2.0.0"
			r.recipient.Original = "rfc822;a+0D+0AAction:+20delivered"
		}, job: func(j *Job) { j.Message.Envelope.ID = "x+0D+0AReporting-MTA:+20dns;evil" }},
	}
}

// TestNotices compares whole notices with files, and reads them as a mail program does.
func TestNotices(t *testing.T) {
	for _, c := range noticeCases() {
		t.Run(c.name, func(t *testing.T) {
			m := c.notice()
			if m == nil {
				t.Fatal("no notice")
			}
			if !m.Envelope.From.IsNull() || !m.Notice || m.Envelope.Recipients[0].Address != mustAddress("sender@example.net") || m.Size != int64(len(m.Tail)) {
				t.Errorf("the notice travels as %+v", m.Envelope)
			}
			checkNotice(t, m)
			file := filepath.Join("testdata", c.name+".eml")
			got := bytes.ReplaceAll(m.Tail, []byte(m.ID), []byte("ID"))
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the notice is\n%s\nwant\n%s", got, want)
			}
		})
	}
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) != len(noticeCases()) {
		t.Errorf("%d files in testdata for %d cases, %v", len(files), len(noticeCases()), err)
	}
}

// checkNotice wants a well-formed multipart/report whose machine part says one thing for
// each field.
func checkNotice(t *testing.T, m *Message) {
	t.Helper()
	for line := range bytes.SplitSeq(m.Tail, []byte("\r\n")) {
		if bytes.ContainsAny(line, "\r\n\x00") || len(line) > 998 {
			t.Errorf("a line that no message may have: %q", line)
		}
	}
	parsed, err := mail.ReadMessage(bytes.NewReader(m.Tail))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(parsed.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" {
		t.Fatalf("%q, %v", kind, err)
	}
	if _, err := parsed.Header.Date(); err != nil {
		t.Error(err)
	}
	if got := parsed.Header.Get("Auto-Submitted"); got != "auto-replied" {
		t.Errorf("Auto-Submitted: %q", got)
	}
	parts := multipart.NewReader(parsed.Body, params["boundary"])
	var kinds []string
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(part.Header.Get("Content-Type"), ";")
		kinds = append(kinds, kind)
		if strings.HasSuffix(kind, "delivery-status") {
			checkFields(t, string(body))
		}
	}
	if len(kinds) < 2 || len(kinds) > 3 || kinds[0] != "text/plain" {
		t.Errorf("parts %q", kinds)
	}
}

// checkFields wants each field of RFC 3464 at most once in its group.
func checkFields(t *testing.T, status string) {
	t.Helper()
	groups := strings.Split(strings.TrimSpace(status), "\r\n\r\n")
	if len(groups) != 2 {
		t.Errorf("%d groups of fields, want the message's and the recipient's:\n%s", len(groups), status)
	}
	for _, group := range groups {
		m, err := mail.ReadMessage(strings.NewReader(group + "\r\n\r\n"))
		if err != nil {
			t.Errorf("%v in %q", err, group)
			continue
		}
		for name, values := range m.Header {
			if len(values) != 1 {
				t.Errorf("%s stands %d times in %q", name, len(values), group)
			}
		}
	}
}

// TestNoNotice: when the sender is not to be told.
func TestNoNotice(t *testing.T) {
	delivered := func(r *report) { r.outcome.Status, r.outcome.Stage = vocabulary.Delivered, vocabulary.StageDot }
	for _, c := range []noticeCase{
		{name: "the null sender", job: func(j *Job) { j.Message.Envelope.From = vocabulary.Path{} }},
		{name: "a notice", job: func(j *Job) { j.Message.Notice = true }},
		{name: "NOTIFY=NEVER", change: func(r *report) { r.recipient.Notify.Never = true }},
		{name: "NOTIFY=SUCCESS for a failure", change: func(r *report) { r.recipient.Notify.Success = true }},
		{name: "NOTIFY=DELAY for a failure", change: func(r *report) { r.recipient.Notify.Delay = true }},
		{name: "a success that nobody asked for", change: delivered},
		{name: "NOTIFY=FAILURE for a success", change: func(r *report) { delivered(r); r.recipient.Notify.Failure = true }},
		{name: "a success that the host will tell", change: func(r *report) {
			delivered(r)
			r.recipient.Notify.Success, r.outcome.DSN = true, true
		}},
		{name: "a deferral", change: func(r *report) { r.outcome.Status = vocabulary.Deferred; r.recipient.Notify.Delay = true }},
	} {
		if m := c.notice(); m != nil {
			t.Errorf("%s: a notice was made:\n%s", c.name, m.Tail)
		}
	}
}

// TestNoticeOfMany: one notice for all recipients of a result, without those who want none.
func TestNoticeOfMany(t *testing.T) {
	job := testJob(time.Now(), "a@example.com", "b@example.com", "c@example.com")
	var reports []report
	for i, r := range job.Message.Envelope.Recipients {
		r.Notify.Never = i == 1
		reports = append(reports, report{recipient: r, outcome: failure(r.Address.String())})
	}
	m := reporter{name: "gate.example.org"}.notice(job, reports, nil, time.Now())
	for who, want := range map[string]int{"a": 1, "b": 0, "c": 1} {
		if got := strings.Count(string(m.Tail), "Final-Recipient: rfc822; "+who+"@example.com\r\n"); got != want {
			t.Errorf("%s stands %d times in the notice, want %d", who, got, want)
		}
	}
}

// TestReturned: what comes back of the message, and how much at most.
func TestReturned(t *testing.T) {
	long := "Subject: " + strings.Repeat("a\r\n b", maxReturnedHeaders) + "\r\n\r\nbody\r\n"
	for _, row := range []struct {
		name, body, want string
	}{
		{"headers only", original, original[:strings.Index(original, "\r\n\r\n")+2]},
		{"no headers", "\r\nbody\r\n", ""},
		{"no body", "Subject: a\r\n", "Subject: a\r\n"},
		{"cut in a line", "Subject: a\r\nTo: b@exam", "Subject: a\r\n"},
		{"empty", "", ""},
	} {
		if got := headers([]byte(row.body)); string(got) != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
	job := testJob(time.Now(), "a@example.com")
	got, err := readOriginal(io.NopCloser(strings.NewReader(long)), job.Message)
	if err != nil || len(got) != maxReturnedHeaders {
		t.Errorf("of endless headers %d octets are read, %v; want %d", len(got), err, maxReturnedHeaders)
	}
	job.Message.Envelope.Return, job.Message.Size = vocabulary.ReturnFull, maxReturnedMessage+1
	if returnedOctets(job.Message) != maxReturnedHeaders {
		t.Error("a message that is too large comes back whole")
	}
	broken := io.NopCloser(io.MultiReader(strings.NewReader("Subject: a\r\n"), iotest.ErrReader(errors.New("gone"))))
	if got, err := readOriginal(broken, job.Message); err == nil || string(got) != "Subject: a\r\n" {
		t.Errorf("of a broken body: %q, %v", got, err)
	}
}

func TestDecodeXtext(t *testing.T) {
	for in, want := range map[string]string{
		"plain":    "plain",
		"a+2Bb":    "a+b",
		"a+3D+20b": "a= b",
		"a+2":      "a+2",      // cut: as it stands
		"a+2bb":    "a+2bb",    // small letters are none of xtext's digits
		"a+0D+0Ab": "a+0D+0Ab", // a line break stays encoded
		"a+00":     "a+00",
		"a\r\nb":   "a  b", // was not xtext at all
		"":         "",
	} {
		if got := decodeXtext(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzNotice: whatever a host, a client and a message say, the notice is well-formed.
func FuzzNotice(f *testing.F) {
	for _, c := range noticeCases() {
		r := report{outcome: failure("user@example.com")}
		if c.change != nil {
			c.change(&r)
		}
		f.Add(r.outcome.Reply.Text, r.outcome.Host, "x+0D+0A", "rfc822;a+0D", c.body, true)
	}
	f.Fuzz(func(t *testing.T, text, host, envid, orcpt, body string, full bool) {
		c := noticeCase{body: "Subject: a\r\n\r\nbody\r\n", job: func(j *Job) {
			j.Message.Envelope.ID, j.Message.Envelope.UTF8 = envid, full
			if full {
				j.Message.Envelope.Return = vocabulary.ReturnFull
			}
			j.Message.Envelope.Recipients[0].Original = orcpt
		}, change: func(r *report) { r.outcome.Reply.Text, r.outcome.Host = text, host }}
		m := c.notice()
		if m == nil {
			t.Fatal("no notice")
		}
		checkNotice(t, m)
		if slices.Contains(m.Tail, 0) {
			t.Error("the notice has a NUL")
		}
		headers([]byte(body)) // must not panic
	})
}
