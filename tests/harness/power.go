package harness

import (
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Machine is a running guest, which can lose its power at any moment.
type Machine struct {
	Name string
	// Console is a file with what its kernel and programs print.
	Console string

	kernel string // its program
	rw     string // directory that it may write
	cmd    *exec.Cmd
	client *rpc.Client // nil with an Init of its own
	life   io.Closer
	guard  *exec.Cmd      // dies before the guest does
	awake  io.Closer      // while it is open the guard waits
	copied sync.WaitGroup // the console
	ended  chan struct{}
	cut    sync.Once
}

// bootLimit is what a guest may take until its agent answers, on a busy machine.
const bootLimit = 90 * time.Second

// start starts the kernel, with the console and all that programs print in a
// file, a pipe whose end is the end of the host, and a line to the agent.
func (m *Machine) start(s *machines, args []string, agent bool) (err error) {
	// The guest's kernel waits for its channels with epoll, which refuses files.
	console, err := m.consolePipe()
	if err != nil {
		return err
	}
	defer console.Close()
	m.cmd = exec.Command(m.kernel, append(args, "ssl3=fd:5,fd:6")...)
	m.cmd.Env = append(os.Environ(), s.Env...)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	m.cmd.Stdout, m.cmd.Stderr = console, console
	life, err := m.cmd.StdinPipe()
	if err != nil {
		return err
	}
	m.life = life
	down, toGuest, err := os.Pipe()
	if err != nil {
		return err
	}
	defer down.Close()
	fromGuest, up, err := os.Pipe()
	if err != nil {
		toGuest.Close()
		return err
	}
	defer up.Close()
	m.cmd.ExtraFiles = []*os.File{console, console, down, up}
	if err := startPinned(m.cmd); err != nil {
		m.cmd.Process = nil
		toGuest.Close()
		fromGuest.Close()
		return err
	}
	if err := m.startGuard(); err != nil {
		toGuest.Close()
		fromGuest.Close()
		go m.wait()
		return err
	}
	go m.wait()
	line := &line{fromGuest, toGuest}
	if !agent {
		line.Close()
		return nil
	}
	// Nothing may be sent before the agent has told its end of the line that
	// it is none of a terminal: it would be taken for typing.
	ready := make(chan error, 1)
	go func() {
		_, err := line.Read(make([]byte, 1))
		ready <- err
	}()
	timer := time.NewTimer(bootLimit)
	defer timer.Stop()
	select {
	case err = <-ready:
	case <-m.ended:
		err = errors.New("it ended")
	case <-timer.C:
		err = fmt.Errorf("its agent is not ready after %v", bootLimit)
	}
	if err != nil {
		line.Close()
		return err
	}
	m.client = rpc.NewClientWithCodec(newCallerCodec(line, m.rw))
	return nil
}

func (m *Machine) wait() {
	m.cmd.Wait() // power-off, panic and a cut end it alike
	close(m.ended)
}

// startGuard starts a process that kills the guest when we have ended, however
// that comes: a frozen guest does not notice that its line to us is closed, and
// helper processes of a killed one stay.
func (m *Machine) startGuard() (err error) {
	m.guard = exec.Command("sh", "-c", `read _; kill -9 -- -$0`, strconv.Itoa(m.cmd.Process.Pid))
	m.guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if m.awake, err = m.guard.StdinPipe(); err != nil {
		return err
	}
	if err := m.guard.Start(); err != nil {
		m.guard = nil
		return fmt.Errorf("start the guest's guard: %w", err)
	}
	return nil
}

// consolePipe is the end to write to of a pipe into the file.
func (m *Machine) consolePipe() (*os.File, error) {
	f, err := os.OpenFile(m.Console, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		f.Close()
		return nil, err
	}
	m.copied.Go(func() {
		defer f.Close()
		defer r.Close()
		io.Copy(f, r) // what is missing of it, is missing
	})
	return w, nil
}

// line is the two pipes that are connected to a serial line of the guest.
type line struct {
	io.ReadCloser
	w io.WriteCloser
}

func (l *line) Write(b []byte) (int, error) { return l.w.Write(b) }
func (l *line) Close() error                { return errors.Join(l.ReadCloser.Close(), l.w.Close()) }

// nudgeEach is after what time a machine that owes an answer is sent something
// more. user-mode-linux, on a busy host, now and then misses that a line has
// become readable, and looks again when the next byte comes.
const nudgeEach = 3 * time.Second

// Call calls a method of one of the services that [MainMachines] was given, by
// the rules of net/rpc. Late answers are thrown away. An answer that came only
// when the machine was nudged is told on standard error.
func (m *Machine) Call(limit time.Duration, method string, args, reply any) error {
	if m.client == nil {
		return fmt.Errorf("call %s on %s: it has no agent", method, m.Name)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	nudge := time.NewTicker(nudgeEach)
	defer nudge.Stop()
	var nudged time.Time
	c := m.client.Go(method, args, reply, make(chan *rpc.Call, 1))
	for {
		select {
		case <-c.Done:
			if c.Error != nil {
				return fmt.Errorf("%s on %s: %w", method, m.Name, c.Error)
			}
			if d := time.Since(nudged); !nudged.IsZero() && d < nudgeEach/2 {
				fmt.Fprintf(os.Stderr, "harness: %s answered %s %v after it was nudged\n", m.Name, method,
					d.Round(time.Millisecond))
			}
			return nil
		case <-m.ended:
			return fmt.Errorf("%s on %s: it has no power", method, m.Name)
		case <-nudge.C:
			nudged = time.Now()
			m.client.Go("Agent.Nothing", struct{}{}, &struct{}{}, make(chan *rpc.Call, 1))
		case <-timer.C:
			return fmt.Errorf("%s on %s: no answer in %v", method, m.Name, limit)
		}
	}
}

// Cut is a power cut: nothing of the guest runs any more when it returns.
func (m *Machine) Cut() {
	m.cut.Do(func() {
		if m.guard != nil {
			_ = m.guard.Process.Kill() // it may have gone
			m.guard.Wait()
			m.awake.Close()
		}
		if m.cmd != nil && m.cmd.Process != nil {
			// Helper processes outlive the main one, so the group goes.
			_ = syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL) // may be gone already
			<-m.ended
			m.copied.Wait()
		}
		if m.life != nil {
			m.life.Close()
		}
		if m.client != nil {
			m.client.Close()
		}
	})
}

// Running reports whether the machine has power.
func (m *Machine) Running() bool {
	select {
	case <-m.ended:
		return false
	default:
		return true
	}
}

// Freeze stops the guest between two instructions, as a hypervisor does that is
// busy or migrates it. Only its kernel is stopped: what its programs do before
// they next need the kernel, nobody sees, and a signal to them would be taken
// for the guest's own.
func (m *Machine) Freeze() error { return m.signal(syscall.SIGSTOP) }

// Thaw lets a frozen guest go on: all it has missed arrives at once.
func (m *Machine) Thaw() error { return m.signal(syscall.SIGCONT) }

func (m *Machine) signal(s syscall.Signal) error {
	if err := m.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("send %v to %s: %w", s, m.Name, err)
	}
	return nil
}

// ConsoleEnd returns the last lines on the console.
func (m *Machine) ConsoleEnd() string {
	b, err := os.ReadFile(m.Console)
	if err != nil {
		return err.Error()
	}
	const keep = 4 << 10
	return strings.ReplaceAll(string(b[max(0, len(b)-keep):]), "\r\n", "\n")
}
