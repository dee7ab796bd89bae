package server

import (
	"net/netip"
	"sync"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// crowd is how many questions are being answered before one more is asked after its outlook.
const crowd = 64

// How the waiting room is looked after: a few at a time, and between that all others have their
// turn (turnstile), so that a full room costs little, and those who are on their way never wait
// for long behind the rest.
const (
	lookEvery  = 2 * time.Millisecond // where nobody could be let go on
	looksEach  = 20
	beginsEach = 8  // of these, as many with a fair or an unsure outlook
	sweeps     = 10 // in QueryTimeout, for those whose turn has not come
)

// waitingRoom holds the questions that should wait (dns.Foreteller). Each is a packet and an
// address here; a goroutine for each would be a hundred times as large, and in a flood all of
// them would be in the way of the others. MaxInFlight bounds it.
type waitingRoom struct {
	mu     sync.Mutex
	fair   fairQueue // come first
	unsure []waiting
	bad    []waiting // those next to be looked at
	again  []waiting // those that have been looked at
	tended bool
	swept  time.Time
}

// waiting is a question and when it came. It has its place among those in flight.
type waiting struct {
	packet []byte
	from   netip.AddrPort
	came   time.Time
}

// add lets a question wait.
func (r *waitingRoom) add(w waiting, outlook dns.Outlook, l *udpLoop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch outlook {
	case dns.OutlookGood, dns.OutlookFair:
		r.fair.add(w)
	case dns.OutlookUnsure:
		r.unsure = append(r.unsure, w)
	case dns.OutlookBad:
		r.again = append(r.again, w)
	}
	if !r.tended {
		r.tended = true
		l.answering.Go(l.tend)
	}
}

// take gives the next questions to look at, none if there are none: then nobody tends the
// room any more.
func (r *waitingRoom) take() []waiting {
	r.mu.Lock()
	defer r.mu.Unlock()
	some := r.fair.take(beginsEach)
	some = append(some, cutOff(&r.unsure, beginsEach-len(some))...)
	if len(r.bad) == 0 {
		r.bad, r.again = r.again, nil
	}
	some = append(some, cutOff(&r.bad, looksEach-len(some))...)
	r.tended = len(some) > 0
	return some
}

// overdue gives those of a fair or an unsure outlook that have waited for longer than that. While
// more come than may begin, the newest are first, and these would wait for as long as that lasts.
func (r *waitingRoom) overdue(now time.Time, limit time.Duration) []waiting {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.swept) < limit/sweeps {
		return nil
	}
	r.swept = now
	then := now.Add(-limit)
	n := 0
	for n < len(r.unsure) && r.unsure[n].came.Before(then) {
		n++
	}
	return append(r.fair.before(then), cutOff(&r.unsure, n)...)
}

// cutOff takes up to n questions from the front of a list.
func cutOff(list *[]waiting, n int) []waiting {
	n = min(n, len(*list))
	some := (*list)[:n:n]
	if *list = (*list)[n:]; len(*list) == 0 {
		*list = nil
	}
	return some
}

// tend looks after the waiting room until it is empty.
func (l *udpLoop) tend() {
	for some := l.room.take(); len(some) > 0; some = l.room.take() {
		idle := true
		for _, w := range some {
			if !l.look(w) {
				idle = false
			}
		}
		if idle && l.ctx.Err() == nil {
			time.Sleep(lookEvery)
		}
		l.turnstile.pass()
		for _, w := range l.room.overdue(time.Now(), l.limit()) {
			l.fail(w, &dns.Error{Trouble: dns.WorkLimit, Detail: "too many questions came before it"})
		}
	}
}

// limit is for how long an answer may be waited for.
func (l *udpLoop) limit() time.Duration {
	return orDefault(l.server.QueryTimeout, defaultQueryTimeout)
}

// fail says of one that waits that there is no answer.
func (l *udpLoop) fail(w waiting, err error) {
	defer l.server.giveBack()
	if out := l.server.failed(w, err); out != nil && l.ctx.Err() == nil {
		l.send(out, w.from)
	}
}

// look decides about one that waits, and reports whether it still does. Who has waited for as
// long as an answer may take is let go on like any other.
func (l *udpLoop) look(w waiting) (waits bool) {
	outlook, err := l.foretell(w)
	switch {
	case l.ctx.Err() != nil: // cut off at the end
		l.server.giveBack()
	case err != nil:
		l.fail(w, err)
	case outlook == dns.OutlookBad && time.Since(w.came) < l.limit():
		l.room.add(w, outlook, l)
		return true
	default:
		l.find(w, false)
	}
	return false
}

// foretell asks the Resolver about a question whose packet is well formed. A fault of its is
// left for the long way to meet, where it costs one answer.
func (l *udpLoop) foretell(w waiting) (outlook dns.Outlook, err error) {
	s := l.server
	if s.foresee == nil || s.inFlight.Load() < crowd {
		return dns.OutlookGood, nil
	}
	defer func() {
		if r := recover(); r != nil {
			s.counts.panics.Add(1)
			logPanic(s.logger(), w.from, query{}, r)
			outlook, err = dns.OutlookGood, nil
		}
	}()
	q, malformed := parseHeader(w.packet)
	if malformed != nil || q.opcode != wire.OpcodeQuery || q.read(w.packet, false) != nil {
		return dns.OutlookGood, nil
	}
	if _, refused := refuse(&q); refused {
		return dns.OutlookGood, nil
	}
	return s.foresee.Foretell(dns.WireQuestion{
		Name: w.packet[headerSize:q.nameEnd], Type: dns.Type(q.qtype), DNSSEC: q.do, CheckingDisabled: q.cd,
	}, w.came)
}

// failed is the reply to a question whose error is known.
func (s *Server) failed(w waiting, err error) (out []byte) {
	q, malformed := parseHeader(w.packet)
	if malformed != nil || q.parse(w.packet) != nil {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			s.counts.panics.Add(1)
			logPanic(s.logger(), w.from, q, r)
			out = s.bare(&q, wire.RcodeServerFailure)
		}
	}()
	s.counts.queries.Add(1)
	m := s.reply(&q)
	s.fail(m, &q, w.from, err)
	return s.pack(m, &q, s.limitOf(&q, false), false)
}
