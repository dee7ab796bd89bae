package site

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// node is a value of the text, or a table, with the line on which it stands. The library's
// decoder would give the lines of some errors; the checks of a plan want those of all.
type node struct {
	kind  unstable.Kind
	line  int
	text  string  // of a scalar: a string without its quotes, else as written
	items []*node // of an Array or an ArrayTable
	keys  []entry // of a Table or an InlineTable, as they come
	index map[string]int
	made  origin // of a Table
}

// entry is a key of a table, and its value.
type entry struct {
	name  string
	line  int
	value *node
}

// origin says how a table came to be, which decides what may be added to it (TOML 1.0,
// "Table" and "Keys").
type origin int

const (
	byHeader origin = iota // it has a header of its own
	implied                // it was named on the way to another one
	byDots                 // dotted keys made it
)

func newTable(line int, made origin) *node {
	return &node{kind: unstable.Table, line: line, made: made}
}

func (n *node) get(key string) *node {
	i, ok := n.index[key]
	if !ok {
		return nil
	}
	return n.keys[i].value
}

func (n *node) put(key string, line int, value *node) {
	if n.index == nil {
		n.index = map[string]int{}
	}
	n.index[key] = len(n.keys)
	n.keys = append(n.keys, entry{key, line, value})
}

// part is one part of a dotted key.
type part struct {
	name string
	line int
}

func dotted(path []part) string {
	names := make([]string, len(path))
	for i, p := range path {
		names[i] = bareOrQuoted(p.name)
	}
	return strings.Join(names, ".")
}

// bareOrQuoted writes a key as TOML would.
func bareOrQuoted(key string) string {
	special := func(c rune) bool {
		return c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	}
	if key == "" || strings.ContainsFunc(key, special) {
		return quote(key)
	}
	return key
}

// tree reads TOML into a root table. After a mistake it goes on at the next header, so
// that one missing quote does not hide the rest of the file.
type tree struct {
	text    []byte
	lines   []int // the offset at which each line begins
	root    *node
	current *node // the table that keys go into
	header  string
	base    int // where in text the parser's input begins
	parser  unstable.Parser
	report  func(*Error)
	broken  int // the line of the last syntax error; after one, a missing key may be a lost one
}

func parseTree(text []byte, report func(*Error)) *tree {
	t := &tree{text: text, lines: []int{0}, report: report}
	for i, c := range text {
		if c == '\n' {
			t.lines = append(t.lines, i+1)
		}
	}
	t.root = newTable(0, byHeader)
	t.current = t.root
	for t.parse() {
	}
	return t
}

// parse reads up to the end or to the first mistake, and reports whether there is more.
func (t *tree) parse() bool {
	t.parser.Reset(t.text[t.base:])
	for t.parser.NextExpression() {
		t.expression(t.parser.Expression())
	}
	var fault *unstable.ParserError
	if !errors.As(t.parser.Error(), &fault) {
		return false
	}
	at := t.base
	if offset := cap(t.parser.Data()) - cap(fault.Highlight); offset >= 0 && offset <= len(t.parser.Data()) {
		at += offset
	}
	line := t.lineOf(at)
	if line != t.broken { // else the header that it went on at is the mistake itself
		t.report(syntaxError(line, fault))
	}
	t.broken = line
	next, ok := t.nextHeader(line)
	t.base = next
	return ok
}

// nextHeader gives the offset of the next line that begins with a bracket. The line of the
// mistake counts, unless the parser began there: an array that is not closed is noticed
// only at the header after it.
func (t *tree) nextHeader(line int) (int, bool) {
	for _, offset := range t.lines[line-1:] {
		rest := bytes.TrimLeft(t.text[offset:], " \t")
		if offset > t.base && len(rest) > 0 && rest[0] == '[' {
			return offset, true
		}
	}
	return 0, false
}

// lineOf gives the number of the line that has the offset.
func (t *tree) lineOf(offset int) int {
	i, found := slices.BinarySearch(t.lines, offset)
	if found {
		return i + 1
	}
	return i
}

func (t *tree) lineOfNode(n *unstable.Node, otherwise int) int {
	if n.Raw.Length == 0 {
		return otherwise
	}
	return t.lineOf(t.base + int(n.Raw.Offset))
}

func (t *tree) path(it unstable.Iterator) []part {
	var path []part
	for it.Next() {
		n := it.Node()
		path = append(path, part{string(n.Data), t.lineOfNode(n, 1)})
	}
	return path
}

// expression takes a header, or a key with its value.
func (t *tree) expression(e *unstable.Node) {
	path := t.path(e.Key())
	switch e.Kind {
	case unstable.KeyValue:
		t.assign(t.current, t.header, path, t.value(e.Value(), path[0].line))
	case unstable.Table, unstable.ArrayTable:
		t.open(path, e.Kind == unstable.ArrayTable)
	}
}

