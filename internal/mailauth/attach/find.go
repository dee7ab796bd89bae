package attach

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"
)

// Find reads a message, or a file that is a bare report, compressed or not, and visits what
// may be reports in it. Where no visit was content the error is ErrNotReport. A message that
// has reports and is broken behind them is no error.
func Find(r io.Reader, visit Visit) error {
	s := &source{r: r, left: MaxMessage}
	f := &finder{source: s, visit: visit}
	err := f.find()
	switch {
	case s.err != nil: // whatever else seems wrong follows from that
		return fmt.Errorf("read a report: %w", s.err)
	case err != nil && !errors.Is(err, errEnough):
		return err
	case f.found == 0:
		return fmt.Errorf("%w: nothing in %s is one", ErrNotReport, f.looked())
	}
	return nil
}

// source is the input. It keeps the input's own error apart from the faults of what is read,
// and bounds what is taken: in all, and while a header is read.
type source struct {
	r      io.Reader
	left   int64 // of MaxMessage
	header int64 // of MaxHeader, where bounded
	within bool  // a header
	err    error
}

func (s *source) Read(p []byte) (int, error) {
	most := s.left
	if s.within {
		most = min(most, s.header)
	}
	if most <= 0 && len(p) > 0 {
		if s.within && s.left > 0 {
			return 0, fmt.Errorf("%w: more than %d octets of a part's header", ErrTooLarge, MaxHeader)
		}
		return 0, fmt.Errorf("%w: a message of more than %d octets", ErrTooLarge, MaxMessage)
	}
	n, err := s.r.Read(p[:min(int64(len(p)), most)])
	s.left -= int64(n)
	s.header -= int64(n)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// bounded runs what reads a header: go-message bounds only the first one of a message.
func (s *source) bounded(read func() error) error {
	s.header, s.within = MaxHeader, true
	err := read()
	s.within = false
	switch {
	case err == nil || err == io.EOF || errors.Is(err, ErrTooLarge):
		return err
	case s.header <= 0: // go-message drops the chain of errors here and there
		return fmt.Errorf("%w: more than %d octets of a part's header", ErrTooLarge, MaxHeader)
	case s.left <= 0:
		return fmt.Errorf("%w: a message of more than %d octets", ErrTooLarge, MaxMessage)
	}
	return fmt.Errorf("%w: MIME: %w", ErrMalformed, err)
}

type finder struct {
	source *source
	visit  Visit
	found  int
	parts  int
	types  []string // of the parts that were passed over, for the error
}

// errEnough ends the search without being an error: behind what was found it gets worse.
var errEnough = errors.New("enough")

func (f *finder) find() error {
	br := bufio.NewReaderSize(f.source, 4096)
	begin, err := br.Peek(sniffed)
	if err != nil && err != io.EOF {
		return err
	}
	if len(bytes.TrimSpace(begin)) == 0 {
		return fmt.Errorf("%w: empty", ErrNotReport)
	}
	if kind := sniff(begin); kind != "" || isCompressed(begin) {
		f.parts++
		return f.open(Item{Kind: kind, Content: br})
	}
	// A message in a file of the mbox format has one line before it.
	if bytes.HasPrefix(begin, []byte("From ")) {
		if _, err := br.ReadSlice('\n'); err != nil {
			return fmt.Errorf("%w: one long line", ErrNotReport)
		}
	}
	return f.message(br, 0)
}

// message reads a message, the outermost or one within.
func (f *finder) message(r io.Reader, depth int) error {
	br := bufio.NewReader(r)
	var header textproto.Header
	err := f.source.bounded(func() (err error) {
		header, err = textproto.ReadHeader(br)
		return err
	})
	if err == io.EOF || errors.Is(err, ErrMalformed) {
		return fmt.Errorf("%w: neither a message nor XML, JSON, gzip or zip", ErrNotReport)
	}
	if err != nil {
		return err
	}
	return f.entity(header, br, depth, new(bool))
}

// entity looks at a part and at what is in it. Feedback says whether a part before it, of
// the same multipart, was a feedback report: then a message is the one that it is about.
func (f *finder) entity(header textproto.Header, body io.Reader, depth int, feedback *bool) error {
	if f.parts++; f.parts > MaxParts {
		return fmt.Errorf("%w: a message of more than %d parts", ErrTooLarge, MaxParts)
	}
	if depth > MaxDepth {
		return fmt.Errorf("%w: parts more than %d deep within each other", ErrTooLarge, MaxDepth)
	}
	// The error is about a charset or an encoding that is not known: the octets are as good as any.
	e, _ := message.New(message.Header{Header: header}, body)
	kind, params, _ := e.Header.ContentType()
	if strings.HasPrefix(kind, "multipart/") {
		return f.multipart(textproto.NewMultipartReader(e.Body, params["boundary"]), depth)
	}
	_, disposition, _ := e.Header.ContentDisposition()
	name := disposition["filename"]
	if name == "" {
		name = params["name"]
	}
	switch {
	case kind == "message/feedback-report":
		*feedback = true
		return f.show(Item{Kind: Feedback, Name: name, Content: &limited{r: e.Body, left: MaxContent, what: "a feedback report"}})
	case *feedback && (kind == "message/rfc822" || kind == "message/global" || kind == "text/rfc822-headers" || kind == "message/rfc822-headers" || kind == "message/global-headers"):
		return f.show(Item{Kind: Original, Name: name, Content: e.Body})
	case kind == "message/rfc822" || kind == "message/global": // somebody forwards a report
		err := f.message(e.Body, depth+1)
		if errors.Is(err, ErrNotReport) {
			return nil
		}
		return err
	case mayCarry(kind, name):
		return f.attachment(e.Body, name)
	}
	if kind == "" {
		kind = "text/plain"
	}
	f.types = append(f.types, kind)
	return nil
}

func (f *finder) multipart(parts *textproto.MultipartReader, depth int) error {
	feedback := false
	for {
		var part *textproto.Part
		err := f.source.bounded(func() (err error) {
			part, err = parts.NextPart()
			return err
		})
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, ErrMalformed) && f.found > 0:
			return errEnough
		case err != nil:
			return err
		}
		if err := f.entity(part.Header, part, depth+1, &feedback); err != nil {
			return err
		}
		// What is left of the part is no header, by which the next step is bounded.
		if _, err := io.Copy(io.Discard, part); err != nil {
			if f.found > 0 {
				return errEnough
			}
			return classed(err)
		}
	}
}

