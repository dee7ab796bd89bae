package audit

import (
	"cmp"
	"testing"
	"testing/synctest"

	"mxward/internal/dns"
)

// Animal is one of the zoo, for tests of what stands above this package.
type Animal struct{ animal }

// Zoo gives all of them.
func Zoo() []Animal {
	var all []Animal
	for _, a := range zoo() {
		all = append(all, Animal{a})
	}
	return all
}

// Why says what makes it differ.
func (a Animal) Why() string { return a.why }

// Visit calls look where the animal's world is.
func (a Animal) Visit(t *testing.T, look func(t *testing.T, auditor *Auditor, domain dns.Name, checks []Check)) {
	t.Helper()
	domain, checks := dns.MustName(cmp.Or(a.domain, "example.com")), cmp.Or(a.profile, Mail).Checks()
	if a.policy != nil { // the web server has a socket: no bubble
		look(t, a.world(t), domain, checks)
		return
	}
	synctest.Test(t, func(t *testing.T) { look(t, a.world(t), domain, checks) })
}
