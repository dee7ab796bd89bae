package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/queue"
	"mxward/internal/smtp"
)

// ready is a transaction at a gate, up to DATA.
func ready(t testing.TB, g *Gate, to ...string) smtp.Session {
	t.Helper()
	s := begin(t, g, "mx1.example.com", "a@example.edu")
	for _, r := range to {
		want(t, rcpt(t, s, r), "250")
	}
	return s
}

// What stands in front of a message, by the grammar of RFC 5321 §4.4.
func TestReceived(t *testing.T) {
	date := `(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{1,2} [A-Z][a-z]{2} 20[0-9]{2} [0-9:]{8} [+-][0-9]{4}`
	one := []string{"user@example.com"}
	tests := []struct {
		name  string
		hello smtp.Hello
		utf8  bool
		to    []string
		want  string // with spaces for folds; ID and DATE stand for themselves
	}{
		{"plain", smtp.Hello{Extended: true, Name: "mail.example.edu"}, false, one,
			"from mail.example.edu ([198.51.100.25]) by mx1.example.com with ESMTP id ID for <user@example.com>; DATE"},
		{"helo", smtp.Hello{Name: "mail.example.edu"}, false, one,
			"from mail.example.edu ([198.51.100.25]) by mx1.example.com with SMTP id ID for <user@example.com>; DATE"},
		// RFC 8314 §4.3: the cipher, where there was one.
		{"tls", smtp.Hello{Extended: true, Name: "mail.example.edu", TLS: &tls.ConnectionState{CipherSuite: tls.TLS_AES_128_GCM_SHA256}}, false, one,
			"from mail.example.edu ([198.51.100.25]) by mx1.example.com with ESMTPS id ID for <user@example.com> tls TLS_AES_128_GCM_SHA256; DATE"},
		// RFC 6531 §4.3.
		{"utf8", smtp.Hello{Extended: true, Name: "mail.example.edu"}, true, []string{"josé@example.com"},
			"from mail.example.edu ([198.51.100.25]) by mx1.example.com with UTF8SMTP id ID for <josé@example.com>; DATE"},
		// RFC 5321 §7.2: nobody learns of the others.
		{"two recipients", smtp.Hello{Extended: true, Name: "mail.example.edu"}, false, []string{"user@example.com", "b@example.net"},
			"from mail.example.edu ([198.51.100.25]) by mx1.example.com with ESMTP id ID; DATE"},
		// An address literal is a good name.
		{"literal", smtp.Hello{Extended: true, Name: "[198.51.100.25]"}, false, one,
			"from [198.51.100.25] ([198.51.100.25]) by mx1.example.com with ESMTP id ID for <user@example.com>; DATE"},
		// What would break the field's grammar does not get in.
		{"hostile name", smtp.Hello{Extended: true, Name: `x (y) by z; "<`}, false, one,
			"from x??y??by?z???? ([198.51.100.25]) by mx1.example.com with ESMTP id ID for <user@example.com>; DATE"},
		{"no name", smtp.Hello{Name: ""}, false, one,
			"from unknown ([198.51.100.25]) by mx1.example.com with SMTP id ID for <user@example.com>; DATE"},
		{"endless name", smtp.Hello{Name: strings.Repeat("x", 400)}, false, one,
			"from " + strings.Repeat("x", maxHelo) + " ([198.51.100.25]) by mx1.example.com with SMTP id ID for <user@example.com>; DATE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, m, _ := newGate(t)
			s := open(t, g, "mx1.example.com")
			s.Hello(t.Context(), tt.hello)
			s.Mail(t.Context(), mail.Envelope{UTF8: tt.utf8})
			for _, to := range tt.to {
				want(t, rcpt(t, s, to), "250")
			}
			want(t, s.Data(t.Context(), strings.NewReader("Subject: x\r\n\r\n")), "250")
			msg := m.messages[0]
			field, ok := strings.CutSuffix(m.body(msg), "\r\nSubject: x\r\n\r\n")
			if !ok {
				t.Fatalf("body %q does not end in the message", m.body(msg))
			}
			for line := range strings.SplitSeq(field, "\r\n") {
				if len(line) > 998 { // RFC 5322 §2.1.1
					t.Errorf("line of %d octets", len(line))
				}
			}
			pattern := regexp.QuoteMeta("Received: " + tt.want)
			pattern = strings.Replace(pattern, "id ID", "id "+string(msg.ID), 1)
			pattern = strings.Replace(pattern, "DATE", date, 1)
			if got := strings.ReplaceAll(field, "\r\n\t", " "); !regexp.MustCompile("^" + pattern + "$").MatchString(got) {
				t.Errorf("got  %s\nwant %s", got, pattern)
			}
		})
	}
}

