package site

import (
	"fmt"
	"strings"
)

// header writes the table's header.
func (t table) header() string {
	if t.repeated {
		return "[[" + t.name + "]]"
	}
	return "[" + t.name + "]"
}

// fields gives the keys of the table.
func (t table) fields() []field {
	var own []field
	for _, f := range fields {
		if f.table == t.name {
			own = append(own, f)
		}
	}
	return own
}

// omitted says what happens where the key is left out.
func (f field) omitted() string {
	switch {
	case f.required:
		return "required"
	case f.byDefault != "":
		return "default: " + f.byDefault
	}
	return f.otherwise
}

// sampleWidth is where the comments of the sample plan wrap.
const sampleWidth = 96

// Sample gives a plan to begin with: what a plain site needs, and everything else as
// comments.
func Sample() string {
	var b strings.Builder
	comment(&b, "The site plan of mxward. Every key is explained here and in mxward.toml(5).")
	for _, t := range tables {
		b.WriteByte('\n')
		comment(&b, t.doc)
		fmt.Fprintf(&b, "%s%s\n", off(!t.shown && (t.repeated || t.means)), t.header())
		for _, f := range t.fields() {
			b.WriteByte('\n')
			form := ""
			if f.byDefault != "" { // then the range is worth a word
				form = f.value.form + "; "
			}
			comment(&b, f.doc+" ("+form+f.omitted()+")")
			fmt.Fprintf(&b, "%s%s = %s\n", off(!t.shown || !f.required && !f.shown), f.key, f.sample())
		}
	}
	return b.String()
}

// sample gives the value for the sample: the default, where there is one.
func (f field) sample() string {
	if f.byDefault != "" {
		return f.byDefault
	}
	return f.example
}

// off puts a line of the sample out of effect.
func off(yes bool) string {
	if yes {
		return "#"
	}
	return ""
}

// comment writes text as lines that begin with a hash and a space.
func comment(b *strings.Builder, text string) {
	line := "#"
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > sampleWidth {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

// Manual gives the manual page mxward.toml(5), in the man macros of roff.
func Manual() string {
	var b strings.Builder
	b.WriteString(".TH MXWARD.TOML 5 \"\" mxward \"File Formats\"\n")
	section(&b, "NAME", `mxward.toml \- the site plan of mxward`)
	section(&b, "DESCRIPTION", roff("The site plan says which hosts a mail site has, which domains it takes mail for, "+
		"what each rung of a domain's MX ladder does, and where accepted mail goes. It is one file in TOML 1.0. "+
		"What mxward does not know in it, and what cannot work, is an error."),
		".PP", roff("Relative paths begin at the folder of the plan. Names may be written with or without the dot at their end, "+
			"in upper or lower case, and in any script."))
	b.WriteString(".SH TABLES\n")
	for _, t := range tables {
		fmt.Fprintf(&b, ".SS %s\n%s\n", roff(t.header()), roff(t.doc))
		for _, f := range t.fields() {
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR: %s; %s\n%s\n", roff(f.key), roff(f.value.form), roff(f.omitted()), roff(f.doc))
		}
	}
	section(&b, "DIAGNOSTICS", roff("All mistakes of a plan are reported at once, one to a line, with what was expected and what was found:"),
		".PP", ".nf", roff(`mxward.toml:14: domain.mx.host: expected the name of a [[host]], got "mx9.example.com"; add a [[host]] with that name`), ".fi",
		".PP", roff("The mistakes of a zone file that the plan names stand among them, with the zone file's own lines."))
	b.WriteString(".SH EXAMPLE\n.nf\n")
	for _, t := range tables {
		if !t.shown {
			continue
		}
		b.WriteString(roff(t.header()) + "\n")
		for _, f := range t.fields() {
			if f.required || f.shown {
				fmt.Fprintf(&b, "%s = %s\n", roff(f.key), roff(f.sample()))
			}
		}
		b.WriteString("\n")
	}
	b.WriteString(".fi\n")
	section(&b, "SEE ALSO", ".BR mxward (1)")
	return b.String()
}

func section(b *strings.Builder, title string, lines ...string) {
	b.WriteString(".SH " + title + "\n" + strings.Join(lines, "\n") + "\n")
}

// roff escapes text for a line of its own.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `"`, `\(dq`, "'", `\(aq`, "…", `\[u2026]`).Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}
