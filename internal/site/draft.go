package site

import (
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// place is where in the file something stands, by its meaning, so that a check that knows
// the plan can name the line.
type place struct {
	table string // as in its header: domain.mx
	outer int    // which [[host]], [[domain]], [[dns.zone]] …, from 0
	inner int    // which [[domain.mx]] of it
	key   string // "" for the table
	item  int    // which item of the list, from 1; 0 for the whole value
}

func (p place) option() string {
	if p.key == "" {
		return p.table
	}
	return p.table + "." + p.key
}

// draft is a plan on its way, with the lines of its parts.
type draft struct {
	*Plan
	lines  map[place]int
	bad    map[place]bool // what is there, and could not be read
	errs   Errors
	broken bool // some of the file could not be read: what seems to be missing may not be
}

func newDraft(file string) *draft {
	return &draft{Plan: &Plan{File: file}, lines: map[place]int{}, bad: map[place]bool{}}
}

// given reports whether the file has this key or table.
func (d *draft) given(p place) bool {
	_, ok := d.lines[p]
	return ok
}

// good reports whether the file has this key, with a value that could be read.
func (d *draft) good(p place) bool { return d.given(p) && !d.bad[p] }

// line gives the line of the place, or of the nearest thing around it that is there.
func (d *draft) line(p place) int {
	for _, around := range []place{
		p,
		{table: p.table, outer: p.outer, inner: p.inner, key: p.key},
		{table: p.table, outer: p.outer, inner: p.inner},
		{table: parent(p.table), outer: p.outer},
		{table: parent(p.table)},
	} {
		if line, ok := d.lines[around]; ok {
			return line
		}
	}
	return 0
}

// parent gives the table around a table, "" for the file.
func parent(table string) string {
	return table[:max(0, strings.LastIndexByte(table, '.'))]
}

func (d *draft) add(e *Error) {
	e.File = d.File
	d.errs = append(d.errs, e)
}

// fail notes a mistake at a place.
func (d *draft) fail(kind Kind, p place, expected, got, hint string) {
	d.add(&Error{Kind: kind, Line: d.line(p), Option: p.option(), Expected: expected, Got: got, Hint: hint})
}

// read fills the draft from the text, by the tables and fields of the format.
func (d *draft) read(text []byte) {
	t := parseTree(text, d.add)
	d.broken = t.broken != 0
	d.table(t.root, place{})
}

// table reads one table and everything below it.
func (d *draft) table(n *node, at place) {
	d.lines[at] = n.line
	for _, e := range n.keys {
		path := strings.TrimPrefix(at.table+"."+e.name, ".")
		if i := slices.IndexFunc(tables, func(t table) bool { return t.name == path }); i >= 0 {
			d.subtable(tables[i], e.value, at)
			continue
		}
		i := slices.IndexFunc(fields, func(f field) bool { return f.table == at.table && f.key == e.name })
		if i < 0 {
			d.unknown(e, at)
			continue
		}
		at := at
		at.key = e.name
		d.lines[at] = e.line
		fields[i].value.set(reader{d, at}, e.value)
	}
	for _, f := range fields {
		key := at
		key.key = f.key
		if f.table == at.table && f.required && !d.given(key) && !d.broken {
			d.fail(Missing, key, f.value.form, "nothing", "write "+f.key+" = "+f.example)
		}
	}
}

// subtable reads a table, or the tables of a repeated one.
func (d *draft) subtable(t table, n *node, at place) {
	many := []*node{n}
	if t.repeated {
		many = n.items
	}
	ok := isTable(n)
	if t.repeated {
		ok = isList(n) && !slices.ContainsFunc(n.items, func(n *node) bool { return !isTable(n) })
	}
	if !ok {
		e := &Error{Kind: WrongType, Line: n.line, Option: t.name, Expected: "the header " + t.header(), Got: describe(n, t.name)}
		if n.made == implied {
			e.Expected, e.Got = "the header "+t.header()+" above it", "the header of a table inside it: "+bareOrQuoted(n.keys[0].name)
		}
		d.add(e)
		d.misread(place{table: t.name, outer: at.outer}, n.line)
		return
	}
	for i, n := range many {
		at := place{table: t.name, outer: at.outer}
		switch {
		case t.inner:
			at.inner = i
		case t.repeated:
			at.outer = i
		}
		if t.add != nil {
			t.add(d.Plan)
		}
		d.table(n, at)
	}
}

func isTable(n *node) bool { return n.kind == unstable.Table || n.kind == unstable.InlineTable }

func isList(n *node) bool { return n.kind == unstable.Array || n.kind == unstable.ArrayTable }

// misread notes that something is there, though nobody knows what it says, so that the
// checks do not complain of its absence.
func (d *draft) misread(p place, line int) {
	d.lines[p] = line
	d.bad[p] = true
}

// unknown says what is known instead.
func (d *draft) unknown(e entry, at place) {
	if header := describe(e.value, strings.TrimPrefix(at.table+"."+bareOrQuoted(e.name), ".")); strings.HasPrefix(header, "[") {
		d.unknownTable(e, at, header)
		return
	}
	mistake := &Error{Kind: UnknownKey, Line: e.line, Option: at.table, Expected: "a key of [" + at.table + "]", Got: bareOrQuoted(e.name)}
	if at.table == "" {
		mistake.Expected = "a header such as [site] first"
	}
	if near := Nearest(e.name, known(at.table)); near != "" {
		mistake.Hint = "did you mean " + near + "?"
		d.misread(place{table: at.table, outer: at.outer, inner: at.inner, key: near}, e.line)
	} else if i := slices.IndexFunc(fields, func(f field) bool { return f.key == e.name }); i >= 0 {
		mistake.Hint = e.name + " is a key of [" + fields[i].table + "]"
	}
	d.add(mistake)
}

func (d *draft) unknownTable(e entry, at place, header string) {
	mistake := &Error{Kind: UnknownTable, Line: e.line, Option: at.table, Expected: "a table that mxward knows", Got: header}
	near := Nearest(strings.Trim(header, "[]"), tableNames())
	if i := slices.IndexFunc(tables, func(t table) bool { return t.name == near }); i >= 0 {
		mistake.Hint = "did you mean " + tables[i].header() + "?"
		d.misread(place{table: near, outer: at.outer}, e.line)
	}
	d.add(mistake)
}

func tableNames() []string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.name
	}
	return names
}

// known gives the keys of a table.
func known(in string) []string {
	var names []string
	for _, f := range fields {
		if f.table == in {
			names = append(names, f.key)
		}
	}
	return names
}

// Nearest gives the name that the word was probably meant to be, or "".
func Nearest(word string, names []string) string {
	best, nearestSoFar := "", min(3, 1+len(word)/3)
	if len(word) > 2*maxQuoted {
		return ""
	}
	for _, name := range names {
		if d := distance(word, name); d < nearestSoFar {
			best, nearestSoFar = name, d
		}
	}
	return best
}

// distance is Levenshtein's: how many octets to add, drop or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
