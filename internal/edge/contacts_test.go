package edge

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/reputation"
	"mxward/internal/smtp"
)

// stages gives the contacts as "domain stage", in the order in which they were recorded.
func stages(contacts []reputation.Contact) []string {
	var texts []string
	for _, c := range contacts {
		texts = append(texts, c.Domain.String()+" "+string(c.Stage))
	}
	return texts
}

// What is recorded of a session, by what was said in it.
func TestContacts(t *testing.T) {
	message := func(t *testing.T, s smtp.Session) { s.Data(t.Context(), strings.NewReader("\r\n")) }
	tests := []struct {
		name string
		say  func(t *testing.T, s smtp.Session)
		end  mail.Stage
		want []string
	}{
		// Somebody knocked and left: that is a try, too.
		{"connect only", func(*testing.T, smtp.Session) {}, mail.StageConnect, []string{" connect"}},
		// A prober of relays names no domain of ours.
		{"relay refused", func(t *testing.T, s smtp.Session) { rcpt(t, s, "user@example.edu") }, mail.StageRcpt, []string{" rcpt"}},
		// Known at RCPT, before the session ends; the end adds nothing.
		{"rcpt only", func(t *testing.T, s smtp.Session) { rcpt(t, s, "user@example.com") }, mail.StageRcpt, []string{"example.com rcpt"}},
		// An unknown recipient is a contact with the domain all the same.
		{"unknown recipient", func(t *testing.T, s smtp.Session) { rcpt(t, s, "nobody@example.com") }, mail.StageRcpt, []string{"example.com rcpt"}},
		// One for each domain, however many recipients.
		{"two domains", func(t *testing.T, s smtp.Session) {
			rcpt(t, s, "user@example.com")
			rcpt(t, s, "postmaster@example.com")
			rcpt(t, s, "user@example.net")
		}, mail.StageRcpt, []string{"example.com rcpt", "example.net rcpt"}},
		// The furthest stage is a domain's: the refused recipient's domain stays behind.
		{"message", func(t *testing.T, s smtp.Session) {
			rcpt(t, s, "nobody@example.com")
			rcpt(t, s, "user@example.net")
			message(t, s)
		}, mail.StageDot, []string{"example.com rcpt", "example.net rcpt", "example.net dot"}},
		// A later transaction that fails takes nothing back.
		{"dot, then data", func(t *testing.T, s smtp.Session) {
			rcpt(t, s, "user@example.net")
			message(t, s)
			rcpt(t, s, "user@example.net")
			s.Data(t.Context(), strings.NewReader(hopping(maxHops+1)))
		}, mail.StageDot, []string{"example.net rcpt", "example.net dot"}},
		// A message that is refused has come as far as its data.
		{"loop", func(t *testing.T, s smtp.Session) {
			rcpt(t, s, "user@example.net")
			s.Data(t.Context(), strings.NewReader(hopping(maxHops+1)))
		}, mail.StageDot, []string{"example.net rcpt", "example.net data"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, m, _ := newGate(t)
			s := begin(t, g, "mx1.example.com", "a@example.edu")
			tt.say(t, s)
			s.End(smtp.End{Stage: tt.end, Quit: true})
			if err := g.Close(); err != nil {
				t.Fatal(err)
			}
			if got := stages(m.contacts); !slices.Equal(got, tt.want) {
				t.Errorf("recorded %q, want %q", got, tt.want)
			}
		})
	}
}

// A contact has what the judgement of order wants: who, where, since when, and for whom.
// TestRefusedIsAKnock: who finds no room at the best host has tried it.
func TestRefusedIsAKnock(t *testing.T) {
	g, m, _ := newGate(t)
	began := time.Now()
	g.Host(dns.MustName("mx1.example.com")).(smtp.Refuser).Refused(smtp.Conn{Remote: testClient, Began: began})
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	want := reputation.Contact{Client: testClient.Addr(), Host: dns.MustName("mx1.example.com"), Stage: mail.StageConnect, When: began}
	if len(m.contacts) != 1 || m.contacts[0] != want {
		t.Errorf("contacts %+v, want %+v", m.contacts, want)
	}
}

func TestContactFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, m, _ := newGate(t)
		s := begin(t, g, "trap.example.com", "a@example.edu")
		began := time.Now()
		time.Sleep(time.Minute) // a trap talks slowly; the rung was chosen when it began
		want(t, rcpt(t, s, "user@example.com"), "451 4.7.1")
		time.Sleep(contactDelay)
		synctest.Wait()
		if len(m.contacts) != 1 {
			t.Fatalf("%d contacts while the session is open, want 1", len(m.contacts))
		}
		want := reputation.Contact{
			Client: testClient.Addr(), Host: dns.MustName("trap.example.com"), Stage: mail.StageRcpt, When: began,
			Session: "S1", Domain: dns.MustName("example.com"), From: "a@example.edu", Helo: "mail.example.edu",
		}
		if m.contacts[0] != want {
			t.Errorf("recorded %+v\nwant     %+v", m.contacts[0], want)
		}
		g.Close()
	})
}

