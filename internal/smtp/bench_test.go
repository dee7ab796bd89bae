package smtp

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"mxward/internal/mail"
)

// sink takes messages and throws them away.
type sink struct{ taker }

func (k *sink) NewSession(context.Context, Conn) (Session, Greeting) {
	return k, Greeting{Reply: mail.Reply{Code: 220}}
}

func (k *sink) Data(_ context.Context, body io.Reader) mail.Reply {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return mail.NewReply(451, 3, 0, "lost")
	}
	return mail.NewReply(250, 0, 0, "ok")
}

func fiveKB() []byte {
	return []byte("Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 68)+"\r\n", 73))
}

// endless is a client that says the same again and again, in pieces like those of the
// network.
type endless struct {
	text
	first, again []byte
	left         int
}

func (c *endless) Read(p []byte) (int, error) {
	if len(c.first) == 0 {
		if c.left--; c.left < 0 {
			return 0, io.EOF
		}
		c.first = c.again
	}
	n := copy(p[:min(len(p), 4096)], c.first)
	c.first = c.first[n:]
	return n, nil
}

func (c *endless) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkServerCPU is the server's own work for a message of 5 kB, without a network.
func BenchmarkServerCPU(b *testing.B) {
	message := append([]byte("MAIL FROM:<a@example.net> SIZE=5124\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"), fiveKB()...)
	message = append(message, ".\r\n"...)
	c := &endless{first: []byte("EHLO client.example.net\r\n"), again: message, left: b.N}
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	b.ResetTimer()
	(&Server{Handler: &sink{}, Hostname: "mx.example.com"}).ServeConn(c)
}

// BenchmarkAccept is a whole exchange of 5 kB, both ends, over loopback and over a pipe.
func BenchmarkAccept(b *testing.B) {
	for _, network := range []string{"tcp", "pipe"} {
		b.Run(network, func(b *testing.B) {
			srv := &Server{Handler: &sink{}, Hostname: "mx.example.com"}
			var conn net.Conn
			if network == "pipe" {
				client, server := net.Pipe()
				go srv.ServeConn(server)
				conn = client
			} else {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				go srv.Serve(ln)
				if conn, err = net.Dial("tcp", ln.Addr().String()); err != nil {
					b.Fatal(err)
				}
			}
			defer srv.Shutdown(context.Background())
			c, err := Handshake(b.Context(), conn, ClientConfig{Hello: "client.example.net"})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			body := fiveKB()
			env := mail.Envelope{Recipients: []mail.Recipient{{Address: mail.Address{Local: "postmaster"}}}}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if o := c.Send(b.Context(), env, bytes.NewReader(body)); o[0].Status != mail.Delivered {
					b.Fatalf("got %+v", o[0])
				}
			}
		})
	}
}
