package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"mxward/internal/site"
)

func newMan() *cobra.Command {
	return &cobra.Command{
		Use:   "man FOLDER",
		Short: "write the man pages, made from the commands and the plan's table of keys",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := writeMan(cmd.Root(), args[0]); err != nil {
				return problem(fmt.Errorf("write man pages: %w", err))
			}
			return nil
		},
	}
}

// built is the time of the commit that the program was built from, nil where it is not known:
// then a page bears the day on which it is written.
func built() *time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, s := range info.Settings {
		if at, err := time.Parse(time.RFC3339, s.Value); err == nil && s.Key == "vcs.time" {
			return &at
		}
	}
	return nil
}

func writeMan(root *cobra.Command, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true // pages of one version are equal, byte for byte
	header := &doc.GenManHeader{Title: "MXWARD", Section: "1", Source: "mxward " + version, Manual: "mxward", Date: built()}
	if err := doc.GenManTree(root, header, folder); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "mxward.toml.5"), []byte(site.Manual()), 0o644)
}
