package smtp_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"mxward/internal/mail"
	"mxward/internal/smtp"
	"mxward/internal/smtp/smtptest"
)

// keeper is a Handler and the Session of every connection: it accepts what it is not told
// to refuse, and remembers.
type keeper struct {
	greeting smtp.Greeting // zero: 220
	hello    func(smtp.Hello) mail.Reply
	mail     func(mail.Envelope) mail.Reply
	rcpt     func(mail.Recipient) mail.Reply
	data     func(context.Context, io.Reader) mail.Reply

	mu       sync.Mutex
	hellos   []smtp.Hello
	envs     []mail.Envelope
	rcpts    []mail.Recipient
	messages []string
	errs     []error // of the readers that did not end in io.EOF
	ends     []smtp.End
}

func (k *keeper) NewSession(context.Context, smtp.Conn) (smtp.Session, smtp.Greeting) {
	g := k.greeting
	if g.Reply.Code == 0 {
		g.Reply.Code = 220
	}
	return k, g
}

func (k *keeper) Hello(_ context.Context, h smtp.Hello) mail.Reply {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hellos = append(k.hellos, h)
	if k.hello != nil {
		return k.hello(h)
	}
	return mail.NewReply(250, 0, 0, "")
}

func (k *keeper) Mail(_ context.Context, env mail.Envelope) mail.Reply {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.envs = append(k.envs, env)
	if k.mail != nil {
		return k.mail(env)
	}
	return mail.NewReply(250, 1, 0, "sender ok")
}

func (k *keeper) Rcpt(_ context.Context, r mail.Recipient) mail.Reply {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rcpts = append(k.rcpts, r)
	if k.rcpt != nil {
		return k.rcpt(r)
	}
	return mail.NewReply(250, 1, 5, "recipient ok")
}

func (k *keeper) Data(ctx context.Context, body io.Reader) mail.Reply {
	if k.data != nil {
		return k.data(ctx, body)
	}
	text, err := io.ReadAll(body)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.errs = append(k.errs, err)
		return mail.NewReply(451, 3, 0, "not kept")
	}
	k.messages = append(k.messages, string(text))
	return mail.NewReply(250, 0, 0, "kept")
}

func (k *keeper) End(e smtp.End) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ends = append(k.ends, e)
}

func (k *keeper) end(t *testing.T) smtp.End {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.ends) != 1 {
		t.Fatalf("End was called %d times, want 1", len(k.ends))
	}
	return k.ends[0]
}

// converse plays the client's side of a dialogue against a server, in virtual time.
func converse(t *testing.T, srv *smtp.Server, k *keeper, script string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { talk(t, srv, k, script) })
}

// talk is converse for tests that are in a bubble already. It returns when the server is
// done with the connection.
func talk(t *testing.T, srv *smtp.Server, k *keeper, script string) {
	t.Helper()
	client, server := net.Pipe()
	srv.Handler, srv.Hostname = k, "mx.example.com"
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.ServeConn(server)
	}()
	smtptest.Script(t, client, 'C', script)
	client.Close()
	<-done
}

// opening is how most dialogues begin.
const opening = `
	S: 220 mx.example.com ESMTP
	C: EHLO client.example.net
	S* 250
`

const transaction = opening + `
	C: MAIL FROM:<a@example.net>
	S: 250 2.1.0 sender ok
	C: RCPT TO:<b@example.com>
	S: 250 2.1.5 recipient ok
`

const farewell = `
	C: QUIT
	S: 221 2.0.0 bye
	S.
`

