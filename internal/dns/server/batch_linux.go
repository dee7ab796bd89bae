package server

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many packets one system call reads or sends at most.
const batchSize = 64

// Under load a loop rests before it reads again, so that a batch has more packets: a packet
// costs least in a large one. It does so after a batch of busyBatch packets or more, unless
// that was nearly full: then there is more to read already. A lone question never waits.
//
// While many questions are being answered elsewhere it only looks in now and then, for a
// while: if it waited in the kernel, it would have to queue behind all of these when a packet
// comes, and the kernel would have to drop some meanwhile.
const (
	busyBatch = 8
	fullBatch = batchSize * 3 / 4
	lookIns   = 100                    // without a packet
	rest      = 100 * time.Microsecond // to which the kernel's timers add about as much
)

// batch is a socket whose packets are read and sent many at a time. It is not in the
// runtime's poller, which each packet would wake, also while the loop is at work or at rest:
// when there is nothing to do, the loop waits in the kernel.
type batch struct {
	file    *os.File // so that its descriptor is closed after the last use, and not before
	raw     syscall.RawConn
	family  int
	rests   bool // there are processors for others meanwhile
	stopped atomic.Bool

	answering *atomic.Int64
	empty     int // look-ins in a row that found nothing

	in, out   []message // out: what is to be sent, to the senders of what was read
	from      []unix.RawSockaddrAny
	questions [][]byte
	replies   [][]byte
	queued    int

	// The functions that the RawConn calls, made once, and what they report.
	recv, flush func(fd uintptr) bool
	got         int
	errno       syscall.Errno // of recv
	unsent      syscall.Errno // why flush left an answer out
}

// message is the kernel's struct mmsghdr (recvmmsg(2)).
type message struct {
	header unix.Msghdr
	length uint32
}

// newBatch takes the socket of pc over, and closes pc; answering is the number of questions
// that are being answered elsewhere. Where it gives nil pc stays as it is:
// no UDP socket of the kernel's, or a kernel without these system calls.
func newBatch(pc net.PacketConn, answering *atomic.Int64) *batch {
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		return nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	var file *os.File
	var family int
	if outer := raw.Control(func(fd uintptr) { file, family, err = takeOver(fd) }); outer != nil || err != nil {
		return nil
	}
	_ = conn.Close() // which takes it out of the poller
	if raw, err = file.SyscallConn(); err != nil {
		panic(err) // of an open file it is given always
	}
	b := &batch{
		file: file, raw: raw, family: family, answering: answering, rests: runtime.GOMAXPROCS(0) > 1,
		in: make([]message, batchSize), out: make([]message, batchSize), from: make([]unix.RawSockaddrAny, batchSize),
		questions: make([][]byte, batchSize), replies: make([][]byte, batchSize),
	}
	for i := range batchSize {
		b.questions[i], b.replies[i] = make([]byte, maxUDPQuery+1), make([]byte, 0, maxUDPReply)
		b.in[i].hold(b.questions[i])
		b.out[i].hold(b.replies[i][:1])
	}
	b.recv, b.flush = b.recvmmsg, b.sendmmsg
	return b
}

// takeOver gives a socket a second descriptor, on which calls wait in the kernel.
func takeOver(fd uintptr) (file *os.File, family int, err error) {
	for _, call := range []uintptr{unix.SYS_RECVMMSG, unix.SYS_SENDMMSG} {
		if _, _, errno := unix.Syscall6(call, fd, 0, 0, unix.MSG_DONTWAIT, 0, 0); errno == unix.ENOSYS || errno == unix.EPERM {
			return nil, 0, errno
		}
	}
	if family, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return nil, 0, err
	}
	second, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, 0, err
	}
	if err := unix.SetNonblock(second, false); err != nil {
		return nil, 0, errors.Join(err, unix.Close(second))
	}
	return os.NewFile(uintptr(second), "udp"), family, nil
}

// hold makes a buffer the message's data.
func (m *message) hold(buf []byte) {
	m.header.Iov = &unix.Iovec{Base: &buf[0]}
	m.header.Iov.SetLen(len(buf))
	m.header.SetIovlen(1)
}

// turn waits for packets, answers those whose answer is ready, and hands the others on.
func (b *batch) turn(l *udpLoop) error {
	for i := range b.in {
		b.in[i].header.Name, b.in[i].header.Namelen = (*byte)(unsafe.Pointer(&b.from[i])), unix.SizeofSockaddrAny
	}
	if err := b.raw.Read(b.recv); err != nil {
		return net.ErrClosed
	}
	if b.errno != 0 {
		return b.errno
	}
	b.queued = 0
	for i := range b.got {
		if b.in[i].header.Namelen == 0 {
			continue // no packet: so the kernel says that the socket was shut down
		}
		from := addrOf(&b.from[i])
		reply, ready := l.packet(b.replies[b.queued][:0], b.questions[i][:b.in[i].length], from)
		if !ready {
			continue
		}
		m := &b.out[b.queued].header
		m.Name, m.Namelen = b.in[i].header.Name, b.in[i].header.Namelen
		m.Iov.Base = &reply[0]
		m.Iov.SetLen(len(reply))
		b.queued++
	}
	l.server.counts.queries.Add(int64(b.queued))
	b.unsent = 0
	if err := b.raw.Write(b.flush); err != nil {
		return net.ErrClosed
	}
	if b.unsent != 0 {
		logSendFailed(l.server.logger(), netip.AddrPort{}, b.unsent)
	}
	if b.stopped.Load() {
		return net.ErrClosed
	}
	return nil
}

