package smtp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"mxward/internal/mail"
)

// taker accepts everything and keeps the last message.
type taker struct {
	text    string
	err     error
	writeTo bool // read by body.WriteTo instead of body.Read
}

func (k *taker) NewSession(context.Context, Conn) (Session, Greeting) {
	return k, Greeting{Reply: mail.Reply{Code: 220}}
}
func (k *taker) Hello(context.Context, Hello) mail.Reply { return mail.NewReply(250, 0, 0, "") }
func (k *taker) Mail(context.Context, mail.Envelope) mail.Reply {
	return mail.NewReply(250, 0, 0, "ok")
}
func (k *taker) Rcpt(context.Context, mail.Recipient) mail.Reply {
	return mail.NewReply(250, 0, 0, "ok")
}
func (k *taker) End(End) {}

func (k *taker) Data(_ context.Context, body io.Reader) mail.Reply {
	if k.writeTo {
		var text strings.Builder
		_, k.err = io.Copy(&text, body)
		k.text = text.String()
	} else {
		text, err := io.ReadAll(body)
		k.text, k.err = string(text), err
	}
	return mail.NewReply(250, 0, 0, "ok")
}

// text is a connection whose client says what was written down and then leaves, so that a
// conversation needs no second goroutine.
type text struct {
	in  *bytes.Reader
	max int // octets of one read, 0: all
	out bytes.Buffer
}

func (c *text) Read(p []byte) (int, error) {
	if c.max > 0 && len(p) > c.max {
		p = p[:c.max]
	}
	return c.in.Read(p)
}
func (c *text) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *text) Close() error                     { return nil }
func (c *text) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *text) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *text) SetDeadline(time.Time) error      { return nil }
func (c *text) SetReadDeadline(time.Time) error  { return nil }
func (c *text) SetWriteDeadline(time.Time) error { return nil }

// FuzzServer: whatever a client says, after whichever commands, the conversation ends, no
// reply is malformed, and nothing panics.
func FuzzServer(f *testing.F) {
	for _, s := range []string{
		"", "QUIT\r\n", "EHLO x\r\n", "MAIL FROM:<a@example.net> SIZE=1 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x\r\n",
		"RCPT TO:<b@example.com> NOTIFY=NEVER ORCPT=rfc822;x\r\n", "DATA\r\nx\r\n.\r\nNOOP\r\n", "BDAT 3\r\nabcBDAT 2 LAST\r\n\r\n",
		"a\n.\r\nb\r\r\n.\r\n", "STARTTLS\r\nx", "VRFY\r\nHELP\r\nRSET\r\nAUTH\r\n", "GET / HTTP/1.1\r\n", "\x00\r\n\xff\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	prefixes := []string{
		"", "EHLO x\r\n", "EHLO x\r\nMAIL FROM:<>\r\n", "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\n",
		"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n", "HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nBDAT 3\r\nabc",
	}
	line := regexp.MustCompile(`^[2-5][0-9][0-9][ -][ -~]*$`)
	enhanced := regexp.MustCompile(`^(220|354|250-?[ -](mx|PIPE|SIZE|8BIT|SMTPUTF8|ENH|CHUNK|DSN)|([245])[0-9][0-9][ -]([245])\.[0-9]{1,3}\.[0-9]{1,3} )`)
	f.Fuzz(func(t *testing.T, said []byte) {
		for _, prefix := range prefixes {
			conn := &text{in: bytes.NewReader(append([]byte(prefix), said...))}
			srv := &Server{Handler: &taker{}, Hostname: "mx.example.com", MaxSize: 1000}
			srv.ServeConn(conn)
			if srv.Stats().Panics > 0 {
				t.Fatalf("panic after %q", prefix)
			}
			rest, ok := strings.CutSuffix(conn.out.String(), "\r\n")
			if !ok {
				t.Fatalf("the last reply does not end: %q", conn.out.String())
			}
			for reply := range strings.SplitSeq(rest, "\r\n") {
				if len(reply) > maxReplyLine-2 || !line.MatchString(reply) {
					t.Errorf("malformed reply %q", reply)
				}
				m := enhanced.FindStringSubmatch(reply)
				if m == nil || m[3] != m[4] {
					t.Errorf("reply %q has no enhanced code of its class", reply)
				}
			}
			if _, err := readReply(bufio.NewReaderSize(strings.NewReader(rest+"\r\n"), maxPeerLine)); err != nil {
				t.Errorf("our own client cannot read the first reply: %v", err)
			}
		}
	})
}

// dotReference is RFC 5321 §4.1.1.4 and §4.5.2 in the simplest words: the message ends
// before the first CRLF "." CRLF, seen from a CRLF in front of it.
func dotReference(stream string) (message string, bare, ended bool) {
	content, _, ended := strings.Cut("\r\n"+stream, "\r\n.\r\n")
	if !ended {
		return "", false, false
	}
	if content == "" {
		return "", false, true
	}
	message = strings.ReplaceAll(content+"\r\n", "\r\n.", "\r\n")[2:]
	return message, strings.ContainsAny(strings.ReplaceAll(message, "\r\n", ""), "\r\n"), true
}

