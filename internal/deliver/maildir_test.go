package deliver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

func body(s string) func() io.ReadCloser {
	return func() io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }
}

// files gives the files of a Maildir's folder.
func files(t *testing.T, folder ...string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(append(folder, "*")...))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestMaildir(t *testing.T) {
	root := filepath.Join(t.TempDir(), "not", "there", "yet")
	m := maildir{root: root, hostname: "mx.example.com"}
	from := mail.Path{Address: address(t, "sender@example.net")}
	o := m.deliver(t.Context(), from, address(t, "User@example.com"), body("Subject: x\r\n\r\nbare\rCR\r\nline\n\r\nend"))
	if o.Status != mail.Delivered || o.Stage != mail.StageDeliver || o.When.IsZero() || o.Recipient.Local != "User" {
		t.Fatalf("%+v", o)
	}
	folder := filepath.Join(root, "example.com", "user")
	if left := files(t, folder, "tmp"); len(left) != 0 {
		t.Errorf("tmp holds %v", left)
	}
	if info, err := os.Stat(filepath.Join(folder, "cur")); err != nil || !info.IsDir() {
		t.Errorf("cur: %v", err)
	}
	got := files(t, folder, "new")
	if len(got) != 1 {
		t.Fatalf("new holds %v", got)
	}
	if name := filepath.Base(got[0]); !strings.HasSuffix(name, ".mx.example.com") || strings.Contains(name, ":") {
		t.Errorf("name %q", name)
	}
	text, err := os.ReadFile(got[0])
	if err != nil {
		t.Fatal(err)
	}
	want := "Return-Path: <sender@example.net>\nDelivered-To: User@example.com\nSubject: x\n\nbare\rCR\nline\n\nend"
	if string(text) != want {
		t.Errorf("got %q\nwant %q", text, want)
	}
}

// The null sender stands as <>, and a local part that needs quotes has them.
func TestMaildirHeaders(t *testing.T) {
	root := t.TempDir()
	m := maildir{root: root}
	to := address(t, `"a b"@example.com`)
	if o := m.deliver(t.Context(), mail.Path{}, to, body("\r\nx\r\n")); o.Status != mail.Delivered {
		t.Fatalf("%+v", o)
	}
	text, err := os.ReadFile(files(t, root, "example.com", "a%20b", "new")[0])
	if err != nil {
		t.Fatal(err)
	}
	if want := "Return-Path: <>\nDelivered-To: \"a b\"@example.com\n\nx\n"; string(text) != want {
		t.Errorf("got %q", text)
	}
}

// Whatever goes wrong on disk or with the body defers, and leaves nothing behind.
func TestMaildirTrouble(t *testing.T) {
	from, to := mail.Path{}, address(t, "user@example.com")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		about string
		root  string
		ctx   context.Context
		open  func() io.ReadCloser
	}{
		{about: "the root is a file", root: file, open: body("x")},
		{about: "the body breaks off", open: func() io.ReadCloser {
			return io.NopCloser(io.MultiReader(strings.NewReader("a\r\n"), iotest.ErrReader(errors.New("the store is down"))))
		}},
		{about: "the attempt is over", ctx: cancelled, open: body("x")},
	}
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			if tt.root == "" {
				tt.root = t.TempDir()
			}
			if tt.ctx == nil {
				tt.ctx = t.Context()
			}
			o := maildir{root: tt.root}.deliver(tt.ctx, from, to, tt.open)
			if o.Status != mail.Deferred || !o.Reply.Temporary() {
				t.Errorf("%+v", o)
			}
			for _, sub := range []string{"tmp", "new"} {
				if left := files(t, tt.root, "example.com", "user", sub); len(left) != 0 {
					t.Errorf("left behind: %v", left)
				}
			}
		})
	}
}

