package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sasyncd/cmd/internal/conf"
	"sasyncd/keying"
	"sasyncd/keying/privsep"
)

// ends returns a client and the other end of its connection.
func ends(t *testing.T) (*privsep.Client, *net.UnixConn) {
	t.Helper()
	a, b, err := privsep.Pair()
	if err != nil {
		t.Fatal(err)
	}
	ours, err := privsep.Conn(a)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := privsep.Conn(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return privsep.NewClient(ours), theirs
}

// rulesOf is a configuration of which the privileged process has its own opinion.
type rulesOf struct {
	rules privsep.Rules
	err   error
	open  func(path string) (*os.File, error)
}

func (r rulesOf) Rules() (privsep.Rules, error)      { return r.rules, r.err }
func (r rulesOf) Open(path string) (*os.File, error) { return r.open(path) }

// TestPrivilegedProcessThatFailsIsNoConfigurationError: a configuration error ends
// sasyncd for good, with advice about the file. Only what the privileged process
// judges is one; that it is slow, absent or dying is not.
func TestPrivilegedProcessThatFailsIsNoConfigurationError(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sasyncd.conf")
	served := func(src privsep.Source) *privsep.Client {
		c, theirs := ends(t)
		srv := privsep.NewServer(src, func(privsep.Rules) keying.Privileged { return nil },
			slog.New(slog.DiscardHandler))
		go func() { _ = srv.Serve(context.Background(), theirs) }()
		return c
	}
	silent, _ := ends(t)
	dying, theirs := ends(t)
	theirs.Close()
	names := privsep.Rules{Files: []string{path}}
	refused := func(err error) func(string) (*os.File, error) {
		return func(string) (*os.File, error) { return nil, err }
	}
	for what, tt := range map[string]struct {
		client *privsep.Client
		limit  time.Duration
		config bool
		says   string
	}{
		"no answer": {silent, time.Millisecond, false, "within 1ms"},
		"an end":    {dying, time.Minute, false, "privileged process"},
		"a socket that nobody listens on": {privsep.NewLazyClient(func() (*net.UnixConn, error) {
			return nil,
				&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}),
			time.Minute, false, "connection refused"},
		"a socket that is not there yet": {privsep.NewLazyClient(func() (*net.UnixConn, error) {
			return nil,
				&net.OpError{Op: "dial", Err: syscall.ENOENT}
		}),
			time.Minute, false, "no such file"},
		"no descriptors left": {served(rulesOf{names, nil, refused(syscall.ENFILE)}), time.Minute, false,
			"too many open files"},
		"a file that is not read": {served(rulesOf{privsep.Rules{}, failure(syscall.EIO), nil}), time.Minute, false,
			"input/output error"},
		"a refusal": {served(rulesOf{privsep.Rules{}, nil, nil}), time.Minute, true, "does not name it"},
		"a denial": {served(rulesOf{names, nil, refused(fs.ErrPermission)}), time.Minute, true,
			"permission denied"},
		"a directory of others": {served(rulesOf{names, nil, refused(untrusted(t))}), time.Minute, true,
			"the directory belongs to user 990"},
		"no file": {served(rulesOf{names, nil, refused(fs.ErrNotExist)}), time.Minute, true,
			"it does not exist"},
	} {
		h := &privilegedLink{client: tt.client}
		r := conf.Reader{Open: func(path string) (*os.File, error) { return h.ask(path, fs.ErrPermission, tt.limit) }}
		_, err := r.LoadSasyncd(path)
		if err == nil || conf.IsConfig(err) != tt.config || !strings.Contains(err.Error(), tt.says) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%s: configuration error %v, want %v, with %q: %v", what, conf.IsConfig(err), tt.config, tt.says,
				err)
		}
		if !tt.config && err != nil && (errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "chown")) {
			t.Errorf("%s: what may pass is about the rights of the file: %v", what, err)
		}
	}
}

// untrusted returns what package trusted says of a file in another user's directory.
func untrusted(t *testing.T) error {
	_, err := source{}.Open(put(t, filepath.Join(theirs(t), "sasyncd.conf"), "", 0, 0o600))
	return err
}