// recvmmsg reads what is there after a rest if there is load, else it waits for a packet.
func (b *batch) recvmmsg(fd uintptr) bool {
	crowded := b.rests && b.empty < lookIns && b.answering.Load() >= crowd
	busy := crowded || b.got >= busyBatch
	switch {
	case crowded:
		time.Sleep(rest) // those to whom questions were passed on may be waiting for this processor
	case busy && b.got < fullBatch && b.rests:
		nap(rest)
	}
	if busy {
		b.got, b.errno = mmsg(unix.SYS_RECVMMSG, fd, b.in, unix.MSG_DONTWAIT)
	}
	switch {
	case crowded && b.errno == unix.EAGAIN:
		b.got, b.errno = 0, 0
		b.empty++
		return true
	case !busy, b.errno == unix.EAGAIN:
		b.got, b.errno = mmsg(unix.SYS_RECVMMSG, fd, b.in, unix.MSG_WAITFORONE)
	}
	b.empty = 0
	return true
}

// sendmmsg sends what is queued. An answer that the kernel does not take is left out: the
// client will ask again.
func (b *batch) sendmmsg(fd uintptr) bool {
	for sent := 0; sent < b.queued; {
		n, errno := mmsg(unix.SYS_SENDMMSG, fd, b.out[sent:b.queued], unix.MSG_DONTWAIT)
		if errno == unix.EAGAIN {
			n, errno = mmsg(unix.SYS_SENDMMSG, fd, b.out[sent:b.queued], 0)
		}
		sent += n
		if errno != 0 {
			b.unsent = errno
			sent++
		}
	}
	return true
}

// send sends one answer, found outside of the loop.
func (b *batch) send(out []byte, to netip.AddrPort) error {
	var err error
	if closed := b.raw.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), out, 0, b.sockaddr(to))
		for errors.Is(err, unix.EINTR) {
			err = unix.Sendto(int(fd), out, 0, b.sockaddr(to))
		}
		return true
	}); closed != nil {
		return net.ErrClosed
	}
	return err
}

// sockaddr gives an address in the form of the socket's family; one of IPv6 may talk to
// IPv4, by mapped addresses.
func (b *batch) sockaddr(a netip.AddrPort) unix.Sockaddr {
	if b.family == unix.AF_INET {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	zone, _ := strconv.ParseUint(a.Addr().Zone(), 10, 32) // as addrOf wrote it
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port()), ZoneId: uint32(zone)}
}

// stop wakes a loop that waits. The error is always that the socket is not connected: the
// kernel does its part all the same.
func (b *batch) stop() {
	b.stopped.Store(true)
	_ = b.raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RD) })
}

// Close also wakes what waits for room to send.
func (b *batch) Close() error {
	_ = b.raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	return b.file.Close()
}

// nap is time.Sleep for when others have little to do. It keeps the processor of Go's
// scheduler, as it is short: to give it back and to get one again costs more than batches
// gain. Signals end it early.
func nap(d time.Duration) {
	t := unix.NsecToTimespec(d.Nanoseconds())
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

// mmsg tells the scheduler of a call only if that may wait: with that, the runtime's monitor
// would be woken for each batch, and cost a fifth of the time of an answer.
func mmsg(call, fd uintptr, messages []message, flags uintptr) (int, syscall.Errno) {
	for {
		var n uintptr
		var errno syscall.Errno
		if flags == unix.MSG_DONTWAIT {
			n, _, errno = unix.RawSyscall6(call, fd, uintptr(unsafe.Pointer(&messages[0])), uintptr(len(messages)), flags, 0, 0)
		} else {
			n, _, errno = unix.Syscall6(call, fd, uintptr(unsafe.Pointer(&messages[0])), uintptr(len(messages)), flags, 0, 0)
		}
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// addrOf reads the kernel's form of an address; what is neither IPv4 nor IPv6 has no port.
func addrOf(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), portOf(&sa.Port))
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		a := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.Scope_id != 0 && a.Is6() {
			a = a.WithZone(strconv.FormatUint(uint64(sa.Scope_id), 10))
		}
		return netip.AddrPortFrom(a, portOf(&sa.Port))
	}
	return netip.AddrPort{}
}

// portOf reads a port, which stands in the order of the network whatever the machine's.
func portOf(port *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(port))[:])
}
