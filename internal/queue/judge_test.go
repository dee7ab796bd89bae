package queue

import (
	"testing"
	"time"

	"mxward/internal/mail"
)

func mustAddress(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// testJob has one recipient for each address.
func testJob(received time.Time, to ...string) Job {
	j := Job{Attempt: 1, Destination: "example.com", Message: Message{
		ID: "m1", Envelope: mail.Envelope{From: mail.Path{Address: mustAddress("sender@example.net")}},
		Received: received, Expires: Expires(received, false),
	}}
	for _, a := range to {
		j.Message.Envelope.Recipients = append(j.Message.Envelope.Recipients, mail.Recipient{Address: mustAddress(a)})
	}
	return j
}

func TestJudge(t *testing.T) {
	received := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ok := mail.Outcome{Status: mail.Delivered, Stage: mail.StageDot, Remote: true, Reply: mail.NewReply(250, 0, 0, "ok")}
	no := mail.Outcome{Status: mail.Failed, Stage: mail.StageRcpt, Remote: true, Reply: mail.NewReply(550, 1, 1, "no such user")}
	later := mail.Outcome{Status: mail.Deferred, Stage: mail.StageRcpt, Remote: true, Reply: mail.NewReply(452, 2, 2, "mailbox full")}
	away := mail.Outcome{Status: mail.Deferred, Stage: mail.StageConnect, Reply: mail.NewReply(451, 4, 1, "connection refused")}
	greeting := mail.Outcome{Status: mail.Deferred, Stage: mail.StageGreeting, Remote: true, Reply: mail.NewReply(421, 3, 2, "closing")}
	local := mail.Outcome{Status: mail.Failed, Stage: mail.StageRoute, Reply: mail.NewReply(556, 1, 10, "null MX")}
	for _, row := range []struct {
		name     string
		outcomes []mail.Outcome
		age      time.Duration
		backup   bool

		next, canary time.Duration // from now; 0: none
		reports      int
		expired      int
		up, down     bool
	}{
		{name: "all delivered", outcomes: []mail.Outcome{ok, ok}, reports: 2, up: true},
		{name: "one each", outcomes: []mail.Outcome{ok, no, later}, next: time.Minute, reports: 2, up: true},
		{name: "host away", outcomes: []mail.Outcome{away}, next: time.Minute, down: true},
		{name: "one second before its time", outcomes: []mail.Outcome{away}, age: Lifetime - time.Second, next: time.Second, down: true},
		{name: "its time is over", outcomes: []mail.Outcome{away, ok, no}, age: Lifetime, reports: 3, expired: 1, up: true},
		{name: "backup, host away: a canary", outcomes: []mail.Outcome{away}, backup: true, next: time.Minute, canary: time.Minute, down: true},
		{name: "backup, host says 421: a canary", outcomes: []mail.Outcome{greeting}, backup: true, next: time.Minute, canary: time.Minute, down: true},
		{name: "backup, mailbox full: the host is up", outcomes: []mail.Outcome{later}, backup: true, next: time.Minute, up: true},
		{name: "backup, refused: the host is up", outcomes: []mail.Outcome{no}, backup: true, reports: 1, up: true},
		{name: "backup lives longer", outcomes: []mail.Outcome{away}, age: Lifetime, backup: true, next: time.Minute, canary: time.Minute, down: true},
		{name: "backup, its time is over: the next one is the canary", outcomes: []mail.Outcome{away}, age: BackupLifetime, backup: true, canary: time.Minute, reports: 1, expired: 1, down: true},
		{name: "failed by the DNS: nothing is known of the host", outcomes: []mail.Outcome{local}, backup: true, reports: 1},
	} {
		job := testJob(received)
		job.Message.Backup = row.backup
		job.Message.Expires = time.Time{} // what the message does not say follows from its kind
		for i := range row.outcomes {
			to := mustAddress(string(rune('a'+i)) + "@example.com")
			job.Message.Envelope.Recipients = append(job.Message.Envelope.Recipients, mail.Recipient{Address: to})
			row.outcomes[i].Recipient = to
		}
		now := received.Add(row.age)
		v := judge(job, row.outcomes, now, 0.5)
		expired := 0
		for _, e := range v.expired {
			if e {
				expired++
			}
		}
		if got := since(v.result.Next, now); got != row.next {
			t.Errorf("%s: next in %s, want %s", row.name, got, row.next)
		}
		if got := since(v.result.Canary, now); got != row.canary {
			t.Errorf("%s: canary in %s, want %s", row.name, got, row.canary)
		}
		if len(v.reports) != row.reports || expired != row.expired || v.up != row.up || v.down != row.down {
			t.Errorf("%s: %d reports, %d expired, up %t, down %t; want %d, %d, %t, %t",
				row.name, len(v.reports), expired, v.up, v.down, row.reports, row.expired, row.up, row.down)
		}
		// The table's outcomes are used again: an expired one was changed.
		for i := range row.outcomes {
			if v.expired[i] && (row.outcomes[i].Status != mail.Failed || row.outcomes[i].Reply.Text != "connection refused") {
				t.Errorf("%s: %+v, want it failed with its last reason", row.name, row.outcomes[i])
			}
		}
	}
}

func since(t, now time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return t.Sub(now)
}
