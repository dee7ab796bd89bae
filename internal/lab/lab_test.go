package lab

import (
	"encoding/json"
	"strings"
	"testing"

	"mxward/internal/mail"
	"mxward/internal/smtp/smtptest"
)

// TestPlay: every fact of every story holds, and the document has its promised shape.
func TestPlay(t *testing.T) {
	told := 0
	doc, err := Play(t.Context(), Viewer{Event: func(Trace) { told++ }})
	if err != nil {
		t.Fatal(err)
	}
	if len(doc.Stories) != 5 || told == 0 {
		t.Fatalf("%d stories and %d events, want 5 and some", len(doc.Stories), told)
	}
	for _, s := range doc.Stories {
		for _, f := range s.Facts {
			if !f.OK {
				t.Errorf("story %d: %s: %s", s.ID, f.Claim, f.Seen)
			}
		}
		if !s.OK || len(s.Facts) == 0 || len(s.Events) == 0 {
			t.Errorf("story %d: ok %t, %d facts, %d events", s.ID, s.OK, len(s.Facts), len(s.Events))
		}
		if t.Failed() {
			for _, e := range s.Events {
				t.Logf("%8.1f %s %s", e.Ms, e.Who, e.What)
			}
		}
	}
	if !doc.OK() {
		t.Error("the document is not OK")
	}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"schema":"mxward.lab/1","stories":[{"id":1,"title":"`, `"ok":true,"facts":[{"claim":"`, `"seen":"`, `"events":[{"ms":`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the JSON lacks %s", want)
		}
	}
}

// TestDocumentOK: one fact that does not hold spoils the whole, and nothing is no proof.
func TestDocumentOK(t *testing.T) {
	if (Document{}).OK() {
		t.Error("a document without stories is OK")
	}
	if (Document{Stories: []Story{{OK: true}, {OK: false}}}).OK() {
		t.Error("a document with a failed story is OK")
	}
}

// TestModels: what each sender does when the first of two MX hosts behaves so, as the table
// of how real mail servers step through MX hosts has it.
func TestModels(t *testing.T) {
	const refused = smtptest.Behaviour("refused")
	rows := []struct {
		first smtptest.Behaviour
		// want is the last step and the number of knocks of Postfix, Exim, Sendmail and qmail.
		want [4]string
	}{
		{refused, [4]string{"2 is done", "2 is done", "2 is done", "2 is done"}},
		{smtptest.Greeting421, [4]string{"2 is done", "2 is done", "2 is done", "1 tries again later"}},
		{smtptest.Greeting554, [4]string{"2 is done", "2 is done", "2 is done", "1 tries again later"}},
		{smtptest.TempfailAt(mail.StageMail), [4]string{"2 is done", "2 is done", "2 is done", "1 tries again later"}},
		{smtptest.GreylistOnce, [4]string{"2 is done", "2 is done", "2 is done", "1 tries again later"}},
		{smtptest.TempfailAt(mail.StageDot), [4]string{"2 is done", "2 is done", "2 is done", "1 tries again later"}},
		{smtptest.DropAt(mail.StageMail), [4]string{"2 is done", "2 is done", "2 is done", "1 tries again later"}},
		{smtptest.PermfailAt(mail.StageRcpt), [4]string{"1 bounces", "1 bounces", "1 bounces", "1 bounces"}},
		{smtptest.Accept, [4]string{"1 is done", "1 is done", "1 is done", "1 is done"}},
	}
	models := [4]Model{Postfix(), Exim(), Sendmail(), Qmail()}
	for _, row := range rows {
		t.Run(string(row.first), func(t *testing.T) {
			w := testWorld(t)
			if row.first != refused {
				host := &smtptest.Host{Name: "mx1.example.com"}
				if err := w.mxHost(addrMX1, host); err != nil {
					t.Fatal(err)
				}
				host.Set(row.first)
			}
			if err := w.mxHost(addrMX2, &smtptest.Host{Name: "mx2.example.com"}); err != nil {
				t.Fatal(err)
			}
			for i, m := range models {
				// A sender of its own for each model: the host greylists each anew.
				from := strings.ToLower(m.Name) + "@example.net"
				r := w.sender(m, "mail.example.net", addrPostfix).Attempt(t.Context(), address(from), address(bob), letter(from, bob, "walk"))
				if got := string(rune('0'+len(r.Knocks))) + " " + string(r.Step); got != row.want[i] {
					t.Errorf("%s: %s, want %s: %s", m.Name, got, row.want[i], knocks(r))
				}
			}
		})
	}
}

// TestSpammer: the worst host first, and no second try.
func TestSpammer(t *testing.T) {
	w := testWorld(t)
	first, last := &smtptest.Host{Name: "mx1.example.com"}, &smtptest.Host{Name: "mx2.example.com"}
	for addr, h := range map[string]*smtptest.Host{addrMX1: first, addrMX2: last} {
		if err := w.mxHost(addr, h); err != nil {
			t.Fatal(err)
		}
	}
	last.Set(smtptest.GreylistOnce)
	r := w.sender(Spammer(), "mail.example.net", addrSpammer).Attempt(t.Context(), address(alice), address(bob), letter(alice, bob, "cheap"))
	if len(r.Knocks) != 1 || r.Knocks[0].Hop.Preference != 20 || r.Step != Bounce {
		t.Errorf("the spammer: %s, then %s", knocks(r), r.Step)
	}
	if n := len(first.Transcripts()); n != 0 {
		t.Errorf("the best host saw %d sessions", n)
	}
}

// TestMemory: Exim skips a host that it found dead; Postfix knocks again.
func TestMemory(t *testing.T) {
	w := testWorld(t)
	if err := w.mxHost(addrMX2, &smtptest.Host{Name: "mx2.example.com"}); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		model Model
		want  int // knocks of the second attempt
	}{{Postfix(), 2}, {Exim(), 1}} {
		s := w.sender(row.model, "mail.example.net", addrPostfix)
		s.Attempt(t.Context(), address(alice), address(bob), letter(alice, bob, "one"))
		r := s.Attempt(t.Context(), address(alice), address(bob), letter(alice, bob, "two"))
		if len(r.Knocks) != row.want || r.Step != Done {
			t.Errorf("%s: second attempt: %s; want %d knocks", row.model.Name, knocks(r), row.want)
		}
	}
}

// TestSessionBudget: Postfix gives up after two hosts that talk, however many there are.
func TestSessionBudget(t *testing.T) {
	s := &Sender{Model: Postfix()}
	if !s.spent(2, 2) || s.spent(2, 1) || !s.spent(5, 0) {
		t.Error("Postfix tries other than 5 addresses and 2 sessions")
	}
}

func testWorld(t *testing.T) *world {
	t.Helper()
	w, err := newWorld(newTracer(0, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	if err := w.internet(ladder()); err != nil {
		t.Fatal(err)
	}
	return w
}
