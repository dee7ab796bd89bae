package mtasts

import (
	"context"
	"slices"
	"sync"
	"time"

	"mxward/internal/dns"
)

// maxEntries bounds a Memory: at 64 KiB a policy this would be much, but real ones have
// some hundred octets.
const maxEntries = 10_000

// Memory is a Store that ends with the process. The zero value is empty. Where it is full,
// what was used longest ago makes room.
type Memory struct {
	mu      sync.Mutex
	entries map[dns.Name]Entry
}

// Policy implements Store.
func (m *Memory) Policy(_ context.Context, domain dns.Name) (Entry, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[domain]
	return e, ok, nil
}

// SavePolicy implements Store.
func (m *Memory) SavePolicy(_ context.Context, e Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries == nil {
		m.entries = map[dns.Name]Entry{}
	}
	if _, ok := m.entries[e.Domain]; !ok && len(m.entries) >= maxEntries {
		var least Entry
		for _, old := range m.entries {
			if least.Domain.IsZero() || old.Used.Before(least.Used) {
				least = old
			}
		}
		delete(m.entries, least.Domain)
	}
	m.entries[e.Domain] = e
	return nil
}

// DuePolicies implements Store.
func (m *Memory) DuePolicies(_ context.Context, now time.Time, limit int) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var due []Entry
	for _, e := range m.entries {
		if !e.Due.After(now) {
			due = append(due, e)
		}
	}
	slices.SortFunc(due, func(a, b Entry) int { return a.Due.Compare(b.Due) })
	return due[:min(limit, len(due))], nil
}

// ForgetPolicies implements Store.
func (m *Memory) ForgetPolicies(_ context.Context, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for domain, e := range m.entries {
		if e.Expires().Before(now) {
			delete(m.entries, domain)
		}
	}
	return nil
}
