package smtp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"mxward/internal/mail"
)

// bodyPeek is how much of a message is read before anything is said: enough to send most
// messages in one chunk, and to see the header.
const bodyPeek = 64 << 10

// delivery is one message on its way.
type delivery struct {
	c        *Client
	env      mail.Envelope
	body     io.Reader
	head     []byte // the first octets of the message
	whole    bool   // head is all of it
	utf8     bool   // SMTPUTF8 is to be said
	outcomes []mail.Outcome
	rcpts    []int // the recipients that RCPT is said for
	accepted []int // those of them that were accepted
	mailed   bool  // MAIL was accepted
	sent     func() error
}

// Send sends one message and gives what became of each recipient, in their order. The
// message should have lines that end in CRLF; a bare CR or LF in it is sent as CRLF, and an
// unfinished last line is finished. Where 8BITMIME is not offered, eight bits are sent
// nevertheless: the other ways are to return the message, or to break its signatures.
//
// A recipient is Delivered only by a 2yz reply to the whole message. Everything that is
// uncertain is Deferred, with the stage at which it became so: a connection that is lost
// between the end of the message and its reply is Deferred at StageDot.
func (c *Client) Send(ctx context.Context, env mail.Envelope, body io.Reader) []mail.Outcome {
	defer c.during(ctx)()
	d := &delivery{c: c, env: env, body: body, outcomes: make([]mail.Outcome, len(env.Recipients))}
	for i, r := range env.Recipients {
		d.outcomes[i].Recipient = r.Address
	}
	if c.broken {
		d.ours(mail.StageMail, mail.Deferred, mail.NewReply(451, 4, 2, "the connection is not usable any more"))
		return d.outcomes
	}
	if err := d.peek(); err != nil {
		d.ours(mail.StageData, mail.Deferred, unreadable(err))
		return d.outcomes
	}
	d.vet()
	if len(d.rcpts) > 0 {
		d.transact()
	}
	return d.outcomes
}

func unreadable(err error) mail.Reply {
	return mail.NewReply(451, 3, 0, "cannot read the message: "+err.Error())
}

// peek reads the first octets. It is no io.ReadFull: that cannot tell a short message from
// one whose reader broke off with io.ErrUnexpectedEOF.
func (d *delivery) peek() error {
	if d.c.scratch == nil {
		d.c.scratch = make([]byte, bodyPeek)
	}
	n := 0
	for empty := 0; n < bodyPeek; {
		m, err := d.body.Read(d.c.scratch[n:])
		n += m
		if err == io.EOF {
			d.whole = true
			break
		}
		if err != nil {
			return err
		}
		if empty++; m > 0 {
			empty = 0
		} else if empty > 100 {
			return io.ErrNoProgress
		}
	}
	d.head = d.c.scratch[:n]
	return nil
}

// settle sets the outcome of one recipient, once.
func (d *delivery) settle(i int, stage mail.Stage, status mail.Status, r mail.Reply, remote bool) {
	if d.outcomes[i].Status != "" {
		return
	}
	_, dsn := d.c.Extension("DSN")
	d.outcomes[i] = mail.Outcome{
		Recipient: d.outcomes[i].Recipient,
		Status:    status, Stage: stage, Host: d.c.cfg.Host, Remote: remote, Reply: r, When: time.Now(),
		DSN: status == mail.Delivered && dsn && !d.env.Recipients[i].Notify.IsZero(),
	}
}

// ours settles all undone recipients in our own words.
func (d *delivery) ours(stage mail.Stage, status mail.Status, r mail.Reply) {
	for i := range d.outcomes {
		d.settle(i, stage, status, r, false)
	}
}

// theirs settles all undone recipients by a reply of the host.
func (d *delivery) theirs(stage mail.Stage, r mail.Reply) {
	for i := range d.outcomes {
		d.byReply(i, stage, r)
	}
}

// byReply settles a recipient by a reply that ends its matter.
func (d *delivery) byReply(i int, stage mail.Stage, r mail.Reply) {
	status := mail.Deferred
	switch {
	case r.Positive() && stage == mail.StageDot:
		status = mail.Delivered
	case r.Permanent():
		status = mail.Failed
	}
	if stage == mail.StageRcpt && r.Code == 552 {
		status = mail.Deferred // RFC 5321 §4.5.3.1.10: too many recipients
	}
	d.settle(i, stage, status, r, true)
}

