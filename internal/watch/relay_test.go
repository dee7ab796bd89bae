package watch

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
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
		forEver   bool
	}{
		{"it takes it", smtptest.Accept, false, "", false},
		{"nobody is there", smtptest.Accept, true, "connect to mail.example.net:25: ", false},
		{"it has no time", smtptest.Greeting421, false, "hand a message to mail.example.net:25: greeting: the host said 421", false},
		{"it takes no mail now", smtptest.TempfailAt(mail.StageRcpt), false, "hand a message for admin@example.net to mail.example.net:25: at rcpt: 451", false},
		{"nor for this recipient", smtptest.PermfailAt(mail.StageRcpt), false, "at rcpt: 550", true},
		{"nor ever: a person has to see that", smtptest.PermfailAt(mail.StageDot), false, "at dot: 550", true},
		{"it says nothing", smtptest.HangAt(mail.StageData), false, "timed out waiting for the host", false},
		{"it cannot be reached", smtptest.HangAtConnect, false, "deadline exceeded", false},
		{"it hangs up", smtptest.DropAt(mail.StageDot), false, "at dot: ", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			var h smtptest.Host
			h.Set(row.behaviour)
			if row.down {
				h.Down()
			}
			r := &Relay{Address: "mail.example.net:25", Hello: "watch.example.com", Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return h.Dial(ctx) }}
			ctx, cancel := context.WithTimeout(t.Context(), relayTime)
			defer cancel()
			began := time.Now()
			err := r.Send(ctx, envelopeTo(t, "admin@example.net"), []byte("Subject: changes\r\n\r\nSome.\r\n"))
			switch {
			case row.err == "" && (err != nil || len(h.Messages()) != 1):
				t.Errorf("%s: %v, %d messages", row.why, err, len(h.Messages()))
			case row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err)):
				t.Errorf("%s: error %v, want %s", row.why, err, row.err)
			}
			if errors.Is(err, ErrRefused) != row.forEver {
				t.Errorf("%s: for ever is not %t: %v", row.why, row.forEver, err)
			}
			if took := time.Since(began); took > relayTime {
				t.Errorf("%s: it took %s", row.why, took)
			}
			h.Close()
		})
	}
}

// slowDot is a host that takes its time for the dot.
const slowDot = 9 * time.Minute

// TestRelayPatience: a host that needs nine minutes for the dot has the message once (RFC 5321
// §4.5.3.2.6).
func TestRelayPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &world{looks: always("mx.missing critical confirmed")}
		w := o.watcher(t, "example.com")
		w.Mail.Send = func(ctx context.Context, env mail.Envelope, text []byte) error {
			if pause(ctx, slowDot); ctx.Err() != nil {
				return ctx.Err()
			}
			return o.send(ctx, env, text)
		}
		run(t, w, 3*time.Hour)
		if len(o.sent) != 1 || strings.Contains(o.log.String(), "could not be sent") {
			t.Errorf("sent %d, logged %s", len(o.sent), o.log.String())
		}
	})
}

// TestRefusedForEver: what is refused for ever is logged and not tried again, and later changes
// are sent.
func TestRefusedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h smtptest.Host
		h.Set(smtptest.PermfailAt(mail.StageDot))
		defer h.Close()
		o := &world{looks: func(_ dns.Name, n int) []audit.Finding {
			if n < 3 {
				return look("mx.missing critical confirmed")
			}
			return look("mx.missing critical confirmed, spf.loop critical confirmed")
		}}
		w := o.watcher(t, "example.com")
		w.Mail.Send = (&Relay{Address: "mail.example.net:25", Hello: "watch.example.com", Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return h.Dial(ctx) }}).Send
		run(t, w, time.Minute)
		if _, unsent := w.Changes(); unsent != 0 || !strings.Contains(o.log.String(), `level=ERROR msg="a change that nobody was told by mail" domain=example.com change=worse id=mx.missing`) {
			t.Errorf("%d unsent, logged %s", unsent, o.log.String())
		}
		h.Set(smtptest.Accept)
		run(t, w, 4*time.Hour)
		if m := h.Messages(); len(m) != 1 || strings.Contains(m[0].Body, "mx.missing") || !strings.Contains(m[0].Body, "spf.loop") {
			t.Errorf("got %+v", m)
		}
	})
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
	if err := r.settle(outcomes[1:]); !errors.Is(err, ErrRefused) {
		t.Errorf("nobody will have it: %v", err)
	}
	outcomes[0].Status = mail.Deferred
	if err := r.settle(outcomes); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("one may have it later: %v", err)
	}
	if err := r.settle(nil); err == nil {
		t.Error("it has no recipient, and it is sent")
	}
}