func TestMessageFields(t *testing.T) {
	g, m, log := newGate(t)
	s := open(t, g, "mx1.example.com")
	s.Mail(t.Context(), mail.Envelope{From: sender(t, "a@example.edu"), Body: mail.Body8BitMIME, Return: mail.ReturnHeaders, ID: "E1", Size: 7})
	s.Rcpt(t.Context(), mail.Recipient{Address: address(t, "user@example.com"), Notify: mail.Notify{Delay: true}, Original: "rfc822;x@example.edu"})
	reply := s.Data(t.Context(), strings.NewReader("Subject: x\r\n\r\nbody\r\n"))
	msg := m.messages[0]
	want(t, reply, "250 2.0.0 queued as "+string(msg.ID))
	env := msg.Envelope
	if env.From.String() != "a@example.edu" || env.Body != mail.Body8BitMIME || env.Return != mail.ReturnHeaders || env.ID != "E1" {
		t.Errorf("the envelope came out as %+v", env)
	}
	if r := env.Recipients[0]; !r.Notify.Delay || r.Original != "rfc822;x@example.edu" {
		t.Errorf("the recipient came out as %+v", r)
	}
	if size := int64(len(m.body(msg))); msg.Size != size || env.Size != size {
		t.Errorf("sizes %d and %d, want %d", msg.Size, env.Size, size)
	}
	if msg.Client != "[198.51.100.25]" || msg.Backup || msg.Notice || msg.Expires.Sub(msg.Received) != queue.Lifetime {
		t.Errorf("message %+v", msg)
	}
	for _, part := range []string{"msg=accepted", "session=S1", "client=198.51.100.25", "host=mx1.example.com", "from=a@example.edu", "id=" + string(msg.ID), "size="} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log has no %s:\n%s", part, log)
		}
	}
}

// A large message goes to the store in chunks and comes out whole.
func TestLargeMessage(t *testing.T) {
	g, m, _ := newGate(t)
	s := ready(t, g, "user@example.com")
	line := strings.Repeat("x", 76) + "\r\n"
	body := "Subject: large\r\n\r\n" + strings.Repeat(line, 3*queue.ChunkSize/len(line))
	want(t, s.Data(t.Context(), iotest.HalfReader(strings.NewReader(body))), "250")
	msg := m.messages[0]
	if msg.Chunks < 2 || int64(len(m.body(msg))) != msg.Size || !strings.HasSuffix(m.body(msg), body) {
		t.Errorf("%d chunks, %d octets of %d; want the message after the trace field", msg.Chunks, len(m.body(msg)), msg.Size)
	}
}

// hopping has a header with so many Received fields.
func hopping(hops int) string {
	return strings.Repeat("Received: from a\r\n\tby b; date\r\n", hops) + "Subject: x\r\n\r\nbody\r\n"
}

func TestHops(t *testing.T) {
	tests := []struct {
		name, body, want string
	}{
		// RFC 5321 §6.3: 100 are fine, one more is a loop.
		{"at the limit", hopping(maxHops), "250"},
		{"a loop", hopping(maxHops + 1), "554 5.4.6"},
		// Case does not matter, nor a space before the colon (RFC 5322 §4.5).
		{"odd spelling", strings.Repeat("RECEIVED \t: x\r\n", maxHops+1) + "\r\n", "554 5.4.6"},
		// Longer names are other fields.
		{"other fields", strings.Repeat("Received-SPF: pass\r\nX-Received: x\r\nReceive: x\r\n", maxHops+1) + "\r\n", "250"},
		// A folded line is no field.
		{"folded", "Subject: x\r\n" + strings.Repeat(" Received: x\r\n", maxHops+1) + "\r\n", "250"},
		// The body may quote as many as it likes.
		{"in the body", "Subject: x\r\n\r\n" + hopping(maxHops+1), "250"},
		// A header that never ends is still counted.
		{"no body", strings.Repeat("Received: x\r\n", maxHops+1), "554 5.4.6"},
		// Endless lines cost no memory and hide nothing.
		{"long lines", strings.Repeat("Received: "+strings.Repeat("x", 900)+"\r\n", maxHops+1) + "\r\n", "554 5.4.6"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, cut := range map[string]func(io.Reader) io.Reader{
				"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "eof with data": iotest.DataErrReader,
			} {
				g, m, _ := newGate(t)
				s := ready(t, g, "user@example.com")
				reply := s.Data(t.Context(), cut(strings.NewReader(tt.body)))
				want(t, reply, tt.want)
				if queued := len(m.messages) > 0; queued != reply.Positive() {
					t.Errorf("%s: %d messages queued after %s", name, len(m.messages), reply)
				}
			}
		})
	}
}

func FuzzHopCounter(f *testing.F) {
	f.Add([]byte(hopping(3)), uint8(7))
	f.Add([]byte("Received : x\r\nreceived: y\n\r\nReceived: z\r\n"), uint8(1))
	f.Add([]byte("\r\nReceived: x"), uint8(3))
	f.Fuzz(func(t *testing.T, message []byte, cut uint8) {
		var whole, pieces hopCounter
		want := whole.count(message)
		step := int(cut)%16 + 1
		got := 0
		for rest := message; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			got = pieces.count(rest[:min(step, len(rest))])
		}
		if got != want {
			t.Errorf("%d hops in pieces of %d, %d in one", got, step, want)
		}
		if len(pieces.line) > maxFieldStart || want > bytes.Count(message, []byte{'\n'}) {
			t.Errorf("%d octets kept of a line, %d hops", len(pieces.line), want)
		}
	})
}

