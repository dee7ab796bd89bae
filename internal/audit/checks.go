package audit

import "slices"

// Checks gives the table of all checks as the default profile has it.
func Checks() []Check { return Mail.Checks() }

// table is all checks, in the order of docs/checks.md: one row for each id. An id is never
// renamed, and never used again for something else.
func table() []Check {
	return slices.Concat(
		resolverChecks(), delegationChecks(), mxChecks(), ptrChecks(), spfChecks(), dmarcChecks(), dkimChecks(),
		mtastsChecks(), tlsrptChecks(), daneChecks(), dnssecChecks(), bimiChecks(), caaChecks(), smtpChecks(), zoneChecks(),
		autoconfChecks(), acmeChecks(), listChecks(),
		profileChecks(), messageChecks(), planChecks(),
	)
}
