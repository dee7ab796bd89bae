package smtp

import (
	"strconv"
	"strings"

	"mxward/internal/mail"
)

func replyShutdown() mail.Reply { return mail.NewReply(421, 3, 2, "shutting down, try again later") }

// appendReply writes a reply in its wire form (RFC 5321 §4.2.1), the enhanced code on each
// line (RFC 2034 §4). Whatever is no printable ASCII becomes a question mark, so that
// nothing in a text can make a line of its own, and lines that are too long are broken.
func appendReply(out []byte, r mail.Reply) []byte {
	lines := 0
	text := r.Text
	for more := true; more; lines++ {
		var line string
		line, text, more = cutReplyLine(text)
		more = more && lines+1 < maxReplyLines
		out = strconv.AppendInt(out, int64(r.Code), 10)
		if more {
			out = append(out, '-')
		} else {
			out = append(out, ' ')
		}
		if e := r.Enhanced; !e.IsZero() {
			out = strconv.AppendInt(out, int64(e.Class), 10)
			out = append(out, '.')
			out = strconv.AppendInt(out, int64(e.Subject), 10)
			out = append(out, '.')
			out = strconv.AppendInt(out, int64(e.Detail), 10)
			out = append(out, ' ')
		}
		for i := range len(line) {
			c := line[i]
			if c < ' ' || c > '~' {
				c = '?'
			}
			out = append(out, c)
		}
		out = append(out, '\r', '\n')
	}
	return out
}

// replyRoom is what codes, separators and CRLF leave of a line for its text.
const replyRoom = maxReplyLine - len("250-4.255.255 ") - len("\r\n")

// cutReplyLine takes one line off a text; more tells whether another follows.
func cutReplyLine(text string) (line, rest string, more bool) {
	line, rest, more = strings.Cut(text, "\n")
	if len(line) <= replyRoom {
		return line, rest, more
	}
	at := strings.LastIndexByte(line[:replyRoom], ' ') + 1
	if at == 0 {
		at = replyRoom
	}
	return text[:at], text[at:], true
}

// fitting makes a Session's reply fit for the wire: a code that is none becomes 451, and
// from MAIL on there is an enhanced code of the code's class (RFC 2034 §4, RFC 3463 §2).
func fitting(r mail.Reply) mail.Reply {
	if r.Code < 200 || r.Code > 599 || r.Intermediate() {
		return mail.NewReply(451, 3, 0, "local error, try again later")
	}
	if r.Enhanced.Class != r.Code/100 {
		r.Enhanced.Class = r.Code / 100
	}
	return r
}

// softened is a 5yz reply as a host says it that never refuses for good.
func softened(r mail.Reply) mail.Reply {
	if !r.Permanent() {
		return r
	}
	switch r.Code {
	case 550, 551, 553:
		r.Code = 450
	case 552:
		r.Code = 452
	case 555:
		r.Code = 455
	default:
		r.Code = 451
	}
	if !r.Enhanced.IsZero() {
		r.Enhanced.Class = 4
	}
	return r
}
