package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mxward/internal/audit"
	"mxward/internal/audit/tape"
	"mxward/internal/dns"
)

// tapeFlags name a recording to make, or to play in place of the network.
type tapeFlags struct {
	record, replay string
	taping         // what these stand for, once they are opened
}

// taping is a recording that is made or played; both nil for neither.
type taping struct {
	recorder *tape.Recorder
	file     *os.File
	tape     *tape.Tape
}

func (f *tapeFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.record, "record", "", "write all that is heard, of the DNS, SMTP and the web, to this `file`, for --replay")
	flags.StringVar(&f.replay, "replay", "", "ask nobody: judge what --record has written to this `file`, as of then")
}

// asking are the flags that say what is asked, which a recording has settled.
var asking = []string{"record", "server", "root-hints", "selector", "sender", "lists", "registries", "no-smtp", "hello", "port"}

// play reads the recording that --replay names, and gives the domains: those that are wanted, else
// all that it has.
func (f *checkFlags) play(cmd *cobra.Command, wanted []dns.Name) ([]dns.Name, error) {
	if f.replay == "" {
		return wanted, nil
	}
	for _, name := range asking {
		if cmd.Flags().Changed(name) {
			return nil, fmt.Errorf("--replay %s asks nobody, and --%s is about what to ask: leave one of them out", f.replay, name)
		}
	}
	in, err := os.Open(f.replay)
	if err != nil {
		return nil, fmt.Errorf("--replay: %w", err)
	}
	defer in.Close()
	if f.tape, err = tape.Read(in); err != nil {
		return nil, fmt.Errorf("--replay %s: %w", f.replay, err)
	}
	var has []string
	for _, domain := range f.tape.Domains {
		has = append(has, domain.String())
	}
	for _, domain := range wanted {
		if !slices.Contains(f.tape.Domains, domain) {
			return nil, fmt.Errorf("--replay %s: it does not have %s; it has %s", f.replay, domain, few(has))
		}
	}
	if len(wanted) == 0 {
		wanted = f.tape.Domains
	}
	f.warn(cmd.ErrOrStderr(), wanted)
	return wanted, nil
}

// warn tells of what a recording does not have.
func (f *checkFlags) warn(stderr io.Writer, domains []dns.Name) {
	say := func(format string, args ...any) {
		fmt.Fprintf(stderr, "--replay "+f.replay+": "+format+"\n", args...)
	}
	if f.tape.Torn {
		say("its last line is cut short, and left out")
	}
	for _, domain := range domains {
		if !f.tape.Whole(domain) {
			say("it ends in the middle of %s: what is missing is unknown", domain)
		}
	}
	for _, domain := range f.tape.Header.Domains {
		if !slices.Contains(f.tape.Domains, domain) {
			say("it ends before %s", domain)
		}
	}
	if f.tape.Header.Asked.Plan && f.plan == "" {
		say("it was made with --plan, and does not hold the plan: give it again to compare")
	}
	if f.tape.Header.Asked.Message && f.message == "" {
		say("it was made with --message, and does not hold the message: give it again to compare")
	}
}

// tapeOver begins the recording that --record names. Each line is in the file as soon as it is
// known, so that a crash leaves what there is.
func (f *checkFlags) tapeOver(a *audit.Auditor, domains []dns.Name) error {
	if f.record == "" {
		return nil
	}
	err := hasFolder(f.record)
	if err != nil {
		return fmt.Errorf("--record: %w", err)
	}
	// It says who was asked for what, and is its owner's to give away.
	if f.file, err = os.OpenFile(f.record, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		if errors.Is(err, os.ErrExist) {
			err = fmt.Errorf("%s exists: give another name", f.record)
		}
		return fmt.Errorf("--record: %w", err)
	}
	f.recorder, err = tape.Record(f.file, a, domains, version)
	if err != nil {
		return fmt.Errorf("--record %s: %w", f.record, err)
	}
	return nil
}

// taped gives who asks about one domain: a, or a recording in its place. End is for when all is
// asked.
func (t *taping) taped(a *audit.Auditor, domain dns.Name) (asks *audit.Auditor, end func()) {
	switch {
	case t.tape != nil:
		played := t.tape.Auditor(domain)
		played.Plan, played.PlanKey, played.Message = a.Plan, a.PlanKey, a.Message
		return played, func() {}
	case t.recorder != nil:
		return t.recorder.Begin(a, domain)
	}
	return a, func() {}
}

// now is the time as of which is judged: that of the recording, if there is one.
func (t *taping) now() time.Time {
	switch {
	case t.tape != nil:
		return t.tape.Header.When
	case t.recorder != nil:
		return t.recorder.Header.When
	}
	return time.Now()
}

// close ends a recording. That it is not whole must not be found out when it is needed.
func (f *checkFlags) close() error {
	if f.recorder == nil {
		return nil
	}
	if err := errors.Join(f.recorder.Err(), f.file.Close()); err != nil {
		return internal(fmt.Errorf("--record %s: it is not whole: %w", f.record, err))
	}
	return nil
}
