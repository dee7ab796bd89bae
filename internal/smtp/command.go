package smtp

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"mxward/internal/mail"
)

// maxVerb is longer than any verb there is.
const maxVerb = 12

// verb gives the command word in upper case and its arguments. Trailing space is dropped
// (RFC 5321 §4.1.1).
func verb(line []byte) (string, []byte) {
	line = bytes.TrimRight(line, " \t")
	word, args, _ := bytes.Cut(line, []byte{' '})
	if len(word) > maxVerb {
		return "", args
	}
	var upper [maxVerb]byte
	for i, b := range word {
		if 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		upper[i] = b
	}
	return string(upper[:len(word)]), bytes.TrimLeft(args, " ")
}

// command obeys one line.
func (c *conn) command(line []byte) {
	word, args := verb(line)
	if !isText(args) {
		c.fault(mail.NewReply(500, 5, 2, "a control character in the command"))
		return
	}
	c.word, c.args = word, ""
	switch word {
	case "HELO", "EHLO":
		c.cmdHello(word == "EHLO", string(args))
	case "MAIL":
		c.cmdMail(string(args))
	case "RCPT":
		c.cmdRcpt(string(args))
	case "DATA":
		c.cmdData(args)
	case "BDAT":
		c.cmdBdat(string(args))
	case "RSET", "NOOP", "VRFY", "HELP", "QUIT", "STARTTLS":
		c.simpleCommand(word, args)
	case "EXPN", "TURN", "ETRN", "AUTH", "SEND", "SOML", "SAML":
		c.fault(mail.NewReply(502, 5, 1, word+" is not implemented"))
	case "GET", "POST", "PUT", "CONNECT", "OPTIONS", "USER-AGENT:", "HOST:":
		// A browser that was led here must not be talked to line by line.
		c.giveUp("this is not a web server")
	default:
		c.fault(mail.NewReply(500, 5, 1, "command unknown"))
	}
}

// simpleCommand obeys the commands that are not part of a transaction.
func (c *conn) simpleCommand(word string, args []byte) {
	switch word {
	case "RSET", "QUIT", "STARTTLS":
		if len(args) > 0 {
			c.fault(mail.NewReply(501, 5, 4, word+" takes no argument"))
			return
		}
	}
	switch word {
	case "QUIT":
		c.end.Quit = true
		c.closing = true
		c.say(mail.NewReply(221, 0, 0, "bye"))
		return
	case "STARTTLS":
		c.cmdStartTLS()
		return
	}
	if !c.idleCommand() {
		return
	}
	switch word {
	case "RSET":
		c.reset()
		c.say(mail.NewReply(250, 0, 0, "reset"))
	case "NOOP":
		c.say(mail.NewReply(250, 0, 0, "ok"))
	case "VRFY":
		c.say(mail.NewReply(252, 0, 0, "try to send to it")) // RFC 5321 §3.5.3
	case "HELP":
		c.say(mail.NewReply(214, 0, 0, "see RFC 5321"))
	}
}

// isText: no control characters; UTF-8 may come in addresses (RFC 6531 §3.3).
func isText(p []byte) bool {
	for _, b := range p {
		if b < ' ' && b != '\t' || b == 0x7f {
			return false
		}
	}
	return true
}

func (c *conn) cmdHello(extended bool, name string) {
	if !isHelloName(name) {
		c.fault(mail.NewReply(501, 5, 4, "expected one host name"))
		return
	}
	if !c.idleCommand() {
		return
	}
	c.reset() // RFC 5321 §4.1.4
	h := Hello{Extended: extended, Name: name, TLS: c.hello.TLS}
	c.reach(mail.StageHello)
	r := c.session.Hello(c.ctx, h)
	if !r.Positive() {
		c.answer(r)
		return
	}
	c.hello, c.helloed = h, true
	c.sayHello(extended, r.Text)
}