// lost settles all undone recipients after the connection broke.
func (d *delivery) lost(stage mail.Stage, err error) {
	d.breakOff()
	r := mail.NewReply(451, 4, 2, "lost the connection: "+err.Error())
	switch {
	case errors.Is(err, ErrProtocol):
		r = mail.NewReply(451, 5, 0, err.Error())
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.Text = "timed out waiting for the host"
	}
	d.ours(stage, mail.Deferred, r)
}

// breakOff ends the connection: what the host would read next could mean anything.
func (d *delivery) breakOff() {
	d.c.broken = true
	d.c.conn.Close()
}

// vet settles the recipients that this host cannot be asked to take, and collects the
// others.
func (d *delivery) vet() {
	d.vetSize()
	d.vetUTF8()
	if bad := unsafe(d.env.From.Wire()); bad {
		d.ours(mail.StageMail, mail.Failed, mail.NewReply(553, 1, 7, "the sender's address cannot be written in a command"))
	}
	for i, r := range d.env.Recipients {
		if unsafe(r.Address.String()) {
			d.settle(i, mail.StageRcpt, mail.Failed, mail.NewReply(553, 1, 3, "the address cannot be written in a command"), false)
		}
		if d.outcomes[i].Status == "" {
			d.rcpts = append(d.rcpts, i)
		}
	}
}

