package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/dkim"
)

const dkimVerifySchema = "mxward.dkim-verify/1"

// openMessage opens the message that a command is given: a file, or standard input for "-"
// or nothing.
func openMessage(args []string, stdin io.Reader) (io.ReadCloser, error) {
	if len(args) == 0 || args[0] == "-" {
		return io.NopCloser(stdin), nil
	}
	f, err := os.Open(args[0])
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		f.Close()
		return nil, fmt.Errorf("expected a message, got the folder %s", args[0])
	}
	return f, nil
}

// messageExit gives an error of a message its exit code: the message's own faults are
// problems, and one that could not be read is undetermined.
func messageExit(verb string, err error) error {
	err = fmt.Errorf("%s: %w", verb, err)
	if errors.Is(err, mail.ErrHeaderTooLarge) || errors.Is(err, mail.ErrHeaderMalformed) || errors.Is(err, dkim.ErrSign) {
		return problem(err)
	}
	return undetermined(err)
}

func newDKIMSign() *cobra.Command {
	var f dkimNames
	var key string
	cmd := &cobra.Command{
		Use:   "sign --key FILE --selector NAME --domain DOMAIN [FILE]",
		Short: "sign a message",
		Long: `Sign reads a message from a file or standard input and writes it to standard output with a
DKIM-Signature on top. Its lines may end with CRLF or, as in a file, with LF alone: what is
signed has CRLF, as it will have on the wire.

Exit status: 0 the message is signed; 1 it cannot be signed, and nothing is written; 2 usage,
or a file that cannot be opened; 3 the message could not be read.`,
		Example: "  mxward dkim sign --key 2026a.pem --selector 2026a --domain example.com < message.eml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			signer, err := newSigner(f, key)
			if err != nil {
				return usage(err)
			}
			in, err := openMessage(args, cmd.InOrStdin())
			if err != nil {
				return usage(err)
			}
			defer in.Close()
			return signMessage(cmd.OutOrStdout(), in, signer)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&key, "key", "", "the `file` of the private key, PEM (required)")
	cmd.MarkFlagRequired("key")
	return cmd
}

func newSigner(f dkimNames, file string) (dkim.Signer, error) {
	domain, err := f.parse()
	if err != nil {
		return dkim.Signer{}, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return dkim.Signer{}, fmt.Errorf("--key: %w", err)
	}
	key, err := dkim.ParsePrivate(text)
	if err != nil {
		return dkim.Signer{}, fmt.Errorf("--key %s: %w", file, err)
	}
	return dkim.Signer{Domain: domain, Selector: f.selector, Key: key}, nil
}

// signMessage keeps the message in a file, for the signature stands before it.
func signMessage(w io.Writer, in io.Reader, signer dkim.Signer) (err error) {
	spool, err := os.CreateTemp("", "mxward-sign-")
	if err != nil {
		return undetermined(fmt.Errorf("dkim sign: keep the message: %w", err))
	}
	defer func() { err = errors.Join(err, spool.Close(), os.Remove(spool.Name())) }()
	field, err := dkim.Sign(io.TeeReader(in, spool), signer)
	if err != nil {
		return messageExit("dkim sign", err)
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return undetermined(fmt.Errorf("dkim sign: %w", err))
	}
	message := bufio.NewReaderSize(spool, 64<<10)
	if !endsWithCRLF(message) {
		field = strings.ReplaceAll(field, "\r\n", "\n")
	}
	if _, err := io.WriteString(w, field); err != nil {
		return err
	}
	_, err = io.Copy(w, message)
	return err
}

// endsWithCRLF tells how the first line of a message ends.
func endsWithCRLF(r *bufio.Reader) bool {
	for n := 1; ; n++ {
		text, err := r.Peek(n)
		if err != nil {
			return true // no line end at all
		}
		if text[n-1] == '\n' {
			return n > 1 && text[n-2] == '\r'
		}
	}
}

