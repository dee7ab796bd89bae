// Package smtptest helps to test both ends of SMTP (RFC 5321): dialogues written as text,
// and a Host that behaves, or misbehaves, as it is told. Tests and the lab use it.
package smtptest

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// test is what Script needs of a *testing.T. The lab is no test, and its program should not
// have the package testing in it.
type test interface {
	Helper()
	Errorf(format string, args ...any)
}

// Script plays one side of a dialogue over conn and fails the test where the other side
// says something else. Each line of the script belongs to the server (S) or the client (C):
//
//	S: 220 mx.example.com ESMTP
//	C: EHLO …
//	S* 250
//	C: QUIT
//	S: 221 …
//	S.
//
// The lines of the side that is played are written with CRLF, those that follow each other
// in one write. The lines of the other side are expected: "…" at the end of a line matches
// any rest, "S* 250" matches all lines of one reply of that code, and "S." the end of the
// connection. A line "C= " or "S= " is followed by a Go string literal that is written, or
// expected, octet by octet, with nothing added; "C." and "S." close, where it is their side
// that is played. Blank lines and lines that start with # say nothing.
//
// played is 'S' or 'C'. There is no time-out here: that is for the test, or its bubble of
// testing/synctest.
func Script(t test, conn net.Conn, played byte, script string) {
	t.Helper()
	if err := Play(conn, played, script); err != nil {
		t.Errorf("smtp dialogue: %v", err)
	}
}

// Play is Script for goroutines that must not fail a test.
func Play(conn net.Conn, played byte, script string) error {
	p := player{conn: conn}
	for number, line := range strings.Split(script, "\n") {
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if err := p.line(line, played); err != nil {
			return fmt.Errorf("line %d, %q: %w", number+1, line, err)
		}
	}
	return p.flush()
}

type player struct {
	conn net.Conn
	out  []byte
}

func (p *player) flush() error {
	if len(p.out) == 0 {
		return nil
	}
	_, err := p.conn.Write(p.out)
	p.out = nil
	return err
}

func (p *player) line(line string, played byte) error {
	if len(line) < 2 || line[0] != 'S' && line[0] != 'C' {
		return fmt.Errorf("expected a line that starts with S or C")
	}
	kind, text := line[1], strings.TrimPrefix(line[2:], " ")
	if kind == '=' {
		literal, err := strconv.Unquote(text)
		if err != nil {
			return fmt.Errorf("expected a Go string literal: %w", err)
		}
		text = literal
	}
	if line[0] == played {
		return p.say(kind, text)
	}
	if err := p.flush(); err != nil {
		return err
	}
	return p.expect(kind, text)
}

func (p *player) say(kind byte, text string) error {
	switch kind {
	case ':':
		p.out = append(p.out, text+"\r\n"...)
		return nil
	case '=':
		p.out = append(p.out, text...)
		return nil
	case '.':
		if err := p.flush(); err != nil {
			return err
		}
		return p.conn.Close()
	}
	return fmt.Errorf("the side that is played cannot say %q", kind)
}

func (p *player) expect(kind byte, text string) error {
	switch kind {
	case ':':
		return p.expectLine(text)
	case '*':
		return p.expectReply(text)
	case '=':
		got := make([]byte, len(text))
		for i := range got {
			b, err := p.readByte()
			if err != nil {
				return fmt.Errorf("read: %w, after %q", err, got[:i])
			}
			if got[i] = b; b != text[i] {
				return fmt.Errorf("got %q", got[:i+1])
			}
		}
		return nil
	case '.':
		b, err := p.readByte()
		if err == nil {
			rest, _ := p.readLine()
			return fmt.Errorf("expected the end, got %q", string(b)+rest)
		}
		return nil
	}
	return fmt.Errorf("unknown kind of line %q", kind)
}

func (p *player) expectLine(want string) error {
	got, err := p.readLine()
	if err != nil {
		return err
	}
	prefix, open := strings.CutSuffix(want, "…")
	if got != want && !(open && strings.HasPrefix(got, prefix)) {
		return fmt.Errorf("got %q", got)
	}
	return nil
}

func (p *player) expectReply(code string) error {
	for {
		got, err := p.readLine()
		if err != nil {
			return err
		}
		if !strings.HasPrefix(got, code) {
			return fmt.Errorf("got %q", got)
		}
		if len(got) < 4 || got[3] != '-' {
			return nil
		}
	}
}

// readByte reads nothing ahead: what follows may be for somebody else.
func (p *player) readByte() (byte, error) {
	var one [1]byte
	for {
		if n, err := p.conn.Read(one[:]); n > 0 || err != nil {
			return one[0], err
		}
	}
}

// readLine wants CRLF.
func (p *player) readLine() (string, error) {
	var line []byte
	for {
		b, err := p.readByte()
		if err != nil {
			return "", fmt.Errorf("read: %w, after %q", err, line)
		}
		line = append(line, b)
		if b == '\n' {
			text, ok := strings.CutSuffix(string(line), "\r\n")
			if !ok {
				return "", fmt.Errorf("got a line that ends in a bare LF: %q", line)
			}
			return text, nil
		}
	}
}
