package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mxward/internal/audit"
	"mxward/internal/dns/resolver"
	"mxward/internal/dns/server"
	"mxward/internal/watch"
)

// Limits of the listener for metrics: nothing but a scraper asks there.
const (
	metricsTimeout  = 10 * time.Second
	metricsInFlight = 4
)

// metric is one row of what the daemon counts. The rooms count by themselves; here their
// numbers get names.
type metric struct {
	name   string
	labels []string
	help   string
	kind   prometheus.ValueType
	read   func(a *App, emit func(value float64, labels ...string))
}

// histogram is the kind of the one metric that is more than a number: replyTimes.
const histogram = prometheus.ValueType(0)

// metrics are all there are, as docs/metrics.md lists them. None is ever renamed.
var metrics = []metric{
	{"mxward_dns_questions_total", []string{"type"}, "Questions put to the resolver, by this program and through its listener, by record type; those that the listener answered from the cache at once are under cached.",
		prometheus.CounterValue, stats(func(s resolver.Stats, emit func(float64, ...string)) {
			sum := uint64(0)
			for typ, n := range s.Types {
				sum += n
				name := typ.String()
				if typ == 0 {
					name = "other"
				}
				emit(float64(n), name)
			}
			emit(float64(s.Questions-min(sum, s.Questions)), "cached")
		})},
	{"mxward_dns_results_total", []string{"result"}, "What became of the resolver's questions: the response code, or why there was no answer.",
		prometheus.CounterValue, stats(func(s resolver.Stats, emit func(float64, ...string)) {
			for rcode, n := range s.Answers {
				emit(float64(n), rcode.String())
			}
			for trouble, n := range s.Troubles {
				emit(float64(n), trouble.ID())
			}
		})},
	{"mxward_dns_cache_hits_total", nil, "Names that the resolver found in its cache.",
		prometheus.CounterValue, one(func(s resolver.Stats) uint64 { return s.Hits })},
	{"mxward_dns_stale_answers_total", nil, "Questions answered with data that had expired, because no server could be reached.",
		prometheus.CounterValue, one(func(s resolver.Stats) uint64 { return s.Stale })},
	{"mxward_dns_renewals_total", nil, "Popular names that were asked for again before they expired.",
		prometheus.CounterValue, one(func(s resolver.Stats) uint64 { return s.Renewals })},
	{"mxward_dns_rebinds_total", nil, "Answers of the world that led into a private network, and were taken out.",
		prometheus.CounterValue, one(func(s resolver.Stats) uint64 { return s.Rebinds })},
	{"mxward_dns_denied_total", nil, "Names and types that a denial known from another question answered.",
		prometheus.CounterValue, one(func(s resolver.Stats) uint64 { return s.Denied })},
	{"mxward_dns_upstream_packets_total", nil, "Questions sent to name servers, over UDP or TCP.",
		prometheus.CounterValue, one(func(s resolver.Stats) uint64 { return s.Packets })},
	{"mxward_dns_upstream_tcp_total", nil, "Questions to name servers that went on over TCP.",
		prometheus.CounterValue, one(func(s resolver.Stats) uint64 { return s.TCP })},
	{"mxward_dns_upstream_reply_seconds", nil, "Replies of name servers, by the time that they took, as a histogram.",
		histogram, nil},
	{"mxward_dns_upstream_strays_total", nil, "Datagrams that were no reply to what was asked, and were dropped.",
		prometheus.CounterValue, one(func(s resolver.Stats) uint64 { return s.Strays })},
	{"mxward_dns_upstream_near_misses_total", nil, "Dropped datagrams that somebody who forges answers might have sent.",
		prometheus.CounterValue, one(func(s resolver.Stats) uint64 { return s.NearMisses })},
	{"mxward_dns_bogus_total", []string{"reason"}, "Questions whose answers DNSSEC proved wrong, by extended DNS error (RFC 8914): 7 is an expired signature.",
		prometheus.CounterValue, stats(func(s resolver.Stats, emit func(float64, ...string)) {
			for code, n := range s.Bogus {
				emit(float64(n), strconv.Itoa(int(code)))
			}
		})},
	{"mxward_dns_limits_total", []string{"limit"}, "Times that a bound on the resolver's work was reached.",
		prometheus.CounterValue, stats(func(s resolver.Stats, emit func(float64, ...string)) {
			for limit, n := range s.Limits {
				emit(float64(n), limit)
			}
		})},
	{"mxward_dns_resolver_panics_total", nil, "Faults of the resolver that were caught.",
		prometheus.CounterValue, one(func(s resolver.Stats) uint64 { return s.Panics })},

	{"mxward_dns_server_queries_total", []string{"listener"}, "Packets with questions that came to a DNS listener.",
		prometheus.CounterValue, counts(func(name string, c server.Counts, emit func(float64, ...string)) { emit(float64(c.Queries), name) })},
	{"mxward_dns_server_troubles_total", []string{"listener", "trouble"}, "Packets and connections at a DNS listener that got no plain answer.",
		prometheus.CounterValue, counts(func(name string, c server.Counts, emit func(float64, ...string)) {
			emit(float64(c.Ignored), name, "ignored")
			emit(float64(c.Malformed), name, "malformed")
			emit(float64(c.Failed), name, "failed")
			emit(float64(c.Truncated), name, "truncated")
			emit(float64(c.Limited), name, "limited")
			emit(float64(c.Dropped), name, "dropped")
			emit(float64(c.RefusedConns), name, "refused_connection")
			emit(float64(c.Panics), name, "panic")
		})},

	{"mxward_smtp_sessions_total", []string{"host"}, "SMTP sessions that began.", prometheus.CounterValue,
		func(a *App, emit func(float64, ...string)) {
			for _, s := range a.smtpServers {
				emit(float64(s.Stats().Sessions), s.Hostname)
			}
		}},
	{"mxward_smtp_sessions_open", []string{"host"}, "SMTP sessions that are open now.", prometheus.GaugeValue,
		func(a *App, emit func(float64, ...string)) {
			for _, s := range a.smtpServers {
				emit(float64(s.Stats().Open), s.Hostname)
			}
		}},
	{"mxward_smtp_refused_total", []string{"host"}, "SMTP connections refused because there were too many, of one client or in all.", prometheus.CounterValue,
		func(a *App, emit func(float64, ...string)) {
			for _, s := range a.smtpServers {
				emit(float64(s.Stats().Refused), s.Hostname)
			}
		}},
	{"mxward_smtp_panics_total", []string{"host"}, "Faults of SMTP sessions that were caught.", prometheus.CounterValue,
		func(a *App, emit func(float64, ...string)) {
			for _, s := range a.smtpServers {
				emit(float64(s.Stats().Panics), s.Hostname)
			}
		}},
	{"mxward_edge_contacts_dropped_total", nil, "Contacts that were not recorded, because of overload or of a failing store.", prometheus.CounterValue,
		func(a *App, emit func(float64, ...string)) { emit(float64(a.gate.Dropped())) }},

	{"mxward_report_counted_total", nil, "Messages counted for DMARC reports to others.", prometheus.CounterValue,
		func(a *App, emit func(float64, ...string)) {
			if a.counter != nil {
				counted, _ := a.counter.Counted()
				emit(float64(counted))
			}
		}},
	{"mxward_report_lost_total", nil, "Of these, messages that no report will tell of, because of a limit or of a failing store.", prometheus.CounterValue,
		func(a *App, emit func(float64, ...string)) {
			if a.counter != nil {
				_, lost := a.counter.Counted()
				emit(float64(lost))
			}
		}},
	{"mxward_report_outcomes_total", []string{"outcome"}, "What became of reports whose day had ended: sent, that is handed to the queue, postponed, or dropped, since nobody wants them or the DNS gave no answer for days.", prometheus.CounterValue,
		func(a *App, emit func(float64, ...string)) {
			if a.sender != nil {
				sent, postponed, dropped := a.sender.Outcomes()
				emit(float64(sent), "sent")
				emit(float64(postponed), "postponed")
				emit(float64(dropped), "dropped")
			}
		}},
	{"mxward_report_received_total", []string{"result"}, "Reports that came in: kept, kept as perhaps forged since their message did not pass DMARC, known already, full for want of room, share where their reporter has a quarter of it, unreadable, or failed at the store.", prometheus.CounterValue,
		func(a *App, emit func(float64, ...string)) {
			if a.reader != nil {
				for result, n := range a.reader.Counts() {
					emit(float64(n), result)
				}
			}
		}},

	{"mxward_watch_last_look_timestamp_seconds", []string{"domain"}, "When the watch looked at the domain last; of gates with one store, the one that watches has these.",
		prometheus.GaugeValue, watched(func(n watch.Number, emit func(float64, ...string)) {
			emit(float64(n.When.UnixMilli())/1000, n.Domain.String())
		})},
	{"mxward_watch_findings", []string{"domain", "severity"}, "Findings of that look that failed, by severity, of our own side too.",
		prometheus.GaugeValue, watched(func(n watch.Number, emit func(float64, ...string)) {
			for _, s := range audit.Severities() {
				emit(float64(n.Findings[s]), n.Domain.String(), string(s))
			}
		})},
	{"mxward_watch_unknown", []string{"domain", "blame"}, "Findings of that look that could not be determined, by whose side the trouble is on.",
		prometheus.GaugeValue, watched(func(n watch.Number, emit func(float64, ...string)) {
			for _, b := range audit.Blames() {
				emit(float64(n.Unknown[b]), n.Domain.String(), string(b))
			}
		})},
	{"mxward_watch_expiry_timestamp_seconds", []string{"domain", "kind", "target"}, "When a signature, a certificate or a registration ends.",
		prometheus.GaugeValue, watched(func(n watch.Number, emit func(float64, ...string)) {
			for _, c := range n.Clocks {
				emit(float64(c.Ends.Unix()), n.Domain.String(), c.Kind, strings.ToValidUTF8(c.Target, "?"))
			}
		})},
	{"mxward_watch_changes_total", []string{"change"}, "Changes of domains that the watch has told: worse, better, ends (something ends soon) and renewed.",
		prometheus.CounterValue, func(a *App, emit func(float64, ...string)) {
			if a.watcher != nil {
				changes, _ := a.watcher.Changes()
				for _, turn := range watch.Turns() {
					emit(float64(changes[turn]), string(turn))
				}
			}
		}},
	{"mxward_watch_unsent", nil, "Changes that wait to be handed to the queue.",
		prometheus.GaugeValue, func(a *App, emit func(float64, ...string)) {
			if a.watcher != nil {
				_, unsent := a.watcher.Changes()
				emit(float64(unsent))
			}
		}},
}

