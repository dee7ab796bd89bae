package resolver

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// maxDatagram is what we read at most; a longer one is cut, hence unreadable.
const maxDatagram = 4096

// datagrams is room for what goes out and what comes in.
type datagrams struct {
	out [maxQuery]byte
	in  [maxDatagram]byte
}

// maxStrays is how many datagrams that are no reply one question reads.
const maxStrays = 100

const (
	flagRD = 0x01 // RD in the third octet of a message (RFC 1035 §4.1.1)
	flagCD = 0x10 // CD in the fourth (RFC 4035 §3.2.2)
)

// packet is one question to one server in one way. Those in flight are shared.
type packet struct {
	server netip.AddrPort
	proto  string // "udp" or "tcp"
	edns   bool
	// recurse asks the server to do the work (RD): only a Forwarder does.
	recurse bool
	tls     *tlsServer // over TLS, where proto is "tcp"
	// mixed asks with letters in random case, which the reply must repeat.
	mixed bool
	// cookies sends a DNS cookie, if edns is set.
	cookies bool
	// wary takes a datagram that is nearly the reply for the work of somebody who guesses,
	// and ends the question over UDP.
	wary bool
	ask
}

// reply is what a packet brought.
type reply struct {
	msg  *wire.Msg // shared: not to be changed
	size int
	took time.Duration
}

// fault says what was wrong with one server's part, in one word.
type fault int

const (
	faultLocal     fault = iota + 1 // this host could not send
	faultSilent                     // no reply, or none willing to listen
	faultFailed                     // an Rcode that is no answer
	faultLame                       // it does not serve the zone
	faultMalformed                  // it does not speak DNS
)

// serverError is the error of asking one server.
type serverError struct {
	fault fault
	said  string
	err   error
	heard bool  // something came back: a refusal, or bytes that are no answer
	limit limit // of ours that the reply went beyond
	near  error // over UDP: somebody may be guessing, and how it was seen
}

func (e *serverError) Error() string { return e.said }

func (e *serverError) Unwrap() error { return e.err }

// send asks one server once. The error is a *serverError, or ctx's.
func (r *Resolver) send(ctx context.Context, p packet) (reply, error) {
	limit := packetTimeout
	switch {
	case p.proto == "tcp":
		limit = tcpTimeout
	case !p.recurse: // a recursive resolver may have to work for long
		limit = r.servers.patience(p.server)
	}
	return r.packets.do(ctx, p, func() (rep reply, err error) {
		defer r.recovered(p.question(), &err)
		h := &hangup{}
		if own, ok := ctx.(*errand); ok {
			own.tell(h)
			defer own.quiet(h)
		} else {
			defer context.AfterFunc(ctx, h.now)()
		}
		began := time.Now()
		w := wait{h, began.Add(limit)}
		if p.proto == "tcp" {
			rep, err = r.overTCP(w, p)
		} else {
			rep, err = r.overUDP(w, p)
		}
		rep.took = time.Since(began)
		return rep, err
	})
}

// wait is how long to wait for one server, and who may end it.
type wait struct {
	*hangup
	deadline time.Time
}

// at makes waiting for a connection end with the wait.
func (w wait) at(conn net.Conn) {
	conn.SetDeadline(w.deadline)
	w.with(func() { conn.SetDeadline(time.Unix(1, 0)) })
}

// failed gives the error of a connection as that of its server, or of our own network.
func (w wait) failed(err error) error {
	if gone := w.err(); gone != nil {
		return gone
	}
	return socketError(err)
}

// query is a question as it went out, which its reply must fit.
type query struct {
	packet
	bytes  []byte
	id     uint16
	client []byte // the client cookie; empty for none
	known  bool   // the server has given us a cookie before
}

// compose makes the bytes in the room of an empty buffer, with a random ID (RFC 5452 §9.2).
// The connection says which of our addresses it leaves from: a client cookie is for one server
// and one address of ours.
func (r *Resolver) compose(p packet, conn net.Conn, buf []byte) (*query, error) {
	var random [2 + maxName/8 + 1]byte
	rand.Read(random[:]) // never fails: crypto/rand
	q := &query{packet: p, id: binary.BigEndian.Uint16(random[:])}
	var cookie []byte
	if p.edns && p.cookies {
		client, theirs := r.servers.cookies(p.server, conn)
		q.known = theirs != ""
		cookie = append(client[:], theirs...)
		q.client = cookie[:clientCookieSize]
	}
	var err error
	if q.bytes, err = encode(buf, q.id, p.ask, p.edns, cookie); err != nil {
		return nil, &serverError{fault: faultLocal, said: "the question cannot be written", err: err}
	}
	if p.mixed {
		mixCase(q.bytes[headerSize:], random[2:])
	}
	if p.recurse {
		q.bytes[2] |= flagRD
		if p.unchecked {
			q.bytes[3] |= flagCD
		}
	}
	return q, nil
}

