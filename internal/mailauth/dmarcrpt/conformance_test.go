package dmarcrpt

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// The samples lie beside the project, not in it.
const samples = "../../../../shared/conformance/reports"

func sample(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(filepath.Join(samples, name))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("left out: the sample reports are not in ../shared/conformance/reports")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestSamples: what receivers sent, each read to its last fact.
func TestSamples(t *testing.T) {
	record := func(source, to, from, header string) Record {
		return Record{
			Source: netip.MustParseAddr(source), Count: 1, Disposition: "none", DKIM: "fail", SPF: "fail",
			HeaderFrom: header, EnvelopeFrom: from, EnvelopeTo: to,
		}
	}
	for _, tt := range []struct {
		name string
		want Report
		why  string
	}{
		{"aggregate-example.xml", func() Report {
			r := record("12.20.127.122", "", "", "example.com")
			r.SPFResults = []SPFResult{{Result: "none"}}
			return Report{
				Email: "administrator@accurateplastics.com", ID: "example.com:1538463741",
				Begin: time.Unix(1538413632, 0).UTC(), End: time.Unix(1538413632, 0).UTC(),
				Policy:  Policy{Domain: "example.com", ADKIM: "r", ASPF: "r", P: "none", SP: "reject", Pct: "100"},
				Records: []Record{r}, Faults: []string{"it has no org_name"},
			}
		}(), "no organization, an SPF result without a domain"},
		{"aggregate-invalid.xml", func() Report {
			r := record("199.230.200.36", "", "", "bad<xml.net")
			r.SPFResults = []SPFResult{{Result: "none"}}
			return Report{
				Org: "veeam.com", Email: "bad-xml@bad-xml.net", ID: "sonexushealth.com:1530233361",
				Begin: time.Unix(1530133200, 0).UTC(), End: time.Unix(1530219600, 0).UTC(),
				Policy:  Policy{Domain: "example.com", ADKIM: "r", ASPF: "r", P: "none", SP: "none", Pct: "100"},
				Records: []Record{r}, Faults: []string{`header_from "bad<xml.net" is not a domain`},
			}
		}(), "less-than signs that nobody escaped are read for what they were meant to be"},
		{"aggregate-outlook.xml", func() Report {
			r := record("100.24.188.149", "hotmail.com", "example.com", "example.com")
			r.SPFResults = []SPFResult{{Domain: "example.com", Scope: "mfrom", Result: "fail"}}
			return Report{
				Version: "1.0", Org: "Outlook.com", Email: "dmarcreport@microsoft.com", ID: "cfeafefe4129445e8c81018bd9177197",
				Begin: time.Unix(1711756800, 0).UTC(), End: time.Unix(1711843200, 0).UTC(),
				Policy:  Policy{Domain: "example.com", ADKIM: "r", ASPF: "r", P: "none", SP: "none", FO: "0", Pct: "100"},
				Records: []Record{r},
			}
		}(), "namespaces that are declared and not used"},
		{"aggregate-fastmail.xml.gz", func() Report {
			r := record("104.195.80.20", "fastmail.fm", "example.com", "example.com")
			r.SPFResults = []SPFResult{{Domain: "example.com", Scope: "mfrom", Result: "softfail"}}
			return Report{
				Version: "1.0", Org: "FastMail Pty Ltd", Email: "reports@fastmaildmarc.com", Contact: "https://fastmail.com/", ID: "102675056",
				Begin: time.Unix(1516060800, 0).UTC(), End: time.Unix(1516147199, 0).UTC(),
				Policy:  Policy{Domain: "indemed.com", P: "none", SP: "none", FO: "0", Pct: "100"},
				Records: []Record{r},
			}
		}(), "gzip; comments"},
		{"aggregate-estadocuenta.xml.zip", Report{
			Org: "XYZ Corporation", Email: "admin@estadocuenta1.infonacot.gob.mx", Contact: "http://estadocuenta1.infonacot.gob.mx", ID: "2940",
			Begin: time.Unix(1536853302, 0).UTC(), End: time.Unix(1536939702, 0).UTC(),
			Policy:  Policy{Domain: "example.com", P: "none"},
			Records: []Record{record("148.243.137.254", "estadocuenta1.infonacot.gob.mx", "", "example.com")},
		}, "zip; elements in another order; no results"},
		{"aggregate-rfc9990.xml", func() Report {
			r := record("192.0.2.123", "", "example.com", "example.com")
			r.Count, r.Disposition, r.DKIM = 123, "pass", "pass"
			r.DKIMResults = []DKIMResult{{Domain: "example.com", Selector: "abc123", Result: "pass"}}
			r.SPFResults = []SPFResult{{Domain: "example.com", Result: "fail"}}
			return Report{
				Version: "1.0", Org: "Sample Reporter", Email: "report_sender@example-reporter.com", Contact: "...",
				ID: "3v98abbp8ya9n3va8yr8oa3ya", Software: "Example DMARC Aggregate Reporter v1.2",
				Begin: time.Unix(302832000, 0).UTC(), End: time.Unix(302918399, 0).UTC(),
				Policy:  Policy{Domain: "example.com", P: "quarantine", SP: "none", NP: "none", Testing: "n", Discovery: "treewalk"},
				Records: []Record{r},
			}
		}(), "RFC 9990 appendix B: its namespace and new elements"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Read(sample(t, tt.name))
			if err != nil || len(got) != 1 {
				t.Fatalf("%s: %d reports, %v", tt.why, len(got), err)
			}
			if !reflect.DeepEqual(got[0], tt.want) {
				t.Errorf("%s:\n got %+v\nwant %+v", tt.why, got[0], tt.want)
			}
		})
	}
}

func TestFailureSample(t *testing.T) {
	f, err := ReadFailure(sample(t, "failure-linkedin.eml"))
	if err != nil {
		t.Fatal(err)
	}
	subject := f.Original.All("Subject")
	if len(subject) != 1 || subject[0].Value() != "Subject line, could be UTF8 encoded" {
		t.Errorf("the original's subject is %v", subject)
	}
	f.Original = nil
	want := Failure{
		Type: "auth-failure", AuthFailure: []string{"dmarc"}, UserAgent: "Lua/1.0", Domain: "example.com",
		Source: netip.MustParseAddr("10.10.10.10"), Arrival: time.Date(2019, 4, 30, 2, 9, 0, 0, time.UTC), Incidents: 1,
		RcptTo: []string{"recipient@linkedin.com"}, Delivery: "delivered",
		Results: []string{"dmarc=fail (p=none; dis=none) header.from=example.com"},
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("got  %+v\nwant %+v", f, want)
	}
	if _, err := Read(sample(t, "failure-linkedin.eml")); !errors.Is(err, ErrNotReport) {
		t.Errorf("a failure report is no aggregate report: %v", err)
	}
	if _, err := ReadFailure(sample(t, "tls-google.eml")); !errors.Is(err, ErrNotReport) {
		t.Errorf("a TLS report is no failure report: %v", err)
	}
}