func TestServerDialogues(t *testing.T) {
	for _, test := range []struct{ name, script string }{
		{"EHLO lists what there is, in its order and with the host's name first", `
			S: 220 mx.example.com ESMTP
			C: EHLO client.example.net
			S: 250-mx.example.com
			S: 250-PIPELINING
			S: 250-SIZE 1000
			S: 250-8BITMIME
			S: 250-SMTPUTF8
			S: 250-ENHANCEDSTATUSCODES
			S: 250-CHUNKING
			S: 250 DSN` + farewell},
		{"HELO has one line, and no extension is needed for a message", `
			S: 220 mx.example.com ESMTP
			C: helo client.example.net
			S: 250 mx.example.com
			C: mail from:<a@example.net>
			S: 250 2.1.0 sender ok
			C: rcpt to:<b@example.com>
			S: 250 2.1.5 recipient ok
			C: data
			S: 354 …
			C: hello
			C: .
			S: 250 2.0.0 kept` + farewell},
		{"everything in one write: the replies come in their order", `
			S: 220 …
			C: EHLO client.example.net
			C: MAIL FROM:<a@example.net>
			C: RCPT TO:<b@example.com>
			C: DATA
			S* 250
			S: 250 2.1.0 …
			S: 250 2.1.5 …
			S: 354 …
			C: text
			C: .
			C: QUIT
			S: 250 2.0.0 kept
			S: 221 2.0.0 bye
			S.`},
		{"commands without an argument, and those that are none", opening + `
			C: NOOP anything
			S: 250 2.0.0 ok
			C: RSET
			S: 250 2.0.0 reset
			C: VRFY postmaster
			S: 252 2.0.0 …
			C: HELP
			S: 214 2.0.0 …
			C: EXPN list
			S: 502 5.5.1 …
			C: TURN
			S: 502 5.5.1 …
			C: ETRN example.com
			S: 502 5.5.1 …
			C: AUTH PLAIN
			S: 502 5.5.1 …
			C: STARTTLS
			S: 502 5.5.1 …
			C: XYZZY
			S: 500 5.5.1 command unknown
			C: SUPERCALIFRAGILISTIC
			S: 500 5.5.1 command unknown
			C= "\r\n"
			S: 500 5.5.1 command unknown
			C= "NOOP a\x00b\r\n"
			S: 500 5.5.2 …
			C: QUIT now
			S: 501 5.5.4 …
			C: RSET now
			S: 501 5.5.4 …` + farewell},
		{"trailing space is nothing (RFC 5321 §4.1.1), also before QUIT's end", opening + `
			C= "NOOP \t \r\n"
			S: 250 2.0.0 ok
			C= "QUIT  \r\n"
			S: 221 2.0.0 bye
			S.`},
		{"out of sequence", `
			S: 220 …
			C: MAIL FROM:<a@example.net>
			S: 503 5.5.1 say EHLO first
			C: RCPT TO:<b@example.com>
			S: 503 5.5.1 say MAIL first
			C: DATA
			S: 503 5.5.1 say MAIL first
			C: EHLO client.example.net
			S* 250
			C: MAIL FROM:<a@example.net>
			S: 250 …
			C: MAIL FROM:<a@example.net>
			S: 503 5.5.1 a MAIL is under way
			C: DATA
			S: 554 5.5.1 no valid recipients
			C: EHLO again.example.net
			S* 250
			C: RCPT TO:<b@example.com>
			S: 503 5.5.1 say MAIL first` + farewell},
		{"EHLO and HELO want one printable word", `
			S: 220 …
			C: EHLO
			S: 501 5.5.4 …
			C: HELO
			S: 501 5.5.4 …
			C: EHLO two words
			S: 501 5.5.4 …
			C: EHLO münchen.example
			S: 501 5.5.4 …
			C: EHLO [192.0.2.1]
			S* 250` + farewell},
		{"malformed MAIL", opening + `
			C: MAIL
			S: 501 5.5.4 …
			C: MAIL FROM
			S: 501 5.5.4 …
			C: MAIL FROM:
			S: 501 5.1.7 …
			C: MAIL FROM:a@example.net
			S: 501 5.1.7 …
			C: MAIL FROM:<a@example.net
			S: 501 5.1.7 …
			C: MAIL FROM:<a b@example.net>
			S: 501 5.1.7 …
			C: MAIL FROM:<postmaster>
			S: 501 5.1.7 …
			C: MAIL FROM:<a@example.net>SIZE=1
			S: 501 5.5.4 …` + farewell},
		{"the parameters of MAIL", opening + `
			C: MAIL FROM:<a@example.net> SIZE=x
			S: 501 5.5.4 …
			C: MAIL FROM:<a@example.net> SIZE=123456789012345678901
			S: 501 5.5.4 …
			C: MAIL FROM:<a@example.net> SIZE=1001
			S: 552 5.3.4 …
			C: MAIL FROM:<a@example.net> SIZE=99999999999999999999
			S: 552 5.3.4 …
			C: MAIL FROM:<a@example.net> BODY=BINARYMIME
			S: 501 5.5.4 …
			C: MAIL FROM:<a@example.net> BODY=8BITMIME BODY=7BIT
			S: 501 5.5.4 the parameter BODY comes twice
			C: MAIL FROM:<a@example.net> SMTPUTF8=yes
			S: 501 5.5.4 …
			C: MAIL FROM:<a@example.net> RET=SOME
			S: 501 5.5.4 …
			C: MAIL FROM:<a@example.net> ENVID=a=b
			S: 501 5.5.4 …
			C: MAIL FROM:<a@example.net> AUTH=<>
			S: 555 5.5.4 the parameter AUTH is unknown
			C: MAIL FROM: <a@example.net>  size=1000  body=8bitmime RET=hdrs ENVID=a+2Bb SMTPUTF8
			S: 250 …` + farewell},
		{"the parameters of RCPT", opening + `
			C: MAIL FROM:<>
			S: 250 …
			C: RCPT TO:<>
			S: 501 5.1.3 …
			C: RCPT TO:<b@example.com> NOTIFY=NEVER,SUCCESS
			S: 501 5.5.4 …
			C: RCPT TO:<b@example.com> NOTIFY=
			S: 501 5.5.4 …
			C: RCPT TO:<b@example.com> ORCPT=rfc822
			S: 501 5.5.4 …
			C: RCPT TO:<b@example.com> ORCPT=rfc822;a+4g
			S: 501 5.5.4 …
			C: RCPT TO:<b@example.com> SIZE=1
			S: 555 5.5.4 …
			C: RCPT TO:<b@example.com> NOTIFY=success,DELAY ORCPT=rfc822;b+40example.com
			S: 250 …
			C: RCPT TO:<Postmaster>
			S: 250 …` + farewell},
		{"addresses beyond ASCII want SMTPUTF8 (RFC 6531 §3.4)", opening + `
			C: MAIL FROM:<jürgen@example.net>
			S: 553 5.6.7 …
			C: MAIL FROM:<a@bücher.example>
			S: 553 5.6.7 …
			C: MAIL FROM:<a@example.net>
			S: 250 …
			C: RCPT TO:<jürgen@example.com>
			S: 553 5.6.7 …
			C: RSET
			S: 250 …
			C: MAIL FROM:<jürgen@bücher.example> SMTPUTF8
			S: 250 …
			C: RCPT TO:<jürgen@example.com>
			S: 250 …` + farewell},
		{"more recipients than one message may have", opening + `
			C: MAIL FROM:<a@example.net>
			S: 250 …
			C: RCPT TO:<1@example.com>
			C: RCPT TO:<2@example.com>
			C: RCPT TO:<3@example.com>
			C: RCPT TO:<4@example.com>
			S: 250 …
			S: 250 …
			S: 250 …
			S: 452 4.5.3 too many recipients` + farewell},
		{"more octets than a message may have: all are read, then 552; the next one passes", transaction + `
			C: DATA
			S: 354 …
			C: ` + strings.Repeat("x", 600) + `
			C: ` + strings.Repeat("x", 600) + `
			C: MAIL FROM:<not.a.command@example.net>
			C: .
			S: 552 5.3.4 …
			C: MAIL FROM:<a@example.net>
			C: RCPT TO:<b@example.com>
			C: DATA
			S: 250 …
			S: 250 …
			S: 354 …
			C: small
			C: .
			S: 250 …` + farewell},
		{"a long line is no command, and what follows it is", opening + `
			C: NOOP ` + strings.Repeat("x", 2100) + `
			C: NOOP
			S: 500 5.5.2 line too long
			S: 250 …
			C: NOOP ` + strings.Repeat("x", 2048-7) + `
			S: 250 …
			C: NOOP ` + strings.Repeat("x", 2048-6) + `
			S: 500 5.5.2 line too long` + farewell},
		{"one line without an end is too much in the end", opening + `
			C= "` + strings.Repeat("x", 33*2047+1) + `"
			S: 421 4.5.2 …
			S.`},
		{"twenty errors are enough", opening + strings.Repeat("C: BAD\nS: 500 …\n", 20) + `
			C: BAD
			S: 421 4.7.0 too many errors, closing
			S.`},
		{"a client that only plays is sent away", opening + strings.Repeat("C: NOOP\nS: 250 …\n", 99) + `
			C: NOOP
			S: 421 4.7.0 …
			S.`},
		{"MAIL and RSET without an end are play, too", opening + strings.Repeat("C: MAIL FROM:<>\nC: RSET\nS: 250 …\nS: 250 …\n", 99) + `
			C: RSET
			S: 421 4.7.0 …
			S.`},
		{"a browser was led here", opening + `
			C: POST / HTTP/1.1
			S: 421 4.7.0 this is not a web server, closing
			S.`},
		{"a client that guesses recipients is sent away", opening + `
			C: MAIL FROM:<>
			S: 250 …` + strings.Repeat("\nC: RCPT TO:<unknown@example.com>\nS: 550 5.1.1 …", 30) + `
			S: 421 4.7.0 too many refused recipients, closing
			S.`},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := &keeper{rcpt: func(r mail.Recipient) mail.Reply {
				if r.Address.Local == "unknown" {
					return mail.NewReply(550, 1, 1, "no such user")
				}
				return mail.NewReply(250, 1, 5, "recipient ok")
			}}
			converse(t, &smtp.Server{MaxSize: 1000, MaxRecipients: 3}, k, test.script)
		})
	}
}

