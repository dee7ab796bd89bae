package probe

import (
	"encoding/json"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/mailauth/tlsa"
)

// FuzzSession: a session that was written down by somebody else can be judged, whatever it is.
func FuzzSession(f *testing.F) {
	f.Add([]byte(`{"host":"mx1.example.com","address":"192.0.2.25:25","steps":[{"stage":"greeting","code":220,"lines":["mx1.example.com"]},{"stage":"hello","said":"EHLO x","code":250,"lines":["a","STARTTLS"]},{"stage":"tls"}],"tls":{"version":"TLS 1.3","chain":["MAA=","MAA="]}}`))
	f.Add([]byte(`{"steps":[{"stage":"rcpt","code":-7,"lines":[]},{"stage":"connect"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s Session
		if json.Unmarshal(text, &s) != nil {
			return
		}
		record, now := tlsa.Record{Usage: 3, Selector: 1, Matching: 0, Data: "x"}, time.Now()
		_ = DemandSTS(&mtasts.Survey{Fetched: mtasts.Fetched{Policy: mtasts.Policy{Mode: mtasts.Enforce, MX: []mtasts.Pattern{{Name: s.Host}}}}}, s, now)
		_ = DemandDANE(tlsa.Result{Host: s.Host, Base: s.Host, State: tlsa.Secure, Records: []tlsa.Record{record}}, s, now)
		_, _, _ = s.Deferred()
		_, _ = s.Slow()
		_, _ = s.Relays()
		_ = s.Beside()
		_, _ = s.Extension("STARTTLS")
		_ = s.Transcript()
		_ = s.Because()
		if s.TLS != nil {
			_ = s.TLS.PKIX(dns.MustName("mx1.example.com"), now)
			_ = s.TLS.DANE([]tlsa.Record{record}, now)
		}
	})
}
