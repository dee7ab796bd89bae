package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"mxward/internal/site"
)

func newPlan() *cobra.Command {
	plan := &cobra.Command{
		Use:   "plan",
		Short: "the site plan: a sample, and its mistakes",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	plan.AddCommand(&cobra.Command{
		Use:     "sample",
		Short:   "print a plan with every key explained",
		Example: "  mxward plan sample > mxward.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), site.Sample())
			return err
		},
	}, &cobra.Command{
		Use:   "check FILE",
		Short: "read a plan and say what is wrong with it, all at once",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := loadPlan(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: the plan is fine: %s, %s\n",
				args[0], count(len(p.Hosts), "host"), count(len(p.Domains), "domain"))
			return err
		},
	})
	return plan
}