func TestServerBDAT(t *testing.T) {
	for _, test := range []struct {
		name, script string
		want         []string // messages
	}{
		{"one chunk", transaction + `
			C= "BDAT 7 LAST\r\nhello\r\n"
			S: 250 2.0.0 kept` + farewell, []string{"hello\r\n"}},
		{"chunks, pipelined, cut through a CRLF, dots as they are, the last one empty", transaction + `
			C= "BDAT 6\r\nhello\rBDAT 6\r\n\n.\r\n..BDAT 2\r\n\r\nBDAT 0 LAST\r\n"
			S: 250 2.0.0 chunk received
			S: 250 2.0.0 chunk received
			S: 250 2.0.0 chunk received
			S: 250 2.0.0 kept` + farewell, []string{"hello\r\n.\r\n..\r\n"}},
		{"an unfinished last line is finished", transaction + `
			C= "BDAT 5 last\r\nhello"
			S: 250 …` + farewell, []string{"hello\r\n"}},
		{"an empty message", transaction + `
			C: BDAT 0 LAST
			S: 250 …` + farewell, []string{""}},
		{"without MAIL the chunk is read, and not obeyed", opening + `
			C= "BDAT 6 LAST\r\nQUIT\r\n"
			S: 503 5.5.1 say MAIL first
			C: MAIL FROM:<>
			S: 250 …
			C= "BDAT 6 LAST\r\nQUIT\r\n"
			S: 554 5.5.1 no valid recipients` + farewell, nil},
		{"a chunk that passes the limit is read and thrown away, and so is what was piped after it", transaction + `
			C= "BDAT 600\r\n` + strings.Repeat("x", 600) + `"
			S: 250 …
			C= "BDAT 600\r\n` + strings.Repeat("x", 600) + `BDAT 6 LAST\r\nQUIT\r\n"
			S: 552 5.3.4 …
			S: 503 5.5.1 …
			C: MAIL FROM:<>
			S: 250 …` + farewell, nil},
		{"RSET between chunks gives the message up", transaction + `
			C= "BDAT 3\r\nabcRSET\r\n"
			S: 250 …
			S: 250 2.0.0 reset
			C= "BDAT 3 LAST\r\nabc"
			S: 503 …` + farewell, nil},
		{"other commands of a transaction do not mix with chunks, NOOP does (RFC 3030 §3)", transaction + `
			C= "BDAT 3\r\nabc"
			S: 250 …
			C: DATA
			S: 503 5.5.1 …
			C: RCPT TO:<c@example.com>
			S: 503 5.5.1 …
			C: NOOP
			S: 250 2.0.0 ok
			C= "BDAT 5 LAST\r\ndef\r\n"
			S: 250 …` + farewell, []string{"abcdef\r\n"}},
		{"QUIT between chunks", transaction + `
			C= "BDAT 3\r\nabcQUIT\r\n"
			S: 250 …
			S: 221 …
			S.`, nil},
		{"a bare LF, and a bare CR over the end of a chunk", transaction + `
			C= "BDAT 4\r\na\nb\r"
			S: 550 5.6.0 …
			C= "RSET\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nBDAT 2\r\na\rBDAT 2 LAST\r\nb\n"
			S: 250 …
			S: 250 …
			S: 250 …
			S: 250 …
			S: 550 5.6.0 …` + farewell, nil},
		{"a CR as the very last octet", transaction + `
			C= "BDAT 2 LAST\r\na\r"
			S: 550 5.6.0 …` + farewell, nil},
		{"malformed", transaction + `
			C: BDAT
			S: 501 5.5.4 …
			C: BDAT x
			S: 501 5.5.4 …
			C: BDAT -1
			S: 501 5.5.4 …
			C: BDAT 1 FIRST
			S: 501 5.5.4 …` + farewell, nil},
		{"empty chunks do not go on for ever", transaction + `
			C= "` + strings.Repeat(`BDAT 0\r\n`, 101) + `"` + strings.Repeat("\nS: 250 …", 100) + `
			S: 421 4.7.0 too many commands without a message, closing
			S.`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := &keeper{}
			converse(t, &smtp.Server{MaxSize: 1000}, k, test.script)
			if got, want := strings.Join(k.messages, "|"), strings.Join(test.want, "|"); got != want || len(k.messages) != len(test.want) {
				t.Errorf("got the messages %q, want %q", k.messages, test.want)
			}
		})
	}
}

