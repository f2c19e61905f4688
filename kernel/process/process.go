// Package process has the programs that an administrator names end with all that
// they have started.
package process

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// outputWait is how long a program's output is read after its end, for what
// outlives it with its output open.
const outputWait = time.Second

// Contain makes cmd, from exec.CommandContext and not started yet, the leader of a
// process group of its own. The end of its context kills the group: the program and
// what it has started, unless that has left the group by setpgid(2) or setsid(2).
// After an end of its own, what it has started goes on, so that a program can start
// a daemon.
func Contain(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	cmd.WaitDelay = outputWait
}
