package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"mxward/internal/dns"
	"mxward/internal/mailauth"
	"mxward/internal/mailauth/arc"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/spf"
)

const authSchema = "mxward.auth/1"

type authFlags struct {
	resolverFlags
	ip, helo, from, id string
	json               bool
}

func newAuth() *cobra.Command {
	var f authFlags
	cmd := &cobra.Command{
		Use:   "auth --ip ADDRESS --helo NAME --from ADDRESS [FILE]",
		Short: "what the gate would say of a message: SPF, DKIM, ARC and DMARC, and why",
		Long: `Auth judges a message, from a file or standard input, as the gate would if this client
handed it in: the client by SPF, the signatures by DKIM, the chain of those who passed it on
by ARC, and the author's domain by DMARC, each with its trace. The last lines are the
Authentication-Results field (RFC 8601) that the gate would write.

The address, the HELO name and the envelope sender stand in the Received and Return-Path
fields that the first of one's own hosts wrote. The null sender is --from '<>'.

Exit status: 0 the message passes DMARC or, where the author's domain has no policy, SPF or
DKIM; 1 it does not, or cannot be judged; 2 usage, or a file that cannot be opened; 3 the
message could not be read, or the DNS not asked.`,
		Example: "  mxward auth --ip 192.0.2.1 --helo mx1.example.com --from alice@example.com message.eml\n  mxward auth --ip 192.0.2.1 --helo mx1.example.com --from '<>' --json < message.eml",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.ip, "ip", "", "the client's `address` (required)")
	cmd.Flags().StringVar(&f.helo, "helo", "", "the `name` that the client said in HELO or EHLO (required)")
	cmd.Flags().StringVar(&f.from, "from", "", "the envelope sender's `address` (required); <> is the null sender")
	cmd.Flags().StringVar(&f.id, "authserv-id", "", "in whose `name` the field is written (default this host's)")
	cmd.Flags().BoolVar(&f.json, "json", false, "one JSON document on stdout (schema "+authSchema+")")
	for _, name := range []string{"ip", "helo", "from"} {
		cmd.MarkFlagRequired(name)
	}
	return cmd
}

func (f *authFlags) run(cmd *cobra.Command, args []string) error {
	s, id, err := f.session()
	if err != nil {
		return usage(err)
	}
	r, err := f.resolver(nil)
	if err != nil {
		return usage(err)
	}
	in, err := openMessage(args, cmd.InOrStdin())
	if err != nil {
		return usage(err)
	}
	defer in.Close()
	check := mailauth.Judge{Resolver: r, ID: id}.Start(cmd.Context(), s, io.Discard)
	defer check.Stop()
	if _, err := io.Copy(check, in); err != nil {
		return messageExit("auth", err)
	}
	results, err := check.Finish()
	if err != nil {
		return messageExit("auth", err)
	}
	if f.json {
		err = writeJSON(cmd.OutOrStdout(), newAuthDocument(results, id))
	} else {
		err = printAuth(cmd.OutOrStdout(), results, id)
	}
	if err != nil {
		return err
	}
	return authExit(results)
}

// session reads the flags: the session that is judged, and who judges.
func (f *authFlags) session() (mailauth.Session, dns.Name, error) {
	s := mailauth.Session{Helo: f.helo, From: strings.Trim(f.from, "<>")}
	var err error
	if s.Client, err = netip.ParseAddr(f.ip); err != nil {
		return s, dns.Name{}, fmt.Errorf("--ip: expected the client's IP address, got %q", f.ip)
	}
	if f.from == "" {
		return s, dns.Name{}, errors.New("--from: expected the envelope sender, or <> for the null sender")
	}
	if s.From != "" && !strings.Contains(s.From, "@") {
		return s, dns.Name{}, fmt.Errorf("--from: expected an address such as alice@example.com, or <>, got %q", f.from)
	}
	if f.id == "" {
		if f.id, err = os.Hostname(); err != nil {
			return s, dns.Name{}, fmt.Errorf("find this host's name, which --authserv-id can give: %w", err)
		}
	}
	id, err := dns.ParseName(f.id)
	if err != nil || !isHostName(id) {
		return s, id, fmt.Errorf("--authserv-id: expected a host name, got %q", f.id)
	}
	s.Receiver = id.String()
	return s, id, nil
}

// authExit goes by DMARC, and by SPF and DKIM where nobody asks for it.
func authExit(r mailauth.Results) error {
	spfResult, dkimResult := r.SPF.Result, r.BestDKIM()
	switch {
	case len(r.Faults) > 0:
		return undetermined(fmt.Errorf("auth: a fault of mxward's own in %s: %v", r.Faults[0].Part, r.Faults[0].Value))
	case r.Malformed != nil:
		return problem(fmt.Errorf("auth: %w", r.Malformed))
	case r.DMARC.Result == dmarc.Pass:
		return nil
	case r.DMARC.Result == dmarc.TempError:
		return undetermined(errors.New("auth: DMARC could not be determined"))
	case r.DMARC.Result != dmarc.ResultNone:
		return problem(fmt.Errorf("auth: DMARC says %s", r.DMARC.Result))
	case spfResult == spf.Pass || dkimResult == dkim.Pass:
		return nil
	case spfResult == spf.TempError || bestSignature(r.DKIM) == dkim.TempError:
		return undetermined(errors.New("auth: the DNS could not be asked"))
	}
	return problem(fmt.Errorf("auth: nothing confirms the sender: SPF says %s, DKIM %s", spfResult, dkimResult))
}

