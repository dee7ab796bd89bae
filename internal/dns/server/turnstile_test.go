package server

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// TestTurnstile: those whose packet has come have their turn before who passes, also where there
// is always somebody else who can go on. It is a matter of order, and Go's scheduler mixes its
// queues a little; with Gosched alone hardly anybody would have a turn.
func TestTurnstile(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	stile, err := newTurnstile()
	if err != nil {
		t.Fatal(err)
	}
	defer stile.Close()
	var busy atomic.Bool
	busy.Store(true)
	var others sync.WaitGroup
	for range 3 {
		others.Go(func() {
			for busy.Load() {
				runtime.Gosched()
			}
		})
	}
	defer others.Wait()
	defer busy.Store(false)

	const readers, rounds = 20, 50
	var turns atomic.Int32
	var conns []net.PacketConn
	for range readers {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		conns = append(conns, pc)
		others.Go(func() {
			var octet [1]byte
			for range rounds {
				if _, _, err := pc.ReadFrom(octet[:]); err != nil {
					return
				}
				turns.Add(1)
			}
		})
	}
	late := 0
	for round := range rounds {
		stile.pass() // all wait for a packet
		for _, pc := range conns {
			if _, err := pc.WriteTo([]byte{0}, pc.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		stile.pass()
		late += readers*(round+1) - int(turns.Load())
	}
	if late > readers*rounds/2 {
		t.Errorf("%d of %d had their turn too late", late, readers*rounds)
	}
}
