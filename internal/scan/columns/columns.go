// Package columns writes the documents of a scan as a table in Apache Parquet, for programs
// that read columns (https://parquet.apache.org/docs/file-format/): one row for each document,
// in groups of bounded size, compressed by Zstandard. Nothing is encrypted, and there are no
// Bloom filters.
package columns

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"

	"mxward/internal/audit"
	"mxward/internal/scan"
)

// groupSize is about how much of documents is in a group of rows, which is in memory until it
// is written; ours.
const groupSize = 32 << 20

// Row is one line of the input. Columns are only ever added.
type Row struct {
	Line          int64     `parquet:"line"`
	Input         string    `parquet:"input"`
	Status        string    `parquet:"status,dict"`
	Domain        string    `parquet:"domain"`
	Error         string    `parquet:"error"`
	FirstLine     int64     `parquet:"first_line"`
	Provider      string    `parquet:"provider,dict"`
	Questions     int64     `parquet:"questions"`
	AskedAgain    bool      `parquet:"asked_again"`
	Critical      int64     `parquet:"critical"` // findings that fail, by severity
	Errors        int64     `parquet:"errors"`
	Warnings      int64     `parquet:"warnings"`
	Notices       int64     `parquet:"notices"`
	Infos         int64     `parquet:"infos"`
	Unknown       int64     `parquet:"unknown"` // findings, as the next three
	Pass          int64     `parquet:"pass"`
	Skipped       int64     `parquet:"skipped"`
	NotApplicable int64     `parquet:"not_applicable"`
	Findings      []Finding `parquet:"findings,list"`
	Document      string    `parquet:"document,json"` // all of it, as it is in NDJSON
}

// Finding is one of a document's.
type Finding struct {
	ID         string `parquet:"id,dict"          json:"id"`
	Target     string `parquet:"target"           json:"target"`
	Status     string `parquet:"status,dict"      json:"status"`
	Severity   string `parquet:"severity,dict"    json:"severity"`
	Confidence string `parquet:"confidence,dict"  json:"confidence"`
	Blame      string `parquet:"blame,dict"       json:"blame"`
	Title      string `parquet:"title,dict"       json:"title"`
	Detail     string `parquet:"detail"           json:"detail"`
}

// document is what of a document goes into columns.
type document struct {
	Line      int64                  `json:"line"`
	Input     string                 `json:"input"`
	Status    string                 `json:"status"`
	Domain    string                 `json:"domain"`
	Error     string                 `json:"error"`
	FirstLine int64                  `json:"first_line"`
	Provider  string                 `json:"provider"`
	Questions int64                  `json:"questions"`
	Again     bool                   `json:"asked_again"`
	Counts    map[audit.Status]int64 `json:"counts"`
	Findings  []Finding              `json:"findings"`
}

// Writer writes documents; Close must be called after the last.
type Writer struct {
	rows    *parquet.GenericWriter[Row]
	most    int // octets of documents in a group, about
	pending int // in this one
}

// NewWriter writes to w.
func NewWriter(w io.Writer) *Writer {
	rows := parquet.NewGenericWriter[Row](w, parquet.Compression(&parquet.Zstd), parquet.SkipPageBounds("document"),
		parquet.CreatedBy("mxward", "", ""))
	return &Writer{rows: rows, most: groupSize}
}

// Write adds a document.
func (w *Writer) Write(d scan.Document) error {
	row, err := rowOf(d)
	if err != nil {
		return fmt.Errorf("line %d: %w", d.Line, err)
	}
	if _, err := w.rows.Write([]Row{row}); err != nil {
		return err
	}
	if w.pending += len(d.Text); w.pending < w.most {
		return nil
	}
	w.pending = 0
	return w.rows.Flush()
}

// Close writes what is left. It does not close what is written to.
func (w *Writer) Close() error { return w.rows.Close() }

func rowOf(text scan.Document) (Row, error) {
	var d document
	if err := json.Unmarshal(text.Text, &d); err != nil {
		return Row{}, err
	}
	row := Row{
		Line: d.Line, Input: d.Input, Status: d.Status, Domain: d.Domain, Error: d.Error, FirstLine: d.FirstLine,
		Provider: d.Provider, Questions: d.Questions, AskedAgain: d.Again,
		Unknown: d.Counts[audit.Unknown], Pass: d.Counts[audit.Pass], Skipped: d.Counts[audit.Skipped], NotApplicable: d.Counts[audit.NotApplicable],
		Findings: d.Findings, Document: string(text.Text[:max(len(text.Text)-1, 0)]), // without the end of the line
	}
	for _, f := range d.Findings {
		if f.Status != string(audit.Fail) {
			continue
		}
		switch audit.Severity(f.Severity) {
		case audit.Critical:
			row.Critical++
		case audit.Error:
			row.Errors++
		case audit.Warning:
			row.Warnings++
		case audit.Notice:
			row.Notices++
		default:
			row.Infos++
		}
	}
	return row, nil
}
