package server

import (
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"

	wire "github.com/miekg/dns"
)

func (s *Server) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}

func logFailed(l *slog.Logger, client netip.AddrPort, q *query, err error) {
	l.Debug("question failed", "client", client, "name", q.name, "type", wire.Type(q.qtype).String(), "err", err)
}

func logPanic(l *slog.Logger, client netip.AddrPort, q query, what any) {
	l.Error("panic while answering", "client", client, "name", q.name, "type", wire.Type(q.qtype).String(),
		"err", what, "stack", string(debug.Stack()))
}

func logUnpackable(l *slog.Logger, q *query, err error) {
	l.Warn("answer cannot be sent", "name", q.name, "type", wire.Type(q.qtype).String(), "err", err)
}

func logSocketTrouble(l *slog.Logger, what string, addr net.Addr, err error) {
	l.Warn("socket trouble", "stage", what, "addr", addr.String(), "err", err)
}

func logSendFailed(l *slog.Logger, client netip.AddrPort, err error) {
	l.Debug("answer not sent", "client", client, "err", err)
}