// unsafe: control characters would make a command of their own.
func unsafe(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// vetSize: RFC 1870 §5.
func (d *delivery) vetSize() {
	params, ok := d.c.Extension("SIZE")
	limit, err := strconv.ParseInt(params, 10, 64)
	if !ok || err != nil || limit <= 0 {
		return
	}
	if size := d.size(); size > limit {
		d.ours(mail.StageMail, mail.Failed, mail.NewReply(552, 3, 4,
			fmt.Sprintf("the message has %d octets, and the host takes %d", size, limit)))
	}
}

func (d *delivery) size() int64 {
	if d.whole {
		return int64(len(d.head))
	}
	return max(d.env.Size, int64(len(d.head)))
}

// vetUTF8: a message that needs SMTPUTF8 goes only where it is offered (RFC 6531 §3.1). One
// that merely came with it, and has nothing but ASCII in its header, may go anywhere.
func (d *delivery) vetUTF8() {
	_, offered := d.c.Extension("SMTPUTF8")
	needed := !d.env.From.Address.IsASCII() || d.env.UTF8 && !asciiHeader(d.head, d.whole)
	d.utf8 = offered && (needed || d.env.UTF8)
	refusal := mail.NewReply(553, 6, 7, "the host does not offer SMTPUTF8")
	for i, r := range d.env.Recipients {
		switch {
		case offered && !r.Address.IsASCII():
			d.utf8 = true
		case !offered && (needed || !r.Address.IsASCII()):
			d.settle(i, mail.StageMail, mail.Failed, refusal, false)
		}
	}
}

// asciiHeader reports whether the header is seen to its end and is ASCII.
func asciiHeader(head []byte, whole bool) bool {
	end := bytes.Index(head, []byte("\r\n\r\n"))
	if end < 0 {
		if !whole {
			return false
		}
		end = len(head)
	}
	return !eightBit(head[:end])
}

func eightBit(p []byte) bool {
	for _, b := range p {
		if b >= 0x80 {
			return true
		}
	}
	return false
}

// mailCommand appends MAIL with the parameters that the host understands.
func (d *delivery) mailCommand(out []byte) []byte {
	out = append(append(out, "MAIL FROM:"...), d.env.From.Wire()...)
	if _, ok := d.c.Extension("SIZE"); ok && (d.whole || d.env.Size > 0) {
		out = strconv.AppendInt(append(out, " SIZE="...), d.size(), 10)
	}
	if _, ok := d.c.Extension("8BITMIME"); ok && (d.env.Body == mail.Body8BitMIME || d.env.Body == "" && eightBit(d.head)) {
		out = append(out, " BODY=8BITMIME"...)
	}
	if d.utf8 {
		out = append(out, " SMTPUTF8"...)
	}
	if _, ok := d.c.Extension("DSN"); ok {
		if d.env.Return != "" {
			out = append(append(out, " RET="...), d.env.Return...)
		}
		if d.env.ID != "" && mail.CheckEnvelopeID(d.env.ID) == nil {
			out = append(append(out, " ENVID="...), d.env.ID...)
		}
	}
	return append(out, "\r\n"...)
}

func (d *delivery) rcptCommand(out []byte, r mail.Recipient) []byte {
	out = append(append(append(out, "RCPT TO:<"...), r.Address.String()...), '>')
	if _, ok := d.c.Extension("DSN"); ok {
		if !r.Notify.IsZero() {
			out = append(append(out, " NOTIFY="...), r.Notify.String()...)
		}
		if r.Original != "" && mail.CheckOriginal(r.Original) == nil {
			out = append(append(out, " ORCPT="...), r.Original...)
		}
	}
	return append(out, "\r\n"...)
}

// transact is one mail transaction. With PIPELINING all commands are under way at once
// (RFC 2920 §3.1), written by a goroutine of their own: however many there are, their
// replies are read meanwhile, and neither side waits for the other.
func (d *delivery) transact() {
	c := d.c
	_, pipelining := c.Extension("PIPELINING")
	_, chunking := c.Extension("CHUNKING")
	// One chunk saves the round trip of DATA where there is no PIPELINING, and the search
	// for dots everywhere. A message of many chunks would wait for each.
	chunking = chunking && d.whole && len(d.head) > 0 && isCanonical(d.head)
	d.sent = func() error { return nil }
	if pipelining {
		d.pipeline(!chunking)
		defer d.sent()
	}
	if !d.reset(pipelining) || !d.mail(pipelining) || !d.rcpt(pipelining) {
		return
	}
	switch {
	case chunking && len(d.accepted) > 0:
		d.sendChunk()
	case chunking:
	case pipelining || len(d.accepted) > 0:
		d.sendData(pipelining)
	}
}

// pipeline writes all commands up to DATA.
func (d *delivery) pipeline(data bool) {
	var out []byte
	if d.c.open {
		out = append(out, "RSET\r\n"...)
	}
	out = d.mailCommand(out)
	for _, i := range d.rcpts {
		out = d.rcptCommand(out, d.env.Recipients[i])
	}
	if data {
		out = append(out, "DATA\r\n"...)
	}
	d.c.patience(d.c.conn.SetWriteDeadline, d.c.cfg.Timeouts.Command)
	result := make(chan error, 1)
	go func() {
		_, err := d.c.conn.Write(out)
		result <- err
	}()
	done := false
	var err error
	d.sent = func() error {
		if !done {
			done, err = true, <-result
		}
		return err
	}
}

// ask says a command, unless the pipeline has said it, and reads its reply. It reports
// false where that was the end of the connection; all undone recipients are settled then.
func (d *delivery) ask(stage mail.Stage, piped bool, command []byte, wait time.Duration) (mail.Reply, bool) {
	if !piped {
		if err := d.c.write(command); err != nil {
			return d.parting(stage, err)
		}
	}
	r, err := d.c.reply(wait)
	if err != nil {
		d.lost(stage, err)
		return r, false
	}
	if r.Code == 421 { // RFC 5321 §3.8: the host closes after it
		d.theirs(stage, r)
		d.breakOff()
		return r, false
	}
	return r, true
}

// parting reads what the host may have said before it stopped reading.
func (d *delivery) parting(stage mail.Stage, err error) (mail.Reply, bool) {
	r, readErr := d.c.reply(d.c.cfg.Timeouts.Quit)
	if readErr == nil && (r.Temporary() || r.Permanent()) {
		d.theirs(stage, r)
		d.breakOff()
		return r, false
	}
	d.lost(stage, err)
	return mail.Reply{}, false
}

// outOfPlace settles the undone recipients after a reply that means nothing here.
func (d *delivery) outOfPlace(stage mail.Stage, r mail.Reply) {
	d.lost(stage, fmt.Errorf("%w: the reply %d is out of place", ErrProtocol, r.Code))
}

// reset ends what an earlier message has left open.
func (d *delivery) reset(piped bool) bool {
	if !d.c.open {
		return true
	}
	r, ok := d.ask(mail.StageMail, piped, []byte("RSET\r\n"), d.c.cfg.Timeouts.Command)
	if ok && !r.Positive() {
		d.outOfPlace(mail.StageMail, r)
		return false
	}
	d.c.open = false
	return ok
}

func (d *delivery) mail(piped bool) bool {
	var command []byte
	if !piped {
		command = d.mailCommand(nil)
	}
	r, ok := d.ask(mail.StageMail, piped, command, d.c.cfg.Timeouts.Command)
	switch {
	case !ok:
		return false
	case r.Positive():
		d.mailed = true
		d.c.open = true
		return true
	case r.Intermediate():
		d.outOfPlace(mail.StageMail, r)
		return false
	}
	d.theirs(mail.StageMail, r)
	return piped // the other replies are still to be read
}

func (d *delivery) rcpt(piped bool) bool {
	for _, i := range d.rcpts {
		var command []byte
		if !piped {
			command = d.rcptCommand(nil, d.env.Recipients[i])
		}
		r, ok := d.ask(mail.StageRcpt, piped, command, d.c.cfg.Timeouts.Command)
		switch {
		case !ok:
			return false
		case r.Intermediate():
			d.outOfPlace(mail.StageRcpt, r)
			return false
		case r.Positive() && d.mailed:
			d.accepted = append(d.accepted, i)
		default:
			d.byReply(i, mail.StageRcpt, r)
		}
	}
	return true
}

// sendData sends the message by DATA. With PIPELINING it was said before the recipients'
// replies were known, and may have been taken though there is none: then an empty message
// gets us out (RFC 2920 §3.1).
func (d *delivery) sendData(piped bool) {
	r, ok := d.ask(mail.StageData, piped, []byte("DATA\r\n"), d.c.cfg.Timeouts.Data)
	switch {
	case !ok:
		return
	case r.Code == 354 && len(d.accepted) == 0:
		if _, ok := d.ask(mail.StageDot, false, []byte(".\r\n"), d.c.cfg.Timeouts.Dot); ok {
			d.c.open = false
		}
		return
	case r.Temporary() || r.Permanent():
		d.theirs(mail.StageData, r)
		return
	case r.Code != 354:
		d.outOfPlace(mail.StageData, r)
		return
	}
	if err := d.sent(); err != nil {
		d.lost(mail.StageData, d.c.because(err))
		return
	}
	if d.sendBody() {
		d.final()
	}
}

// sendBody streams the message and its final dot.
func (d *delivery) sendBody() bool {
	c := d.c
	if c.writer == nil {
		c.writer = bufio.NewWriterSize(nil, bodyBuffer)
	}
	c.writer.Reset(patientWriter{c})
	s := newStuffer(c.writer)
	_, writeErr := s.Write(d.head)
	for !d.whole && writeErr == nil {
		n, err := d.body.Read(c.scratch)
		_, writeErr = s.Write(c.scratch[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			// Half a message must not look like a whole one: no dot, and no way back.
			d.breakOff()
			d.ours(mail.StageData, mail.Deferred, unreadable(err))
			return false
		}
	}
	if writeErr == nil {
		writeErr = s.end()
	}
	if writeErr != nil {
		d.parting(mail.StageData, writeErr)
		return false
	}
	return true
}

// patientWriter gives each block its time (RFC 5321 §4.5.3.2.5).
type patientWriter struct{ c *Client }

func (w patientWriter) Write(p []byte) (int, error) {
	w.c.patience(w.c.conn.SetWriteDeadline, w.c.cfg.Timeouts.Block)
	n, err := w.c.conn.Write(p)
	if err != nil {
		err = w.c.because(err)
	}
	return n, err
}

// sendChunk sends the message as one chunk (RFC 3030 §2).
func (d *delivery) sendChunk() {
	if err := d.sent(); err != nil {
		d.lost(mail.StageData, d.c.because(err))
		return
	}
	announce := append(strconv.AppendInt([]byte("BDAT "), int64(len(d.head)), 10), " LAST\r\n"...)
	d.c.patience(d.c.conn.SetWriteDeadline, d.c.cfg.Timeouts.Block)
	buffers := net.Buffers{announce, d.head}
	if _, err := buffers.WriteTo(d.c.conn); err != nil {
		d.parting(mail.StageData, d.c.because(err))
		return
	}
	d.final()
}

// final reads the reply to the whole message, or by LMTP one for each recipient that was
// accepted (RFC 2033 §4.2).
func (d *delivery) final() {
	var r mail.Reply
	for n, i := range d.accepted {
		if n == 0 || d.c.cfg.LMTP {
			var ok bool
			if r, ok = d.ask(mail.StageDot, true, nil, d.c.cfg.Timeouts.Dot); !ok {
				return
			}
			if r.Intermediate() {
				d.outOfPlace(mail.StageDot, r)
				return
			}
		}
		d.byReply(i, mail.StageDot, r)
	}
	d.c.open = false
}