// mayCarry tells by type or name whether a part may be a report. Senders write all sorts of
// types, so the name alone is enough, and octet-stream without a name is looked at too.
func mayCarry(kind, name string) bool {
	switch kind {
	case "application/gzip", "application/x-gzip", "application/gzip-compressed", "application/x-gunzip",
		"application/zip", "application/x-zip", "application/x-zip-compressed", "application/x-compressed",
		"application/octet-stream", "application/octetstream", "application/xml", "text/xml",
		"application/tlsrpt+gzip", "application/tlsrpt+json", "application/json":
		return true
	}
	ends := []string{".xml", ".gz", ".gzip", ".zip", ".json"}
	return slices.Contains(ends, strings.ToLower(path.Ext(strings.TrimSpace(name))))
}

// attachment looks at one that may be a report; a logo or a calendar is none.
func (f *finder) attachment(r io.Reader, name string) error {
	br := bufio.NewReaderSize(r, 4096)
	begin, err := br.Peek(sniffed)
	if err != nil && err != io.EOF && len(begin) == 0 {
		if errors.Is(err, ErrTooLarge) {
			return err
		}
		f.types = append(f.types, "an attachment that cannot be decoded")
		return nil
	}
	kind := sniff(begin)
	if kind == "" && !isCompressed(begin) {
		f.types = append(f.types, "an attachment that is neither XML, JSON, gzip nor zip")
		return nil
	}
	return f.open(Item{Kind: kind, Name: name, Content: br})
}

// show visits an item and counts it.
func (f *finder) show(i Item) error {
	err := f.visit(i)
	if errors.Is(err, ErrNotReport) {
		f.types = append(f.types, i.label())
		return nil
	}
	if err == nil {
		f.found++
	}
	return err
}

func (i Item) label() string {
	if i.Name == "" {
		return string(i.Kind)
	}
	return fmt.Sprintf("%s %q", i.Kind, clip(i.Name))
}

// looked says in what nothing was found.
func (f *finder) looked() string {
	const most = 5
	if len(f.types) == 0 {
		return fmt.Sprintf("%d parts", f.parts)
	}
	types := slices.Compact(slices.Clone(f.types))
	more := ""
	if len(types) > most {
		types, more = types[:most], ", …"
	}
	return fmt.Sprintf("%d parts (%s%s)", f.parts, strings.Join(types, ", "), more)
}

// clip cuts what goes into an error.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// sniff tells what octets look like, "" for nothing that is known: a byte order mark and
// white space, and then the sign that the format cannot do without.
func sniff(begin []byte) Kind {
	if bytes.HasPrefix(begin, []byte("\xff\xfe")) || bytes.HasPrefix(begin, []byte("\xfe\xff")) {
		return XML // in UTF-16, which its parser refuses by name
	}
	text := bytes.TrimLeft(bytes.TrimPrefix(begin, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch {
	case bytes.HasPrefix(text, []byte("<")):
		return XML
	case bytes.HasPrefix(text, []byte("{")):
		return JSON
	}
	return ""
}

func isGzip(begin []byte) bool { return bytes.HasPrefix(begin, []byte("\x1f\x8b")) }
func isZip(begin []byte) bool {
	return bytes.HasPrefix(begin, []byte("PK\x03\x04")) || bytes.HasPrefix(begin, []byte("PK\x05\x06"))
}
func isCompressed(begin []byte) bool { return isGzip(begin) || isZip(begin) }

// classed makes an error of a decoder one of malformed content, unless it has a class.
func classed(err error) error {
	if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrMalformed) || errors.Is(err, ErrNotReport) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}

// limited bounds uncompressed content, by size and by how much the compressed octets grew.
type limited struct {
	r    io.Reader
	left int64
	what string
	in   func() int64 // octets consumed so far; nil for content that was not compressed
	out  int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("%w: %s of more than %d octets", ErrTooLarge, l.what, MaxContent)
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	l.out += int64(n)
	if l.in != nil && l.out > ratioFrom && l.out/MaxRatio > max(l.in(), 1) {
		return 0, fmt.Errorf("%w: compressed to less than 1 in %d, which no report is", ErrTooLarge, MaxRatio)
	}
	if err != nil && err != io.EOF {
		err = classed(err)
	}
	return n, err
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	if c.n >= MaxCompressed {
		return 0, fmt.Errorf("%w: more than %d octets compressed", ErrTooLarge, MaxCompressed)
	}
	n, err := c.r.Read(p[:min(int64(len(p)), math.MaxInt64, MaxCompressed-c.n)])
	c.n += int64(n)
	return n, err
}