// isHelloName wants one word of printable ASCII, and leaves it to the Session whether that
// names a host: real clients send all sorts of words (RFC 5321 §4.1.4 forbids to refuse
// mail for that alone).
func isHelloName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func (c *conn) cmdMail(args string) {
	c.args = args
	switch {
	case !c.helloed:
		c.fault(mail.NewReply(503, 5, 1, "say EHLO first"))
		return
	case c.inMail:
		c.fault(mail.NewReply(503, 5, 1, "a MAIL is under way")) // RFC 5321 §4.1.4
		return
	}
	rest, ok := cutPrefixFold(args, "FROM:")
	if !ok {
		c.fault(mail.NewReply(501, 5, 4, "expected MAIL FROM:<address>"))
		return
	}
	path, params, err := mail.ParsePath(strings.TrimLeft(rest, " "))
	if err != nil {
		c.fault(mail.NewReply(501, 1, 7, plain(err)))
		return
	}
	env := mail.Envelope{From: path}
	if bad := c.mailParams(&env, params); bad.Code != 0 {
		c.fault(bad)
		return
	}
	if bad := checkUTF8(rest[:len(rest)-len(params)], env.UTF8); bad.Code != 0 {
		c.fault(bad)
		return
	}
	if env.Size > c.srv.limits.size { // RFC 1870 §6.1
		c.refuse(mail.NewReply(552, 3, 4, "the message is larger than "+strconv.FormatInt(c.srv.limits.size, 10)+" octets"))
		return
	}
	c.reach(mail.StageMail)
	if r := c.answer(c.session.Mail(c.ctx, env)); r.Positive() {
		c.inMail, c.env, c.accepted = true, env, 0
	} else {
		c.junk++
	}
}

// checkUTF8: addresses beyond ASCII come only with SMTPUTF8 (RFC 6531 §3.4).
func checkUTF8(path string, allowed bool) mail.Reply {
	switch {
	case isASCII(path):
		return mail.Reply{}
	case !utf8.ValidString(path):
		return mail.NewReply(501, 5, 2, "the address is not UTF-8")
	case !allowed:
		return mail.NewReply(553, 6, 7, "the address needs SMTPUTF8")
	}
	return mail.Reply{}
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// eachParam calls f for each parameter of MAIL or RCPT, its name in upper case. It stops at
// the first reply with a code and gives it.
func eachParam(params string, f func(name, value string, hasValue bool) mail.Reply) mail.Reply {
	if params != "" && params[0] != ' ' {
		return mail.NewReply(501, 5, 4, "expected a space after the address")
	}
	var seen [8]string
	n := 0
	for param := range strings.FieldsSeq(params) {
		name, value, hasValue := strings.Cut(param, "=")
		name = strings.ToUpper(name)
		for _, s := range seen[:n] {
			if s == name {
				return mail.NewReply(501, 5, 4, "the parameter "+name+" comes twice")
			}
		}
		if n == len(seen) {
			return mail.NewReply(555, 5, 4, "too many parameters")
		}
		seen[n] = name
		n++
		if r := f(name, value, hasValue); r.Code != 0 {
			return r
		}
	}
	return mail.Reply{}
}

func (c *conn) mailParams(env *mail.Envelope, params string) mail.Reply {
	return eachParam(params, func(name, value string, hasValue bool) mail.Reply {
		var err error
		switch name {
		case "SIZE":
			env.Size, err = parseSize(value)
		case "BODY":
			env.Body, err = parseBody(value)
		case "SMTPUTF8":
			env.UTF8 = true
			if hasValue {
				err = errors.New("SMTPUTF8 takes no value") // RFC 6531 §3.4
			}
		case "RET":
			env.Return, err = mail.ParseReturn(value)
		case "ENVID":
			env.ID, err = value, mail.CheckEnvelopeID(value)
		default:
			return mail.NewReply(555, 5, 4, "the parameter "+name+" is unknown") // RFC 5321 §4.1.1.11
		}
		return paramError(err)
	})
}

// plain is an error's text in ASCII, which is all that a reply may have (RFC 5321 §4.2).
func plain(err error) string { return strings.ReplaceAll(err.Error(), "§", "section ") }

func paramError(err error) mail.Reply {
	if err == nil {
		return mail.Reply{}
	}
	return mail.NewReply(501, 5, 4, plain(err))
}

// parseSize: 1*20DIGIT (RFC 1870 §4). What does not fit is as large as can be.
func parseSize(s string) (int64, error) {
	if s == "" || len(s) > 20 || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("expected at most 20 digits, got %q", s)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1<<63 - 1, nil
	}
	return n, nil
}

