package render

import (
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"mxward/internal/audit"
)

// maxLabelValue is in characters; ours.
const maxLabelValue = 255

// Prometheus writes the text format that node_exporter's textfile collector reads. Series that
// are counted stand there for each severity and side, also where they are 0.
func Prometheus(w io.Writer, reports []Report) error {
	m := newMetrics()
	for _, r := range reports {
		m.report(r)
	}
	registry := prometheus.NewRegistry()
	for _, vec := range []*prometheus.GaugeVec{m.when, m.findings, m.failed, m.unknown, m.ignored, m.passed, m.ends} {
		if err := registry.Register(vec); err != nil {
			return err
		}
	}
	families, err := registry.Gather()
	if err != nil {
		return err
	}
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(w, family); err != nil {
			return err
		}
	}
	return nil
}

type metrics struct {
	when, findings, failed, unknown, ignored, passed, ends *prometheus.GaugeVec
}

func newMetrics() metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append([]string{"domain"}, labels...))
	}
	return metrics{
		when:     gauge("mxward_check_timestamp_seconds", "When the domain was looked at."),
		findings: gauge("mxward_check_findings", "Findings that failed, by severity.", "severity"),
		failed:   gauge("mxward_check_failed", "1 for each finding that failed.", "id", "target", "severity"),
		unknown:  gauge("mxward_check_unknown", "Findings that could not be determined, by whose side the trouble is on.", "blame"),
		ignored:  gauge("mxward_check_ignored", "Findings that a baseline has not count."),
		passed:   gauge("mxward_check_passed", "Findings that are fine."),
		ends:     gauge("mxward_check_expiry_timestamp_seconds", "When a signature, a certificate or a registration ends.", "kind", "target"),
	}
}

func (m metrics) report(r Report) {
	domain := r.Domain.String()
	m.when.WithLabelValues(domain).Set(float64(r.When.UnixMilli()) / 1000)
	m.ignored.WithLabelValues(domain).Set(float64(len(r.ignored())))
	m.passed.WithLabelValues(domain).Set(float64(r.count(audit.Pass)))
	for _, s := range audit.Severities() {
		m.findings.WithLabelValues(domain, string(s)).Set(0)
		for _, f := range r.fails(s) {
			if f.Blame.Ours() { // it says nothing of the domain, and is among the unknown
				continue
			}
			m.findings.WithLabelValues(domain, string(s)).Inc()
			m.failed.WithLabelValues(domain, f.ID, clip(f.Target, maxLabelValue), string(s)).Set(1)
		}
	}
	for _, b := range audit.Blames() {
		m.unknown.WithLabelValues(domain, string(b)).Set(0)
	}
	for _, f := range r.Findings {
		if (f.Status == audit.Unknown || f.Status == audit.Fail && f.Blame.Ours()) && f.Ignored == "" {
			m.unknown.WithLabelValues(domain, string(f.Blame)).Inc()
		}
	}
	for _, c := range r.Clocks {
		m.ends.WithLabelValues(domain, c.Kind, clip(c.Target, maxLabelValue)).Set(float64(c.Ends.Unix()))
	}
}
