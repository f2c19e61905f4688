package daemon

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/kernel/trusted/trustedtest"
)

// slow is a task that gets ready when told and takes its time to end.
type slow struct {
	ready chan struct{}
	stop  time.Duration
	err   error
	ended bool
}

func (s *slow) Run(ctx context.Context) error {
	<-ctx.Done()
	time.Sleep(s.stop)
	s.ended = true
	return s.err
}
func (s *slow) Ready() <-chan struct{} { return s.ready }
func (s *slow) String() string         { return "slow" }

// run starts p.Run in the bubble with signals in hand.
func run(ctx context.Context, p *Process, w io.Writer) (send func(os.Signal), result <-chan error) {
	p.Log = NewLogger(w, false, 0)
	p.signals = make(chan os.Signal, 8)
	c := make(chan error, 1)
	go func() { c <- p.Run(ctx) }()
	return func(s os.Signal) { p.signals <- s; synctest.Wait() }, c
}

func TestOrderlyStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		task := &slow{ready: make(chan struct{}), stop: time.Second}
		drained := false
		p := &Process{Tasks: []Task{task}, Drain: func(context.Context) error {
			time.Sleep(2 * time.Second)
			drained = !task.ended // the tasks still run
			return nil
		}}
		send, result := run(t.Context(), p, &log)
		synctest.Wait()
		if strings.Contains(log.String(), "ready") {
			t.Error("ready before the task is")
		}
		close(task.ready)
		synctest.Wait()
		if !strings.Contains(log.String(), "<6>ready") {
			t.Error("not ready with the task")
		}
		begin := time.Now()
		send(syscall.SIGTERM)
		if err := <-result; err != nil {
			t.Errorf("run returned %v", err)
		}
		if took := time.Since(begin); took != 3*time.Second || !drained || !task.ended {
			t.Errorf("stop took %s, drained before the tasks ended: %v", took, drained)
		}
	})
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		p := &Process{Tasks: []Task{NewTask("x", func(ctx context.Context) error { <-ctx.Done(); return nil })},
			Drain: func(context.Context) error { <-hang; return nil }}
		send, result := run(t.Context(), p, io.Discard)
		send(syscall.SIGINT)
		select {
		case err := <-result:
			t.Fatalf("run returned %v before the drain ended", err)
		default:
		}
		send(syscall.SIGTERM)
		if err := <-result; !errors.Is(err, ErrKilled) {
			t.Errorf("run returned %v, want ErrKilled", err)
		}
		close(hang)
	})
}

func TestTaskFailureEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		other := &slow{ready: make(chan struct{})}
		p := &Process{Tasks: []Task{other, NewTask("engine",
			func(context.Context) error { time.Sleep(time.Minute); return boom })}}
		_, result := run(t.Context(), p, io.Discard)
		if err := <-result; !errors.Is(err, boom) || err.Error() != "run engine: boom" {
			t.Errorf("run returned %v", err)
		}
		if !other.ended {
			t.Error("the other task was left running")
		}
	})
}

func TestTaskMustNotEndSilently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Process{Tasks: []Task{NewTask("engine", func(context.Context) error { return nil })}}
		_, result := run(t.Context(), p, io.Discard)
		if err := <-result; err == nil || !strings.Contains(err.Error(), "engine: ended unexpectedly") {
			t.Errorf("run returned %v", err)
		}
	})
}

func TestReloadAndDump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		reloads, dumps := 0, 0
		p := &Process{
			Tasks: []Task{NewTask("x", func(ctx context.Context) error { <-ctx.Done(); return nil })},
			Reload: func(context.Context) error {
				reloads++
				time.Sleep(time.Second)
				if reloads == 1 {
					return errors.New("a.conf:1:1: wrong\na.conf:2:1: wrong too")
				}
				return nil
			},
			Dump: func() { dumps++ },
		}
		ctx, cancel := context.WithCancel(t.Context())
		send, result := run(ctx, p, &log)
		send(syscall.SIGHUP)
		send(syscall.SIGHUP) // during the first: one more afterwards
		send(syscall.SIGHUP)
		send(syscall.SIGUSR1)
		time.Sleep(10 * time.Second)
		cancel()
		if err := <-result; err != nil {
			t.Errorf("run returned %v", err)
		}
		if reloads != 2 || dumps != 1 {
			t.Errorf("%d reloads and %d dumps, want 2 and 1", reloads, dumps)
		}
		want := `<3>reload refused, nothing changed err="a.conf:1:1: wrong"
<3>reload refused, nothing changed err="a.conf:2:1: wrong too"
<6>reloaded
`
		if !strings.Contains(log.String(), want) {
			t.Errorf("log is\n%s, want in it\n%s", log.String(), want)
		}
	})
}

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPulse()
		time.Sleep(time.Second)
		if !p.Alive(time.Second) || p.Alive(999*time.Millisecond) {
			t.Error("a pulse of a second ago is not judged right")
		}
		p.Beat()
		if !p.Alive(0) {
			t.Error("a beat does not count")
		}
	})
}