// TestServerUnwantedChunk: a chunk without a transaction is no sign of a message that came
// so far, for whoever judges clients by their furthest stage.
func TestServerUnwantedChunk(t *testing.T) {
	k := &keeper{}
	converse(t, &smtp.Server{}, k, opening+`
		C= "BDAT 3 LAST\r\nabc"
		S: 503 5.5.1 …`+farewell)
	if e := k.end(t); e.Stage != mail.StageHello {
		t.Errorf("the session reached %s, want %s", e.Stage, mail.StageHello)
	}
}

// TestServerSaysWhy: what the wire refuses by itself stands in the log, with the command.
func TestServerSaysWhy(t *testing.T) {
	var log strings.Builder
	converse(t, &smtp.Server{MaxSize: 1000, Logger: slog.New(slog.NewTextHandler(&log, nil))}, &keeper{}, opening+`
		C: MAIL FROM:<big@example.net> SIZE=2000
		S: 552 5.3.4 …
		C: RCPT TO:<b@example.com>
		S: 503 5.5.1 …`+farewell)
	if want := `refused="MAIL FROM:<big@example.net> SIZE=2000" reply="552 5.3.4 the message is larger than 1000 octets" more=1`; !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %s:\n%s", want, log.String())
	}
}

// TestServerRefusalFlood: a client that is turned away again and again does not fill the log.
func TestServerRefusalFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		s := &smtp.Server{Handler: &keeper{}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		if err := s.Shutdown(t.Context()); err != nil { // from here on it turns all away
			t.Fatal(err)
		}
		for range 100 {
			client, server := net.Pipe()
			s.ServeConn(server)
			client.Close()
		}
		synctest.Wait()
		if lines := strings.Count(log.String(), "connection refused"); lines != 1 {
			t.Errorf("%d lines for 100 clients of one instant, want 1", lines)
		}
	})
}

