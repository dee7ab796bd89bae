package arc_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/arc"
	"mxward/internal/mailauth/dkim"
)

// silent never answers.
type silent struct{}

func (silent) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	<-ctx.Done()
	return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
}

// TestTimeout: the keys of a message get 20 seconds together; then it is trouble.
func TestTimeout(t *testing.T) {
	text := sealed(t, message, "rsa", "ed25519")
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		got := validate(t, silent{}, text)
		if took := time.Since(begun); got.Status != arc.TempError || took != 20*time.Second {
			t.Errorf("after %v: %s", took, got)
		}
	})
}

// slow takes a second for each answer.
type slow struct {
	keyRecords
	mu          sync.Mutex
	asked, most int // at the same time
}

func (s *slow) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	s.mu.Lock()
	s.asked++
	s.most = max(s.most, s.asked)
	s.mu.Unlock()
	time.Sleep(time.Second)
	s.mu.Lock()
	s.asked--
	s.mu.Unlock()
	return s.keyRecords.Resolve(ctx, q)
}

// TestAtOnce: of 25 keys, ten are asked for at the same time.
func TestAtOnce(t *testing.T) {
	zone, text := published(), message
	for i := range 25 {
		s := sealer("ed25519")
		s.Domain = dns.MustName(fmt.Sprintf("d%d.example.com", i))
		zone[fmt.Sprintf("ed25519._domainkey.d%d.example.com", i)] = zone["ed25519._domainkey.example.com"]
		text = sealChain(t, s, arc.Chain{Status: passing(i), Highest: i}, text) + text
	}
	synctest.Test(t, func(t *testing.T) {
		r := &slow{keyRecords: zone}
		begun := time.Now()
		got := validate(t, r, text)
		if took := time.Since(begun); got.Status != arc.Pass || r.most != 10 || took != 3*time.Second {
			t.Errorf("%d at once, %v: %s", r.most, took, got)
		}
	})
}

// TestPanic: a panic while a key is asked for is trouble with the chain, not the end of the
// process.
func TestPanic(t *testing.T) {
	text := sealed(t, message, "rsa")
	got := validate(t, dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) { panic("a mistake") }), text)
	if p, ok := errors.AsType[*dkim.Panic](got.Err); got.Status != arc.TempError || !ok || p.Value != "a mistake" {
		t.Errorf("%+v: %s", got.Err, got)
	}
}