// mixCase gives each letter of the name at the start of b a random case, which a reply has
// to repeat: whoever forges one must guess a bit more for each letter
// (draft-vixie-dnsext-dns0x20).
func mixCase(b, random []byte) {
	for i, c := range b {
		switch {
		case c == 0:
			return
		case 'a' <= c|0x20 && c|0x20 <= 'z' && random[i/8]>>(i%8)&1 != 0:
			b[i] ^= 0x20
		}
	}
}

var (
	errCase   = errors.New("its letters have another case than ours")
	errCookie = errors.New("its cookie is not ours")
)

// read gives the message of a reply, and whether it is nearly one: the kind of mistake
// that only somebody who guesses makes, or a very odd server.
func (q *query) read(b []byte) (msg *wire.Msg, near bool, err error) {
	odd := q.oddCase(b)
	if odd == nil {
		return nil, true, errCase
	}
	if msg, err = decode(odd, q.id, q.ask); err != nil {
		return nil, errors.Is(err, errNotOurs), err
	}
	if !q.tastes(msg) {
		return nil, true, errCookie
	}
	return msg, false, nil
}

// oddCase gives the reply with its question in lower case, so that the names that are
// compressed into it are as well; nil if the case differs from ours and matters. A datagram
// is changed in its place.
func (q *query) oddCase(b []byte) []byte {
	end, err := nameEnd(q.bytes, headerSize)
	if !q.mixed || err != nil || len(b) < end || !equalFold(b[headerSize:end], q.bytes[headerSize:end]) {
		return b
	}
	if q.proto == "udp" && !bytes.Equal(b[headerSize:end], q.bytes[headerSize:end]) {
		return nil
	}
	if q.proto != "udp" { // where the letters that came are looked at again: see learn
		b = slices.Clone(b)
	}
	for i, c := range b[headerSize:end] {
		b[headerSize+i] = lowerLetter(c)
	}
	return b
}

func lowerLetter(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// equalFold compares names on the wire; no length of a label is a letter.
func equalFold(a, b []byte) bool {
	for i := range a {
		if lowerLetter(a[i]) != lowerLetter(b[i]) {
			return false
		}
	}
	return len(a) == len(b)
}

// overUDP sends one datagram and waits for its reply. What is not the reply is dropped and
// the wait goes on: otherwise any datagram from anywhere could end the question.
func (r *Resolver) overUDP(w wait, p packet) (reply, error) {
	conn, err := r.dialUDP(w, p)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	w.at(conn)
	room := r.datagrams.Get().(*datagrams)
	defer r.datagrams.Put(room)
	buf := room.in[:]
	q, err := r.compose(p, conn, room.out[:0])
	if err != nil {
		return reply{}, err
	}
	r.counts.packets.Add(1)
	var stray error
	strays, size := 0, 0
	for n, err := converse(conn, q.bytes, buf); ; n, err = conn.Read(buf) {
		if err != nil {
			err = w.failed(err)
			var se *serverError
			if stray != nil && errors.As(err, &se) && se.fault == faultSilent {
				break
			}
			return reply{size: size}, err
		}
		size += n
		msg, near, err := q.read(buf[:n])
		if err == nil {
			r.learn(q, buf[:n], msg)
			return reply{msg: msg, size: size}, nil
		}
		stray = err
		r.counts.strays.Add(1)
		r.logStray(p, err)
		if near {
			r.counts.nearMisses.Add(1)
		}
		if near && p.wary {
			return reply{size: size}, &serverError{fault: faultMalformed, said: "a datagram that is not the reply", err: err, heard: true, near: err}
		}
		if strays++; strays >= maxStrays {
			r.counts.limits[limitStrays].Add(1)
			break
		}
	}
	return reply{size: size}, &serverError{fault: faultMalformed, said: "nothing but datagrams that do not answer", err: stray, heard: true}
}

// converse sends a datagram and reads the first that comes.
func converse(conn net.Conn, out, in []byte) (int, error) {
	if c, ok := conn.(interface {
		converse(out, in []byte) (int, error)
	}); ok {
		return c.converse(out, in)
	}
	if _, err := conn.Write(out); err != nil {
		return 0, err
	}
	return conn.Read(in)
}

// learn remembers what a reply shows of its server's ways.
func (r *Resolver) learn(q *query, b []byte, msg *wire.Msg) {
	if end, err := nameEnd(q.bytes, headerSize); q.proto == "tcp" && q.mixed && err == nil && len(b) >= end &&
		len(msg.Question) == 1 && !bytes.Equal(b[headerSize:end], q.bytes[headerSize:end]) {
		r.servers.flattens(q.server)
	}
	if len(q.client) > 0 && !msg.Truncated {
		r.servers.baked(q.server, serverCookie(msg))
	}
}

// overTCP asks over a connection of its own (RFC 7766).
func (r *Resolver) overTCP(w wait, p packet) (reply, error) {
	conn, err := r.dial(w, p)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	w.at(conn)
	q, err := r.compose(p, conn, nil)
	if err != nil {
		return reply{}, err
	}
	// Length and question leave in one segment: RFC 7766 §8.
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(q.bytes)), uint16(len(q.bytes)))
	if _, err := conn.Write(append(framed, q.bytes...)); err != nil {
		return reply{}, w.failed(err)
	}
	r.counts.packets.Add(1)
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return reply{}, w.failed(err)
	}
	buf := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return reply{}, w.failed(err)
	}
	msg, _, err := q.read(buf)
	if err == nil && msg.Truncated {
		err = fmt.Errorf("%w: it is truncated, over TCP", errUnreadable)
	}
	if err != nil {
		return reply{size: len(buf)}, &serverError{fault: faultMalformed, said: err.Error(), err: err, heard: true}
	}
	r.learn(q, buf, msg)
	return reply{msg: msg, size: len(buf)}, nil
}