func parseBody(s string) (mail.Body, error) {
	switch b := mail.Body(strings.ToUpper(s)); b {
	case mail.Body7Bit, mail.Body8BitMIME:
		return b, nil
	}
	return "", fmt.Errorf("BODY: expected 7BIT or 8BITMIME, got %q", s)
}

func (c *conn) cmdRcpt(args string) {
	c.args = args
	if !c.inMail {
		c.fault(mail.NewReply(503, 5, 1, "say MAIL first"))
		return
	}
	rest, ok := cutPrefixFold(args, "TO:")
	if !ok {
		c.fault(mail.NewReply(501, 5, 4, "expected RCPT TO:<address>"))
		return
	}
	address, params, err := mail.ParseForwardPath(strings.TrimLeft(rest, " "))
	if err != nil {
		c.fault(mail.NewReply(501, 1, 3, plain(err)))
		return
	}
	rcpt := mail.Recipient{Address: address}
	if bad := rcptParams(&rcpt, params); bad.Code != 0 {
		c.fault(bad)
		return
	}
	if bad := checkUTF8(rest, c.env.UTF8); bad.Code != 0 {
		c.fault(bad)
		return
	}
	if c.accepted >= c.srv.limits.recipients { // RFC 5321 §4.5.3.1.10
		c.refuse(mail.NewReply(452, 5, 3, "too many recipients"))
		c.refusedRcpt()
		return
	}
	c.reach(mail.StageRcpt)
	if r := c.answer(c.session.Rcpt(c.ctx, rcpt)); r.Positive() {
		c.accepted++
	} else {
		c.refusedRcpt()
	}
}

// refusedRcpt counts towards the end of a client that guesses addresses.
func (c *conn) refusedRcpt() {
	if c.refused++; c.refused == refusedRatio*c.srv.limits.recipients && !c.closing {
		c.giveUp("too many refused recipients")
	}
}

func rcptParams(rcpt *mail.Recipient, params string) mail.Reply {
	return eachParam(params, func(name, value string, _ bool) mail.Reply {
		var err error
		switch name {
		case "NOTIFY":
			rcpt.Notify, err = mail.ParseNotify(value)
		case "ORCPT":
			rcpt.Original, err = value, mail.CheckOriginal(value)
		default:
			return mail.NewReply(555, 5, 4, "the parameter "+name+" is unknown") // RFC 5321 §4.1.1.11
		}
		return paramError(err)
	})
}

// cmdStartTLS: RFC 3207.
func (c *conn) cmdStartTLS() {
	switch {
	case c.srv.TLS == nil:
		c.fault(mail.NewReply(502, 5, 1, "TLS is not available"))
		return
	case c.hello.TLS != nil:
		c.fault(mail.NewReply(503, 5, 1, "TLS is on already"))
		return
	case !c.helloed:
		c.fault(mail.NewReply(503, 5, 1, "say EHLO first"))
		return
	}
	c.say(mail.NewReply(220, 0, 0, "go ahead"))
	if err := c.flush(); err != nil {
		c.closing = true
		c.end.Err = fmt.Errorf("answer STARTTLS: %w", err)
		return
	}
	if n := len(c.unread()); n > 0 {
		// Somebody between the client and us wrote this in plain text, to have it obeyed
		// as if it had come under TLS (RFC 3207 §4.2 and CVE-2011-0411).
		c.logInjection(n)
		c.r, c.w = 0, 0
	}
	c.handshake()
}

// handshake starts TLS and forgets what was said before it (RFC 3207 §4.2).
func (c *conn) handshake() {
	secured := tls.Server(c.raw, c.srv.TLS)
	c.arm(c.srv.limits.TLS)
	_ = c.raw.SetWriteDeadline(c.until)
	if err := secured.HandshakeContext(c.ctx); err != nil {
		c.end.Err = fmt.Errorf("tls handshake: %w", err)
		c.end.Quit = false
		c.closing = true
		c.out = nil
		return
	}
	c.conn = secured
	state := secured.ConnectionState()
	c.reset()
	c.helloed = false
	c.hello = Hello{TLS: &state}
}
