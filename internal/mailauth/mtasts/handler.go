package mtasts

import (
	"io"
	"net"
	"net/http"
	"strings"

	"mxward/internal/dns"
)

// maxServedAge is how long a web cache may keep our policy, in seconds: less than a sender
// that looks each day.
const maxServedAge = "300"

// Handler serves the policies of domains at /.well-known/mta-sts.txt of mta-sts.DOMAIN, by
// the request's Host, and nothing else.
func Handler(policies map[dns.Name]Policy) http.Handler {
	bodies := map[dns.Name]string{}
	for domain, policy := range policies {
		if host, err := PolicyHost(domain); err == nil {
			bodies[host] = policy.String()
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := bodies[hostOf(r.Host)]
		if !ok || r.URL.Path != policyPath {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Cache-Control", "max-age="+maxServedAge)
		h.Set("X-Content-Type-Options", "nosniff")
		io.WriteString(w, body)
	})
}

// hostOf gives the name in a Host header, which may have a port; the zero Name for none.
func hostOf(host string) dns.Name {
	if bare, _, err := net.SplitHostPort(host); err == nil {
		host = bare
	}
	name, err := dns.ParseName(strings.TrimSpace(host))
	if err != nil {
		return dns.Name{}
	}
	return name
}
