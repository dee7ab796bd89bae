package watch

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/mail"
	"mxward/internal/probe/probetest"
	"mxward/internal/smtp/smtptest"
)

func envelopeTo(t *testing.T, to ...string) mail.Envelope {
	t.Helper()
	env := mail.Envelope{From: mail.Path{Address: address(t, "mxward@example.com")}}
	for _, a := range to {
		env.Recipients = append(env.Recipients, mail.Recipient{Address: address(t, a)})
	}
	return env
}

// TestRelay: what is an end, and what is tried again.
func TestRelay(t *testing.T) {
	for _, row := range []struct {
		why       string
		behaviour smtptest.Behaviour
		down      bool
		err       string // "" for sent
	}{
		{"it takes it", smtptest.Accept, false, ""},
		{"nobody is there", smtptest.Accept, true, "connect to mail.example.net:25: "},
		{"it has no time", smtptest.Greeting421, false, "hand a message to mail.example.net:25: greeting: the host said 421"},
		{"it takes no mail now", smtptest.TempfailAt(mail.StageRcpt), false, "hand a message for admin@example.net to mail.example.net:25: at rcpt: 451"},
		{"nor ever: a person has to see that", smtptest.PermfailAt(mail.StageDot), false, "at dot: 550"},
		{"it says nothing", smtptest.HangAt(mail.StageData), false, "deadline exceeded"},
		{"it cannot be reached", smtptest.HangAtConnect, false, "deadline exceeded"},
		{"it hangs up", smtptest.DropAt(mail.StageDot), false, "at dot: "},
	} {
		synctest.Test(t, func(t *testing.T) {
			var h smtptest.Host
			h.Set(row.behaviour)
			if row.down {
				h.Down()
			}
			r := &Relay{Address: "mail.example.net:25", Hello: "watch.example.com", Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return h.Dial(ctx) }}
			ctx, cancel := context.WithTimeout(t.Context(), sendTime)
			defer cancel()
			began := time.Now()
			err := r.Send(ctx, envelopeTo(t, "admin@example.net"), []byte("Subject: changes\r\n\r\nSome.\r\n"))
			switch {
			case row.err == "" && (err != nil || len(h.Messages()) != 1):
				t.Errorf("%s: %v, %d messages", row.why, err, len(h.Messages()))
			case row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err)):
				t.Errorf("%s: error %v, want %s", row.why, err, row.err)
			}
			if took := time.Since(began); took > sendTime {
				t.Errorf("%s: it took %s", row.why, took)
			}
			h.Close()
		})
	}
}

// TestRelayTLS: STARTTLS is used where it is offered, whoever vouches for the host.
func TestRelayTLS(t *testing.T) {
	h := smtptest.Host{TLS: probetest.NewAuthority(t).Server(day, "elsewhere.example.net")}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go h.Serve(ln)
	defer h.Close()
	r := &Relay{Address: ln.Addr().String(), Hello: "watch.example.com"}
	if err := r.Send(t.Context(), envelopeTo(t, "admin@example.net"), []byte("Subject: changes\r\n\r\nSome.\r\n")); err != nil {
		t.Fatal(err)
	}
	if m := h.Messages(); len(m) != 1 || !m[0].TLS || m[0].Hello != "watch.example.com" {
		t.Errorf("got %+v", m)
	}
}

// TestRelayPartly: one of two has it: it is sent, and the log names the other.
func TestRelayPartly(t *testing.T) {
	outcomes := []mail.Outcome{
		{Recipient: address(t, "admin@example.net"), Status: mail.Delivered},
		{Recipient: address(t, "ops@example.org"), Status: mail.Failed, Stage: mail.StageRcpt, Reply: mail.NewReply(550, 5, 1, "nobody")},
	}
	r := &Relay{Address: "mail.example.net:25"}
	if err := r.settle(outcomes); err != nil {
		t.Error(err)
	}
	if err := r.settle(outcomes[1:]); err == nil {
		t.Error("nobody has it, and it is sent")
	}
	if err := r.settle(nil); err == nil {
		t.Error("it has no recipient, and it is sent")
	}
}