// manager is a service manager's end of NOTIFY_SOCKET.
func manager(t *testing.T, name string) <-chan string {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", name)
	got := make(chan string, 1000)
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			got <- string(buf[:n])
		}
	})
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	return got
}

// expect waits for a message with the prefix and returns it.
func expect(t *testing.T, got <-chan string, prefix string) string {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case m := <-got:
			if strings.HasPrefix(m, prefix) {
				return m
			}
		case <-deadline:
			t.Fatalf("the service manager was never told %s", prefix)
		}
	}
}

func TestServiceManager(t *testing.T) {
	for _, name := range []string{filepath.Join(trustedtest.Dir(t), "notify"), "@sasyncd-test-" +
		filepath.Base(trustedtest.Dir(t))} {
		got := manager(t, name)
		t.Setenv("WATCHDOG_USEC", "20000")
		t.Setenv("WATCHDOG_PID", "")
		pulse := make(chan bool, 1)
		p := &Process{Notify: NewNotifier(), signals: make(chan os.Signal), Log: NewLogger(io.Discard, false, 0),
			Tasks:  []Task{NewTask("x", func(ctx context.Context) error { <-ctx.Done(); return nil })},
			Reload: func(context.Context) error { return nil },
			Alive: func() bool {
				select {
				case pulse <- true:
				default:
				}
				return true
			}}
		if os.Getenv("NOTIFY_SOCKET") != "" || os.Getenv("WATCHDOG_USEC") != "" {
			t.Error("children would inherit the service manager's environment")
		}
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- p.Run(ctx) }()
		expect(t, got, "READY=1")
		<-pulse
		expect(t, got, "WATCHDOG=1")
		p.signals <- syscall.SIGHUP
		if m := expect(t, got, "RELOADING=1"); !strings.HasPrefix(m, "RELOADING=1\nMONOTONIC_USEC=") {
			t.Errorf("reloading was announced with %q", m)
		}
		expect(t, got, "READY=1")
		cancel()
		expect(t, got, "STOPPING=1")
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
}

func TestWatchdogStarvesWhenStuck(t *testing.T) {
	got := manager(t, filepath.Join(trustedtest.Dir(t), "notify"))
	t.Setenv("WATCHDOG_USEC", "2000")
	t.Setenv("WATCHDOG_PID", "")
	asked := make(chan struct{})
	p := &Process{Notify: NewNotifier(), signals: make(chan os.Signal), Log: NewLogger(io.Discard, false, 0),
		Tasks: []Task{NewTask("x", func(ctx context.Context) error { <-ctx.Done(); return nil })},
		Alive: func() bool { asked <- struct{}{}; return false }}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- p.Run(ctx) }()
	for range 5 {
		<-asked
	}
	go func() { // let it end
		for range asked {
		}
	}()
	cancel()
	if err := <-result; err != nil {
		t.Error(err)
	}
	close(asked)
	for m := ""; m != "STOPPING=1"; {
		if m = expect(t, got, ""); strings.HasPrefix(m, "WATCHDOG") {
			t.Error("a stuck daemon fed its watchdog")
		}
	}
}

func TestNoServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n := NewNotifier()
	if n != nil || n.Ready() != nil || n.WatchdogInterval() != 0 {
		t.Error("without a service manager something is sent")
	}
	t.Setenv("NOTIFY_SOCKET", "/nonexistent/socket")
	t.Setenv("WATCHDOG_USEC", "1000000")
	t.Setenv("WATCHDOG_PID", "1")
	n = NewNotifier()
	if err := n.Ready(); err == nil || n.WatchdogInterval() != 0 {
		t.Errorf("a dead service manager gives %v, and its watchdog is for another process", err)
	}
}
