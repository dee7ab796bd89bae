package smtptest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/mail"
	"mxward/internal/smtp"
	"mxward/internal/smtp/smtptest"
)

// try sends one message and tells in one line what became of it.
func try(ctx context.Context, conn net.Conn) string {
	c, err := smtp.Handshake(ctx, conn, smtp.ClientConfig{Hello: "client.example.net"})
	var e *smtp.Error
	if errors.As(err, &e) {
		if e.Reply.Code != 0 {
			return fmt.Sprintf("%s %d", e.Stage, e.Reply.Code)
		}
		return fmt.Sprintf("%s lost", e.Stage)
	}
	defer c.Close()
	to, err := mail.ParseAddress("b@example.com")
	if err != nil {
		return err.Error()
	}
	env := mail.Envelope{Recipients: []mail.Recipient{{Address: to}}}
	o := c.Send(ctx, env, strings.NewReader("Subject: x\r\n\r\n"+strings.Repeat("x\r\n", 30_000)))[0]
	if !o.Remote {
		return fmt.Sprintf("%s %s lost", o.Status, o.Stage)
	}
	return fmt.Sprintf("%s %s %d", o.Status, o.Stage, o.Reply.Code)
}

func TestHostBehaviours(t *testing.T) {
	for _, test := range []struct {
		behaviour smtptest.Behaviour
		want      string
		hangs     bool
		keeps     int
	}{
		{smtptest.Accept, "delivered dot 250", false, 1},
		{"", "delivered dot 250", false, 1},
		{smtptest.Greeting421, "greeting 421", false, 0},
		{smtptest.Greeting554, "greeting 554", false, 0},
		{smtptest.GreylistOnce, "deferred rcpt 451", false, 0},
		{smtptest.HangAt(mail.StageGreeting), "greeting lost", true, 0},
		{smtptest.HangAt(mail.StageHello), "hello lost", true, 0},
		{smtptest.HangAt(mail.StageMail), "deferred mail lost", true, 0},
		{smtptest.HangAt(mail.StageRcpt), "deferred rcpt lost", true, 0},
		{smtptest.HangAt(mail.StageData), "deferred data lost", true, 0},
		{smtptest.HangAt(mail.StageDot), "deferred dot lost", true, 0},
		{smtptest.HangAt(mail.StageQuit), "delivered dot 250", true, 1},
		{smtptest.DropAt(mail.StageConnect), "greeting lost", false, 0},
		{smtptest.DropAt(mail.StageGreeting), "greeting lost", false, 0},
		{smtptest.DropAt(mail.StageHello), "hello lost", false, 0},
		{smtptest.DropAt(mail.StageMail), "deferred mail lost", false, 0},
		{smtptest.DropAt(mail.StageRcpt), "deferred rcpt lost", false, 0},
		{smtptest.DropAt(mail.StageData), "deferred data lost", false, 0},
		{smtptest.DropAt(mail.StageDot), "deferred dot lost", false, 0},
		{smtptest.TempfailAt(mail.StageGreeting), "greeting 421", false, 0},
		{smtptest.TempfailAt(mail.StageHello), "hello 451", false, 0},
		{smtptest.TempfailAt(mail.StageMail), "deferred mail 451", false, 0},
		{smtptest.TempfailAt(mail.StageRcpt), "deferred rcpt 451", false, 0},
		{smtptest.TempfailAt(mail.StageData), "deferred data 451", false, 0},
		{smtptest.TempfailAt(mail.StageDot), "deferred dot 451", false, 0},
		{smtptest.TempfailAt(mail.StageQuit), "delivered dot 250", false, 1},
		{smtptest.PermfailAt(mail.StageGreeting), "greeting 554", false, 0},
		{smtptest.PermfailAt(mail.StageHello), "hello 550", false, 0},
		{smtptest.PermfailAt(mail.StageMail), "failed mail 550", false, 0},
		{smtptest.PermfailAt(mail.StageRcpt), "failed rcpt 550", false, 0},
		{smtptest.PermfailAt(mail.StageData), "failed data 550", false, 0},
		{smtptest.PermfailAt(mail.StageDot), "failed dot 550", false, 0},
	} {
		t.Run(string(test.behaviour), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host := &smtptest.Host{}
				host.Set(test.behaviour)
				defer host.Close()
				conn, err := host.Dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if got := try(t.Context(), conn); got != test.want {
					t.Errorf("got %q, want %q\n%s", got, test.want, strings.Join(host.Transcripts(), "\n"))
				}
				if hung := time.Since(began) >= 5*time.Second; hung != test.hangs {
					t.Errorf("took %s", time.Since(began))
				}
				if n := len(host.Messages()); n != test.keeps {
					t.Errorf("the host has %d messages, want %d", n, test.keeps)
				}
			})
		})
	}
}

func TestHostGreylistOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &smtptest.Host{}
		host.Set(smtptest.GreylistOnce)
		defer host.Close()
		for _, want := range []string{"deferred rcpt 451", "delivered dot 250", "delivered dot 250"} {
			conn, err := host.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := try(t.Context(), conn); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

func TestHostDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &smtptest.Host{}
		host.Set(smtptest.HangAtConnect)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, err := host.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hanging: got %v", err)
		}
		host.Down()
		if _, err := host.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("down: got %v", err)
		}
		host.Close()
		if err := host.Up(); err == nil {
			t.Error("up after Close")
		}
	})
}

// TestHostListen: down is down for the kernel, too, and up is the same address.
func TestHostListen(t *testing.T) {
	host := &smtptest.Host{Name: "mx1.example.com"}
	defer host.Close()
	addr, err := host.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := try(t.Context(), conn); got != "delivered dot 250" {
			t.Errorf("round %d: got %q", round, got)
		}
		host.Down()
		if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("round %d: down: got %v", round, err)
		}
		if err := host.Up(); err != nil {
			t.Fatal(err)
		}
	}
	if m := host.Messages(); len(m) != 2 || m[0].Hello != "client.example.net" || !strings.HasPrefix(m[0].Remote, "127.0.0.1:") {
		t.Errorf("got %d messages", len(m))
	}
	text := host.Transcripts()[0]
	for _, want := range []string{"S: 220 mx1.example.com ESMTP\n", "C: EHLO client.example.net\n", "C: MAIL FROM:<>", "S: 354 ", "C: .\n", "C: QUIT\nS: 221 2.0.0 bye\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the transcript has no %q:\n%.300s", want, text)
		}
	}
}

func TestHostServe(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := &smtptest.Host{}
	defer host.Close()
	done := make(chan error, 1)
	go func() { done <- host.Serve(ln) }()
	host.Down()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err == nil { // the kernel may be quicker with its reset than with the connection
		if got := try(t.Context(), conn); got != "greeting lost" {
			t.Errorf("down: got %q", got)
		}
	}
	if err := host.Up(); err != nil {
		t.Fatal(err)
	}
	if conn, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if got := try(t.Context(), conn); got != "delivered dot 250" {
		t.Errorf("up: got %q", got)
	}
	ln.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve gave %v", err)
	}
}

// TestPlay checks that the player notices what is wrong.
func TestPlay(t *testing.T) {
	for _, test := range []struct{ script, other, want string }{
		{"C: A\nS: 250 ok", "250 ok\r\n", ""},
		{"S: 250 o…", "250 ok\r\n", ""},
		{"S* 250", "250-a\r\n250 b\r\n", ""},
		{`S= "25"` + "\nS: 0 ok", "250 ok\r\n", ""},
		{"S.", "", ""},
		{"S: 250 ok", "250 no\r\n", `line 1, "S: 250 ok": got "250 no"`},
		{"S: 250 ok", "250 ok\n", "bare LF"},
		{"S* 250", "250-a\r\n251 b\r\n", `got "251 b"`},
		{"S.", "x\r\n", `expected the end, got "x"`},
		{"S: 250 ok", "", "read: EOF"},
		{`S= "a"`, "b", `got "b"`},
		{"X: y", "", "expected a line that starts with S or C"},
		{"C= y", "", "expected a Go string literal"},
		{"S? y", "", "unknown kind"},
		{"C? y", "", "cannot say"},
	} {
		mine, theirs := net.Pipe()
		go func() {
			buf := make([]byte, 10)
			if strings.HasPrefix(test.script, "C: A") {
				_, _ = theirs.Read(buf)
			}
			_, _ = theirs.Write([]byte(test.other))
			theirs.Close()
		}()
		err := smtptest.Play(mine, 'C', test.script)
		mine.Close()
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%q: %v", test.script, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%q: got %v, want %s", test.script, err, test.want)
		}
	}
}
