package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"mxward/docs/schema"
	"mxward/internal/audit"
	"mxward/internal/audit/render"
	"mxward/internal/dns"
	"mxward/internal/durable"
)

// checkFormats are the words of --format.
var checkFormats = []string{"text", "json", "html", "sarif", "junit", "prometheus"}

// outputFlags say how findings are written, and where.
type outputFlags struct {
	format string // one of checkFormats
	output string
	schema bool
}

func (f *outputFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "text", "write `text`, json, html, sarif, junit or prometheus")
	flags.StringVarP(&f.output, "output", "o", "", "write to this `file`, which is replaced when all is written")
	flags.BoolVar(&f.schema, "schema", false, "print the JSON Schema of --json, and look at nothing")
}

func printSchema(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(errors.New("--schema takes no domain"))
	}
	_, err := io.WriteString(cmd.OutOrStdout(), schema.Check())
	return err
}

// chooseFormat: --json is the short way to say --format json.
func (f *checkFlags) chooseFormat(formatSet bool) error {
	switch {
	case f.json && formatSet && f.format != "json":
		return fmt.Errorf("--json and --format %s: choose one", f.format)
	case f.json:
		f.format = "json"
	}
	if !slices.Contains(checkFormats, f.format) {
		return fmt.Errorf("--format: expected text, json, html, sarif, junit or prometheus, got %q", f.format)
	}
	return nil
}

func (f *checkFlags) look(ctx context.Context, a *audit.Auditor, domain dns.Name) render.Report {
	a, end := f.taped(a, domain)
	facts := a.Gather(ctx, domain)
	end()
	return render.NewReport(facts, audit.Judge(facts, f.checks))
}

// checkOutput is where the reports go: text and JSON as each is done, the other formats at the
// end, as one document for all.
type checkOutput struct {
	flags   *checkFlags
	w       io.Writer
	file    *newFile // nil where it goes to stdout
	several bool
	held    []render.Report
}

func (f *checkFlags) open(stdout io.Writer, domains int) (*checkOutput, error) {
	o := &checkOutput{flags: f, w: stdout, several: domains > 1}
	if f.output == "" {
		return o, nil
	}
	file, err := createNew(f.output)
	if err != nil {
		return nil, fmt.Errorf("--output: %w", err)
	}
	o.file, o.w = file, file
	return o, nil
}

func (o *checkOutput) add(r render.Report) error {
	var err error
	switch o.flags.format {
	case "text":
		err = render.Text(o.w, r, o.flags.verbose)
	case "json":
		err = render.JSON(o.w, r, o.several)
	default:
		o.held = append(o.held, r)
	}
	return o.failed(err)
}

// finish writes what was held, and puts the file in its place.
func (o *checkOutput) finish() error {
	how := render.Audit{Checks: o.flags.checks, FailOn: audit.Severity(o.flags.failOn), Version: version}
	var err error
	switch o.flags.format {
	case "html":
		err = render.HTML(o.w, o.held, how)
	case "sarif":
		err = render.SARIF(o.w, o.held, how)
	case "junit":
		err = render.JUnit(o.w, o.held, how)
	case "prometheus":
		err = render.Prometheus(o.w, o.held)
	}
	if err == nil && o.file != nil {
		err = o.file.commit()
	}
	return o.failed(err)
}

func (o *checkOutput) failed(err error) error {
	if err == nil {
		return nil
	}
	return internal(fmt.Errorf("write the findings as %s: %w", o.flags.format, err))
}

// drop leaves the file as it was; after finish it does nothing.
func (o *checkOutput) drop() {
	if o.file != nil {
		o.file.drop()
	}
}

// newFile is a file that appears in its place when it is whole: whoever reads there sees the old
// one or the new one. A device or pipe is written to as it is.
type newFile struct {
	*os.File
	path string // "" once there is nothing more to do, and for a device
}

func createNew(path string) (*newFile, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		if info.IsDir() {
			return nil, fmt.Errorf("expected a file, %s is a folder", path)
		}
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		return &newFile{File: file}, err
	}
	if err := hasFolder(path); err != nil {
		return nil, err
	}
	file, err := durable.Hidden(path, 0o666)
	if err != nil {
		return nil, err
	}
	return &newFile{file, path}, nil
}

// hasFolder refuses a file that is to be made in a folder that is not there.
func hasFolder(path string) error {
	folder := filepath.Dir(path)
	switch info, err := os.Stat(folder); {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("write %s: there is no folder %s: make it, or give another name", path, folder)
	case err == nil && !info.IsDir():
		return fmt.Errorf("write %s: %s is no folder: give another name", path, folder)
	}
	return nil
}

// Write implements io.Writer.
func (f *newFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	if err != nil && f.path != "" {
		err = durable.Named(f.path, err)
	}
	return n, err
}

// commit puts the file in its place, and brings that to stable storage.
func (f *newFile) commit() error {
	if f.path == "" {
		return f.Close()
	}
	err := f.Sync()
	if err == nil {
		err = os.Rename(f.Name(), f.path)
	}
	if err != nil {
		return durable.Named(f.path, err)
	}
	folder := filepath.Dir(f.path)
	f.path = ""
	return errors.Join(f.Close(), durable.SyncFolder(folder))
}

func (f *newFile) drop() {
	if f.path != "" {
		f.Close()
		os.Remove(f.Name())
	}
}
