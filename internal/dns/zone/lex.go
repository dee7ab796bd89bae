package zone

import (
	"errors"
	"fmt"
	"strings"
)

// token is one word of a master file, its escapes and quotes as written.
type token struct {
	text   string
	quoted bool
}

// entry is one entry of a master file: one record or directive, which parentheses may have
// spread over several lines (RFC 1035 §5.1).
type entry struct {
	line    int  // where it begins
	sameown bool // it begins with a blank: the owner is the last one stated
	tokens  []token
	err     error
}

// lexer cuts a master file into entries. It has to know quotes, escapes, comments and
// parentheses, and nothing of records.
type lexer struct {
	text string
	pos  int
	line int
}

// next gives the next entry that is not empty; at the end of the file ok is false. After
// an entry with an error it goes on with the next line, so that one slip hides no other.
func (l *lexer) next() (e entry, ok bool) {
	for l.pos < len(l.text) {
		e = l.entry()
		if e.err != nil || len(e.tokens) > 0 {
			return e, true
		}
	}
	return entry{}, false
}

func (l *lexer) entry() entry {
	l.line++
	e := entry{line: l.line}
	if c := l.text[l.pos]; c == ' ' || c == '\t' {
		e.sameown = true
	}
	open := false
	for l.pos < len(l.text) {
		switch c := l.text[l.pos]; c {
		case '\n':
			l.pos++
			if !open {
				return e
			}
			l.line++
		case ' ', '\t', '\r':
			l.pos++
		case ';':
			l.skipLine()
		case '(', ')':
			if open == (c == '(') {
				return l.fail(e, fmt.Errorf("%q without its partner", c))
			}
			open = !open
			l.pos++
		default:
			t, err := l.token()
			if err != nil {
				return l.fail(e, err)
			}
			e.tokens = append(e.tokens, t)
		}
	}
	if open {
		e.err = errors.New("expected a closing parenthesis, got the end of the file")
	}
	return e
}

func (l *lexer) fail(e entry, err error) entry {
	e.err = err
	l.skipLine()
	l.pos = min(l.pos+1, len(l.text))
	return e
}

// skipLine stops before the end of the line.
func (l *lexer) skipLine() {
	n := strings.IndexByte(l.text[l.pos:], '\n')
	if n < 0 {
		n = len(l.text) - l.pos
	}
	l.pos += n
}

// token reads one word, or one string in quotes with its quotes.
func (l *lexer) token() (token, error) {
	start := l.pos
	quoted := l.text[l.pos] == '"'
	if quoted {
		l.pos++
	}
	for l.pos < len(l.text) {
		switch c := l.text[l.pos]; {
		case c == '\\':
			if l.pos++; l.pos >= len(l.text) || l.text[l.pos] < ' ' {
				return token{}, errors.New(`expected a character after "\", got the end of the line`)
			}
		case quoted && c == '"':
			l.pos++
			return token{l.text[start:l.pos], true}, nil
		case quoted && c == '\n':
			return token{}, errors.New("expected a closing quote, got the end of the line")
		case quoted:
		case c == '"' && l.pos > start && l.text[l.pos-1] == '=':
			// A parameter with its value in quotes, alpn="h2" (RFC 9460 §2.1).
			l.pos++
			for l.pos < len(l.text) && l.text[l.pos] != '"' && l.text[l.pos] != '\n' {
				if l.text[l.pos] == '\\' {
					l.pos++
				}
				l.pos++
			}
			if l.pos >= len(l.text) || l.text[l.pos] != '"' {
				l.pos = min(l.pos, len(l.text))
				return token{}, errors.New("expected a closing quote, got the end of the line")
			}
		case strings.IndexByte(" \t\r\n;()\"", c) >= 0:
			return token{l.text[start:l.pos], false}, nil
		case c < ' ' || c >= 0x7f:
			// Outside quotes a byte that is no ASCII would end up in a name as it is,
			// and nobody could ask for that name.
			return token{}, fmt.Errorf(`expected ASCII, got the byte %#02x: write names as A-labels and other bytes as \DDD`, c)
		}
		l.pos++
	}
	if quoted {
		return token{}, errors.New("expected a closing quote, got the end of the file")
	}
	return token{l.text[start:l.pos], false}, nil
}
