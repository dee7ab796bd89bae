//go:build !unix

package smtp

import "net"

// peek: no way is known here; the caller waits a moment instead.
func peek(net.Conn) (waiting, asked bool) { return false, false }