func FuzzDots(f *testing.F) {
	for _, s := range []string{".\r\n", "x\r\n.\r\n", "..\r\n.\r\n", "\n.\r\n\r\n.\r\n", "\r\r\n.\r\n", "x\r\n.\r.\r\n\r\n.\r\n", "a\r\n.x\r\n..\r\n...\r\n.\r\n", "\r\n.\r\n.\r\n", "x\r\n.\r\r\n\r\n.\r\n"} {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(3))
	}
	const prefix = "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
	f.Fuzz(func(t *testing.T, said []byte, step uint8) {
		want, bare, ended := dotReference(string(said))
		k := &taker{writeTo: step%2 == 1}
		conn := &text{in: bytes.NewReader(append([]byte(prefix), said...)), max: int(step)}
		(&Server{Handler: k, Hostname: "mx.example.com"}).ServeConn(conn)
		switch {
		case !ended && (k.err == nil || errors.Is(k.err, io.EOF)):
			t.Errorf("%q has no end, and was taken for %q", said, k.text)
		case ended && bare && !errors.Is(k.err, ErrBareLine):
			t.Errorf("%q is bare, and the reader gave %v", said, k.err)
		case ended && !bare && (k.err != nil || k.text != want):
			t.Errorf("%q: got %q, %v, want %q", said, k.text, k.err, want)
		}
		if ended && bare != strings.Contains(conn.out.String(), "550 5.6.0") {
			t.Errorf("%q: got the replies %q", said, conn.out.String())
		}
	})
}

// FuzzStuffer: what the client sends of any text has no bare CR or LF, ends where it should
// and nowhere before, and is the text but for its line ends.
func FuzzStuffer(f *testing.F) {
	for _, s := range []string{"", ".", "x", "x\n.\ny", "\r", "\r.\r\n", "a\r\n.b\r\n", "\r\r\n.\r\n", "\n\r.", ".\r\n.\r\nQUIT\r\n"} {
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(100))
	}
	f.Fuzz(func(t *testing.T, body []byte, step uint8) {
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		s := newStuffer(w)
		for rest := body; len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			if _, err := s.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
		got, bare, ended := dotReference(out.String())
		if !ended || bare || !strings.HasSuffix("\r\n"+out.String(), "\r\n.\r\n") || strings.Count("\r\n"+out.String(), "\r\n.\r\n") != 1 {
			t.Fatalf("%q became %q", body, out.String())
		}
		want := strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n").Replace(string(body))
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		if got != want {
			t.Errorf("%q arrives as %q, want %q", body, got, want)
		}
		if isCanonical(body) != (string(body) == want) {
			t.Errorf("isCanonical(%q) is %v", body, isCanonical(body))
		}
	})
}

// FuzzReply: a reply that can be read can be written, and reads the same again.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "451-4.7.1 a\r\n451 4.7.1 b\r\n", "550 4.7.1 x\r\n", "250\r\n", "250-\r\n250 \r\n", "354 \xff\r\n", "421 4.3.2\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		raw, err := readReply(bufio.NewReaderSize(bytes.NewReader(said), maxPeerLine))
		if err != nil {
			if raw.code != 0 || raw.lines != nil {
				t.Errorf("an error and %+v", raw)
			}
			return
		}
		r := raw.reply()
		if r.Code < 200 || r.Code > 599 || !r.Enhanced.IsZero() && r.Enhanced.Class != r.Code/100 || len(r.Text) > 2*maxPeerLine*3 {
			t.Fatalf("%q gave %+v", said, r)
		}
		again, err := readReply(bufio.NewReaderSize(bytes.NewReader(appendReply(nil, r)), maxPeerLine))
		if err != nil {
			t.Fatalf("%+v was written and cannot be read: %v", r, err)
		}
		if got := again.reply(); got.Code != r.Code || !r.Enhanced.IsZero() && got.Enhanced != r.Enhanced {
			t.Errorf("%+v was written and reads %+v", r, got)
		}
	})
}

// FuzzRoundTrip: what a client sends is what the session gets, by DATA and by BDAT.
func FuzzRoundTrip(f *testing.F) {
	for _, s := range []string{"", ".\r\n", "x", "Subject: x\r\n\r\n..\r\n.\r\n", "a\nb\rc", strings.Repeat("0123456789\r\n.", 9000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		want := strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n").Replace(string(body))
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		k := &taker{}
		client, server := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			(&Server{Handler: k, Hostname: "mx.example.com"}).ServeConn(server)
		}()
		c, err := Handshake(t.Context(), client, ClientConfig{Hello: "x"})
		if err != nil {
			t.Fatal(err)
		}
		env := mail.Envelope{Recipients: []mail.Recipient{{Address: mail.Address{Local: "postmaster"}}}}
		for _, chunking := range []bool{true, false} {
			if !chunking {
				delete(c.extensions, "CHUNKING")
			}
			if o := c.Send(t.Context(), env, bytes.NewReader(body)); o[0].Status != mail.Delivered {
				t.Fatalf("got %+v", o[0])
			}
			if k.text != want || k.err != nil {
				t.Errorf("chunking %v: %q arrived as %q, %v", chunking, body, k.text, k.err)
			}
		}
		c.Close()
		<-done
	})
}
