package server_test

import (
	"net"
	"os/exec"
	"strings"
	"testing"
)

// TestDig: Debian's dig reads our answers, and comes back over TCP after TC.
func TestDig(t *testing.T) {
	dig, err := exec.LookPath("dig")
	if err != nil {
		t.Skip("left out: needs Debian's dig (apt-get install bind9-dnsutils)")
	}
	s := ours(t, zoneFiles(t, "world"))
	host, port, err := net.SplitHostPort(serve(t, s))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args string
		want []string // lines or parts of lines
		not  string
	}{
		{"WwW.example.com A", []string{"status: NOERROR", "flags: qr aa rd; QUERY: 1, ANSWER: 3, AUTHORITY: 0, ADDITIONAL: 1", ";WwW.example.com.", "192.0.2.80"}, "WARNING: Message"},
		{"large.example.com TXT", []string{"Truncated, retrying in TCP mode", "ANSWER: 15", "(TCP)"}, ""},
		{"+tcp nothing.here.example.com A", []string{"status: NXDOMAIN", "SOA"}, ""},
		{"+edns=1 +noednsneg example.com SOA", []string{"status: BADVERS"}, ""},
		{"+noedns version.bind TXT CH", []string{"status: REFUSED"}, "OPT PSEUDOSECTION"},
		{"example.com AXFR", []string{"Transfer failed"}, ""},
		{"+opcode=notify example.com SOA", []string{"status: NOTIMP"}, ""},
		{"+norec unknown.example.com TYPE65280", []string{`\# 4 0A000001`}, ""},
		{`a\.dot.example.com A`, []string{"192.0.2.32"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			args := append([]string{"@" + host, "-p", port, "+tries=2", "+time=5"}, strings.Fields(tt.args)...)
			out, _ := exec.Command(dig, args...).CombinedOutput()
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in:\n%s", want, out)
				}
			}
			if tt.not != "" && strings.Contains(string(out), tt.not) {
				t.Errorf("%q in:\n%s", tt.not, out)
			}
		})
	}
}
