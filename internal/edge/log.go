package edge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth"
	"mxward/internal/queue"
	"mxward/internal/smtp"
)

// Bounds of what an attack can make us write. What they keep back is counted in the next
// line of the same kind.
const (
	refusalsPerSecond = 20
	troublePerMinute  = 6
)

// events is the vocabulary of this package's log. What clients say is quoted by slog's
// handlers, so it cannot forge a line.
type events struct {
	logger   *slog.Logger
	refusals budget
	trouble  budget
	noRaw    sync.Once
}

// connected: somebody knocked.
func (l *events) connected(s *session) {
	l.logger.Debug("connected", "session", s.conn.ID, "client", s.client, "host", s.host.name)
}

// accepted: a message is in the queue.
func (l *events) accepted(s *session, m queue.Message, r mailauth.Results) {
	l.logger.Info("accepted", "session", s.conn.ID, "client", s.client, "host", s.host.name,
		"id", m.ID, "from", m.Envelope.From, "rcpt", recipients(m.Envelope.Recipients), "size", m.Size, "backup", m.Backup,
		"spf", r.SPF.Result, "dkim", r.BestDKIM(), "dmarc", r.DMARC.Result, "author", r.DMARC.Author, "forged", r.Removed)
}

// faulted: a part of the judgement panicked; the message is taken without its result.
func (l *events) faulted(s *session, f mailauth.Fault) {
	kept, ok := l.trouble.spend(time.Now(), time.Minute, troublePerMinute)
	if ok {
		l.logger.Error("panic", "work", "judge a message: "+f.Part, "session", s.conn.ID, "client", s.client, "err", fmt.Sprint(f.Value), "stack", f.Stack, "unlogged", kept)
	}
}

// refused: a recipient or a message was not taken; at a trap that is what it is for.
func (l *events) refused(s *session, stage mail.Stage, v Verdict, rcpt string) {
	kept, ok := l.refusals.spend(time.Now(), time.Second, refusalsPerSecond)
	if !ok {
		return
	}
	what := "refused"
	if v.Reason == RungTrap {
		what = "trapped"
	}
	l.logger.Info(what, "session", s.conn.ID, "client", s.client, "host", s.host.name, "stage", stage,
		"from", s.env.From, "rcpt", rcpt, "reason", v.Reason, "reply", v.Reply.String(), "unlogged", kept)
}

// lost: a message did not come to its end.
func (l *events) lost(s *session, err error) {
	kept, ok := l.refusals.spend(time.Now(), time.Second, refusalsPerSecond)
	if ok {
		l.logger.Info("lost", "session", s.conn.ID, "client", s.client, "host", s.host.name, "stage", mail.StageData,
			"from", s.env.From, "rcpt", recipients(s.env.Recipients), "err", err, "unlogged", kept)
	}
}

// storeFailed: a message was deferred because of us.
func (l *events) storeFailed(s *session, err error) {
	kept, ok := l.trouble.spend(time.Now(), time.Minute, troublePerMinute)
	if ok {
		l.logger.Error("store failed", "session", s.conn.ID, "client", s.client, "host", s.host.name, "err", err, "unlogged", kept)
	}
}

// ended: a connection is over.
func (l *events) ended(s *session, e smtp.End) {
	level := slog.LevelDebug
	if e.EarlyTalk || e.BareLine { // no good client does this
		if _, ok := l.refusals.spend(time.Now(), time.Second, refusalsPerSecond); ok {
			level = slog.LevelInfo
		}
	}
	l.logger.Log(context.Background(), level, "ended", "session", s.conn.ID, "client", s.client, "host", s.host.name, "helo", s.hello.Name,
		"stage", e.Stage, "messages", s.accepted, "quit", e.Quit, "early", e.EarlyTalk, "bare", e.BareLine, "took", e.Took, "err", e.Err)
}

// contactsDropped: evidence was lost; total is since the start.
func (l *events) contactsDropped(total uint64, err error) {
	if _, ok := l.trouble.spend(time.Now(), time.Minute, troublePerMinute); ok {
		l.logger.Warn("contacts dropped", "total", total, "err", err)
	}
}

// unwatched: knocks at a decoy will not be seen.
func (l *events) unwatched(host dns.Name, at netip.AddrPort, err error) {
	if errors.Is(err, fs.ErrPermission) {
		l.noRaw.Do(func() {
			l.logger.Warn("decoys are not watched: raw sockets need root or CAP_NET_RAW; all else works", "host", host, "err", err)
		})
		return
	}
	l.logger.Warn("decoy is not watched", "host", host, "address", at, "err", err)
}

// watched: knocks at a decoy will be seen.
func (l *events) watched(host dns.Name, at netip.AddrPort) {
	l.logger.Info("decoy is watched", "host", host, "address", at)
}

// survive ends a panic at the boundary of one piece of work; it is deferred.
func (l *events) survive(work string) {
	if value := recover(); value != nil {
		l.logger.Error("panic", "work", work, "err", fmt.Sprint(value), "stack", string(debug.Stack()))
	}
}

// maxLoggedRecipients bounds a line about a message for many.
const maxLoggedRecipients = 10

func recipients(all []mail.Recipient) []string {
	texts := make([]string, 0, min(len(all), maxLoggedRecipients+1))
	for i, r := range all {
		if i == maxLoggedRecipients {
			return append(texts, fmt.Sprintf("and %d more", len(all)-i))
		}
		texts = append(texts, r.Address.String())
	}
	return texts
}

// budget lets so many things happen in each window of time.
type budget struct {
	mu     sync.Mutex
	begun  time.Time
	spent  int
	denied int
}

// spend reports whether one more may happen, and how many were denied since the last that
// was allowed.
func (b *budget) spend(now time.Time, window time.Duration, allowed int) (denied int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.begun) >= window {
		b.begun, b.spent = now, 0
	}
	if b.spent >= allowed {
		b.denied++
		return 0, false
	}
	b.spent++
	denied, b.denied = b.denied, 0
	return denied, true
}
