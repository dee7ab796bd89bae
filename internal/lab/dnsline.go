package lab

import (
	"fmt"

	"mxward/internal/dns/resolver"
)

// dnsLine puts a step of a resolution into a sentence.
func dnsLine(s resolver.Step) string {
	if !s.Server.IsValid() {
		return fmt.Sprintf("knows %s: %s", s.Question, s.Said)
	}
	who := s.Server.Addr().String()
	if !s.ServerName.IsZero() {
		who = s.ServerName.String() + " [" + who + "]"
	}
	return fmt.Sprintf("asks %s for %s: %s", who, s.Question, s.Said)
}
