package main

import (
	"fmt"
	"io"

	"mxward/internal/audit"
	"mxward/internal/dns"
)

// readMessage reads the message that --message names, and gives its domain.
func (f *checkFlags) readMessage(a *audit.Auditor, stdin io.Reader) ([]dns.Name, error) {
	if f.message == "" {
		return nil, nil
	}
	in, err := openMessage([]string{f.message}, stdin)
	if err != nil {
		return nil, fmt.Errorf("--message: %w", err)
	}
	defer in.Close()
	m, err := audit.ReadMessage(in)
	if err != nil {
		return nil, fmt.Errorf("--message %s: %w", f.message, err)
	}
	a.Message = &m
	domain, err := parseDomain(m.Domain().String())
	if err != nil {
		return nil, fmt.Errorf("--message %s: %w", f.message, err)
	}
	return []dns.Name{domain}, nil
}