// TestServerReplyText: a reply has ASCII alone, and no question marks for what errors cite.
func TestServerReplyText(t *testing.T) {
	converse(t, &smtp.Server{}, &keeper{}, transaction+`
		C: RCPT TO:<b@`+strings.Repeat("a", 300)+`>
		S: 501 5.1.3 not a mail path: longer than 256 octets (RFC 5321 section 4.5.3.1.3)`+farewell)
}

// TestServerSmuggling sends what some servers take for the end of a message. Each row is
// read to the true end, refused, and nothing in it or after it is obeyed.
func TestServerSmuggling(t *testing.T) {
	for _, end := range []string{
		"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\n\n.\r\n", "\r\r.\r\r",
		"\r\n.\r\r\nx", "\n.\r\r\n", "\r\n\x00.\n", "\n\r.\r\n\rx", "\r\r\n.\rx\r\n",
	} {
		t.Run(strings.Trim(end, " "), func(t *testing.T) {
			k := &keeper{}
			smuggled := "MAIL FROM:<smuggler@example.net>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nspoofed\r\n"
			converse(t, &smtp.Server{}, k, transaction+`
				C: DATA
				S: 354 …
				C= `+quoted("first"+end+smuggled+".\r\n")+`
				S: 550 5.6.0 …
				S.`)
			if len(k.envs) != 1 || len(k.messages) != 0 {
				t.Errorf("%d MAIL and %d messages, want 1 and 0", len(k.envs), len(k.messages))
			}
			if len(k.errs) != 1 || !errors.Is(k.errs[0], smtp.ErrBareLine) {
				t.Errorf("the reader gave %v, want ErrBareLine", k.errs)
			}
			if !k.end(t).BareLine {
				t.Error("End.BareLine is not set")
			}
		})
	}
}

