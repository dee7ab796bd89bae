package mail

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadHeader(t *testing.T) {
	tests := []struct {
		text, want, body string // want: name=value of each field, one a line
		why              string
	}{
		{"From: a@example.com\r\nTo: b\r\n\r\nbody\r\n", "From=a@example.com\nTo=b\n", "body\r\n", "a message"},
		{"From: a\nTo: b\n\nbody\n", "From=a\nTo=b\n", "body\n", "LF alone ends a line"},
		{"Subject: one\r\n two\r\n\tthree\r\n\r\n", "Subject=one two\tthree\n", "", "folded, RFC 5322 §2.2.3"},
		{"Subject : one\r\n\r\n", "Subject=one\n", "", "white space before the colon, RFC 5322 §4.5"},
		{"From : a@example.com\r\n\r\n", "From=a@example.com\n", "", "the same, which is no mbox"},
		{"Subject:\r\n\r\n", "Subject=\n", "", "no value"},
		{"Subject:\r\n \r\n\r\nx", "Subject=\n", "x", "a line of white space is a continuation, not the end"},
		{"A: 1\r\nA: 2", "A=1\nA=2\n", "", "ends without a line end"},
		{"\r\nbody", "", "body", "no header"},
		{"", "", "", "nothing at all"},
		{"A: x\ry\r\n\r\n", "A=x\ry\n", "", "a CR alone ends nothing"},
		{"A: \xff\xc3\xa4\r\n\r\n", "A=\xff\xc3\xa4\n", "", "octets above 127 are kept as they are"},
	}
	for _, tt := range tests {
		// The reader's buffer is shorter than the lines.
		r := bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(tt.text)), 16)
		h, err := ReadHeader(r)
		if err != nil {
			t.Errorf("%s: %v", tt.why, err)
			continue
		}
		var got strings.Builder
		for _, f := range h {
			got.WriteString(f.Name + "=" + f.Value() + "\n")
		}
		body, _ := io.ReadAll(r)
		if got.String() != tt.want || string(body) != tt.body {
			t.Errorf("%s: got %q and the body %q, want %q and %q", tt.why, got.String(), body, tt.want, tt.body)
		}
	}
}

func TestReadHeaderRefuses(t *testing.T) {
	cut := errors.New("connection reset")
	tests := []struct {
		in   io.Reader
		want error
		why  string
	}{
		{strings.NewReader(" x: y\r\n\r\n"), ErrHeaderMalformed, "begins with a continuation"},
		{strings.NewReader("A: 1\r\nno colon here\r\n\r\n"), ErrHeaderMalformed, "a line that is no field"},
		{strings.NewReader("From someone Mon Jan 1 00:00:00\r\n\r\n"), ErrHeaderMalformed, "a line of an mbox"},
		{strings.NewReader(": x\r\n\r\n"), ErrHeaderMalformed, "no name"},
		{strings.NewReader("S\xc3\xbcbject: x\r\n\r\n"), ErrHeaderMalformed, "a name that is not ASCII"},
		{strings.NewReader("A: " + strings.Repeat("x", MaxHeaderField) + "\r\n"), ErrHeaderTooLarge, "a long field"},
		{strings.NewReader("A:" + strings.Repeat("\r\n x", MaxHeaderField/4)), ErrHeaderTooLarge, "a field folded without end"},
		{strings.NewReader(strings.Repeat("A:\r\n", MaxHeaderFields+1)), ErrHeaderTooLarge, "too many fields"},
		{strings.NewReader(strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", MaxHeader/1000)), ErrHeaderTooLarge, "too much of everything"},
		{endless('x'), ErrHeaderTooLarge, "a line without end"},
		{io.MultiReader(strings.NewReader("A: 1\r\nB:"), iotest.ErrReader(cut)), cut, "the reader failed"},
	}
	for _, tt := range tests {
		h, err := ReadHeader(bufio.NewReader(tt.in))
		if !errors.Is(err, tt.want) || h != nil {
			t.Errorf("%s: got %v and %d fields, want %v", tt.why, err, len(h), tt.want)
		}
	}
	largest := strings.Repeat("A:\r\n", MaxHeaderFields-1) + "A: " + strings.Repeat("x", MaxHeaderField-5) + "\r\n\r\n"
	if h, err := ReadHeader(bufio.NewReader(strings.NewReader(largest))); err != nil || len(h) != MaxHeaderFields {
		t.Errorf("at the limits: %d fields, %v", len(h), err)
	}
}

// TestReadHeaderBuffer: a line that the reader gives in several pieces comes out whole.
func TestReadHeaderBuffer(t *testing.T) {
	var value strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&value, " %d", i)
	}
	for _, end := range []string{"\r\n", "\n", ""} {
		h, err := ReadHeader(bufio.NewReaderSize(strings.NewReader("A: 1\r\nB:"+value.String()+end), 64))
		if err != nil || len(h) != 2 || h[0].Raw != "A: 1\r\n" || h[1].Raw != "B:"+value.String()+"\r\n" {
			t.Errorf("ended by %q: %v, %.200q", end, err, h)
		}
	}
}

// endless gives one octet for ever.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

func FuzzReadHeader(f *testing.F) {
	for _, s := range []string{"", "\r\n", "A: b\r\n c\n\r\nbody", "A", ":", " \r\n", "A:\r\r\n\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ReadHeader(bufio.NewReader(strings.NewReader(s)))
		if err != nil {
			if h != nil {
				t.Fatal("a header beside an error")
			}
			return
		}
		// What was read reads the same again.
		var raw strings.Builder
		for _, f := range h {
			raw.WriteString(f.Raw)
		}
		again, err := ReadHeader(bufio.NewReader(strings.NewReader(raw.String() + "\r\n")))
		if err != nil || len(again) != len(h) {
			t.Fatalf("%d fields became %d: %v", len(h), len(again), err)
		}
		for i := range h {
			if h[i] != again[i] {
				t.Fatalf("%q became %q", h[i], again[i])
			}
		}
	})
}
