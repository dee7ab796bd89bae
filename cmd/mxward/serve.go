package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"mxward/internal/app"
	"mxward/internal/dns"
	"mxward/internal/site"
)

const defaultPlan = "/etc/mxward/mxward.toml"

func newServe() *cobra.Command {
	var (
		planFile string
		hosts    []string
		jsonLog  bool
		logLevel string
		hold     bool
	)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "run the gate: DNS, SMTP and the queue, by the plan",
		Long: `Serve runs this machine's part of the plan until SIGTERM or SIGINT: the name server, the
loopback resolver, an SMTP listener for each MX host of the plan whose addresses are this
machine's, and the queue. The log goes to stderr.

Mail is acknowledged only after it is on stable storage. On a stop, transactions in flight
may end; what is queued stays in the store.`,
		Example: "  mxward serve --plan mxward.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := loadPlan(planFile)
			if err != nil {
				return err
			}
			logger, err := newLogger(jsonLog, logLevel)
			if err != nil {
				return usage(err)
			}
			opts := app.Options{Logger: logger, Hold: hold}
			for _, h := range hosts {
				name, err := dns.ParseName(h)
				if err != nil {
					return usage(fmt.Errorf("--host: %w", err))
				}
				if _, ok := plan.Host(name); !ok {
					return usage(fmt.Errorf("--host: expected a [[host]] of the plan, got %q", h))
				}
				opts.Hosts = append(opts.Hosts, name)
			}
			return serve(cmd.Context(), plan, opts)
		},
	}
	cmd.Flags().StringVar(&planFile, "plan", defaultPlan, "the site plan, a TOML `file`")
	cmd.Flags().StringSliceVar(&hosts, "host", nil, "the plan's `host` that this machine is (default: those whose addresses it has)")
	cmd.Flags().BoolVar(&jsonLog, "log-json", false, "log one JSON object a line")
	cmd.Flags().StringVar(&logLevel, "log-level", "info", "the least `level` that is logged: debug, info, warn or error")
	cmd.Flags().BoolVar(&hold, "hold", false, "accept mail and keep it in the queue; deliver nothing (maintenance)")
	return cmd
}

func serve(ctx context.Context, plan *site.Plan, opts app.Options) error {
	spareProcessor()
	collectLess()
	daemon, err := app.New(ctx, plan, opts)
	if err != nil {
		return problem(fmt.Errorf("start: %w", err))
	}
	if err := daemon.Run(ctx); err != nil {
		return problem(fmt.Errorf("serve: %w", err))
	}
	return nil
}

// spareProcessor gives Go's scheduler one processor more than it takes by itself, unless the
// operator chose a number. The name server's UDP loops, when busy, keep one while they rest
// (dns/server); on a machine with one core all else would wait for that. From here on Go
// does not follow changes of a container's CPU limit.
func spareProcessor() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
}

// gcPercent lets the heap grow to three times what lives before it is collected, Go's own
// being twice: taking mail costs a tenth less CPU, and 5,000 idle sessions 4 MiB more.
const gcPercent = 200

// collectLess sets gcPercent, unless the operator chose a number.
func collectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// loadPlan reads a plan; every mistake is printed on a line of its own.
func loadPlan(file string) (*site.Plan, error) {
	plan, err := site.Load(file)
	if err != nil {
		return nil, planError(err)
	}
	return plan, nil
}

// planError prints the mistakes of a plan, and gives the error that ends the program.
func planError(err error) error {
	var mistakes site.Errors
	if !errors.As(err, &mistakes) {
		return usage(err)
	}
	if mistakes[0].Kind == site.Unreadable {
		return usage(fmt.Errorf("%w; write one (mxward plan sample > mxward.toml) or name another with --plan", err))
	}
	for _, m := range mistakes {
		fmt.Fprintln(os.Stderr, m)
	}
	return usage(fmt.Errorf("the plan has %s", count(len(mistakes), "mistake")))
}

// count gives "1 mistake" or "2 mistakes".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func newLogger(json bool, level string) (*slog.Logger, error) {
	var opts slog.HandlerOptions
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: expected debug, info, warn or error, got %q", level)
	}
	opts.Level = least
	if json {
		return slog.New(slog.NewJSONHandler(os.Stderr, &opts)), nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &opts)), nil
}
