package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxward/internal/audit/render"
	"mxward/internal/deliver"
	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/mailauth/tlsa"
	"mxward/internal/probe"
)

// probeFlags say how mail hosts are visited.
type probeFlags struct {
	hello string
	port  uint16
}

func (f *probeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.hello, "hello", "", "the `name` to say in EHLO to mail hosts (default: this host's)")
	cmd.Flags().Uint16Var(&f.port, "port", 25, "the `port` of mail hosts to connect to")
}

func (f *probeFlags) prober() *probe.Prober {
	return &probe.Prober{Hello: f.helloName(), Port: f.port}
}

// helloName: RFC 5321 §4.1.1.1 wants the client's own name.
func (f *probeFlags) helloName() string {
	if f.hello != "" {
		return f.hello
	}
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "localhost"
}

// knock is what a visit at one hop found, and what TLS mail would meet there.
type knock struct {
	hop     deliver.Hop
	session probe.Session
	sts     probe.STS
	dane    probe.DANE
}

// knocks visits each hop of a route, and looks up what MTA-STS and DANE demand on the way.
func (f *routeFlags) knocks(ctx context.Context, r dns.Resolver, route deliver.Route) []knock {
	var domain dns.Name // zero for an address literal
	if !strings.HasPrefix(route.Destination, "[") {
		domain, _ = dns.ParseName(route.Destination)
	}
	targets := make([]probe.Target, len(route.Hops))
	for i, h := range route.Hops {
		targets[i] = probe.Target{Host: h.Host, Addr: h.Addr, Domain: domain}
	}
	sessions := f.prober().Visits(ctx, targets)
	policy := policyOf(ctx, r, domain)
	var mx dns.Set[dns.MX]
	if !domain.IsZero() {
		mx, _ = dns.LookupMX(ctx, r, domain) // known since the route was found
	}
	found := map[dns.Name]tlsa.Result{}
	knocks := make([]knock, len(sessions))
	for i, s := range sessions {
		h := route.Hops[i]
		if _, known := found[h.Host]; !known && !h.Host.IsZero() {
			found[h.Host] = tlsa.Lookup(ctx, r, h.Host, 0)
		}
		knocks[i] = knock{h, s, probe.DemandSTS(policy, s, time.Now()), f.dane(found[h.Host], s, mx.Authentic, domain)}
	}
	return knocks
}

// policyOf is what a sender learns of a domain's MTA-STS: no policy is asked for without a
// record (RFC 8461 §3.1).
func policyOf(ctx context.Context, r dns.Resolver, domain dns.Name) *mtasts.Survey {
	s := &mtasts.Survey{Domain: domain, RecordErr: mtasts.ErrNone}
	if domain.IsZero() {
		return s
	}
	fetcher := &mtasts.Fetcher{Resolver: r, AllowLoopback: true} // as the route may lead here
	if s.Record, s.RecordErr = fetcher.Record(ctx, domain); s.RecordErr == nil {
		s.Fetched, s.PolicyErr = fetcher.Fetch(ctx, domain)
	}
	return s
}

func (f *routeFlags) dane(found tlsa.Result, s probe.Session, secure bool, domain dns.Name) probe.DANE {
	var names []dns.Name
	if secure {
		names = []dns.Name{domain} // RFC 7672 §3.2.2
	}
	found.State = cmp.Or(found.State, tlsa.Insecure) // an address has no records
	d := probe.DemandDANE(found, s, time.Now(), names...)
	if f.server != "" && found.State == tlsa.Insecure {
		d.State, d.Satisfied, d.Why = probe.Unvalidated, false, "answers of another resolver are not validated here: ask without --server"
	}
	return d
}

// ok: it would listen to a message.
func (k knock) ok() bool { return k.session.Listens() }

// ours: our own network has no way to the host, or may have none: of one host it cannot be told.
func (k knock) ours() bool {
	trouble := k.session.End().Trouble
	return trouble == probe.NoWay || trouble == probe.Unreachable
}