// open makes the table of a header the current one.
func (t *tree) open(path []part, repeated bool) {
	last := path[len(path)-1]
	t.header = dotted(path)
	t.current = newTable(last.line, byHeader) // a place for the keys of a header that is wrong
	into := t.root
	for _, p := range path[:len(path)-1] {
		next := into.get(p.name)
		if next == nil {
			next = newTable(p.line, implied)
			into.put(p.name, p.line, next)
		}
		if next.kind == unstable.ArrayTable {
			next = next.items[len(next.items)-1]
		}
		if next.kind != unstable.Table {
			t.twice(t.header, last.line, next.line)
			return
		}
		into = next
	}
	old := into.get(last.name)
	switch {
	case old == nil && repeated:
		into.put(last.name, last.line, &node{kind: unstable.ArrayTable, line: last.line, items: []*node{t.current}})
	case old == nil:
		into.put(last.name, last.line, t.current)
	case repeated && old.kind == unstable.ArrayTable:
		old.items = append(old.items, t.current)
	case !repeated && old.kind == unstable.Table && old.made == implied:
		old.made, old.line = byHeader, last.line
		t.current = old
	case !repeated && old.kind == unstable.Table && old.made == byHeader:
		t.twice(t.header, last.line, old.line)
		t.current = old
	default:
		t.twice(t.header, last.line, old.line)
	}
}

// assign puts a value below a table.
func (t *tree) assign(into *node, header string, path []part, value *node) {
	option := strings.TrimPrefix(header+"."+dotted(path), ".")
	last := path[len(path)-1]
	for _, p := range path[:len(path)-1] {
		next := into.get(p.name)
		if next == nil {
			next = newTable(p.line, byDots)
			into.put(p.name, p.line, next)
		}
		if next.kind != unstable.Table || next.made != byDots {
			t.twice(option, last.line, next.line)
			return
		}
		into = next
	}
	if old := into.get(last.name); old != nil {
		t.twice(option, last.line, into.keys[into.index[last.name]].line)
		return
	}
	into.put(last.name, last.line, value)
}

func (t *tree) twice(option string, line, first int) {
	t.report(&Error{Kind: DuplicateKey, Line: line, Option: option,
		Expected: "each key and each table once", Got: "a second one", Hint: "the first is in line " + itoa(first)})
}

// value copies a value out of the parser, whose nodes live only until the next expression.
// Arrays and inline tables do not know their place; they stand where their first part
// does, or else where the whole value does.
func (t *tree) value(n *unstable.Node, line int) *node {
	v := &node{kind: n.Kind, line: t.lineOfNode(n, line), text: string(n.Data)}
	switch n.Kind {
	case unstable.Array:
		for it := n.Children(); it.Next(); {
			v.items = append(v.items, t.value(it.Node(), line))
		}
	case unstable.InlineTable:
		table := newTable(line, byHeader)
		for it := n.Children(); it.Next(); {
			kv := it.Node()
			path := t.path(kv.Key())
			if len(table.keys) == 0 {
				v.line = path[0].line
			}
			t.assign(table, "", path, t.value(kv.Value(), path[0].line))
		}
		v.keys, v.index = table.keys, table.index
	}
	return v
}

// syntaxError says what the parser says in the words of the other errors.
func syntaxError(line int, fault *unstable.ParserError) *Error {
	e := &Error{Kind: Syntax, Line: line, Option: "syntax", Expected: "TOML", Got: fault.Message}
	message, expects := strings.CutPrefix(fault.Message, "expected ")
	wanted, got, butGot := strings.Cut(message, " but got ")
	switch {
	case expects && butGot:
		e.Expected, e.Got = wanted, got
	case expects && strings.HasSuffix(message, ", not end of input"):
		e.Expected, e.Got = "a value", "the end of the file"
	case expects:
		e.Expected, e.Got = message, found(fault.Highlight)
	case strings.HasSuffix(message, " at start of value"):
		e.Expected, e.Got, e.Hint = "a value", found(fault.Highlight), "text stands in quotes"
	case strings.HasSuffix(message, " is incomplete"): // an array or an inline table
		e.Expected, e.Got = "a closing bracket", "the end of the file"
	case strings.Contains(message, "strings cannot have new lines"), strings.HasPrefix(message, "unterminated "):
		e.Expected, e.Got = "a quote at the end of the string", "the end of the line"
	case strings.HasPrefix(message, "invalid escape character"):
		e.Expected, e.Got, e.Hint = "an escape that TOML knows", found(fault.Highlight), `a backslash is written \\, or the string in single quotes`
	}
	return e
}

// found names the place at which the parser stopped.
func found(highlight []byte) string {
	if len(highlight) == 0 || highlight[0] == '\n' || highlight[0] == '\r' {
		return "the end of the line"
	}
	word, _, _ := bytes.Cut(highlight, []byte("\n"))
	return quote(string(word))
}
