package link

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp"
)

// Poller waits for packets, a point in time, or a call from another goroutine. It is of
// one goroutine but for Wake.
type Poller struct {
	epoll, timer, event int
	armed               time.Duration
	events              [16]unix.EpollEvent
	eight               [8]byte
}

// NewPoller opens the descriptors of a Poller.
func NewPoller() (p *Poller, err error) {
	p = &Poller{epoll: -1, timer: -1, event: -1, armed: carp.Never}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	// The clock that goes on while the machine is suspended.
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("make timer: %w", err)
	}
	if p.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("make eventfd: %w", err)
	}
	for _, fd := range []int{p.timer, p.event} {
		if err := p.Add(fd); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Close closes the descriptors.
func (p *Poller) Close() {
	for _, fd := range []int{p.epoll, p.timer, p.event} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// Add has Wait return when a descriptor can be read.
func (p *Poller) Add(fd int) error {
	err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	if err != nil {
		return fmt.Errorf("watch descriptor: %w", err)
	}
	return nil
}

// Wake makes Wait return. Safe for concurrent use.
func (p *Poller) Wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(p.event, one[:])
}

// Wait sleeps until there is something to do, at the latest until at, of BootTime.
func (p *Poller) Wait(at time.Duration) error {
	if at != p.armed {
		var spec unix.ItimerSpec
		if at != carp.Never {
			// A time of 0 would disarm the timer.
			spec.Value = unix.NsecToTimespec(int64(max(at, 1)))
		}
		if err := unix.TimerfdSettime(p.timer, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
			return fmt.Errorf("set timer: %w", err)
		}
		p.armed = at
	}
	n, err := unix.EpollWait(p.epoll, p.events[:], -1)
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("wait for events: %w", err)
	}
	for i := range max(n, 0) {
		switch int(p.events[i].Fd) {
		case p.timer:
			_, _ = unix.Read(p.timer, p.eight[:])
			p.armed = carp.Never
		case p.event:
			_, _ = unix.Read(p.event, p.eight[:])
		}
	}
	return nil
}

// BootTime reads the clock of all deadlines.
func BootTime() time.Duration {
	var ts unix.Timespec
	// Fails only for a clock that does not exist (Linux 2.6.39 has it).
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}
