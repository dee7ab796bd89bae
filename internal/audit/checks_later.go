package audit

// laterChecks are the ids of areas that are not looked at yet; they are here so that an id
// is never taken for something else.
func laterChecks() []Check {
	var rows []Check
	for _, area := range []struct {
		id, title string
		severity  Severity
	}{} {
		rows = append(rows, Check{ID: area.id, Title: area.title, Severity: area.severity})
	}
	return rows
}
