package attach

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

const report = `<feedback>the report</feedback>`

func gz(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(content)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t testing.TB, names []string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range names {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		f.Write(content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func base64Lines(content []byte) string {
	text := base64.StdEncoding.EncodeToString(content)
	var b strings.Builder
	for len(text) > 76 {
		b.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	return b.String() + text + "\r\n"
}

func qp(content string) string {
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	io.WriteString(w, content)
	w.Close()
	return b.String()
}

// parted is a message with the parts given, each its header and body.
func parted(kind string, parts ...string) string {
	return "From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: multipart/" + kind + "; boundary=\"=_b\"\r\n\r\npreamble\r\n--=_b\r\n" +
		strings.Join(parts, "\r\n--=_b\r\n") + "\r\n--=_b--\r\nepilogue\r\n"
}

const note = "Content-Type: text/plain\r\n\r\nThis is a report.\r\n<feedback>not this</feedback>"

// found reads all, and tells each item in a line.
func found(r io.Reader) (string, error) {
	var b strings.Builder
	err := Find(r, func(i Item) error {
		content, err := io.ReadAll(i.Content)
		if err != nil {
			return err
		}
		if strings.HasPrefix(string(content), "<svg") {
			return ErrNotReport
		}
		fmt.Fprintf(&b, "%s %s %s\n", i.Kind, i.Name, bytes.TrimSpace(content))
		return nil
	})
	return b.String(), err
}

func TestFind(t *testing.T) {
	const is = " " + report + "\n"
	attachment := func(kind, name string) string {
		return "Content-Type: " + kind + "\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"" + name + "\"\r\n\r\n" + base64Lines(gz(t, []byte(report)))
	}
	for _, tt := range []struct {
		why, text, want string
	}{
		{"a bare file", report, "xml " + is},
		{"a bare file of JSON", " \n{}", "json  {}\n"},
		{"gzip", string(gz(t, []byte(report))), "xml " + is},
		{"zip", string(zipped(t, []string{"a.xml", "folder/b.xml"}, []byte(report))), "xml a.xml" + is + "xml folder/b.xml" + is},
		{"zip with a name that would leave the folder", string(zipped(t, []string{"../../etc/passwd"}, []byte(report))), "xml ../../etc/passwd" + is},
		{"the usual message", parted("mixed", note, attachment("application/gzip", "r.xml.gz")), "xml r.xml.gz" + is},
		{"octet-stream", parted("mixed", note, attachment("application/octet-stream", "r.xml.gz")), "xml r.xml.gz" + is},
		{"a name alone", parted("mixed", note, attachment("image/gzip", "R.XML.GZ")), "xml R.XML.GZ" + is},
		{"a wrong type, of zip", parted("mixed", attachment("application/zip", "r.zip")), "xml r.zip" + is},
		{"a logo too", parted("related", note, "Content-Type: image/svg+xml; name=logo.xml\r\n\r\n<svg/>", attachment("application/gzip", "r.xml.gz")), "xml r.xml.gz" + is},
		{"no body but the report", "Content-Type: application/gzip; name=r.xml.gz\r\nContent-Transfer-Encoding: BASE64\r\n\r\n" + base64Lines(gz(t, []byte(report))), "xml r.xml.gz" + is},
		{"quoted-printable", parted("mixed", "Content-Type: text/xml; charset=iso-8859-15\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"+qp(report)), "xml " + is},
		{"an encoding that there is not", parted("mixed", "Content-Type: text/xml\r\nContent-Transfer-Encoding: 8bits\r\n\r\n"+report), "xml " + is},
		{"LF alone", strings.ReplaceAll(parted("mixed", note, attachment("application/gzip", "r.xml.gz")), "\r\n", "\n"), "xml r.xml.gz" + is},
		{"a file of mbox", "From a@example.com Tue Apr 30 02:09:16 2019\n" + strings.ReplaceAll(parted("mixed", attachment("application/gzip", "r.xml.gz")), "\r\n", "\n"), "xml r.xml.gz" + is},
		{"two reports", parted("mixed", attachment("application/gzip", "1.xml.gz"), attachment("application/gzip", "2.xml.gz")), "xml 1.xml.gz" + is + "xml 2.xml.gz" + is},
		{"forwarded", parted("mixed", note, "Content-Type: message/rfc822\r\n\r\n"+strings.ReplaceAll(parted("mixed", note, attachment("application/gzip", "r.xml.gz")), "=_b", "=_c")), "xml r.xml.gz" + is},
		{"a feedback report, and what it is about", parted("report; report-type=feedback-report", note, "Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n",
			"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n<feedback/>"), "feedback  Feedback-Type: abuse\noriginal  Subject: x\r\n\r\n<feedback/>\n"},
		{"its header alone", parted("report", "Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n", "Content-Type: text/rfc822-headers\r\n\r\nSubject: x\r\n"),
			"feedback  Feedback-Type: abuse\noriginal  Subject: x\n"},
		{"cut off behind the report", strings.TrimSuffix(parted("mixed", attachment("application/gzip", "r.xml.gz"), note), "\r\n--=_b--\r\nepilogue\r\n"), "xml r.xml.gz" + is},
		{"broken base64 in another part", parted("mixed", "Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!"+strings.Repeat("?", 300<<10), attachment("application/gzip", "r.xml.gz")), "xml r.xml.gz" + is},
	} {
		t.Run(tt.why, func(t *testing.T) {
			got, err := found(strings.NewReader(tt.text))
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	inner := gz(t, []byte(report))
	part := func(content []byte) string {
		return parted("mixed", "Content-Type: application/gzip\r\nContent-Transfer-Encoding: base64\r\n\r\n"+base64Lines(content))
	}
	deep := "Content-Type: text/xml\r\n\r\n" + report
	for i := range 1000 {
		deep = fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n%s\r\n--b%d--\r\n", i, i, deep, i)
	}
	within := "Subject: x\r\n\r\n" + report
	for range 1000 {
		within = "Content-Type: message/rfc822\r\n\r\n" + within
	}
	many := make([]string, MaxEntries+1)
	for i := range many {
		many[i] = fmt.Sprintf("%d.xml", i)
	}
	for _, tt := range []struct {
		why, text string
		want      error
	}{
		{"nothing", "", ErrNotReport},
		{"blank", " \r\n \n", ErrNotReport},
		{"prose", "Dear Sir or Madam", ErrNotReport},
		{"a message without a report", "Subject: hello\r\n\r\nhello\r\n", ErrNotReport},
		{"only the text of one", parted("mixed", note), ErrNotReport},
		{"an attachment that is none", parted("mixed", note, "Content-Type: application/octet-stream\r\n\r\n\x89PNG"), ErrNotReport},
		{"a zip of something else", string(zipped(t, []string{"a.txt"}, []byte("hello"))), ErrNotReport},
		{"an empty zip", string(zipped(t, nil, nil)), ErrNotReport},
		{"gzip of gzip", string(gz(t, inner)), ErrMalformed},
		{"the same in a message", part(gz(t, inner)), ErrMalformed},
		{"zip of gzip", string(zipped(t, []string{"a.xml.gz"}, inner)), ErrMalformed},
		{"zip of zip", string(zipped(t, []string{"a.zip"}, zipped(t, []string{"a.xml"}, []byte(report)))), ErrMalformed},
		{"gzip cut off", string(inner[:len(inner)-12]), ErrMalformed},
		{"gzip that is none", "\x1f\x8bhello hello hello", ErrMalformed},
		{"zip cut off", string(zipped(t, []string{"a.xml"}, []byte(report))[:60]), ErrMalformed},
		{"a zip of very many files", string(zipped(t, many, []byte(report))), ErrTooLarge},
		{"a multipart without a boundary", "Content-Type: multipart/mixed\r\n\r\nx\r\n", ErrMalformed},
		{"parts 1000 deep", deep, ErrTooLarge},
		{"messages 1000 deep", within, ErrTooLarge},
		{"very many parts", parted("mixed", make([]string, MaxParts+1)...), ErrTooLarge},
		{"a header without an end", "Subject: x\r\n" + strings.Repeat("X: y\r\n", MaxHeader/3), ErrTooLarge},
		{"a part's header without an end", parted("mixed", strings.Repeat("X: y\r\n", MaxHeader/3)), ErrTooLarge},
		{"a part's header of one endless line", parted("mixed", "X: "+strings.Repeat("y", 2*MaxHeader)), ErrTooLarge},
		{"a gzip bomb", string(gz(t, make([]byte, 8<<20))), ErrNotReport},
		{"a gzip bomb that begins well", string(gz(t, append([]byte("<feedback>"), make([]byte, 8<<20)...))), ErrTooLarge},
		{"the same in a message", part(gz(t, append([]byte("<feedback>"), make([]byte, 8<<20)...))), ErrTooLarge},
		{"a zip bomb", string(zipped(t, []string{"a.xml"}, append([]byte("<feedback>"), make([]byte, 8<<20)...))), ErrTooLarge},
	} {
		t.Run(tt.why, func(t *testing.T) {
			got, err := found(strings.NewReader(tt.text))
			if !errors.Is(err, tt.want) || got != "" {
				t.Errorf("%q, %v; want %v", clip(got), err, tt.want)
			}
		})
	}
}

// zeros is an endless message.
type zeros struct{ begin io.Reader }

func (z zeros) Read(p []byte) (int, error) {
	n, _ := z.begin.Read(p)
	for i := range p[n:] {
		p[n+i] = 'A'
	}
	return len(p), nil
}

// TestMemory: what is far too large is refused without being held.
func TestMemory(t *testing.T) {
	bomb := gz(t, append([]byte("<feedback>"), make([]byte, 16<<20)...))
	lie := zipped(t, []string{"a.xml"}, append([]byte("<feedback>"), make([]byte, 16<<20)...))
	directory := append([]byte("PK\x03\x04"), bytes.Repeat([]byte("PK\x01\x02"+strings.Repeat("\x00", 42)), 300_000)...)
	for _, tt := range []struct {
		why  string
		from io.Reader
		most uint64
	}{
		{"a gzip bomb", bytes.NewReader(bomb), 2 << 20},
		{"a zip bomb", bytes.NewReader(lie), 4 << 20},
		{"a directory of 300,000 files", bytes.NewReader(directory), 80 << 20},
		{"an endless message", zeros{strings.NewReader("Content-Type: text/plain\r\n\r\n")}, 1 << 20},
		{"an endless header", zeros{strings.NewReader("Subject: ")}, 4 << 20},
		{"an endless attachment", zeros{strings.NewReader("Content-Type: application/gzip\r\nContent-Transfer-Encoding: base64\r\n\r\n")}, 2 << 20},
		{"an endless preamble", zeros{strings.NewReader("Content-Type: multipart/mixed; boundary=b\r\n\r\n")}, 4 << 20},
		{"an endless part", zeros{strings.NewReader("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n")}, 4 << 20},
		{"an endless file", zeros{strings.NewReader("<feedback>")}, 2 << 20},
	} {
		t.Run(tt.why, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := Find(tt.from, func(i Item) error {
				_, err := io.Copy(io.Discard, i.Content)
				return err
			})
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Error("no error")
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > tt.most {
				t.Errorf("%d octets were allocated, of %d: %v", got, tt.most, err)
			}
		})
	}
}

// TestReaderError: that a message could not be read says nothing about the message.
func TestReaderError(t *testing.T) {
	broken := errors.New("the disk")
	texts := []string{parted("mixed", note, "Content-Type: text/xml\r\n\r\n"+report), string(gz(t, []byte(report))), string(zipped(t, []string{"a.xml"}, []byte(report))), report}
	for _, text := range texts {
		for n := range len(text) - 20 {
			_, err := found(io.MultiReader(strings.NewReader(text[:n]), iotest.ErrReader(broken)))
			if !errors.Is(err, broken) || errors.Is(err, ErrMalformed) || errors.Is(err, ErrNotReport) {
				t.Fatalf("after %d octets of %q: %v", n, clip(text), err)
			}
		}
	}
}

func TestWrite(t *testing.T) {
	m := Message{
		From: mail.Address{Local: "a", Domain: dns.MustName("example.com")}, To: []mail.Address{{Local: "b", Domain: dns.MustName("example.net")}},
		Subject: "Report", Date: time.Unix(0, 0).UTC(), ID: "1@example.com", ReportType: "tlsrpt", Fields: [][2]string{{"TLS-Report-Domain", "example.net"}},
		Text: "A report.\n", Name: "r.json.gz", MediaType: "application/tlsrpt+gzip", Content: gz(t, []byte("{}")),
	}
	var b bytes.Buffer
	if _, err := m.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if got, err := found(bytes.NewReader(b.Bytes())); err != nil || got != "json r.json.gz {}\n" {
		t.Errorf("%q, %v\n%s", got, err, b.String())
	}
	m.Subject = "Report\r\nBcc: c@example.net"
	b.Reset()
	if _, err := m.WriteTo(&b); err == nil || b.Len() > 0 {
		t.Errorf("a line break in a field: %v, %q", err, b.String())
	}
}

// FuzzFind: it ends, with items or with an error of a class.
func FuzzFind(f *testing.F) {
	f.Add([]byte(report))
	f.Add(gz(f, []byte(report)))
	f.Add(zipped(f, []string{"a.xml", "b.json"}, []byte(report)))
	f.Add([]byte(parted("mixed", note, "Content-Type: application/gzip; name=a.gz\r\nContent-Transfer-Encoding: base64\r\n\r\n"+base64Lines(gz(f, []byte(report))))))
	f.Add([]byte(parted("report", "Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n", "Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n")))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		err := Find(bytes.NewReader(data), func(i Item) error {
			n++
			_, err := io.Copy(io.Discard, i.Content)
			return err
		})
		if err != nil && !errors.Is(err, ErrNotReport) && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("an error of no class: %v", err)
		}
		if err == nil && n == 0 {
			t.Error("neither an item nor an error")
		}
	})
}
