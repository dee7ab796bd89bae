// Package attach is how reports travel: it finds the reports in a message or a file and
// opens their compression, and it writes the message that carries one. MIME (RFC 2045, RFC 2046,
// RFC 2183) is read as far as reports need it. What is inside a report is not its matter.
//
// Whoever knows an address for reports may send to it (RFC 9990 §8.1, RFC 8460 §7), so that all
// that is read is taken for hostile: it is streamed, and every size and count has a limit.
//
// Not implemented: external bodies, message/partial, uuencode, encrypted archives, an archive
// within an archive, and transfer encodings other than those of RFC 2045.
package attach

import (
	"errors"
	"io"
)

// Limits of what is read, all of them ours: the RFCs about reports name none. A day's report
// of a very large sender is a few megabytes compressed.
const (
	MaxMessage    = 64 << 20 // octets of a message or file; as attachments grow by a third in base64
	MaxCompressed = 16 << 20 // octets of one compressed report
	MaxContent    = 64 << 20 // octets of one report, uncompressed
	MaxRatio      = 250      // uncompressed octets for a compressed one; deflate reaches 1032 with nonsense
	MaxEntries    = 10       // files in a zip archive
	MaxParts      = 100      // parts of a message, all levels together
	MaxDepth      = 8        // multiparts and messages within each other
	MaxHeader     = 256 << 10

	ratioFrom = 1 << 20 // uncompressed octets below which no ratio is suspicious
	sniffed   = 512     // octets by which content is recognized
)

// The classes of what may be wrong. An error of none of them is the reader's own: the
// message could not be read, and may be read again.
var (
	ErrNotReport = errors.New("not a report")
	ErrMalformed = errors.New("malformed report")
	ErrTooLarge  = errors.New("report is too large")
)

// Kind is what the octets of an item look like. Only its parser knows.
type Kind string

// The kinds.
const (
	XML      Kind = "xml"      // perhaps a DMARC aggregate report
	JSON     Kind = "json"     // perhaps a TLS report
	Feedback Kind = "feedback" // the fields of message/feedback-report (RFC 5965 §3)
	Original Kind = "original" // the message that a feedback report is about, or its header alone
)

// Item is one thing that was found.
type Item struct {
	Kind    Kind
	Name    string    // the attachment's or file's own name, a stranger's text; may be ""
	Content io.Reader // uncompressed, to be read before the next item comes; its errors are of the classes above
}

// Visit is told of each item, in their order. ErrNotReport lets Find go on to the next one,
// any other error ends it.
type Visit func(Item) error
