package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"mxward/internal/dns"
	"mxward/internal/mailauth/lint"
	"mxward/internal/mailauth/tlsa"
)

const daneSchema = "mxward.dane/1"

func newDANE() *cobra.Command {
	var f resolverFlags
	var cert string
	var records []string
	var port uint16
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "dane DOMAIN|HOST",
		Short: "the TLSA records of a domain's MX hosts, or those to publish for a certificate",
		Long: `Dane looks at the TLSA records of each MX host of a domain, or of the host itself, as a sender
with DANE does (RFC 7672): whether they are validated, whether they can be used, and what the
sender owes to the host. Answers that come from --server are not validated here, so nothing
counts as secure then.

With --cert it asks nobody: it prints the records to publish for the certificate chain in a
PEM file, the server's own certificate first, and says whether each --record given means it.

Exit status: 0 senders authenticate a host by DANE, and nothing is wrong, or the records match;
1 there is no DANE, something is wrong with it, or no record matches; 2 usage; 3 the DNS could
not be asked, or it was --server that said there is no DANE.`,
		Example: `  mxward dane example.com
  mxward dane mx1.example.com --cert /etc/mxward/mx1.crt
  mxward dane mx1.example.com --cert new.crt --record '3 1 1 0123…'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := openSPF(&f, args[0])
			if err != nil {
				return usage(err)
			}
			if cert == "" && len(records) > 0 {
				return usage(errors.New("--record needs --cert, the certificate that it should mean"))
			}
			name := dns.MustName(args[0])
			if cert != "" {
				return runDANECert(cmd.OutOrStdout(), name, port, cert, records, asJSON)
			}
			s := tlsa.Look(cmd.Context(), r, name, port)
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), newDANEDocument(s))
			} else {
				printDANE(cmd.OutOrStdout(), s)
			}
			if err != nil {
				return err
			}
			return daneExit(s, f.server)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&cert, "cert", "", "ask nobody; print the records for the chain in this PEM `file`")
	cmd.Flags().StringArrayVar(&records, "record", nil, "a TLSA `record` that should mean the certificate, like '3 1 1 0123…'; may be given again")
	cmd.Flags().Uint16Var(&port, "port", 25, "the `port` of the server")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON document on stdout (schema "+daneSchema+")")
	return cmd
}

// daneExit: trouble of the DNS is undetermined, though senders see it as a broken denial.
func daneExit(s *tlsa.Survey, server string) error {
	wrong := slices.DeleteFunc(slices.Clone(s.Findings), func(f lint.Finding) bool { return f.ID == "dane.denial-broken" })
	trouble := s.Undetermined()
	switch {
	case broken(wrong):
		return problem(fmt.Errorf("dane %s: senders cannot use all of it", s.Domain))
	case trouble != nil:
		return undetermined(fmt.Errorf("dane %s: %w", s.Domain, trouble))
	case len(s.Hosts) == 0:
		return problem(fmt.Errorf("dane %s: the domain takes no mail (RFC 7505)", s.Domain))
	case !s.Usable() && server != "":
		return undetermined(fmt.Errorf("dane %s: answers of %s are not validated here; ask without --server", s.Domain, server))
	case !s.Usable():
		return problem(fmt.Errorf("dane %s: no MX host has DANE", s.Domain))
	}
	return nil
}

func printDANE(w io.Writer, s *tlsa.Survey) {
	if s.HostsErr != nil {
		fmt.Fprintf(w, "mx: %v\n", s.HostsErr)
		return
	}
	fmt.Fprintf(w, "mx records: %s\n", map[bool]string{true: "secure", false: "insecure"}[s.MXSecure])
	for _, h := range s.Hosts {
		fmt.Fprintf(w, "mx %s\n", h)
		for _, r := range h.Records {
			fmt.Fprintf(w, "  %s: %s\n", r, usableText(r))
		}
	}
	printFindings(w, s.Findings)
}

func usableText(r tlsa.Record) string {
	if err := r.Usable(); err != nil {
		return err.Error()
	}
	return "usable"
}

// runDANECert says what goes with a certificate, and what of it is there.
func runDANECert(w io.Writer, host dns.Name, port uint16, file string, texts []string, asJSON bool) error {
	chain, err := readChain(file)
	if err != nil {
		return usage(fmt.Errorf("--cert: %w", err))
	}
	records := make([]tlsa.Record, len(texts))
	for i, text := range texts {
		if records[i], err = tlsa.Parse(text); err != nil {
			return usage(fmt.Errorf("--record %q: %w", text, err))
		}
	}
	name, err := tlsa.Name(host, port)
	if err != nil {
		return usage(fmt.Errorf("%s: %w", host, err))
	}
	d := daneDocument{Schema: daneSchema, Domain: host, Hosts: []daneHostJSON{}, Findings: findingsJSON(tlsa.Lint(records))}
	d.Publish = publishable(chain, name)
	match, mismatch := tlsa.Record{}, error(nil)
	if len(records) > 0 {
		match, mismatch = tlsa.Match(records, chain, time.Now(), host)
		d.Mismatch = errorText(mismatch)
	}
	if match != (tlsa.Record{}) {
		d.Match = match.String()
	}
	if asJSON {
		err = writeJSON(w, d)
	} else {
		printDANECert(w, d, tlsa.Lint(records))
	}
	switch {
	case err != nil:
		return err
	case mismatch != nil:
		return problem(fmt.Errorf("dane %s: %w", host, mismatch))
	case len(records) > 0 && d.Match == "":
		return problem(fmt.Errorf("dane %s: no record can be used, so that senders authenticate nobody", host))
	}
	return nil
}

// publishable gives a record of the server's key, and one of each authority in the chain.
func publishable(chain []*x509.Certificate, name dns.Name) []danePublishJSON {
	all := make([]danePublishJSON, len(chain))
	for i, c := range chain {
		usage := uint8(tlsa.DANEEE)
		if i > 0 {
			usage = tlsa.DANETA
		}
		all[i] = danePublishJSON{name, tlsa.Of(c, usage, tlsa.SPKI, tlsa.SHA256).String(), c.Subject.String()}
	}
	return all
}

func printDANECert(w io.Writer, d daneDocument, findings []lint.Finding) {
	for i, p := range d.Publish {
		what := "the server's key, which no renewal may change without a record of the new one"
		if i > 0 {
			what = "or the authority above it, which the server must send along"
		}
		fmt.Fprintf(w, "; %s: %q\n%s. 3600 IN TLSA %s\n", what, p.Subject, p.Name, p.Record)
	}
	switch {
	case d.Match != "":
		fmt.Fprintf(w, "; the certificate is the one that this record means: %s\n", d.Match)
	case d.Mismatch != "":
		fmt.Fprintf(w, "; %s\n", d.Mismatch)
	}
	printFindings(w, findings)
}

// maxPEM bounds a file of certificates, in octets.
const maxPEM = 1 << 20

// readChain reads the certificates of a PEM file, in their order. Keys among them are passed
// over.
func readChain(file string) ([]*x509.Certificate, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	rest, err := io.ReadAll(io.LimitReader(in, maxPEM+1))
	if err != nil {
		return nil, err
	}
	if len(rest) > maxPEM {
		return nil, fmt.Errorf("%s is larger than %d octets", file, maxPEM)
	}
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(bytes.TrimSpace(rest)); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d is damaged, or is none of X.509", file, len(chain)+1)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return chain, nil
}

// daneDocument is what --json prints; fields are only ever added to it.
type daneDocument struct {
	Schema   string            `json:"schema"`
	Domain   dns.Name          `json:"domain"`
	MXSecure bool              `json:"mx_secure"`
	MXError  string            `json:"mx_error"`
	Hosts    []daneHostJSON    `json:"hosts"`
	Publish  []danePublishJSON `json:"publish"`
	Match    string            `json:"match"`
	Mismatch string            `json:"mismatch"`
	Findings []findingJSON     `json:"findings"`
}

type daneHostJSON struct {
	Host    dns.Name         `json:"host"`
	Base    dns.Name         `json:"base"`
	State   string           `json:"state"`
	Duty    string           `json:"duty"`
	Stale   bool             `json:"stale"`
	Error   string           `json:"error"`
	Records []daneRecordJSON `json:"records"`
}

type daneRecordJSON struct {
	Record string `json:"record"`
	Fault  string `json:"fault"`
}

type danePublishJSON struct {
	Name    dns.Name `json:"name"`
	Record  string   `json:"record"`
	Subject string   `json:"subject"`
}

func newDANEDocument(s *tlsa.Survey) daneDocument {
	d := daneDocument{
		Schema: daneSchema, Domain: s.Domain, MXSecure: s.MXSecure, MXError: errorText(s.HostsErr),
		Hosts: []daneHostJSON{}, Publish: []danePublishJSON{}, Findings: findingsJSON(s.Findings),
	}
	for _, h := range s.Hosts {
		host := daneHostJSON{h.Host, h.Base, string(h.State), string(h.Duty()), h.Stale, errorText(h.Err), []daneRecordJSON{}}
		for _, r := range h.Records {
			host.Records = append(host.Records, daneRecordJSON{r.String(), errorText(r.Usable())})
		}
		d.Hosts = append(d.Hosts, host)
	}
	return d
}
