package render

import (
	"fmt"
	"time"
	"unicode/utf8"
)

// The drawing's measures, in pixels. Its type is monospaced, and no such face is wider than
// charWidth at fontSize: so a box fits its text without anybody measuring it.
const (
	fontSize  = 13
	charWidth = 8.2
	padding   = 8
	boxHeight = 26
	rowHeight = 34
	gap       = 44 // between columns, for the lines
	headline  = 28
	border    = 1  // a box's line is half outside
	maxLabel  = 38 // characters of one box
)

// drawing is the ladder as boxes and lines: a column of hosts, of their addresses, of the names
// of these, and of certificates.
type drawing struct {
	Width, Height int
	Heads         []label
	Boxes         []box
	Lines         []line
}

type label struct {
	X, Y int
	Text string
}

// box is one thing; Full is its text unabridged.
type box struct {
	X, Y, Width, Height int
	Class, Text, Full   string
}

func (b box) TextX() int { return b.X + padding }
func (b box) TextY() int { return b.Y + boxHeight/2 + fontSize/3 }

// line leads from one box to the next column.
type line struct{ X1, Y1, X2, Y2 int }

// Path is a curve that leaves and arrives level.
func (l line) Path() string {
	bend := (l.X2 - l.X1) / 2
	return fmt.Sprintf("M%d %d C%d %d %d %d %d %d", l.X1, l.Y1, l.X1+bend, l.Y1, l.X2-bend, l.Y2, l.X2, l.Y2)
}

// The columns.
const (
	hostColumn = iota
	addressColumn
	nameColumn
	certificateColumn
	columns
)

// cell is a box before its place is known: its column, its row, and the cell that leads to it.
type cell struct {
	column, row, from int
	class, text, full string
}

const noCell = -1

// draw places the ladder; at is when it was looked at.
func draw(l Ladder, at time.Time) drawing {
	s := sketch{at: at}
	for _, r := range l.Rungs {
		s.rung(r)
	}
	return s.place()
}

type sketch struct {
	at    time.Time
	cells []cell
	row   int
}

func (s *sketch) put(column, from int, class, mark, text string) int {
	s.cells = append(s.cells, cell{column, s.row, from, class, mark + middle(text, maxLabel), mark + Clean(text)})
	return len(s.cells) - 1
}

func (s *sketch) rung(r Rung) {
	mark, class := "", "host"
	if r.Preference != "" {
		mark = r.Preference + " "
	}
	if r.Alias != "" {
		mark, class = mark+"✗ alias ", "bad" // RFC 2181 §10.3
	}
	host := s.put(hostColumn, noCell, class, mark, r.Host.String())
	if r.Trouble != "" {
		s.trouble(addressColumn, host, r.Trouble, r.Open)
		s.row++
	}
	for _, a := range r.Addresses {
		s.address(host, a)
	}
}

func (s *sketch) trouble(column, from int, text string, open bool) int {
	if open {
		return s.put(column, from, "open", "? ", text)
	}
	return s.put(column, from, "bad", "✗ ", text)
}

func (s *sketch) address(host int, a Address) {
	addr := s.put(addressColumn, host, "plain", "", addrText(a.Addr))
	top, before := s.row, addr
	if a.Trouble != "" {
		before = s.trouble(nameColumn, addr, a.Trouble, a.Open)
	}
	for i, n := range a.Names[:min(maxNames, len(a.Names))] {
		s.row = top + i
		if name := s.name(addr, n); i == 0 {
			before = name
		}
	}
	if more := len(a.Names) - maxNames; more > 0 {
		s.row++
		s.put(nameColumn, addr, "plain", "", fmt.Sprintf("and %d more", more))
	}
	below := s.row + 1
	if a.Certificate != nil {
		s.row = top
		s.certificate(before, *a.Certificate)
	}
	s.row = below
}

func (s *sketch) name(addr int, n PTR) int {
	switch {
	case n.Confirmed:
		return s.put(nameColumn, addr, "good", "✓ ", n.Name.String())
	case n.Open:
		return s.put(nameColumn, addr, "open", "? ", n.Name.String())
	}
	return s.put(nameColumn, addr, "bad", "✗ ", n.Name.String())
}

func (s *sketch) certificate(from int, c Certificate) {
	text := "until " + c.Ends.UTC().Format(time.DateOnly)
	if len(c.Names) > 0 {
		text += " " + c.Names[0]
	}
	switch {
	case c.Trouble != "":
		s.put(certificateColumn, from, "bad", "✗ ", c.Trouble)
	case c.Ends.Before(s.at):
		s.put(certificateColumn, from, "bad", "✗ ", text)
	default:
		s.put(certificateColumn, from, "good", "✓ ", text)
	}
}

// place gives each cell its place: a column is as wide as its widest box.
func (s *sketch) place() drawing {
	var widths, xs [columns]int
	for _, c := range s.cells {
		widths[c.column] = max(widths[c.column], boxWidth(c.text))
	}
	d := drawing{Height: headline + s.row*rowHeight, Width: border}
	heads := [columns]string{"MX host", "address", "PTR name", "certificate"}
	for i, w := range widths {
		if w == 0 {
			continue
		}
		w = max(w, boxWidth(heads[i]))
		if i > 0 {
			d.Width += gap
		}
		xs[i], widths[i] = d.Width, w
		d.Heads = append(d.Heads, label{d.Width + padding, headline / 2, heads[i]})
		d.Width += w
	}
	d.Width += border
	for _, c := range s.cells {
		b := box{X: xs[c.column], Y: headline + c.row*rowHeight, Width: boxWidth(c.text), Height: boxHeight, Class: c.class, Text: c.text, Full: c.full}
		d.Boxes = append(d.Boxes, b)
		if c.from != noCell {
			from := d.Boxes[c.from]
			d.Lines = append(d.Lines, line{from.X + from.Width, from.Y + boxHeight/2, b.X, b.Y + boxHeight/2})
		}
	}
	return d
}

func boxWidth(text string) int {
	return int(float64(utf8.RuneCountInString(text))*charWidth) + 2*padding
}
