package daemon

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Notifier tells the service manager how the daemon is (sd_notify(3)). A nil
// Notifier, of a daemon that no service manager waits for, does nothing.
type Notifier struct {
	addr     *net.UnixAddr
	watchdog time.Duration
}

// NewNotifier reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and removes
// them from the environment, so that no child speaks in the daemon's name. It
// returns nil when there is nobody to notify.
func NewNotifier() *Notifier {
	socket := os.Getenv("NOTIFY_SOCKET")
	usec, pid := os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		os.Unsetenv(name)
	}
	if socket == "" || socket[0] != '/' && socket[0] != '@' {
		return nil
	}
	// The net package takes a leading @ for the abstract name space itself.
	n := &Notifier{addr: &net.UnixAddr{Name: socket, Net: "unixgram"}}
	if us, err := strconv.ParseUint(usec, 10, 63); err == nil && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.watchdog = time.Duration(us) * time.Microsecond
	}
	return n
}

// WatchdogInterval is how often the service manager wants to be told that the
// daemon is alive: half of what it tolerates. 0 means never.
func (n *Notifier) WatchdogInterval() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog / 2
}

// Ready says that the daemon serves, or serves again after Reloading.
func (n *Notifier) Ready() error { return n.send("READY=1") }

// Status sets the line that `systemctl status` shows.
func (n *Notifier) Status(line string) error {
	return n.send("STATUS=" + strings.ReplaceAll(line, "\n", " "))
}

// Reloading says that the configuration is being read again. Ready must follow.
// The time stamp is what Type=notify-reload of systemd 253 demands; older ones
// ignore it.
func (n *Notifier) Reloading() error {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return fmt.Errorf("read monotonic clock: %w", err)
	}
	return n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", ts.Nano()/1000))
}

// Stopping says that the daemon ends.
func (n *Notifier) Stopping() error { return n.send("STOPPING=1") }

// Alive feeds the watchdog.
func (n *Notifier) Alive() error { return n.send("WATCHDOG=1") }

func (n *Notifier) send(state string) error {
	if n == nil {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, n.addr)
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	return nil
}