// TestServerText shows what is content and no end: these messages arrive as they are.
func TestServerText(t *testing.T) {
	for _, test := range []struct{ sent, want string }{
		{".\r\n", ""}, // empty
		{"\r\n.\r\n", "\r\n"},
		{"..\r\n.\r\n", ".\r\n"},
		{"..a\r\n...\r\nb.\r\n.\r\n", ".a\r\n..\r\nb.\r\n"},
		{".a\r\n.\r\n", "a\r\n"},                                     // a dot that should have been doubled
		{"a\r\n\x00.\r\n.\r\n", "a\r\n\x00.\r\n"},                    // a NUL is a character like others
		{"\xff\xfe\r\n.\r\n", "\xff\xfe\r\n"},                        // octets, not text
		{strings.Repeat("long ", 50_000) + "\r\n.\r\n", ""},          // longer than any buffer
		{strings.Repeat("..\r\n", 20_000) + ".\r\n", ""},             // dots on each edge of the buffer
		{strings.Repeat("12345\r\n", 20_000) + ".\r\n", ""},          // CRLF on each edge of the buffer
		{strings.Repeat("\r\n..\r\n1234", 10_000) + "\r\n.\r\n", ""}, // both
	} {
		want := test.want
		if want == "" && len(test.sent) > 3 {
			want = strings.ReplaceAll("\r\n"+strings.TrimSuffix(test.sent, ".\r\n"), "\r\n.", "\r\n")[2:]
		}
		k := &keeper{}
		converse(t, &smtp.Server{}, k, transaction+`
			C: DATA
			S: 354 …
			C= `+quoted(test.sent)+`
			S: 250 …`+farewell)
		if len(k.messages) != 1 || k.messages[0] != want {
			t.Errorf("sent %.60q: got %.80q, want %.80q", test.sent, k.messages, want)
		}
	}
}

func TestServerBareCommand(t *testing.T) {
	for _, line := range []string{"NOOP\nRSET\r\n", "NOOP\rRSET\r\n", "\nNOOP\r\n", "NOOP\r\r\n", "NOOP" + strings.Repeat("x", 3000) + "\n\r\n"} {
		k := &keeper{}
		converse(t, &smtp.Server{}, k, opening+`
			C= `+quoted(line)+`
			S: 500 5.5.2 …`+farewell)
		if !k.end(t).BareLine {
			t.Errorf("%q: End.BareLine is not set", line)
		}
	}
}

func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		const hex = "0123456789abcdef"
		b.WriteString(`\x`)
		b.WriteByte(hex[s[i]>>4])
		b.WriteByte(hex[s[i]&0xf])
	}
	b.WriteByte('"')
	return b.String()
}

// TestServerPassesOn checks what the Session is told.
func TestServerPassesOn(t *testing.T) {
	k := &keeper{}
	converse(t, &smtp.Server{}, k, opening+`
		C: MAIL FROM:<@a.example,@b.example:"x y"@example.net> SIZE=12 BODY=8BITMIME RET=FULL ENVID=id+2B1 SMTPUTF8
		S: 250 …
		C: RCPT TO:<@example.com:b@[192.0.2.1]> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b+40x
		S: 250 …
		C: RCPT TO:<PostMaster>
		S: 250 …`+farewell)
	env := k.envs[0]
	if env.From.String() != `"x y"@example.net` || env.Size != 12 || env.Body != mail.Body8BitMIME || env.Return != mail.ReturnFull || env.ID != "id+2B1" || !env.UTF8 {
		t.Errorf("got the envelope %+v", env)
	}
	r := k.rcpts[0]
	if r.Address.String() != "b@[192.0.2.1]" || r.Notify != (mail.Notify{Success: true, Failure: true}) || r.Original != "rfc822;b+40x" {
		t.Errorf("got the recipient %+v", r)
	}
	if !k.rcpts[1].Address.IsPostmaster() || !k.rcpts[1].Address.Domain.IsZero() {
		t.Errorf("got the recipient %+v, want the bare postmaster", k.rcpts[1])
	}
	if e := k.end(t); e.Stage != mail.StageRcpt || !e.Quit || e.Err != nil || e.EarlyTalk || e.BareLine {
		t.Errorf("got the end %+v", e)
	}
	if h := k.hellos[0]; !h.Extended || h.Name != "client.example.net" || h.Protocol(true) != "UTF8SMTP" {
		t.Errorf("got the hello %+v", h)
	}
}

// TestServerReplies checks that whatever a Session answers is well formed on the wire.
func TestServerReplies(t *testing.T) {
	for _, test := range []struct {
		reply mail.Reply
		want  string
	}{
		{mail.NewReply(250, 1, 0, "ok"), "S: 250 2.1.0 ok"},
		{mail.Reply{Code: 250, Text: "ok"}, "S: 250 2.0.0 ok"},                                                 // RFC 2034 §4
		{mail.Reply{Code: 550, Enhanced: mail.EnhancedCode{Class: 4, Subject: 7, Detail: 1}}, "S: 550 5.7.1 "}, // RFC 3463 §2
		{mail.Reply{}, "S: 451 4.3.0 …"},                                                                       // none is no consent
		{mail.NewReply(354, 0, 0, "x"), "S: 451 4.3.0 …"},                                                      // out of place
		{mail.NewReply(450, 7, 1, "a\nb\r\nc\x00ü"), "S: 450-4.7.1 a\nS: 450-4.7.1 b?\nS: 450 4.7.1 c???"},
		{mail.NewReply(450, 7, 1, strings.Repeat("word ", 150)), "S: 450-4.7.1 word …\nS: 450 4.7.1 word …"},
		{mail.NewReply(450, 7, 1, strings.Repeat("x", 600)), "S: 450-4.7.1 x…\nS: 450 4.7.1 x…"},
		{mail.NewReply(421, 7, 0, "go"), "S: 421 4.7.0 go\nS."},
	} {
		k := &keeper{mail: func(mail.Envelope) mail.Reply { return test.reply }}
		converse(t, &smtp.Server{}, k, opening+"C: MAIL FROM:<>\n"+test.want)
	}
}