// CRLF at every place of the reader's buffer becomes LF.
func TestCopyLFAtTheBuffersEdge(t *testing.T) {
	for pad := maildirBuffer - 3; pad <= maildirBuffer+3; pad++ {
		line := strings.Repeat("x", pad)
		root := t.TempDir()
		o := maildir{root: root}.deliver(t.Context(), mail.Path{}, address(t, "user@example.com"), body(line+"\r\n"+line+"\r\r\n\r"))
		if o.Status != mail.Delivered {
			t.Fatalf("%+v", o)
		}
		text, err := os.ReadFile(files(t, root, "example.com", "user", "new")[0])
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ = bytes.Cut(text, []byte("user@example.com\n"))
		if want := line + "\n" + line + "\r\n\r"; string(text) != want {
			t.Errorf("pad %d: %d octets, want %d", pad, len(text), len(want))
		}
	}
}

// Many deliveries in one moment have names of their own.
func TestMaildirUnique(t *testing.T) {
	root, to := t.TempDir(), address(t, "user@example.com")
	m := maildir{root: root}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { m.deliver(t.Context(), mail.Path{}, to, body("x\r\n")) })
	}
	wg.Wait()
	if n := len(files(t, root, "example.com", "user", "new")); n != 50 {
		t.Errorf("%d files", n)
	}
}

func TestFolderName(t *testing.T) {
	tests := []struct{ about, in, want string }{
		{"a common name", "john.doe+list", "john.doe+list"},
		{"case is folded", "John.DOE", "john.doe"},
		{"no way up", "..", "%2e."},
		{"nor with slashes", "../../etc/passwd", "%2e.%2f..%2fetc%2fpasswd"},
		{"no absolute path", "/etc/passwd", "%2fetc%2fpasswd"},
		{"no backslashes", `..\..`, `%2e.%5c..`},
		{"no hidden folder", ".forward", "%2eforward"},
		{"no NUL", "a\x00b", "a%00b"},
		{"no line end", "a\nb", "a%0ab"},
		{"the escape is escaped", "a%2fb", "a%252fb"},
		{"UTF-8 octet by octet", "jö", "j%c3%b6"},
		{"a space", "a b", "a%20b"},
		{"nothing", "", "%"},
		{"a literal's brackets", "[IPv6:2001:db8::1]", "%5bipv6%3a2001%3adb8%3a%3a1%5d"},
	}
	for _, tt := range tests {
		if got := folderName(tt.in); got != tt.want {
			t.Errorf("%s: %q gives %q, want %q", tt.about, tt.in, got, tt.want)
		}
	}
	long := strings.Repeat("ö", 200)
	if a, b := folderName(long), folderName(long+"x"); a == b || len(a) > maxFolderName {
		t.Errorf("long names: %q and %q", a, b)
	}
}

// Whatever an address holds, its folder is two below the root, and only case makes two
// addresses share it.
func FuzzFolder(f *testing.F) {
	for _, s := range []string{"user", "..", "../..", "/", "", ".", "a/../../b", "\x00", "%2e%2e", "CON", strings.Repeat("/", 300), "ö", "a\\b"} {
		f.Add(s, "example.com", "other")
		f.Add("user", s, s)
	}
	f.Fuzz(func(t *testing.T, local, domain, other string) {
		a := mail.Address{Local: local, Domain: dns.NameOf(domain)}
		const root = "/srv/mail"
		path := filepath.Join(root, folderOf(a))
		parts := strings.Split(strings.TrimPrefix(path, root+"/"), "/")
		if !strings.HasPrefix(path, root+"/") || len(parts) != 2 {
			t.Fatalf("%q of %q gives %q", local, domain, path)
		}
		for _, part := range parts {
			if part == "" || part[0] == '.' || len(part) > maxFolderName || strings.ContainsAny(part, "\x00\\:") {
				t.Fatalf("%q of %q gives the name %q", local, domain, part)
			}
		}
		if folderName(local) == folderName(other) && !equalASCIIFold(local, other) {
			t.Fatalf("%q and %q share %q", local, other, folderName(local))
		}
	})
}

func equalASCIIFold(a, b string) bool {
	fold := func(s string) string {
		out := []byte(s)
		for i, c := range out {
			if 'A' <= c && c <= 'Z' {
				out[i] = c + 'a' - 'A'
			}
		}
		return string(out)
	}
	return fold(a) == fold(b)
}
