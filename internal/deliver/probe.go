package deliver

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"mxward/internal/mail"
)

// Bounds of a probe.
const (
	maxProbes    = 10              // hosts at once
	probeTimeout = 2 * time.Minute // for one host, all stages
	maxGreeting  = 512             // octets of a greeting that are kept, RFC 5321 §4.5.3.1.5
)

// Knock is what Probe found at one hop.
type Knock struct {
	Hop      Hop
	OK       bool          // it would listen to a message
	Stage    mail.Stage    // where it ended: quit if all went well
	Greeting string        // the first line that the host said, code included
	TLS      string        // "TLS 1.3", or "" where mail would go in plain text
	Reply    mail.Reply    // why it is not OK; zero if it is
	Remote   bool          // Reply is the host's own words
	Ours     bool          // our own network is to blame: it has no way to the host
	TLSFault string        // why STARTTLS did not work, though it is offered
	Took     time.Duration // from the first packet to the last
}

// Probe knocks at each hop of a route: connection, greeting, EHLO, STARTTLS, QUIT. No mail
// is sent, and what is known of dead hosts is neither used nor changed. The results are in
// the order of the hops.
func (d *Deliverer) Probe(ctx context.Context, r Route) []Knock {
	d.init()
	knocks := make([]Knock, len(r.Hops))
	turns := make(chan struct{}, maxProbes)
	var wg sync.WaitGroup
	for i, h := range r.Hops {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			knocks[i] = d.knock(ctx, h)
		})
	}
	wg.Wait()
	return knocks
}

func (d *Deliverer) knock(ctx context.Context, h Hop) (k Knock) {
	defer func() {
		if p := recover(); p != nil {
			d.logPanic(p, debug.Stack())
			k = Knock{Hop: h, Stage: mail.StageConnect, Reply: mail.NewReply(451, 3, 0, "internal trouble")}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	at, began := d.placeOf(h), time.Now()
	var heard *listener
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		heard = &listener{Conn: conn}
		return heard, nil
	}
	k = Knock{Hop: h, Stage: mail.StageQuit}
	l, err := d.handshake(ctx, at, d.tlsConfig(at), dial)
	if tlsFault(err) && ctx.Err() == nil {
		k.TLSFault = reason(err)
		l, err = d.handshake(ctx, at, nil, dial)
	}
	if err == nil {
		k.OK = true
		if state, ok := l.client.TLSState(); ok {
			k.TLS = tls.VersionName(state.Version)
		}
		l.client.Close()
	} else {
		o := failure(at, err)
		k.Stage, k.Reply, k.Remote = o.Stage, o.Reply, o.Remote
		k.Ours = noWay(err)
	}
	if heard != nil {
		k.Greeting = heard.greeting()
	}
	k.Took = time.Since(began)
	return k
}

// String gives the knock in one line, for people.
func (k Knock) String() string {
	took := k.Took.Round(time.Millisecond)
	if !k.OK {
		who := "we say"
		if k.Remote {
			who = "the host says"
		}
		return fmt.Sprintf("%s: no, at %s after %s: %s %s", k.Hop, k.Stage, took, who, k.Reply)
	}
	how := "plain text"
	switch {
	case k.TLS != "":
		how = k.TLS
	case k.TLSFault != "":
		how += ", since " + k.TLSFault
	}
	return fmt.Sprintf("%s: answers, after %s, %s: %s", k.Hop, took, how, k.Greeting)
}

// MarshalJSON gives every key always, replies as one text and times in milliseconds.
func (k Knock) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Hop      Hop        `json:"hop"`
		OK       bool       `json:"ok"`
		Stage    mail.Stage `json:"stage"`
		Greeting string     `json:"greeting"`
		TLS      string     `json:"tls"`
		TLSFault string     `json:"tls_fault"`
		Reply    string     `json:"reply"`
		Remote   bool       `json:"remote"`
		Ours     bool       `json:"ours"`
		Took     float64    `json:"took_ms"`
	}{k.Hop, k.OK, k.Stage, k.Greeting, k.TLS, k.TLSFault, k.Reply.String(), k.Remote, k.Ours, float64(k.Took.Microseconds()) / 1000})
}

// noWay reports an error of our own network, which says nothing about the host. A packet
// filter that drops in silence cannot be told from a host that does.
func noWay(err error) bool {
	for _, local := range []error{
		syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT, syscall.EACCES, syscall.EPERM,
	} {
		if errors.Is(err, local) {
			return true
		}
	}
	return false
}

// listener is a connection that keeps the first line it brings.
type listener struct {
	net.Conn
	first []byte
}

func (l *listener) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if room := maxGreeting - len(l.first); room > 0 && !bytes.ContainsRune(l.first, '\n') {
		l.first = append(l.first, p[:min(n, room)]...)
	}
	return n, err
}

// greeting gives the first line, fit for a terminal.
func (l *listener) greeting() string {
	line, _, _ := strings.Cut(string(l.first), "\n")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.TrimSuffix(line, "\r"))
}
