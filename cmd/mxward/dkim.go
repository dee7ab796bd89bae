package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dkim"
)

const (
	dkimSchema     = "mxward.dkim/1"
	dkimLintSchema = "mxward.dkim-lint/1"
)

// maxTyped is the size in octets of a record that is read from a file; a record has at most
// dkim.MaxRecord, and armour and comments may stand around it.
const maxTyped = 64 << 10

func newDKIM() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dkim",
		Short: "DKIM keys and signatures: make, look at, sign, verify",
		Long: `Dkim makes DKIM keys (RFC 6376), looks at those that are published and at records that are
not yet, and signs and verifies messages.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDKIMKey(), newDKIMShow(), newDKIMLint(), newDKIMSign(), newDKIMVerify())
	return cmd
}

// dkimNames are the flags that say which key.
type dkimNames struct{ selector, domain string }

func (f *dkimNames) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.selector, "selector", "", "the key's `name`, such as 2026a (required)")
	cmd.Flags().StringVar(&f.domain, "domain", "", "the `domain` that signs (required)")
	cmd.MarkFlagRequired("selector")
	cmd.MarkFlagRequired("domain")
}

// parse gives the domain, if both are what they should be.
func (f dkimNames) parse() (dns.Name, error) {
	if before, _, found := strings.Cut(f.selector, "._domainkey"); found {
		return dns.Name{}, fmt.Errorf("expected the selector alone, %q, got %q", before, f.selector)
	}
	domain, err := parseDomain(f.domain)
	if err != nil {
		return dns.Name{}, err
	}
	if _, err := dkim.KeyName(f.selector, domain); err != nil {
		return dns.Name{}, fmt.Errorf("expected a selector of letters, digits and hyphens, got %q", f.selector)
	}
	return domain, nil
}

type dkimKeyFlags struct {
	dkimNames
	kind, out string
	bits      int
}

func newDKIMKey() *cobra.Command {
	var f dkimKeyFlags
	cmd := &cobra.Command{
		Use:   "key --selector NAME --domain DOMAIN",
		Short: "make a key, and print the record to publish for it",
		Long: `Key makes a private key, writes it into a file that only its owner can read (PEM, PKCS #8),
and prints the record to publish, as a line of a zone file. A file that is there is never
overwritten.

Many receivers cannot verify Ed25519 (RFC 8463): who uses it signs with an RSA key as well.

Exit status: 0 the key is made; 1 the file is there, or cannot be written; 2 usage.`,
		Example: "  mxward dkim key --selector 2026a --domain example.com\n  mxward dkim key --type ed25519 --selector 2026e --domain example.com --out 2026e.pem",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.kind, "type", string(dkim.RSA), "rsa or ed25519")
	cmd.Flags().IntVar(&f.bits, "bits", dkim.GoodRSABits, "the size of an RSA key: 2048, 3072 or 4096")
	cmd.Flags().StringVar(&f.out, "out", "", "the `file` of the private key (default SELECTOR._domainkey.DOMAIN.pem)")
	return cmd
}

func (f *dkimKeyFlags) run(cmd *cobra.Command) error {
	domain, err := f.parse()
	if err != nil {
		return usage(err)
	}
	if f.out == "" {
		f.out = strings.ToLower(f.selector) + "._domainkey." + domain.String() + ".pem"
	}
	if f.out == "-" {
		return usage(errors.New("--out: expected a file: a private key is never printed"))
	}
	private, err := f.generate(cmd.Flags().Changed("bits"))
	if err != nil {
		return usage(err)
	}
	key, err := dkim.KeyOf(private)
	if err != nil {
		return problem(err)
	}
	line, err := key.MasterLine(f.selector, domain)
	if err != nil {
		return usage(err)
	}
	pem, err := dkim.MarshalPrivate(private)
	if err != nil {
		return problem(err)
	}
	if err := writeSecret(f.out, pem); err != nil {
		return problem(fmt.Errorf("write the private key: %w", err))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "The private key is in %s. Publish:\n", f.out)
	_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
	return err
}

func (f *dkimKeyFlags) generate(sized bool) (crypto.Signer, error) {
	switch {
	case f.kind == string(dkim.RSA):
		return dkim.GenerateRSA(f.bits)
	case f.kind != string(dkim.Ed25519):
		return nil, fmt.Errorf("--type: expected rsa or ed25519, got %q", f.kind)
	case sized:
		return nil, errors.New("--bits: an Ed25519 key has one size only")
	}
	return dkim.GenerateEd25519()
}

// writeSecret makes a file that nobody else can read, and leaves none that is half written.
func writeSecret(file string, secret []byte) error {
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%s is there already and is not overwritten: choose another file with --out", file)
		}
		return err
	}
	_, err = out.Write(secret)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	return nil
}

func newDKIMShow() *cobra.Command {
	var f resolverFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show SELECTOR DOMAIN",
		Short: "the key that is published for a selector, and what is wrong with it",
		Long: `Show fetches the record at SELECTOR._domainkey.DOMAIN, as receivers do, and says what is wrong
with it. Where there is none, it looks at the names where keys land by mistake. The selector
is what s= says in the DKIM-Signature of a message.

Exit status: 0 receivers can use the key; 1 they cannot, or there is none; 2 usage;
3 the DNS could not be asked.`,
		Example: "  mxward dkim show 2026a example.com\n  mxward dkim show 2026a example.com --json",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.Contains(args[0], ".") && !strings.Contains(args[1], ".") {
				return usage(fmt.Errorf("expected the selector, then the domain: mxward dkim show %s %s", args[1], args[0]))
			}
			domain, err := dkimNames{args[0], args[1]}.parse()
			if err != nil {
				return usage(err)
			}
			r, err := f.resolver(nil)
			if err != nil {
				return usage(err)
			}
			s, err := dkim.Look(cmd.Context(), r, args[0], domain)
			if err != nil {
				return usage(err)
			}
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), newDKIMDocument(args[0], domain, s))
			} else {
				printDKIM(cmd.OutOrStdout(), s)
			}
			if err != nil {
				return err
			}
			return dkimShowExit(s)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON document on stdout (schema "+dkimSchema+")")
	return cmd
}

func dkimShowExit(s dkim.Survey) error {
	switch {
	case s.Err != nil:
		return undetermined(fmt.Errorf("dkim show %s: %w", s.Name, s.Err))
	case len(s.Records) == 0:
		return problem(fmt.Errorf("dkim show %s: there is no key", s.Name))
	case broken(s.Findings) || s.Key.Revoked():
		return problem(fmt.Errorf("dkim show %s: receivers cannot use the key", s.Name))
	}
	return nil
}

func printDKIM(w io.Writer, s dkim.Survey) {
	for _, alias := range s.Aliases {
		fmt.Fprintf(w, "%s is an alias\n", alias)
	}
	for _, text := range s.Records {
		fmt.Fprintf(w, "%s: %s\n", s.Name, shown(text))
	}
	if bits := keyBits(s.Key); bits > 0 {
		fmt.Fprintf(w, "key: %s, %d bits\n", s.Key.Type, bits)
	}
	printFindings(w, s.Findings)
	if s.Fix != "" {
		fmt.Fprintf(w, "perhaps: %s\n", shown(s.Fix))
	}
}

// keyBits gives the size of a key, 0 where there is none that can be used.
func keyBits(k dkim.Key) int {
	public, err := k.PublicKey()
	if err != nil {
		return 0
	}
	switch key := public.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen()
	case ed25519.PublicKey:
		return len(key) * 8
	}
	return 0
}

// dkimDocument is what show --json prints; fields are only ever added to it.
type dkimDocument struct {
	Schema     string        `json:"schema"`
	Selector   string        `json:"selector"`
	Domain     dns.Name      `json:"domain"`
	Name       dns.Name      `json:"name"`
	Status     string        `json:"status"` // "ok", "none", "revoked", "permerror", "temperror"
	Error      string        `json:"error"`
	Aliases    []dns.Name    `json:"aliases"`
	Records    []string      `json:"records"`
	Key        *dkimKeyJSON  `json:"key"`
	Suggestion string        `json:"suggestion"`
	Findings   []findingJSON `json:"findings"`
}

type dkimKeyJSON struct {
	Type     string   `json:"type"`
	Bits     int      `json:"bits"`
	Hashes   []string `json:"hashes"`
	Services []string `json:"services"`
	Testing  bool     `json:"testing"`
	Strict   bool     `json:"strict"`
	Notes    string   `json:"notes"`
}

func newDKIMDocument(selector string, domain dns.Name, s dkim.Survey) dkimDocument {
	doc := dkimDocument{
		Schema: dkimSchema, Selector: selector, Domain: domain, Name: s.Name, Status: "ok", Error: errorText(s.Err),
		Aliases: notNil(s.Aliases), Records: notNil(s.Records), Key: newDKIMKeyJSON(s.Key),
		Suggestion: s.Fix, Findings: findingsJSON(s.Findings),
	}
	switch {
	case s.Err != nil:
		doc.Status = string(dkim.TempError)
	case len(s.Records) == 0:
		doc.Status = string(dkim.None)
	case broken(s.Findings):
		doc.Status = string(dkim.PermError)
	case s.Key.Revoked():
		doc.Status = "revoked"
	}
	return doc
}

// newDKIMKeyJSON gives nil where no key could be read.
func newDKIMKeyJSON(k dkim.Key) *dkimKeyJSON {
	if k.Type == "" {
		return nil
	}
	return &dkimKeyJSON{
		Type: string(k.Type), Bits: keyBits(k), Hashes: notNil(k.Hashes), Services: notNil(k.Services),
		Testing: k.Testing, Strict: k.Strict, Notes: k.Notes,
	}
}

func newDKIMLint() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "lint RECORD...",
		Short: "what is wrong with a DKIM key record before it is published",
		Long: `Lint looks at the text of a record, as typed or pasted, and says where it is wrong and what
to write instead: the value alone, a line of a zone file, or a key file of openssl, which -
reads from standard input. It asks no DNS. Strings of one record are joined; several records
are taken as what stands at one name.

Exit status: 0 receivers can use it; 1 they cannot; 2 usage.`,
		Example: "  mxward dkim lint 'v=DKIM1; k=rsa; p=MIIB…'\n  openssl rsa -in 2026a.pem -pubout | mxward dkim lint -",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			records, err := typedKeys(args, cmd.InOrStdin())
			if err != nil {
				return usage(err)
			}
			report := dkim.LintSet(records)
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), dkimLintDocument{
					Schema: dkimLintSchema, Records: records, Key: newDKIMKeyJSON(report.Key),
					Suggestion: report.Fix, Findings: findingsJSON(report.Findings),
				})
			} else {
				printDKIM(cmd.OutOrStdout(), dkim.Survey{Report: report})
			}
			if err != nil {
				return err
			}
			if broken(report.Findings) || report.Key.Revoked() {
				return problem(errors.New("dkim lint: receivers cannot use this"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON document on stdout (schema "+dkimLintSchema+")")
	return cmd
}

// A TXT record as a line of a zone file (RFC 1035 §5.1), which opendkim-genkey writes too.
var (
	masterLine   = regexp.MustCompile(`(?is)^\s*[^\s"]+\s+(?:\d+\s+)?(?:IN\s+)?(?:\d+\s+)?TXT\s+(?:\(\s*)?((?:"[^"]*"\s*)+)\)?\s*(?:;[^\n]*)?\s*$`)
	masterString = regexp.MustCompile(`"([^"]*)"`)
	unescape     = strings.NewReplacer(`\;`, ";")
)

