package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/mail"
	"mxward/internal/smtp"
	"mxward/internal/smtp/smtptest"
)

const peerHost = "mx.example.com [192.0.2.1]:25"

func clientConfig() smtp.ClientConfig {
	return smtp.ClientConfig{Hello: "client.example.net", Host: peerHost}
}

func envelope(t testing.TB, from string, to ...string) mail.Envelope {
	t.Helper()
	var env mail.Envelope
	if err := env.From.UnmarshalText([]byte(from)); err != nil {
		t.Fatal(err)
	}
	for _, s := range to {
		a, err := mail.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		env.Recipients = append(env.Recipients, mail.Recipient{Address: a})
	}
	return env
}

// brief gives outcomes as a test writes them: "delivered dot 250 2.0.0 kept", with a ! in
// front where the words are ours.
func brief(outcomes []mail.Outcome) string {
	var parts []string
	for _, o := range outcomes {
		s := fmt.Sprintf("%s %s %s", o.Status, o.Stage, o.Reply)
		if !o.Remote {
			s = "!" + s
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, "\n")
}

// matches: "…" at the end of a line of want matches any rest.
func matches(got, want string) bool {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	if len(g) != len(w) {
		return false
	}
	for i := range g {
		prefix, open := strings.CutSuffix(w[i], "…")
		if g[i] != w[i] && !(open && strings.HasPrefix(g[i], prefix)) {
			return false
		}
	}
	return true
}

// against runs f with a connection whose other end plays the script's server.
func against(t *testing.T, script string, f func(t *testing.T, conn net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			defer server.Close()
			if err := smtptest.Play(server, 'S', script); err != nil {
				t.Errorf("smtp dialogue: %v", err)
			}
		})
		f(t, client)
		client.Close()
		wg.Wait()
	})
}

const plainHello = `
	S: 220 mx.example.com ESMTP
	C: EHLO client.example.net
	S: 250 mx.example.com
`

const pipedHello = `
	S: 220 mx.example.com ESMTP
	C: EHLO client.example.net
	S: 250-mx.example.com
	S: 250 PIPELINING
`

func TestClientHandshake(t *testing.T) {
	for _, test := range []struct{ name, script, want string }{
		{"greeted and known", plainHello, ""},
		{"a host without EHLO gets HELO", `
			S: 220 mx.example.com
			C: EHLO client.example.net
			S: 502 5.5.1 what
			C: HELO client.example.net
			S: 250-mx.example.com
			S: 250 PIPELINING`, ""},
		{"a host that wants neither", `
			S: 220 mx.example.com
			C: EHLO client.example.net
			S: 550 5.7.1 no
			C: HELO client.example.net
			S: 550 5.7.1 go away`, "hello: the host said 550 5.7.1 go away"},
		{"later, at EHLO", `
			S: 220 mx.example.com
			C: EHLO client.example.net
			S: 451 4.3.0 later`, "hello: the host said 451 4.3.0 later"},
		{"busy", `S: 421 4.3.2 too busy`, "greeting: the host said 421 4.3.2 too busy"},
		{"no mail here, in two lines", "S: 554-5.7.1 no\nS: 554 5.7.1 mail", "greeting: the host said 554 5.7.1 no / mail"},
		{"a greeting out of place", `S: 250 ok`, "greeting: protocol error: the reply 250 is out of place…"},
		{"no greeting", `S.`, "greeting: EOF"},
		{"half a greeting", `S= "220 mx"`, "greeting: unexpected EOF"},
		{"another protocol", `S: SSH-2.0-OpenSSH_9.2`, `greeting: protocol error: "SSH-2.0-OpenSSH_9.2" is no reply`},
		{"one reply with two codes", "S: 220-mx\nS: 250 mx", "greeting: protocol error: one reply with the codes 220 and 250"},
		{"a bare LF ends no line", `S= "220 mx\n"`, "greeting: protocol error: a reply line that ends in LF without CR"},
		{"a line without an end", `S= "` + strings.Repeat("2", 4096) + `"`, "greeting: protocol error: a reply line of more than 4096 octets"},
		{"a reply without an end", strings.Repeat("S: 220-mx\n", 200) + "\n", "greeting: protocol error: a reply of more than 200 lines"},
		{"a code that is none", "S: 199 x", `greeting: protocol error: "199 x" is no reply`},
		{"a code of four digits", "S: 2200 x", `greeting: protocol error: "2200 x" is no reply`},
		{"silence", "", "greeting: EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			against(t, test.script, func(t *testing.T, conn net.Conn) {
				c, err := smtp.Handshake(t.Context(), conn, clientConfig())
				if test.want == "" {
					if err != nil {
						t.Fatal(err)
					}
					if !c.Usable() {
						t.Error("the client is not usable")
					}
					return
				}
				var e *smtp.Error
				if !errors.As(err, &e) || c != nil {
					t.Fatalf("got %v, %v, want an *Error and no client", c, err)
				}
				if !matches(err.Error(), test.want) {
					t.Errorf("got %q, want %q", err, test.want)
				}
			})
		})
	}
}

