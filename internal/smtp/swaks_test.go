package smtp_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mxward/internal/mail"
	"mxward/internal/smtp"
)

// TestSwaks talks with a client that nobody here wrote.
func TestSwaks(t *testing.T) {
	program, err := exec.LookPath("swaks")
	if err != nil {
		t.Skip("left out: needs Debian's swaks (apt-get install swaks)")
	}
	body := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(body, []byte("Subject: dots\n\n.\n..\nlast"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		exit int
		want string // in the transcript
	}{
		{"a message", []string{"--data", "@" + body}, 0, "<-  250 2.0.0 kept"},
		{"piped", []string{"--pipeline", "--data", "@" + body}, 0, "<-  250 2.0.0 kept"},
		{"HELO", []string{"--protocol", "SMTP", "--data", "@" + body}, 0, "<-  250 2.0.0 kept"},
		{"under TLS", []string{"--tls", "--data", "@" + body}, 0, "<~  250 2.0.0 kept"},
		{"two recipients, one refused", []string{"--to", "b@example.com,unknown@example.com", "--data", "@" + body}, 0, "<** 550 5.1.1 no such user"},
		{"refused", []string{"--to", "unknown@example.com"}, 24, "<** 550 5.1.1 no such user"},
		{"no address", []string{"--from", "a..b@example.net"}, 23, "<** 501 5.1.7 "},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := &keeper{rcpt: func(r mail.Recipient) mail.Reply {
				if r.Address.Local == "unknown" {
					return mail.NewReply(550, 1, 1, "no such user")
				}
				return mail.NewReply(250, 1, 5, "recipient ok")
			}}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			srv := &smtp.Server{Handler: k, Hostname: "mx.example.com", TLS: certificate(t)}
			go srv.Serve(ln)
			args := append([]string{"--server", ln.Addr().String(), "--from", "a@example.net", "--to", "b@example.com", "--helo", "client.example.net"}, test.args...)
			out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
			if err := srv.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if strings.Contains(string(out), "TLS not available") {
				t.Skip("left out: needs Debian's libnet-ssleay-perl (apt-get install libnet-ssleay-perl)")
			}
			if exit, ok := err.(*exec.ExitError); err != nil && !ok || ok && exit.ExitCode() != test.exit || err == nil && test.exit != 0 {
				t.Errorf("swaks ended with %v, want %d\n%s", err, test.exit, out)
			}
			if !strings.Contains(string(out), test.want) {
				t.Errorf("there is no %q in\n%s", test.want, out)
			}
			if test.exit == 0 && (len(k.messages) != 1 || k.messages[0] != "Subject: dots\r\n\r\n.\r\n..\r\nlast\r\n") {
				t.Errorf("got the messages %q", k.messages)
			}
		})
	}
}
