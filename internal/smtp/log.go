package smtp

import (
	"log/slog"
	"net/netip"
	"time"

	"mxward/internal/mail"
)

func (s *Server) logAcceptFailed(err error, pause time.Duration) {
	s.log.Warn("accept failed", "err", err, "pause", pause)
}

// logRefused writes one line a second at most: who is turned away often comes back at once.
func (s *Server) logRefused(client netip.AddrPort, r mail.Reply) {
	now, last := time.Now().UnixNano(), s.refusalLogged.Load()
	if now-last < int64(time.Second) || !s.refusalLogged.CompareAndSwap(last, now) {
		return
	}
	s.log.Warn("connection refused", "client", client, "reply", r.String(), "total", s.refused.Load())
}

func (c *conn) logPanic(value any, stack []byte) {
	c.srv.log.Error("panic in a session", "session", c.info.ID, "client", c.info.Remote, "stage", c.end.Stage, "err", value, "stack", string(stack))
}

func (c *conn) logInjection(octets int) {
	c.srv.log.Warn("text after STARTTLS thrown away", "session", c.info.ID, "client", c.info.Remote, "octets", octets)
}

func (c *conn) logEnd() {
	level := slog.LevelDebug
	attrs := []any{"session", c.info.ID, "client", c.info.Remote, "stage", c.end.Stage, "quit", c.end.Quit,
		"early", c.end.EarlyTalk, "bareline", c.end.BareLine, "took", c.end.Took, "err", c.end.Err}
	if no := c.refusal; no.reply.Code != 0 {
		level = slog.LevelInfo
		attrs = append(attrs, "refused", no.command, "reply", no.reply.String(), "more", no.more)
	}
	if c.end.Err != nil && c.end.Stage != mail.StageConnect {
		level = slog.LevelInfo
	}
	c.srv.log.Log(c.ctx, level, "session ended", attrs...)
}