func (r *Resolver) dial(w wait, p packet) (net.Conn, error) {
	ctx, cancel := context.WithDeadline(context.Background(), w.deadline)
	defer cancel()
	w.with(cancel)
	if p.tls != nil {
		return p.tls.connect(ctx, r.Dial, p.server.String())
	}
	conn, err := r.Dial(ctx, p.proto, p.server.String())
	return r.dialled(w, p, conn, err)
}

// dialUDP is dial for a datagram, which waits for nothing unless Dial is the caller's, or
// has to find the interface of a link-local address.
func (r *Resolver) dialUDP(w wait, p packet) (net.Conn, error) {
	if !r.ownSockets || p.server.Addr().Zone() != "" {
		return r.dial(w, p)
	}
	conn, err := r.sockets.open(p.server)
	return r.dialled(w, p, conn, err)
}

func (r *Resolver) dialled(w wait, p packet, conn net.Conn, err error) (net.Conn, error) {
	if err == nil {
		return conn, nil
	}
	if isLocal(err) {
		r.logNoRoute(p.server, err)
	}
	return nil, w.failed(err)
}

// socketError tells our trouble from the server's.
func socketError(err error) error {
	var timeout net.Error
	switch {
	case isLocal(err):
		return &serverError{fault: faultLocal, said: cause(err).Error(), err: err}
	case errors.Is(err, syscall.EHOSTUNREACH): // a router's word, or nobody's at our own gateway: as with silence, others tell
		return &serverError{fault: faultSilent, said: cause(err).Error(), err: err}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &serverError{fault: faultSilent, said: "connection refused", err: err, heard: true}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return &serverError{fault: faultSilent, said: "no reply", err: err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &serverError{fault: faultSilent, said: "the connection was closed", err: err, heard: true}
	}
	return &serverError{fault: faultSilent, said: cause(err).Error(), err: err}
}

// localErrors come from this host's own network: no route, no address, no socket, or a
// packet filter. No server can be blamed for one.
var localErrors = [...]error{
	syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT,
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EACCES, syscall.EPERM, syscall.EINVAL,
}

func isLocal(err error) bool {
	for _, local := range localErrors {
		if errors.Is(err, local) {
			return true
		}
	}
	return false
}

// isUnroutable reports whether err speaks of a whole address family rather than of one
// destination.
func isUnroutable(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.ENETDOWN) ||
		errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

// cause gives the innermost error, which says it shortest.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// said puts an Rcode into words for an Attempt.
func said(m *wire.Msg) string { return dns.Rcode(m.Rcode).String() }