func TestClientExtension(t *testing.T) {
	against(t, `
		S: 220 mx
		C: EHLO client.example.net
		S: 250-mx.example.com DSN is not an extension here
		S: 250-size 1000
		S: 250 X-Long a b c`, func(t *testing.T, conn net.Conn) {
		c, err := smtp.Handshake(t.Context(), conn, clientConfig())
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := c.Extension("SIZE"); !ok || p != "1000" {
			t.Errorf("SIZE is %q, %v", p, ok)
		}
		if p, ok := c.Extension("x-long"); !ok || p != "a b c" {
			t.Errorf("X-LONG is %q, %v", p, ok)
		}
		if _, ok := c.Extension("DSN"); ok {
			t.Error("DSN is taken from the greeting line")
		}
		if _, ok := c.TLSState(); ok {
			t.Error("there is TLS")
		}
	})
}

// TestClientSend: from a@ to b@ and c@, one message, against what a host may say. The last
// line of each script that is about the message is what the outcomes come from.
func TestClientSend(t *testing.T) {
	for _, test := range []struct {
		name, script, want string
		usable             bool
	}{
		{"one command at a time", plainHello + `
			C: MAIL FROM:<a@example.net>
			S: 250 2.1.0 ok
			C: RCPT TO:<b@example.com>
			S: 250 2.1.5 ok
			C: RCPT TO:<c@example.com>
			S: 251 2.1.5 will forward
			C: DATA
			S: 354 go
			C: Subject: x
			C:
			C: ..dot
			C: .
			S: 250 2.0.0 kept`,
			"delivered dot 250 2.0.0 kept\ndelivered dot 250 2.0.0 kept", true},
		{"all at once", pipedHello + `
			C: MAIL FROM:<a@example.net>
			C: RCPT TO:<b@example.com>
			C: RCPT TO:<c@example.com>
			C: DATA
			S: 250 2.1.0 ok
			S: 250 2.1.5 ok
			S: 550 5.1.1 no such user
			S: 354 go
			C: Subject: x
			C:
			C: ..dot
			C: .
			S: 250 2.0.0 kept`,
			"delivered dot 250 2.0.0 kept\nfailed rcpt 550 5.1.1 no such user", true},
		{"no recipient left, and DATA was piped and taken: an empty message gets us out", pipedHello + `
			C: MAIL FROM:<a@example.net>
			C: RCPT TO:<b@example.com>
			C: RCPT TO:<c@example.com>
			C: DATA
			S: 250 2.1.0 ok
			S: 451 4.7.1 greylisted
			S: 552 5.5.3 too many
			S: 354 go
			C: .
			S: 554 5.5.1 no valid recipients`,
			"deferred rcpt 451 4.7.1 greylisted\ndeferred rcpt 552 5.5.3 too many", true}, // RFC 5321 §4.5.3.1.10
		{"no recipient left, and DATA was piped and refused", pipedHello + `
			C: MAIL FROM:<a@example.net>
			C: RCPT TO:<b@example.com>
			C: RCPT TO:<c@example.com>
			C: DATA
			S: 250 2.1.0 ok
			S: 550 5.1.1 no
			S: 550 5.1.1 no
			S: 554 5.5.1 no valid recipients`,
			"failed rcpt 550 5.1.1 no\nfailed rcpt 550 5.1.1 no", true},
		{"MAIL refused for now, piped", pipedHello + `
			C: MAIL FROM:<a@example.net>
			C: RCPT TO:<b@example.com>
			C: RCPT TO:<c@example.com>
			C: DATA
			S: 451 4.7.1 later
			S: 503 5.5.1 MAIL first
			S: 503 5.5.1 MAIL first
			S: 503 5.5.1 MAIL first`,
			"deferred mail 451 4.7.1 later\ndeferred mail 451 4.7.1 later", true},
		{"MAIL refused for good, not piped", plainHello + `
			C: MAIL FROM:<a@example.net>
			S: 550 5.7.1 no`,
			"failed mail 550 5.7.1 no\nfailed mail 550 5.7.1 no", true},
		{"no recipient left, not piped: DATA is not said", plainHello + `
			C: MAIL FROM:<a@example.net>
			S: 250 ok
			C: RCPT TO:<b@example.com>
			S: 450 4.2.1 busy
			C: RCPT TO:<c@example.com>
			S: 550 no enhanced code
			C: QUIT
			S: 221 bye`,
			"deferred rcpt 450 4.2.1 busy\nfailed rcpt 550 no enhanced code", true},
		{"DATA refused for good: who was accepted has failed", plainHello + `
			C: MAIL FROM:<a@example.net>
			S: 250 ok
			C: RCPT TO:<b@example.com>
			S: 250 ok
			C: RCPT TO:<c@example.com>
			S: 450 4.2.1 busy
			C: DATA
			S: 554 5.6.0 no`,
			"failed data 554 5.6.0 no\ndeferred rcpt 450 4.2.1 busy", true},
		{"421 at RCPT: all who are undone wait", pipedHello + `
			C: MAIL FROM:<a@example.net>
			C: RCPT TO:<b@example.com>
			C: RCPT TO:<c@example.com>
			C: DATA
			S: 250 ok
			S: 250 ok
			S: 421 4.3.2 shutting down
			S.`,
			"deferred rcpt 421 4.3.2 shutting down\ndeferred rcpt 421 4.3.2 shutting down", false},
		{"421 at RCPT does not touch who has failed before", pipedHello + `
			C: MAIL FROM:<a@example.net>
			C: RCPT TO:<b@example.com>
			C: RCPT TO:<c@example.com>
			C: DATA
			S: 250 ok
			S: 550 5.1.1 no
			S: 421 4.3.2 shutting down
			S.`,
			"failed rcpt 550 5.1.1 no\ndeferred rcpt 421 4.3.2 shutting down", false},
		{"lost after the dot: perhaps delivered, so tried again", plainHello + `
			C: MAIL FROM:<a@example.net>
			S: 250 ok
			C: RCPT TO:<b@example.com>
			S: 250 ok
			C: RCPT TO:<c@example.com>
			S: 250 ok
			C: DATA
			S: 354 go
			C: Subject: x
			C:
			C: ..dot
			C: .
			S.`,
			"!deferred dot 451 4.4.2 lost the connection: EOF\n!deferred dot 451 4.4.2 lost the connection: EOF", false},
		{"lost at MAIL", pipedHello + `
			C: MAIL FROM:<a@example.net>
			S.`,
			"!deferred mail 451 4.4.2 lost the connection: EOF\n!deferred mail 451 4.4.2 lost the connection: EOF", false},
		{"refused for now after the dot", pipedHello + `
			C: MAIL FROM:<a@example.net>
			C: RCPT TO:<b@example.com>
			C: RCPT TO:<c@example.com>
			C: DATA
			S: 250 ok
			S: 250 ok
			S: 250 ok
			S: 354 go
			C: Subject: x
			C:
			C: ..dot
			C: .
			S: 451-4.7.1 come
			S: 451 4.7.1 again`,
			"deferred dot 451 4.7.1 come / again\ndeferred dot 451 4.7.1 come / again", true},
		{"421 after the dot", plainHello + `
			C: MAIL FROM:<a@example.net>
			S: 250 ok
			C: RCPT TO:<b@example.com>
			S: 250 ok
			C: RCPT TO:<c@example.com>
			S: 550 5.1.1 no
			C: DATA
			S: 354 go
			C: Subject: x
			C:
			C: ..dot
			C: .
			S: 421 4.3.0 disk full`,
			"deferred dot 421 4.3.0 disk full\nfailed rcpt 550 5.1.1 no", false},
		{"nonsense for a reply", pipedHello + `
			C: MAIL FROM:<a@example.net>
			S: what`,
			"!deferred mail 451 4.5.0 protocol error: \"what\" is no reply\n!deferred mail 451 4.5.0 protocol error: \"what\" is no reply", false},
		{"354 to RCPT", pipedHello + `
			C: MAIL FROM:<a@example.net>
			S: 250 ok
			S: 354 what`,
			"!deferred rcpt 451 4.5.0 protocol error: the reply 354 is out of place\n!deferred rcpt 451 4.5.0 protocol error: the reply 354 is out of place", false},
		{"250 to DATA", plainHello + `
			C: MAIL FROM:<a@example.net>
			S: 250 ok
			C: RCPT TO:<b@example.com>
			S: 250 ok
			C: RCPT TO:<c@example.com>
			S: 250 ok
			C: DATA
			S: 250 what`,
			"!deferred data 451 4.5.0 protocol error: the reply 250 is out of place\n!deferred data 451 4.5.0 protocol error: the reply 250 is out of place", false},
		{"an enhanced code of another class is text", plainHello + `
			C: MAIL FROM:<a@example.net>
			S: 550 4.7.1 odd`,
			"failed mail 550 4.7.1 odd\nfailed mail 550 4.7.1 odd", true},
		{"in one chunk, without DATA", `
			S: 220 mx
			C: EHLO client.example.net
			S: 250-mx
			S: 250 CHUNKING
			C: MAIL FROM:<a@example.net>
			S: 250 ok
			C: RCPT TO:<b@example.com>
			S: 250 ok
			C: RCPT TO:<c@example.com>
			S: 250 ok
			C: BDAT 20 LAST
			C: Subject: x
			C:
			C: .dot
			S: 250 2.0.0 kept`,
			"delivered dot 250 2.0.0 kept\ndelivered dot 250 2.0.0 kept", true},
		{"lost after the chunk", `
			S: 220 mx
			C: EHLO client.example.net
			S: 250-mx
			S: 250-PIPELINING
			S: 250 CHUNKING
			C: MAIL FROM:<a@example.net>
			C: RCPT TO:<b@example.com>
			C: RCPT TO:<c@example.com>
			S: 250 ok
			S: 250 ok
			S: 550 5.1.1 no
			C: BDAT 20 LAST
			C: Subject: x
			C:
			C: .dot
			S.`,
			"!deferred dot 451 4.4.2 lost the connection: EOF\nfailed rcpt 550 5.1.1 no", false},
		{"lost in the chunk", `
			S: 220 mx
			C: EHLO client.example.net
			S: 250-mx
			S: 250 CHUNKING
			C: MAIL FROM:<a@example.net>
			S: 250 ok
			C: RCPT TO:<b@example.com>
			S: 250 ok
			C: RCPT TO:<c@example.com>
			S: 250 ok
			C: BDAT 20 LAST
			S.`,
			"!deferred data 451 4.4.2 lost the connection: …\n!deferred data 451 4.4.2 lost the connection: …", false},
		{"no recipient left for a chunk", `
			S: 220 mx
			C: EHLO client.example.net
			S: 250-mx
			S: 250 CHUNKING
			C: MAIL FROM:<a@example.net>
			S: 250 ok
			C: RCPT TO:<b@example.com>
			S: 451 4.7.1 greylisted
			C: RCPT TO:<c@example.com>
			S: 451 4.7.1 greylisted`,
			"deferred rcpt 451 4.7.1 greylisted\ndeferred rcpt 451 4.7.1 greylisted", true},
		{"354 to MAIL", plainHello + `
			C: MAIL FROM:<a@example.net>
			S: 354 what`,
			"!deferred mail 451 4.5.0 …\n!deferred mail 451 4.5.0 …", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			against(t, test.script, func(t *testing.T, conn net.Conn) {
				c, err := smtp.Handshake(t.Context(), conn, clientConfig())
				if err != nil {
					t.Fatal(err)
				}
				got := c.Send(t.Context(), envelope(t, "a@example.net", "b@example.com", "c@example.com"), strings.NewReader("Subject: x\r\n\r\n.dot\r\n"))
				if !matches(brief(got), test.want) {
					t.Errorf("got\n%s\nwant\n%s", brief(got), test.want)
				}
				for i, o := range got {
					if o.Host != peerHost || o.When.IsZero() || o.Recipient.String() != []string{"b@example.com", "c@example.com"}[i] {
						t.Errorf("got the outcome %+v", o)
					}
				}
				if c.Usable() != test.usable {
					t.Errorf("Usable is %v", c.Usable())
				}
				if strings.Contains(test.script, "QUIT") {
					if err := c.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestClientSendAgain: after a transaction that was left open RSET comes first, in the same
// write.
func TestClientSendAgain(t *testing.T) {
	against(t, pipedHello+`
		C: MAIL FROM:<a@example.net>
		C: RCPT TO:<b@example.com>
		C: DATA
		S: 250 ok
		S: 451 4.7.1 greylisted
		S: 554 5.5.1 no valid recipients
		C: RSET
		C: MAIL FROM:<>
		C: RCPT TO:<b@example.com>
		C: DATA
		S: 250 ok
		S: 250 ok
		S: 250 ok
		S: 354 go
		C: x
		C: .
		S: 250 ok
		C: MAIL FROM:<>
		C: RCPT TO:<b@example.com>
		C: DATA
		S: 250 ok
		S: 250 ok
		S: 354 go
		C: y
		C: .
		S: 250 ok
		C: QUIT
		S: 221 bye`, func(t *testing.T, conn net.Conn) {
		c, err := smtp.Handshake(t.Context(), conn, clientConfig())
		if err != nil {
			t.Fatal(err)
		}
		c.Send(t.Context(), envelope(t, "a@example.net", "b@example.com"), strings.NewReader("x"))
		for _, text := range []string{"x", "y\n"} {
			got := c.Send(t.Context(), envelope(t, "", "b@example.com"), strings.NewReader(text))
			if brief(got) != "delivered dot 250 ok" {
				t.Errorf("got %s", brief(got))
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if c.Usable() {
			t.Error("usable after Close")
		}
		if got := brief(c.Send(t.Context(), envelope(t, "", "b@example.com"), strings.NewReader(""))); !matches(got, "!deferred mail 451 4.4.2 …") {
			t.Errorf("Send after Close gave %s", got)
		}
	})
}

// TestClientLMTP: a reply for each recipient that was accepted (RFC 2033 §4.2).
func TestClientLMTP(t *testing.T) {
	against(t, `
		S: 220 lmtp.example.com LMTP
		C: LHLO client.example.net
		S: 250-lmtp.example.com
		S: 250 PIPELINING
		C: MAIL FROM:<a@example.net>
		C: RCPT TO:<b@example.com>
		C: RCPT TO:<c@example.com>
		C: RCPT TO:<d@example.com>
		C: RCPT TO:<e@example.com>
		C: DATA
		S: 250 ok
		S: 250 ok
		S: 550 5.1.1 no
		S: 250 ok
		S: 250 ok
		S: 354 go
		C: x
		C: .
		S: 250 2.0.0 for b
		S: 452 4.2.2 d is full
		S.`, func(t *testing.T, conn net.Conn) {
		cfg := clientConfig()
		cfg.LMTP = true
		c, err := smtp.Handshake(t.Context(), conn, cfg)
		if err != nil {
			t.Fatal(err)
		}
		got := brief(c.Send(t.Context(), envelope(t, "a@example.net", "b@example.com", "c@example.com", "d@example.com", "e@example.com"), strings.NewReader("x\r\n")))
		want := "delivered dot 250 2.0.0 for b\nfailed rcpt 550 5.1.1 no\ndeferred dot 452 4.2.2 d is full\n!deferred dot 451 4.4.2 …"
		if !matches(got, want) {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
	// A host that does not know LHLO is not asked in SMTP.
	against(t, "S: 220 mx\nC: LHLO client.example.net\nS: 500 what", func(t *testing.T, conn net.Conn) {
		cfg := clientConfig()
		cfg.LMTP = true
		if _, err := smtp.Handshake(t.Context(), conn, cfg); err == nil || err.Error() != "hello: the host said 500 what" {
			t.Errorf("got %v", err)
		}
	})
}

// TestClientParameters: what is said in MAIL and RCPT depends on what is offered.
func TestClientParameters(t *testing.T) {
	full := envelope(t, "a@example.net", "b@example.com")
	full.Body, full.Return, full.ID = mail.Body8BitMIME, mail.ReturnHeaders, "id+2B"
	full.Recipients[0].Notify = mail.Notify{Success: true, Delay: true}
	full.Recipients[0].Original = "rfc822;x+40example.org"
	utf8 := envelope(t, "a@example.net", "jürgen@example.com", "b@example.com")
	ascii := envelope(t, "a@example.net", "b@example.com")
	ascii.UTF8 = true
	utf8from := envelope(t, "jürgen@bücher.example", "b@example.com")
	hostile := envelope(t, "a@example.net", "b@example.com")
	hostile.Recipients[0].Address.Local = "b>\r\nRSET\r\nRCPT TO:<c"
	hostile.Recipients[0].Original = "rfc822;x y"

	for _, test := range []struct {
		name, offers string
		env          mail.Envelope
		body         string
		commands     string // "" where nothing is to be said
		want         string // "" for the reply that the script gives to RCPT
	}{
		{"everything", "SIZE 1000\n8BITMIME\nDSN", full, "x: ü\r\n\r\n",
			"MAIL FROM:<a@example.net> SIZE=9 BODY=8BITMIME RET=HDRS ENVID=id+2B\nRCPT TO:<b@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+40example.org", ""},
		{"nothing", "HELP", full, "x: ü\r\n\r\n", "MAIL FROM:<a@example.net>\nRCPT TO:<b@example.com>", ""},
		{"SIZE without a limit, or with none", "SIZE", full, strings.Repeat("x", 100), "MAIL FROM:<a@example.net> SIZE=100\nRCPT TO:<b@example.com>", ""},
		{"SIZE 0 is no limit (RFC 1870 §4)", "SIZE 0", full, strings.Repeat("x", 100), "MAIL FROM:<a@example.net> SIZE=100\nRCPT TO:<b@example.com>", ""},
		{"larger than the host takes", "SIZE 99", full, strings.Repeat("x", 100), "", "!failed mail 552 5.3.4 the message has 100 octets, and the host takes 99"},
		{"eight bits where none were declared", "8BITMIME", envelope(t, "", "b@example.com"), "ü\r\n", "MAIL FROM:<> BODY=8BITMIME\nRCPT TO:<b@example.com>", ""},
		{"SMTPUTF8 for one recipient, and not offered: the other one goes", "HELP", utf8, "x\r\n", "MAIL FROM:<a@example.net>\nRCPT TO:<b@example.com>",
			"!failed mail 553 5.6.7 the host does not offer SMTPUTF8\nfailed rcpt 550 5.1.1 no"},
		{"SMTPUTF8 for one recipient", "SMTPUTF8", utf8, "x\r\n", "MAIL FROM:<a@example.net> SMTPUTF8\nRCPT TO:<jürgen@example.com>",
			"failed rcpt 550 5.1.1 no\nfailed rcpt 550 5.1.1 no"},
		{"SMTPUTF8 for the sender, and not offered", "HELP", utf8from, "x\r\n", "", "!failed mail 553 5.6.7 …"},
		{"came with SMTPUTF8 and does not need it", "HELP", ascii, "Subject: x\r\n\r\nü\r\n", "MAIL FROM:<a@example.net>\nRCPT TO:<b@example.com>", ""},
		{"came with SMTPUTF8, and the header needs it", "HELP", ascii, "Subject: ü\r\n\r\nx\r\n", "", "!failed mail 553 5.6.7 …"},
		{"came with SMTPUTF8, and a header too long to see the end of", "HELP", ascii, strings.Repeat("X: y\r\n", 20_000), "", "!failed mail 553 5.6.7 …"},
		{"came with SMTPUTF8, which is offered", "SMTPUTF8", ascii, "Subject: x\r\n\r\n", "MAIL FROM:<a@example.net> SMTPUTF8\nRCPT TO:<b@example.com>", ""},
		{"an address that is a command", "DSN", hostile, "x\r\n", "", "!failed rcpt 553 5.1.3 …"},
	} {
		t.Run(test.name, func(t *testing.T) {
			script := "S: 220 mx\nC: EHLO client.example.net\nS: 250-mx\n"
			for offer := range strings.SplitSeq(test.offers, "\n") {
				script += "S: 250-" + offer + "\n"
			}
			script += "S: 250 X\n"
			if test.commands != "" {
				mailFrom, rcptTo, _ := strings.Cut(test.commands, "\n")
				script += "C: " + mailFrom + "\nS: 250 ok\nC: " + rcptTo + "\nS: 550 5.1.1 no\n"
			}
			if test.name == "SMTPUTF8 for one recipient" {
				script += "C: RCPT TO:<b@example.com>\nS: 550 5.1.1 no\n"
			}
			want := test.want
			if want == "" {
				want = "failed rcpt 550 5.1.1 no"
			}
			against(t, script+"C.", func(t *testing.T, conn net.Conn) {
				c, err := smtp.Handshake(t.Context(), conn, clientConfig())
				if err != nil {
					t.Fatal(err)
				}
				if got := brief(c.Send(t.Context(), test.env, strings.NewReader(test.body))); !matches(got, want) {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			})
		})
	}
}

// TestClientDSN: a host that took NOTIFY tells the sender of a success by itself; one that
// was not told of it, or took only some of them, leaves that to us.
func TestClientDSN(t *testing.T) {
	for _, row := range []struct {
		name, offer string
		notify      mail.Notify
		params      string
		want        bool
	}{
		{"the host took it", "DSN", mail.Notify{Success: true}, " NOTIFY=SUCCESS", true},
		{"the host does not know DSN", "HELP", mail.Notify{Success: true}, "", false},
		{"there was no NOTIFY", "DSN", mail.Notify{}, "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			env := envelope(t, "a@example.net", "b@example.com")
			env.Recipients[0].Notify = row.notify
			script := "S: 220 mx\nC: EHLO client.example.net\nS: 250-mx\nS: 250-" + row.offer + "\nS: 250 X\nC: MAIL FROM:<a@example.net>\nS: 250 ok\n" +
				"C: RCPT TO:<b@example.com>" + row.params + "\nS: 250 ok\nC: DATA\nS: 354 go\nC: x\nC: .\nS: 250 kept\nC."
			against(t, script, func(t *testing.T, conn net.Conn) {
				c, err := smtp.Handshake(t.Context(), conn, clientConfig())
				if err != nil {
					t.Fatal(err)
				}
				got := c.Send(t.Context(), env, strings.NewReader("x\r\n"))
				if got[0].Status != mail.Delivered || got[0].DSN != row.want {
					t.Errorf("got %+v, want DSN %t", got[0], row.want)
				}
			})
		})
	}
}

// TestClientTimeouts: against a host that falls silent, each wait ends when the RFC says.
func TestClientTimeouts(t *testing.T) {
	for _, test := range []struct {
		name, script string
		after        time.Duration
		stage        mail.Stage
	}{
		{"greeting (RFC 5321 §4.5.3.2.1)", "", 5 * time.Minute, mail.StageGreeting},
		{"EHLO", "S: 220 mx\nC: EHLO client.example.net", 5 * time.Minute, mail.StageHello},
		{"MAIL (RFC 5321 §4.5.3.2.2)", plainHello + "C: MAIL FROM:<>", 5 * time.Minute, mail.StageMail},
		{"RCPT (RFC 5321 §4.5.3.2.3)", plainHello + "C: MAIL FROM:<>\nS: 250 ok\nC: RCPT TO:<b@example.com>", 5 * time.Minute, mail.StageRcpt},
		{"DATA (RFC 5321 §4.5.3.2.4)", plainHello + "C: MAIL FROM:<>\nS: 250 ok\nC: RCPT TO:<b@example.com>\nS: 250 ok\nC: DATA", 2 * time.Minute, mail.StageData},
		{"a block that is not taken (RFC 5321 §4.5.3.2.5)", plainHello + "C: MAIL FROM:<>\nS: 250 ok\nC: RCPT TO:<b@example.com>\nS: 250 ok\nC: DATA\nS: 354 go", 3*time.Minute + 5*time.Second, mail.StageData},
		{"the dot (RFC 5321 §4.5.3.2.6)", plainHello + "C: MAIL FROM:<>\nS: 250 ok\nC: RCPT TO:<b@example.com>\nS: 250 ok\nC: DATA\nS: 354 go\nC: x\nC: .", 10 * time.Minute, mail.StageDot},
	} {
		for _, cancel := range []bool{false, true} {
			name := test.name
			if cancel {
				name += ", cancelled"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					client, server := net.Pipe()
					defer server.Close()
					go smtptest.Script(t, server, 'S', test.script)
					ctx, stop := context.WithCancel(t.Context())
					defer stop()
					want := test.after
					if cancel {
						want = 17 * time.Second
						time.AfterFunc(want, stop)
					}
					began := time.Now()
					stage, err := mail.StageGreeting, error(nil)
					c, err := smtp.Handshake(ctx, client, clientConfig())
					var e *smtp.Error
					if errors.As(err, &e) {
						stage = e.Stage
						if cancel != errors.Is(err, context.Canceled) {
							t.Errorf("got the error %v", err)
						}
					} else {
						o := c.Send(ctx, envelope(t, "", "b@example.com"), strings.NewReader("x\r\n"))[0]
						stage = o.Stage
						if o.Status != mail.Deferred || o.Remote || o.Reply.Enhanced.String() != "4.4.2" {
							t.Errorf("got %+v", o)
						}
						if c.Usable() {
							t.Error("the client is usable")
						}
						c.Close()
					}
					if stage != test.stage {
						t.Errorf("ended at %s, want %s", stage, test.stage)
					}
					if took := time.Since(began); took != want {
						t.Errorf("took %s, want %s", took, want)
					}
				})
			})
		}
	}
}

// TestClientQuitTimeout: the reply to QUIT is not worth much.
func TestClientQuitTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go smtptest.Script(t, server, 'S', plainHello+"C: QUIT")
		c, err := smtp.Handshake(t.Context(), client, clientConfig())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// brokenBody fails in the middle.
type brokenBody struct {
	left int
	err  error
}

func (b *brokenBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, b.err
	}
	n := min(len(p), b.left)
	for i := range n {
		p[i] = 'x'
	}
	b.left -= n
	return n, nil
}

// TestClientBrokenBody: half a message is never made to look like a whole one.
func TestClientBrokenBody(t *testing.T) {
	for _, broken := range []error{errors.New("disk on fire"), io.ErrUnexpectedEOF} {
		for _, size := range []int{0, 1000, 64 << 10, 300_000} {
			synctest.Test(t, func(t *testing.T) {
				host := &smtptest.Host{}
				defer host.Close()
				c := connect(t, host, clientConfig())
				defer c.Close()
				got := brief(c.Send(t.Context(), envelope(t, "", "b@example.com"), &brokenBody{size, broken}))
				if got != "!deferred data 451 4.3.0 cannot read the message: "+broken.Error() {
					t.Errorf("%d octets: got %s", size, got)
				}
				synctest.Wait()
				if n := len(host.Messages()); n != 0 {
					t.Errorf("%d octets: the host has %d messages", size, n)
				}
			})
		}
	}
}

// connect gives a client of the host.
func connect(t testing.TB, host *smtptest.Host, cfg smtp.ClientConfig) *smtp.Client {
	t.Helper()
	conn, err := host.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.Handshake(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestClientThousandRecipients: over a pipe that holds nothing, neither side may wait for
// the other.
func TestClientThousandRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &smtptest.Host{}
		defer host.Close()
		c := connect(t, host, clientConfig())
		defer c.Close()
		env := envelope(t, "a@example.net")
		for i := range 1000 {
			env.Recipients = append(env.Recipients, envelope(t, "", fmt.Sprintf("user%d@example.com", i)).Recipients...)
		}
		for _, o := range c.Send(t.Context(), env, strings.NewReader("x\r\n")) {
			if o.Status != mail.Delivered {
				t.Fatalf("got %+v", o)
			}
		}
		if n := len(host.Messages()[0].Envelope.Recipients); n != 1000 {
			t.Errorf("the host has %d recipients", n)
		}
	})
}

// TestClientWriteRefused: a host that refuses in the middle of a message and stops reading
// is heard.
func TestClientWriteRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		server, err := ln.Accept()
		if err != nil {
			return
		}
		defer server.Close()
		smtptest.Script(t, server, 'S', plainHello+`
			C: MAIL FROM:<>
			S: 250 ok
			C: RCPT TO:<b@example.com>
			S: 250 ok
			C: DATA
			S: 354 go
			C: x
			S: 552 5.3.4 enough`)
		_ = server.(*net.TCPConn).CloseWrite()
		_, _ = io.CopyN(io.Discard, server, 100_000)
	}()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.Handshake(t.Context(), conn, clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := c.Send(t.Context(), envelope(t, "", "b@example.com"), io.LimitReader(repeat("x\r\n"), 64<<20))
	if want := "failed data 552 5.3.4 enough"; brief(got) != want {
		t.Errorf("got %s, want %s", brief(got), want)
	}
}

// repeat gives a text for ever.
func repeat(s string) io.Reader { return &repeater{text: strings.Repeat(s, 1000)} }

type repeater struct {
	text string
	at   int
}

func (r *repeater) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}