// typedKeys gives the records that the arguments are. A shell takes the quotation marks off
// the strings of a record: one that begins no record goes on with that before it.
func typedKeys(args []string, stdin io.Reader) ([]string, error) {
	var records []string
	for _, arg := range args {
		if arg == "-" {
			text, err := io.ReadAll(io.LimitReader(stdin, maxTyped+1))
			if err != nil {
				return nil, fmt.Errorf("read standard input: %w", err)
			}
			if len(text) > maxTyped {
				return nil, fmt.Errorf("standard input has more than %d octets: expected one record", maxTyped)
			}
			arg = string(text)
		}
		if whole := masterLine.FindStringSubmatch(arg); whole != nil {
			arg = ""
			for _, text := range masterString.FindAllStringSubmatch(whole[1], -1) {
				arg += unescape.Replace(text[1])
			}
		}
		if last := len(records) - 1; last >= 0 && !beginsKey(records[last], arg) {
			records[last] += arg
			continue
		}
		records = append(records, arg)
	}
	return records, nil
}

// beginsKey tells a new record from a string that goes on with the one before.
func beginsKey(before, text string) bool {
	text = strings.ToLower(strings.TrimLeft(text, " \t\r\n\"'“”„‘’"))
	hasKey := strings.Contains(before, "p=")
	return strings.HasPrefix(text, "v=") || strings.HasPrefix(text, "-----begin") ||
		hasKey && (strings.HasPrefix(text, "p=") || strings.HasPrefix(text, "k="))
}

// dkimLintDocument is what lint --json prints; fields are only ever added to it.
type dkimLintDocument struct {
	Schema     string        `json:"schema"`
	Records    []string      `json:"records"`
	Key        *dkimKeyJSON  `json:"key"`
	Suggestion string        `json:"suggestion"` // one record instead; "" where there is nothing to mend
	Findings   []findingJSON `json:"findings"`
}