func newDKIMVerify() *cobra.Command {
	var f resolverFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "which signatures of a message hold",
		Long: `Verify reads a message from a file or standard input and verifies its DKIM signatures, from
the top, as receivers do.

Exit status: 0 a signature holds; 1 none does, or there is none; 2 usage, or a file that
cannot be opened; 3 the message could not be read, or the DNS not asked.`,
		Example: "  mxward dkim verify message.eml\n  mxward dkim verify --json < message.eml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := f.resolver(nil)
			if err != nil {
				return usage(err)
			}
			in, err := openMessage(args, cmd.InOrStdin())
			if err != nil {
				return usage(err)
			}
			defer in.Close()
			signatures, err := dkim.Verifier{Resolver: r}.Verify(cmd.Context(), in)
			if err != nil {
				return messageExit("dkim verify", err)
			}
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), dkimVerifyDocument{dkimVerifySchema, string(bestSignature(signatures)), signaturesJSON(signatures)})
			} else {
				printSignatures(cmd.OutOrStdout(), signatures)
			}
			if err != nil {
				return err
			}
			return verifyExit(signatures)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON document on stdout (schema "+dkimVerifySchema+")")
	return cmd
}

// bestSignature: one that holds is enough; of the others, what may yet hold counts before
// what does not.
func bestSignature(all []dkim.Signature) dkim.Result {
	best := dkim.None
	for _, s := range all {
		switch {
		case s.Result == dkim.Pass:
			return dkim.Pass
		case best == dkim.None, s.Result == dkim.TempError:
			best = s.Result
		}
	}
	return best
}

func verifyExit(all []dkim.Signature) error {
	switch best := bestSignature(all); best {
	case dkim.Pass:
		return nil
	case dkim.None:
		return problem(errors.New("dkim verify: the message has no signature"))
	case dkim.TempError:
		return undetermined(errors.New("dkim verify: a key could not be asked for"))
	default:
		return problem(fmt.Errorf("dkim verify: no signature holds: %s", best))
	}
}

func printSignatures(w io.Writer, all []dkim.Signature) {
	if len(all) == 0 {
		fmt.Fprintln(w, "dkim=none")
	}
	for _, s := range all {
		line := fmt.Sprintf("dkim=%s", s.Result)
		if s.Reason != "" {
			line += ": " + s.Reason
		}
		fmt.Fprintln(w, shown(line))
		if s.Domain.IsZero() {
			continue
		}
		line = fmt.Sprintf("  d=%s s=%s a=%s", s.Domain, s.Selector, s.Algorithm)
		if s.KeyBits > 0 {
			line += fmt.Sprintf(", key of %d bits", s.KeyBits)
		}
		if s.Testing {
			line += ", testing"
		}
		fmt.Fprintln(w, shown(line))
		fmt.Fprintln(w, shown("  signs "+strings.Join(s.Fields, ", ")))
	}
}

// dkimVerifyDocument is what verify --json prints; fields are only ever added to it.
type dkimVerifyDocument struct {
	Schema     string          `json:"schema"`
	Result     string          `json:"result"`
	Signatures []signatureJSON `json:"signatures"`
}

type signatureJSON struct {
	Result    string   `json:"result"`
	Domain    dns.Name `json:"domain"`
	Selector  string   `json:"selector"`
	Identity  string   `json:"identity"`
	Algorithm string   `json:"algorithm"`
	Fields    []string `json:"fields"`
	Signed    string   `json:"signed"`
	Expires   string   `json:"expires"`
	KeyBits   int      `json:"key_bits"`
	Testing   bool     `json:"testing"`
	Reason    string   `json:"reason"`
	Error     string   `json:"error"`
}

func signaturesJSON(all []dkim.Signature) []signatureJSON {
	out := make([]signatureJSON, len(all))
	for i, s := range all {
		out[i] = signatureJSON{
			Result: string(s.Result), Domain: s.Domain, Selector: s.Selector, Identity: s.Identity, Algorithm: s.Algorithm,
			Fields: notNil(s.Fields), Signed: timeText(s.Signed), Expires: timeText(s.Expires),
			KeyBits: s.KeyBits, Testing: s.Testing, Reason: s.Reason, Error: errorText(s.Err),
		}
	}
	return out
}
