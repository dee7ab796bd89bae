package smtp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"mxward/internal/mail"
)

// rawReply is a reply as it came, line by line, without the codes.
type rawReply struct {
	code  int
	lines []string
}

// readReply reads one reply (RFC 5321 §4.2.1). Its lines end in CRLF; a bare LF, lines
// whose codes differ, and too much of anything are ErrProtocol.
func readReply(r *bufio.Reader) (rawReply, error) {
	var reply rawReply
	kept := 0
	for n := 0; ; n++ {
		if n == maxPeerLines {
			return rawReply{}, fmt.Errorf("%w: a reply of more than %d lines", ErrProtocol, maxPeerLines)
		}
		line, err := readReplyLine(r)
		if err != nil {
			return rawReply{}, err
		}
		code, more, text, err := splitReplyLine(line)
		if err != nil {
			return rawReply{}, err
		}
		if n > 0 && code != reply.code {
			return rawReply{}, fmt.Errorf("%w: one reply with the codes %d and %d", ErrProtocol, reply.code, code)
		}
		reply.code = code
		if kept += len(text); kept <= maxPeerText || n == 0 {
			reply.lines = append(reply.lines, clean(text))
		}
		if !more {
			return reply, nil
		}
	}
}

// NewReplies buffers what a host says for ReadReply; the buffer bounds a line.
func NewReplies(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, maxPeerLine) }

// ReadReply reads one reply as it came, line by line and without the codes, for who wants more
// of a session than a Client tells. r is from NewReplies.
func ReadReply(r *bufio.Reader) (code int, lines []string, err error) {
	reply, err := readReply(r)
	return reply.code, reply.lines, err
}

func readReplyLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("%w: a reply line of more than %d octets", ErrProtocol, maxPeerLine)
	case err == io.EOF && len(line) > 0:
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return nil, fmt.Errorf("%w: a reply line that ends in LF without CR", ErrProtocol)
	}
	return line[:len(line)-2], nil
}

// splitReplyLine takes "250-text" apart.
func splitReplyLine(line []byte) (code int, more bool, text []byte, err error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) {
		return 0, false, nil, fmt.Errorf("%w: %q is no reply", ErrProtocol, clean(line[:min(len(line), 80)]))
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, false, nil, nil
	}
	switch line[3] {
	case '-':
		return code, true, line[4:], nil
	case ' ':
		return code, false, line[4:], nil
	}
	return 0, false, nil, fmt.Errorf("%w: %q is no reply", ErrProtocol, clean(line[:min(len(line), 80)]))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// clean makes a host's words fit for logs and DSNs: no control characters, and UTF-8.
func clean(p []byte) string {
	plain := true
	for _, b := range p {
		if b < ' ' || b > '~' {
			plain = false
			break
		}
	}
	if plain {
		return string(p)
	}
	s := strings.ToValidUTF8(string(p), "?")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

// reply takes the enhanced code off the text, if its class is that of the code (RFC 2034
// §4): what else looks like one is text.
func (r rawReply) reply() mail.Reply {
	if len(r.lines) == 0 {
		return mail.Reply{Code: r.code}
	}
	word, _, _ := strings.Cut(r.lines[0], " ")
	e, ok := mail.ParseEnhancedCode(word)
	if !ok || e.Class != r.code/100 {
		return mail.Reply{Code: r.code, Text: strings.Join(r.lines, "\n")}
	}
	lines := make([]string, len(r.lines))
	for i, line := range r.lines {
		rest, same := strings.CutPrefix(line, word)
		switch {
		case same && rest == "":
			line = ""
		case same && rest[0] == ' ':
			line = rest[1:]
		}
		lines[i] = line
	}
	return mail.Reply{Code: r.code, Enhanced: e, Text: strings.Join(lines, "\n")}
}

func (c *Client) rawReply(wait time.Duration) (rawReply, error) {
	c.patience(c.conn.SetReadDeadline, wait)
	r, err := readReply(c.replies)
	if err != nil {
		return rawReply{}, c.because(err)
	}
	return r, nil
}

// reply reads the next reply.
func (c *Client) reply(wait time.Duration) (mail.Reply, error) {
	r, err := c.rawReply(wait)
	if err != nil {
		return mail.Reply{}, err
	}
	return r.reply(), nil
}