// watched reads the numbers of the last look at each domain.
func watched(read func(n watch.Number, emit func(float64, ...string))) func(*App, func(float64, ...string)) {
	return func(a *App, emit func(float64, ...string)) {
		if a.watcher != nil {
			for _, n := range a.watcher.Numbers() {
				read(n, emit)
			}
		}
	}
}

func stats(read func(s resolver.Stats, emit func(float64, ...string))) func(*App, func(float64, ...string)) {
	return func(a *App, emit func(float64, ...string)) { read(a.iterative.Stats(), emit) }
}

func replyTimes(desc *prometheus.Desc, s resolver.Stats) prometheus.Metric {
	atMost := map[float64]uint64{}
	for i, bound := range resolver.RTTBounds() {
		atMost[bound.Seconds()] = s.Within[i]
	}
	return prometheus.MustNewConstHistogram(desc, s.Replies, s.RTT.Seconds(), atMost)
}

func one(read func(resolver.Stats) uint64) func(*App, func(float64, ...string)) {
	return stats(func(s resolver.Stats, emit func(float64, ...string)) { emit(float64(read(s))) })
}

func counts(read func(name string, c server.Counts, emit func(float64, ...string))) func(*App, func(float64, ...string)) {
	return func(a *App, emit func(float64, ...string)) {
		for name, s := range a.dnsServers {
			read(name, s.Counts(), emit)
		}
	}
}

