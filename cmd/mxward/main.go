// Mxward is a mail gate that runs on DNS. Each verb is a file of this package: flags, one
// call, and what it prints. Exit codes: 0 fine; 1 problems found; 2 usage or plan error;
// 3 could not be determined; 4 a fault of mxward's own; 5 interrupted, with partial output.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker (make build).
var version = "unknown"

func main() { os.Exit(run()) }

// run is main without the exit, for the tests that call the program by name.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	return execute(ctx, newRoot())
}

// execute gives the exit code of a command.
func execute(ctx context.Context, root *cobra.Command) (code int) {
	defer func() {
		if v := recover(); v != nil {
			fmt.Fprintf(os.Stderr, "mxward: a fault of mxward's own, which should be reported: %v\n%s", v, debug.Stack())
			code = exitInternal
		}
	}()
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitFine
	}
	code = exitUsage // cobra's own errors are about flags and arguments
	var e *exitError
	if errors.As(err, &e) {
		code = e.code
	}
	if e == nil || e.err != nil {
		fmt.Fprintf(os.Stderr, "mxward: %v\n", err)
	}
	return code
}

// The exit codes of every verb.
const (
	exitFine         = 0
	exitProblems     = 1
	exitUsage        = 2
	exitUndetermined = 3
	exitInternal     = 4
	exitInterrupted  = 5
)

// exitError is an error with its exit code; without err there is nothing more to print.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func problem(err error) error      { return &exitError{exitProblems, err} }
func usage(err error) error        { return &exitError{exitUsage, err} }
func undetermined(err error) error { return &exitError{exitUndetermined, err} }
func internal(err error) error     { return &exitError{exitInternal, err} }
func interrupted(err error) error  { return &exitError{exitInterrupted, err} }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "mxward",
		Short: "a mail gate that runs on DNS",
		Long: `mxward guards the MX hosts of a mail domain: it serves the domain's DNS, takes its
mail by the plan's MX ladder, keeps it until somebody else has it, and carries it on.

Exit status: 0 fine; 1 problems found, or mail not deliverable; 2 usage or plan error;
3 could not be determined, because the resolver or the network failed; 4 a fault of mxward's
own; 5 interrupted, and what was printed is not all.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(newServe(), newCheck(), newWatch(), newScan(), newExplain(), newRoute(), newResolve(), newSPF(), newDKIM(), newDMARC(), newAuth(), newMTASTS(), newDANE(), newReport(), newQueue(), newPlan(), newLab(), newVersion(), newMan())
	return root
}
