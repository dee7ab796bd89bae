package attach

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"strings"
	"time"

	"github.com/emersion/go-message"

	"mxward/internal/mail"
)

// Message is a message that carries one report.
type Message struct {
	From    mail.Address
	To      []mail.Address
	Subject string // ASCII
	Date    time.Time
	ID      string // the Message-ID without its angle brackets
	Fields  [][2]string
	// ReportType makes it a multipart/report of that type (RFC 6522), else multipart/mixed.
	ReportType string
	Text       string // ASCII, for people
	Name       string // of the attachment
	MediaType  string // of the attachment
	Content    []byte // of the attachment
	// Limit is the size in octets that the message must not exceed; 0 for MaxMessage.
	Limit int
}

// WriteTo writes the message with CRLF at the ends of its lines. One that would exceed the
// limit is ErrTooLarge, and nothing is written then.
func (m Message) WriteTo(w io.Writer) (int64, error) {
	limit := MaxMessage
	if m.Limit > 0 {
		limit = m.Limit
	}
	var b bytes.Buffer
	if err := m.write(&b); err != nil {
		return 0, fmt.Errorf("write the message of a report: %w", err)
	}
	if b.Len() > limit {
		return 0, fmt.Errorf("%w: its message would have %d octets, of %d", ErrTooLarge, b.Len(), limit)
	}
	return b.WriteTo(w)
}

func (m Message) write(w io.Writer) error {
	header, err := m.header()
	if err != nil {
		return err
	}
	out, err := message.CreateWriter(w, header)
	if err != nil {
		return err
	}
	if err := writePart(out, []byte(strings.ReplaceAll(m.Text, "\n", "\r\n")), "7bit", [][2]string{{"Content-Type", "text/plain; charset=us-ascii"}}); err != nil {
		return err
	}
	// Quoted by ourselves: some receivers look for the name by a pattern.
	err = writePart(out, m.Content, "base64", [][2]string{
		{"Content-Type", fmt.Sprintf(`%s; name="%s"`, m.MediaType, m.Name)},
		{"Content-Disposition", fmt.Sprintf(`attachment; filename="%s"`, m.Name)},
	})
	if err != nil {
		return err
	}
	return out.Close()
}

func (m Message) header() (message.Header, error) {
	var h message.Header
	if len(m.To) == 0 {
		return h, fmt.Errorf("it has no recipient")
	}
	to := make([]string, len(m.To))
	for i, a := range m.To {
		to[i] = a.String()
	}
	kind := "multipart/mixed"
	params := map[string]string{}
	if m.ReportType != "" {
		kind, params["report-type"] = "multipart/report", m.ReportType
	}
	// Set from the last to the first: go-message puts each one on top.
	fields := append([][2]string{
		{"From", m.From.String()},
		{"To", strings.Join(to, ", ")},
		{"Subject", m.Subject},
		{"Date", m.Date.Format("Mon, 02 Jan 2006 15:04:05 -0700")},
		{"Message-ID", "<" + m.ID + ">"},
		{"Auto-Submitted", "auto-generated"}, // RFC 3834 §5
	}, m.Fields...)
	fields = append(fields, [2]string{"MIME-Version", "1.0"}, [2]string{"Content-Type", mime.FormatMediaType(kind, params)})
	for i := len(fields) - 1; i >= 0; i-- {
		name, value := fields[i][0], fields[i][1]
		if strings.ContainsAny(value, "\r\n\x00") {
			return h, fmt.Errorf("the field %s would have a line break in %q", name, clip(value))
		}
		h.Add(name, value)
	}
	return h, nil
}

func writePart(out *message.Writer, body []byte, encoding string, fields [][2]string) error {
	var h message.Header
	h.Set("Content-Transfer-Encoding", encoding)
	for _, f := range fields {
		h.Set(f[0], f[1])
	}
	part, err := out.CreatePart(h)
	if err != nil {
		return err
	}
	if _, err := part.Write(body); err != nil {
		return err
	}
	return part.Close()
}