// why gives the reply for which mail would not go there now, and whether it is the host's own.
func (k knock) why() (reply string, remote bool) {
	end := k.session.End()
	switch {
	case k.ok():
		return "", false
	case end.Code != 0:
		return end.Reply(), true
	}
	detail := 2 // RFC 3463 §3.5: bad connection
	if end.Stage == mail.StageConnect || end.Trouble == probe.TimedOut {
		detail = 1 // no answer from host
	}
	return mail.NewReply(451, 4, detail, "no connection: "+end.Error).String(), false
}

func (k knock) greeting() string {
	step, _ := k.session.At(mail.StageGreeting)
	line, _, _ := strings.Cut(step.Reply(), " / ")
	return line
}

func (k knock) stage() mail.Stage {
	if k.ok() {
		return mail.StageQuit
	}
	return k.session.End().Stage
}

func (k knock) version() string {
	if k.session.TLS == nil || !k.ok() {
		return ""
	}
	return k.session.TLS.Version
}

// String gives the knock for people: one line, and more of them where there is more to say.
func (k knock) String() string {
	took := time.Duration(k.session.TookMS * float64(time.Millisecond)).Round(time.Millisecond)
	reply, remote := k.why()
	if !k.ok() {
		who := "we say"
		if remote {
			who = "the host says"
		}
		return fmt.Sprintf("%s: no, at %s after %s: %s %s", k.hop, k.stage(), took, who, render.Clean(reply))
	}
	how := "plain text"
	switch {
	case k.version() != "":
		how = k.version()
	case k.session.TLSFault() != "":
		how += ", since " + k.session.TLSFault()
	}
	lines := append([]string{fmt.Sprintf("%s: answers, after %s, %s: %s", k.hop, took, how, k.greeting())}, k.remarks()...)
	for i := range lines {
		lines[i] = render.Clean(lines[i])
	}
	return strings.Join(lines, "\n    ")
}

// remarks say what is worth knowing of a host that answers.
func (k knock) remarks() []string {
	var all []string
	s := k.session
	if t := s.TLS; t != nil {
		word := "valid for this host"
		if err := t.PKIX(k.hop.Host, s.Began); err != nil {
			word = err.Error()
		}
		if !k.hop.Host.IsZero() { // an address has no name to compare
			all = append(all, "certificate: "+word)
		}
	}
	all = append(all, k.sts.String(), k.dane.String())
	if step, grey, ok := s.Deferred(); ok {
		word := "defers strangers: "
		if grey {
			word = "greylisting: "
		}
		all = append(all, word+step.Reply())
	}
	if text := s.Tarpit(); text != "" {
		all = append(all, "slow on purpose: "+text)
	}
	if relays, _ := s.Relays(); relays {
		all = append(all, "takes mail for strangers' domains from this host")
	}
	return all
}

// MarshalJSON gives every key always, replies as one text and times in milliseconds.
func (k knock) MarshalJSON() ([]byte, error) {
	reply, remote := k.why()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // MAIL FROM:<>
	err := enc.Encode(struct {
		Hop      deliver.Hop   `json:"hop"`
		OK       bool          `json:"ok"`
		Stage    mail.Stage    `json:"stage"`
		Greeting string        `json:"greeting"`
		TLS      string        `json:"tls"`
		TLSFault string        `json:"tls_fault"`
		Reply    string        `json:"reply"`
		Remote   bool          `json:"remote"`
		Ours     bool          `json:"ours"`
		Took     float64       `json:"took_ms"`
		STS      probe.STS     `json:"mtasts"`
		DANE     probe.DANE    `json:"dane"`
		Session  probe.Session `json:"session"`
	}{k.hop, k.ok(), k.stage(), k.greeting(), k.version(), k.session.TLSFault(), reply, remote, k.ours(), k.session.TookMS, k.sts, k.dane, k.session})
	return b.Bytes(), err
}
