package dns

import "testing"

// Each row is a record as a plan writes it, and how a master file would; "" for none.
func TestParseRecord(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"A 192.0.2.1", "host.example.com.\t3600\tIN\tA\t192.0.2.1"},
		{"300 A 192.0.2.1", "host.example.com.\t300\tIN\tA\t192.0.2.1"},
		{"mx 10 mx1.example.com", "host.example.com.\t3600\tIN\tMX\t10 mx1.example.com."},
		{`TXT "two" "strings"`, "host.example.com.\t3600\tIN\tTXT\t\"two\" \"strings\""},
		{"TYPE65280 \\# 2 0102", "host.example.com.\t3600\tCLASS1\tTYPE65280\t\\# 2 0102"},
		{"", ""},
		{"A", ""},
		{"A 192.0.2.256", ""},
		{"192.0.2.1", ""},
		{"CH A 192.0.2.1", ""},
		{"A 192.0.2.1\nother A 192.0.2.2", ""}, // a second record cannot slip in
		{"$INCLUDE /etc/passwd", ""},
	} {
		rr, err := ParseRecord(MustName("host.example.com"), tt.text)
		switch {
		case tt.want == "" && err == nil:
			t.Errorf("%q: got %s, want an error", tt.text, rr)
		case tt.want != "" && (err != nil || rr.String() != tt.want):
			t.Errorf("%q: got %v, %v, want %s", tt.text, rr, err, tt.want)
		}
	}
}