// Whatever goes wrong, nothing is queued and the client is not told 250.
func TestDataFails(t *testing.T) {
	down := errors.New("disk is full")
	large := strings.Repeat(strings.Repeat("x", 998)+"\r\n", 2*queue.ChunkSize/1000)
	broken := func(err error) io.Reader {
		return io.MultiReader(strings.NewReader("Subject: x\r\n\r\n"), iotest.ErrReader(err))
	}
	tests := []struct {
		name   string
		body   io.Reader
		memory *memory
		want   string
	}{
		{"enqueue fails", strings.NewReader("\r\n"), &memory{enqueueErr: down}, "451 4.3.0"},
		{"chunk fails", strings.NewReader(large), &memory{appendErr: down}, "451 4.3.0"},
		// The server answers these by itself; nothing of them may stay.
		{"too large", broken(smtp.ErrTooLarge), &memory{}, "451"},
		{"bare line", broken(smtp.ErrBareLine), &memory{}, "451"},
		{"client lost", broken(io.ErrUnexpectedEOF), &memory{}, "451"},
		{"client lost late", io.MultiReader(strings.NewReader(large), iotest.ErrReader(errors.New("reset"))), &memory{}, "451"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, _, log := newGate(t)
			m := tt.memory
			g.Queue = m
			g.Wake = func() { t.Error("the queue was woken") }
			s := ready(t, g, "user@example.com")
			want(t, s.Data(t.Context(), tt.body), tt.want)
			if len(m.messages) > 0 {
				t.Errorf("queued %+v", m.messages)
			}
			if strings.Contains(log.String(), "msg=accepted") {
				t.Errorf("the log tells of an acceptance:\n%s", log)
			}
		})
	}
}

// Two copies, and the second cannot be stored: the client comes again with both.
func TestSecondCopyFails(t *testing.T) {
	g, m, _ := newGate(t)
	m.enqueueErr, m.afterEnqueues = errors.New("disk is full"), 1
	s := begin(t, g, "mx2.example.com", "a@example.edu")
	want(t, rcpt(t, s, "user@example.com"), "250")
	want(t, rcpt(t, s, "user@example.net"), "250")
	want(t, s.Data(t.Context(), strings.NewReader("\r\n")), "451 4.3.0")
}

// A client that hangs up after the dot does not cut off the store's commit.
func TestHangUpWhileEnqueueing(t *testing.T) {
	g, m, _ := newGate(t)
	ctx, cancel := context.WithCancel(t.Context())
	s := ready(t, g, "user@example.com")
	want(t, s.Data(ctx, io.MultiReader(strings.NewReader("\r\n"), cancelReader(cancel))), "250")
	if len(m.messages) != 1 {
		t.Error("the message is not queued")
	}
}

// cancelReader is an end of file that cancels.
type cancelReader context.CancelFunc

func (c cancelReader) Read([]byte) (int, error) {
	c()
	return 0, io.EOF
}

// The reply to a refusal carries the session's id, so that it can be found in the log.
func TestRefusalsCarryTheID(t *testing.T) {
	g, m, log := newGate(t)
	m.enqueueErr = errors.New("disk is full")
	s := ready(t, g, "user@example.com")
	for _, reply := range []mail.Reply{rcpt(t, s, "user@example.edu"), rcpt(t, s, "nobody@example.com"), s.Data(t.Context(), strings.NewReader(""))} {
		if !strings.HasSuffix(reply.Text, " (id S1)") {
			t.Errorf("reply %q ends without the id", reply)
		}
	}
	for _, reason := range []Reason{RelayDenied, RcptUnknown, StoreDown} {
		if !strings.Contains(log.String(), "reason="+string(reason)) {
			t.Errorf("the log has no %s:\n%s", reason, log)
		}
	}
}

func TestTCPInfo(t *testing.T) {
	tests := []struct{ name, client, want string }{
		{"", "192.0.2.1", "[192.0.2.1]"},
		{"a.example.net", "192.0.2.1", "a.example.net [192.0.2.1]"},
		{"a.example.net", "2001:db8::1", "a.example.net [IPv6:2001:db8::1]"}, // RFC 5321 §4.1.3
	}
	for _, tt := range tests {
		var name dns.Name
		if tt.name != "" {
			name = dns.MustName(tt.name)
		}
		if got := tcpInfo(name, netip.MustParseAddr(tt.client)); got != tt.want {
			t.Errorf("tcpInfo = %s, want %s", got, tt.want)
		}
	}
}

func BenchmarkAccept(b *testing.B) {
	g, m, _ := newGate(b)
	body := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 64)
	g.Logger = nil
	s := ready(b, g, "user@example.com")
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		s.Mail(b.Context(), mail.Envelope{})
		rcpt(b, s, "user@example.com")
		if reply := s.Data(b.Context(), strings.NewReader(body)); !reply.Positive() {
			b.Fatal(reply)
		}
		m.messages = m.messages[:0]
	}
}