// The judgement of a walk that the edge has seen.
func TestOrderOfSessions(t *testing.T) {
	visit := func(t *testing.T, hosts ...string) []reputation.Contact {
		var contacts []reputation.Contact
		synctest.Test(t, func(t *testing.T) {
			g, m, _ := newGate(t)
			for _, host := range hosts {
				s := begin(t, g, host, "a@example.edu")
				rcpt(t, s, "nobody@example.com")
				s.End(smtp.End{Stage: mail.StageRcpt, Quit: true})
				time.Sleep(50 * time.Millisecond)
			}
			g.Close()
			contacts = m.contacts
		})
		return contacts
	}
	ladder := Ladder(testPlan(t).Domains[0])
	down := visit(t, "mx1.example.com", "mx2.example.com", "trap.example.com")
	if reputation.OutOfOrder(ladder, down, down[2]) {
		t.Error("a walk down the ladder is out of order")
	}
	up := visit(t, "trap.example.com", "mx1.example.com")
	if !reputation.OutOfOrder(ladder, up, up[0]) {
		t.Error("the last first is in order")
	}
}

// No session records more domains than the limit.
func TestMaxContacts(t *testing.T) {
	g, m, _ := newGate(t)
	d := g.Plan.Domains[1]
	for i := range maxContacts + 10 {
		d.Name, _ = dns.MustName("example.net").Child("d" + strings.Repeat("x", i/10) + string(rune('0'+i%10)))
		g.Plan.Domains = append(g.Plan.Domains, d)
	}
	s := begin(t, g, "mx1.example.com", "a@example.edu")
	for _, d := range g.Plan.Domains {
		want(t, rcpt(t, s, "postmaster@"+d.Name.String()), "")
	}
	s.End(smtp.End{Stage: mail.StageRcpt})
	g.Close()
	if len(m.contacts) != maxContacts {
		t.Errorf("%d contacts, want %d", len(m.contacts), maxContacts)
	}
}

// Contacts wait for company, so that a busy gate makes few calls of the store.
func TestContactsComeInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, m, _ := newGate(t)
		g.prepare()
		for range contactBatch + 10 {
			g.recorder.put(reputation.Contact{})
		}
		synctest.Wait()
		time.Sleep(contactDelay)
		synctest.Wait()
		if !slices.Equal(m.batches, []int{contactBatch, 10}) {
			t.Errorf("batches of %v, want %d and 10", m.batches, contactBatch)
		}
		g.Close()
	})
}

// A store that hangs loses evidence; sessions do not notice.
func TestContactsOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, m, log := newGate(t)
		m.recordDelay = time.Hour
		g.prepare()
		for range contactBacklog + 3*contactBatch {
			g.recorder.put(reputation.Contact{})
			if g.recorder.dropped.Load() == 0 {
				synctest.Wait() // let the recorder take what it can
			}
		}
		if g.Dropped() == 0 {
			t.Error("nothing was dropped")
		}
		if n := strings.Count(log.String(), "contacts dropped"); n == 0 || n > troublePerMinute {
			t.Errorf("%d lines about dropped contacts, want 1 to %d", n, troublePerMinute)
		}
		began := time.Now()
		if err := g.Close(); err == nil {
			t.Error("Close does not tell that the store hangs")
		}
		if took := time.Since(began); took > closeTimeout {
			t.Errorf("Close took %s, want at most %s", took, closeTimeout)
		}
	})
}

// A store that fails, or panics, loses a batch; the next one is tried again.
func TestContactsStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, m, _ := newGate(t)
		m.recordErr = errors.New("disk is full")
		g.prepare()
		g.recorder.put(reputation.Contact{})
		time.Sleep(time.Second)
		synctest.Wait()
		m.recordErr = nil
		g.recorder.put(reputation.Contact{})
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if g.Dropped() != 1 || len(m.contacts) != 1 {
			t.Errorf("%d dropped, %d kept; want one of each", g.Dropped(), len(m.contacts))
		}
	})
}

// Without a store for contacts, mail goes on as ever.
func TestNoContacts(t *testing.T) {
	g, m, _ := newGate(t)
	g.Contacts = nil
	s := ready(t, g, "user@example.com")
	want(t, s.Data(t.Context(), strings.NewReader("\r\n")), "250")
	s.End(smtp.End{Stage: mail.StageDot, Quit: true})
	if err := g.Close(); err != nil || len(m.messages) != 1 || g.Dropped() != 0 {
		t.Errorf("Close: %v, %d messages, %d dropped", err, len(m.messages), g.Dropped())
	}
}
