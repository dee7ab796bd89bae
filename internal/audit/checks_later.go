package audit

// laterChecks are the ids of areas that are not looked at yet; they are here so that an id
// is never taken for something else.
func laterChecks() []Check {
	var rows []Check
	for _, area := range []struct {
		id, title string
		severity  Severity
	}{
		{"plan.drift", "the world sees another record than the plan has", Error},
		{"plan.missing-record", "a record of the plan is not there", Error},
		{"plan.extra-record", "a record is there that the plan does not have", Notice},
		{"plan.foreign-record", "a record of the plan's names is somebody else's", Notice},
		{"plan.unsafe-order", "a change of the plan would break mail for a while", Error},
	} {
		rows = append(rows, Check{ID: area.id, Title: area.title, Severity: area.severity})
	}
	return rows
}
