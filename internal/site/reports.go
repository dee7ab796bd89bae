package site

import (
	"slices"
	"strconv"
	"strings"

	"mxward/internal/mail"
)

func checkDKIMAlone(d *draft, report reporter) {
	for _, pair := range [][2]string{{"dkim-key", "dkim-selector"}, {"dkim-selector", "dkim-key"}} {
		if d.given(atKey("reports", pair[0])) && !d.given(atKey("reports", pair[1])) {
			report(atKey("reports", pair[0]), "dkim-selector and dkim-key together", pair[0]+" alone", "add "+pair[1])
		}
	}
}

func checkReportsUnsent(d *draft, report reporter) {
	if d.given(atKey("reports", "from")) {
		return
	}
	for _, key := range []string{"org", "contact", "dkim-selector", "dkim-key"} {
		if d.given(atKey("reports", key)) {
			report(atKey("reports", key), "reports.from beside it", "nothing", "without from no reports are sent")
			return
		}
	}
}

// checkReceiveForeign wants addresses whose mail comes by here.
func checkReceiveForeign(d *draft, report reporter) {
	for n, a := range d.Reports.Receive {
		at := atKey("reports", "receive").number(n)
		i := slices.IndexFunc(d.Domains, func(dom Domain) bool { return dom.Name == a.Domain })
		switch {
		case a.IsZero():
		case i < 0:
			report(at, "an address at a [[domain]] of the plan", strconv.Quote(a.String()), "nobody would bring its mail here")
		case len(d.Domains[i].Recipients) > 0 && !lists(d.Domains[i].Recipients, a):
			report(at, "an address that the recipients of "+quoteName(a.Domain)+" have", strconv.Quote(a.String()), "add it to them in "+d.lineText(atDomain(i, "recipients")))
		}
	}
}

func lists(recipients []mail.Address, a mail.Address) bool {
	return slices.ContainsFunc(recipients, func(r mail.Address) bool { return r.Domain == a.Domain && strings.EqualFold(r.Local, a.Local) })
}