func printAuth(w io.Writer, r mailauth.Results, id dns.Name) error {
	var b strings.Builder
	fmt.Fprintf(&b, "spf=%s", r.SPF)
	if r.Helo.Result != "" {
		fmt.Fprintf(&b, "spf=%s", r.Helo)
	}
	printSignatures(&b, r.DKIM)
	fmt.Fprintf(&b, "%sdmarc=%s\n", r.ARC, r.DMARC)
	if r.Removed > 0 {
		fmt.Fprintf(&b, "forged: the gate would take out %s in its own name\n", plural(r.Removed, mailauth.FieldName+" field"))
	}
	b.WriteString(strings.ReplaceAll(r.Header(id), "\r\n", "\n"))
	_, err := io.WriteString(w, b.String())
	return err
}

// authDocument is what auth --json prints; fields are only ever added to it.
type authDocument struct {
	Schema    string          `json:"schema"`
	IP        netip.Addr      `json:"ip"`
	Helo      string          `json:"helo"`
	From      string          `json:"from"`
	SPF       []authSPFJSON   `json:"spf"`
	DKIM      []signatureJSON `json:"dkim"`
	ARC       authARCJSON     `json:"arc"`
	DMARC     authDMARCJSON   `json:"dmarc"`
	Removed   int             `json:"removed"`
	Malformed string          `json:"malformed"`
	Field     string          `json:"authentication_results"`
}

type authSPFJSON struct {
	Identity    string        `json:"identity"`
	Domain      string        `json:"domain"`
	Result      string        `json:"result"`
	Matched     string        `json:"matched"`
	Explanation string        `json:"explanation"`
	Error       string        `json:"error"`
	Trace       *spfTraceJSON `json:"trace"`
}

type authARCJSON struct {
	Status     string           `json:"status"`
	Reason     string           `json:"reason"`
	OldestPass int              `json:"oldest_pass"`
	Sets       []authARCSetJSON `json:"sets"`
}

type authARCSetJSON struct {
	Instance  int               `json:"instance"`
	Seal      authARCResultJSON `json:"seal"`
	Signature authARCResultJSON `json:"signature"`
	Chain     string            `json:"chain"`
	Results   string            `json:"authentication_results"`
}

type authARCResultJSON struct {
	Domain   dns.Name `json:"domain"`
	Selector string   `json:"selector"`
	Result   string   `json:"result"`
	Reason   string   `json:"reason"`
}

type authDMARCJSON struct {
	Result      string               `json:"result"`
	Disposition string               `json:"disposition"`
	Reason      string               `json:"reason"`
	Error       string               `json:"error"`
	Author      dns.Name             `json:"author"`
	Domain      dns.Name             `json:"domain"`
	Policy      string               `json:"policy"`
	Record      string               `json:"record"`
	Org         dns.Name             `json:"organizational_domain"`
	Steps       []dmarcStepJSON      `json:"steps"`
	Checks      []authDMARCCheckJSON `json:"checks"`
}

type authDMARCCheckJSON struct {
	Method  string `json:"method"`
	Domain  string `json:"domain"`
	Result  string `json:"result"`
	Strict  bool   `json:"strict"`
	Aligned bool   `json:"aligned"`
	Why     string `json:"why"`
}

func newAuthDocument(r mailauth.Results, id dns.Name) authDocument {
	doc := authDocument{
		Schema: authSchema, IP: r.Session.Client, Helo: r.Session.Helo, From: r.Session.From, SPF: []authSPFJSON{},
		DKIM: signaturesJSON(r.DKIM), ARC: newAuthARCJSON(r.ARC), DMARC: newAuthDMARCJSON(r.DMARC),
		Removed: r.Removed, Malformed: errorText(r.Malformed), Field: r.Header(id),
	}
	for _, v := range []spf.Verdict{r.SPF, r.Helo} {
		if v.Result != "" {
			doc.SPF = append(doc.SPF, authSPFJSON{v.Identity, v.Domain, string(v.Result), v.Matched, v.Explanation, errorText(v.Err), newSPFTraceJSON(v.Trace)})
		}
	}
	return doc
}

func newAuthARCJSON(c arc.Chain) authARCJSON {
	out := authARCJSON{Status: string(c.Status), Reason: c.Reason, OldestPass: c.OldestPass, Sets: make([]authARCSetJSON, len(c.Sets))}
	for i, s := range c.Sets {
		out.Sets[i] = authARCSetJSON{
			Instance:  s.Instance,
			Seal:      authARCResultJSON{s.Seal.Domain, s.Seal.Selector, string(s.SealResult.Status), s.SealResult.Reason},
			Signature: authARCResultJSON{s.Signature.Domain, s.Signature.Selector, string(s.SignatureResult.Status), s.SignatureResult.Reason},
			Chain:     string(s.Seal.Chain), Results: s.Results.Text,
		}
	}
	return out
}

func newAuthDMARCJSON(v dmarc.Verdict) authDMARCJSON {
	d := v.Discovery
	out := authDMARCJSON{
		Result: string(v.Result), Disposition: string(v.Disposition), Reason: v.Reason, Error: errorText(v.Err),
		Author: v.Author, Domain: d.Domain, Policy: string(d.Policy), Record: d.Text, Org: d.Org,
		Steps: dmarcStepsJSON(d.Steps), Checks: make([]authDMARCCheckJSON, len(v.Checks)),
	}
	for i, c := range v.Checks {
		out.Checks[i] = authDMARCCheckJSON{string(c.Method), c.Domain, c.Result, c.Strict, c.Aligned, c.Why}
	}
	return out
}