func TestServerRefusesAtGreeting(t *testing.T) {
	for _, test := range []struct {
		reply mail.Reply
		want  string
	}{
		{mail.NewReply(554, 7, 1, "no"), "S: 554 5.7.1 no\nS."},
		{mail.NewReply(421, 7, 1, "later"), "S: 421 4.7.1 later\nS."},
		{mail.Reply{Code: 300}, "S: 421 4.3.0 …\nS."},
	} {
		k := &keeper{greeting: smtp.Greeting{Reply: test.reply}}
		converse(t, &smtp.Server{}, k, test.want)
		if e := k.end(t); e.Stage != mail.StageConnect || e.Err == nil {
			t.Errorf("got the end %+v", e)
		}
	}
}

// TestServerSoft: a trap never refuses for good, in code and enhanced code.
func TestServerSoft(t *testing.T) {
	k := &keeper{greeting: smtp.Greeting{Soft: true}}
	converse(t, &smtp.Server{MaxSize: 100}, k, opening+`
		C: MAIL FROM:<a@example.net> SIZE=101
		S: 452 4.3.4 …
		C: XYZZY
		S: 451 4.5.1 …
		C: MAIL FROM:<jürgen@example.net>
		S: 450 4.6.7 …
		C: MAIL FROM:<a@example.net> X=Y
		S: 455 4.5.4 …
		C: MAIL FROM:<a@example.net>
		S: 250 …
		C: RCPT TO:<a@example.net>
		S: 250 …
		C: DATA
		S: 354 …
		C= "a\nb\r\n.\r\n"
		S: 450 4.6.0 …
		S.`)
}

// TestServerDataAnswersItself: a Session that refuses before its first Read answers DATA,
// and the client keeps its message to itself.
func TestServerDataAnswersItself(t *testing.T) {
	k := &keeper{data: func(context.Context, io.Reader) mail.Reply { return mail.NewReply(451, 3, 0, "no room") }}
	converse(t, &smtp.Server{}, k, transaction+`
		C: DATA
		S: 451 4.3.0 no room
		C: MAIL FROM:<>
		S: 250 …`+farewell)
}

// TestServerDataReadsPart: what the Session leaves is thrown away, not obeyed.
func TestServerDataReadsPart(t *testing.T) {
	for _, reply := range []mail.Reply{mail.NewReply(250, 0, 0, "thanks"), mail.NewReply(554, 7, 0, "spam")} {
		want := "S: " + reply.String()
		k := &keeper{data: func(_ context.Context, body io.Reader) mail.Reply {
			_, _ = io.ReadFull(body, make([]byte, 3))
			return reply
		}}
		converse(t, &smtp.Server{}, k, transaction+`
			C: DATA
			S: 354 …
			C: first
			C: QUIT
			C: .
			`+want+farewell)
	}
}

// TestServerDataReadsPartOfChunks is the same for BDAT.
func TestServerDataReadsPartOfChunks(t *testing.T) {
	part := func(r mail.Reply) *keeper {
		return &keeper{data: func(_ context.Context, body io.Reader) mail.Reply {
			_, _ = io.ReadFull(body, make([]byte, 3))
			return r
		}}
	}
	converse(t, &smtp.Server{}, part(mail.NewReply(250, 0, 0, "thanks")), transaction+`
		C= "BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n"
		S: 250 2.0.0 chunk received
		S: 250 2.0.0 thanks`+farewell)
	converse(t, &smtp.Server{}, part(mail.NewReply(554, 7, 0, "spam")), transaction+`
		C= "BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n"
		S: 554 5.7.0 spam
		S: 503 5.5.1 …`+farewell)
}

