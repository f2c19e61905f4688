package keying

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"sasyncd/kernel/process"
)

// run runs a command in a process group of its own, which ends with ctx. The
// error carries the end of what it printed on standard error.
func run(ctx context.Context, args, env []string, stdin []byte) (string, error) {
	return runCommand(ctx, exec.CommandContext(ctx, args[0], args[1:]...), env, stdin)
}

func runCommand(ctx context.Context, cmd *exec.Cmd, env []string, stdin []byte) (string, error) {
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}, env...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limited{b: &stdout}, &limited{b: &stderr}
	process.Contain(cmd)
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	if err != nil {
		if said := strings.TrimSpace(stderr.String()); said != "" {
			err = fmt.Errorf("%w: %s", err, said[max(0, len(said)-200):])
		}
		err = fmt.Errorf("run %s: %w", filepath.Base(cmd.Args[0]), err)
	}
	return stdout.String(), err
}

// limited keeps the first 4 MiB and drops the rest.
type limited struct{ b *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := 4<<20 - l.b.Len(); room > 0 {
		l.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
