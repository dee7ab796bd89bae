package resolver

import (
	"log/slog"
	"net/netip"
	"runtime/debug"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
)

func (r *Resolver) logFailure(q dns.Question, err error) {
	r.Logger.Debug("no answer", slog.String("question", q.String()), slog.Any("err", err))
}

func (r *Resolver) logPanic(q dns.Question, p any) {
	r.Logger.Error("a question ended in a panic", slog.String("question", q.String()),
		slog.Any("err", p), slog.String("stack", string(debug.Stack())))
}

func (r *Resolver) logStray(p packet, why error) {
	r.Logger.Debug("datagram dropped", slog.String("host", p.server.String()),
		slog.String("question", p.ask.String()), slog.Any("err", why))
}

func (r *Resolver) logNoRoute(server netip.AddrPort, err error) {
	r.Logger.Debug("no route to a name server", slog.String("host", server.String()), slog.Any("err", err))
}

func (r *Resolver) logAnchors(stage string, err error) {
	if err != nil {
		r.Logger.Error("trust anchors", slog.String("stage", stage), slog.Any("err", err))
	}
}

func (r *Resolver) logRollover(t dnssec.Tracked) {
	for _, k := range t.Keys {
		r.Logger.Info("trust anchor", slog.String("zone", t.Zone.String()), slog.String("key", k.PublicKey),
			slog.String("state", string(k.State)), slog.Time("since", k.Since))
	}
}