// TestServerLostClient: a client that is gone in the middle of a message has sent none,
// wherever it left off.
func TestServerLostClient(t *testing.T) {
	for _, part := range []string{
		"C: DATA\nS: 354 …",
		"C: DATA\nS: 354 …\nC: text",
		"C: DATA\nS: 354 …\nC= \"text\\r\"",
		"C: DATA\nS: 354 …\nC= \"text\\r\\n.\"",
		"C: DATA\nS: 354 …\nC= \"text\\r\\n.\\r\"",
		"C= \"BDAT 10 LAST\\r\\ntext\\r\\n\"",
		"C= \"BDAT 6\\r\\ntext\\r\\n\"\nS: 250 …",
		"C= \"BDAT 6\\r\\ntext\\r\\nBDAT 0 LAS\"\nS: 250 …",
	} {
		k := &keeper{}
		converse(t, &smtp.Server{}, k, transaction+part+"\nC.")
		if len(k.messages) != 0 || len(k.errs) != 1 || !errors.Is(k.errs[0], smtp.ErrLost) {
			t.Errorf("%q: got the messages %q and the errors %v", part, k.messages, k.errs)
		}
		if e := k.end(t); e.Stage != mail.StageData || !errors.Is(e.Err, smtp.ErrLost) {
			t.Errorf("%q: got the end %+v", part, e)
		}
	}
}

// TestServerPanic: a panic costs one connection, is counted and logged, and the Session
// still hears of the end.
func TestServerPanic(t *testing.T) {
	var log strings.Builder
	k := &keeper{mail: func(mail.Envelope) mail.Reply { panic("boom") }}
	srv := &smtp.Server{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	// keeper's mutex is unlocked by its defer as the panic passes.
	converse(t, srv, k, opening+`
		C: MAIL FROM:<>
		S: 421 4.3.0 internal error, try again later
		S.`)
	if n := srv.Stats().Panics; n != 1 {
		t.Errorf("%d panics were counted, want 1", n)
	}
	if e := k.end(t); e.Err == nil || !strings.Contains(e.Err.Error(), "boom") {
		t.Errorf("got the end %+v", e)
	}
	if !strings.Contains(log.String(), "boom") || !strings.Contains(log.String(), "server_test.go") {
		t.Errorf("the log has no panic with its stack: %s", log.String())
	}
}

// TestServerHelloRefused: the Session may not like the name, and the next one counts.
func TestServerHelloRefused(t *testing.T) {
	k := &keeper{hello: func(h smtp.Hello) mail.Reply {
		if h.Name == "bad.example.net" {
			return mail.NewReply(550, 7, 1, "not you")
		}
		return mail.NewReply(250, 0, 0, "at your service")
	}}
	converse(t, &smtp.Server{}, k, `
		S: 220 …
		C: EHLO bad.example.net
		S: 550 5.7.1 not you
		C: MAIL FROM:<>
		S: 503 5.5.1 …
		C: HELO good.example.net
		S: 250 mx.example.com at your service
		C: EHLO bad.example.net
		S: 550 5.7.1 not you
		C: MAIL FROM:<>
		S: 250 …`+farewell)
}

// TestServerSessionCloses: 421 is the Session's way to end it, at any point.
func TestServerSessionCloses(t *testing.T) {
	gone := mail.NewReply(421, 7, 0, "enough")
	k := &keeper{rcpt: func(mail.Recipient) mail.Reply { return gone }}
	converse(t, &smtp.Server{}, k, opening+`
		C: MAIL FROM:<>
		C: RCPT TO:<b@example.com>
		C: RCPT TO:<c@example.com>
		S: 250 …
		S: 421 4.7.0 enough
		S.`)
	if e := k.end(t); e.Err == nil || e.Quit || len(k.rcpts) != 1 {
		t.Errorf("got the end %+v after %d RCPT", e, len(k.rcpts))
	}
	k = &keeper{data: func(_ context.Context, body io.Reader) mail.Reply {
		_, _ = io.Copy(io.Discard, body)
		return gone
	}}
	converse(t, &smtp.Server{}, k, transaction+`
		C: DATA
		S: 354 …
		C: x
		C: .
		S: 421 4.7.0 enough
		S.`)
}

// TestServerLongText: a message far beyond the limit passes in bounded memory and is
// refused at its end.
func TestServerLongText(t *testing.T) {
	k := &keeper{}
	converse(t, &smtp.Server{MaxSize: 100_000}, k, transaction+`
		C: DATA
		S: 354 …
		C: `+strings.Repeat("x", 5_000_000)+`
		C: .
		S: 552 5.3.4 …`+farewell)
	if len(k.messages) != 0 || !errors.Is(k.errs[0], smtp.ErrTooLarge) {
		t.Errorf("got %d messages, errors %v", len(k.messages), k.errs)
	}
}