// collector reads the numbers when somebody asks for them.
type collector struct{ *App }

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range metrics {
		to <- m.desc()
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	for _, m := range metrics {
		desc := m.desc()
		if m.kind == histogram {
			to <- replyTimes(desc, c.iterative.Stats())
			continue
		}
		m.read(c.App, func(value float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(desc, m.kind, value, labels...)
		})
	}
}

func (m metric) desc() *prometheus.Desc { return prometheus.NewDesc(m.name, m.help, m.labels, nil) }

// metricsHandler serves /metrics and nothing else.
func (a *App) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{a}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: metricsInFlight,
		Timeout:             metricsTimeout,
	}))
	return mux
}

// listenMetrics comes last, when all that it reads is there.
func (a *App) listenMetrics(context.Context) error {
	at := a.plan.Metrics.Listen
	if !at.IsValid() {
		return nil
	}
	ln, err := net.Listen(family("tcp", at), at.String())
	if err != nil {
		return fmt.Errorf("listen for metrics: %w", err)
	}
	a.cleanups = append(a.cleanups, func() { ln.Close() })
	s := &http.Server{
		Handler:           a.metricsHandler(),
		ReadHeaderTimeout: metricsTimeout,
		ReadTimeout:       metricsTimeout,
		WriteTimeout:      2 * metricsTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	a.services = append(a.services, service{
		name: "metrics " + at.String(),
		run: func() error {
			if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
		stop: s.Shutdown,
	})
	return nil
}
