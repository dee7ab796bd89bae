package columns

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"mxward/internal/audit"
	"mxward/internal/scan"
)

// doc is a document as a scan writes it.
func doc(t *testing.T, r scan.Result) scan.Document {
	t.Helper()
	var text bytes.Buffer
	if err := r.Write(&text, false); err != nil {
		t.Fatal(err)
	}
	return scan.Document{Line: r.Line, Text: text.Bytes()}
}

func read(t *testing.T, file []byte) []Row {
	t.Helper()
	r := parquet.NewGenericReader[Row](bytes.NewReader(file))
	defer r.Close()
	rows := make([]Row, r.NumRows())
	if n, err := r.Read(rows); n != len(rows) || err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("%d of %d rows: %v", n, len(rows), err)
	}
	return rows
}

func TestWriter(t *testing.T) {
	docs := []scan.Document{
		doc(t, scan.Result{Line: 1, Input: "Example.COM", Status: scan.Checked, Domain: "example.com", Provider: "example.net", Questions: 7, Again: true, Findings: []audit.Finding{
			{ID: "mx.cname", Target: "mx.example.com", Status: audit.Fail, Severity: audit.Error, Confidence: audit.Single, Blame: audit.ZoneData, Title: "t", Detail: "ü"},
			{ID: "spf.missing", Target: "example.com", Status: audit.Unknown, Blame: audit.ZoneServers},
			{ID: "mx.null", Status: audit.Pass}, {ID: "dkim.missing", Status: audit.Skipped},
			{ID: "mx.missing", Status: audit.Fail, Severity: audit.Critical}, {ID: "mx.implicit", Status: audit.Fail, Severity: audit.Info},
			{ID: "mx.no-ipv6", Status: audit.Fail, Severity: audit.Notice}, {ID: "deleg.same-as", Status: audit.Fail, Severity: audit.Warning},
			{ID: "bimi.missing", Status: audit.NotApplicable},
		}}),
		doc(t, scan.Result{Line: 2, Status: scan.Invalid, Error: "expected a domain, got an empty line"}),
		doc(t, scan.Result{Line: 3, Input: "example.com", Status: scan.Duplicate, Domain: "example.com", First: 1}),
	}
	var file bytes.Buffer
	w := NewWriter(&file)
	for _, d := range docs {
		if err := w.Write(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	rows := read(t, file.Bytes())
	if len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, row := range rows {
		if row.Document+"\n" != string(docs[i].Text) {
			t.Errorf("document %d: %s", i, row.Document)
		}
	}
	first := rows[0]
	if len(first.Findings) != 6 || first.Findings[0] != (Finding{"mx.cname", "mx.example.com", "fail", "error", "single", "zone", "t", "ü"}) || first.Findings[1].Blame != "zone-ns" {
		t.Errorf("%+v", first.Findings)
	}
	first.Findings, first.Document = nil, ""
	if want := (Row{
		Line: 1, Input: "Example.COM", Status: "checked", Domain: "example.com", Provider: "example.net", Questions: 7, AskedAgain: true,
		Critical: 1, Errors: 1, Warnings: 1, Notices: 1, Infos: 1, Unknown: 1, Pass: 1, Skipped: 1, NotApplicable: 1,
	}); !reflect.DeepEqual(first, want) {
		t.Errorf("%+v", first)
	}
	if rows[1].Status != "invalid" || rows[1].Error == "" || rows[2].FirstLine != 1 {
		t.Errorf("%+v", rows[1:])
	}
}

// TestGroups: no more than some documents are in memory, however many there are.
func TestGroups(t *testing.T) {
	var file bytes.Buffer
	w := NewWriter(&file)
	w.most = 10_000
	large := doc(t, scan.Result{Line: 1, Status: scan.Checked, Provider: strings.Repeat("x", 1000)})
	for range 25 {
		if err := w.Write(large); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.RowGroups()) < 2 || len(f.RowGroups()) > 5 || f.NumRows() != 25 {
		t.Errorf("%d groups of %d rows", len(f.RowGroups()), f.NumRows())
	}
}

// TestNoDocument: what is none is an error.
func TestNoDocument(t *testing.T) {
	if err := NewWriter(io.Discard).Write(scan.Document{Line: 7, Text: []byte("{\n")}); err == nil || !strings.Contains(err.Error(), "line 7") {
		t.Error(err)
	}
}

// TestNothing: a table without rows is one.
func TestNothing(t *testing.T) {
	var file bytes.Buffer
	if err := NewWriter(&file).Close(); err != nil {
		t.Fatal(err)
	}
	if rows := read(t, file.Bytes()); len(rows) != 0 {
		t.Errorf("%d rows", len(rows))
	}
}
