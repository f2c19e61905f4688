package peer

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"sasyncd/sync/channel"
	"sasyncd/sync/wire"
)

// TestTroubles: what is wrong with a connection is told by codes and errors, whatever
// their words.
func TestTroubles(t *testing.T) {
	met := func(err error) Reason {
		return Reason{Code: wire.ByeTimeout, Text: "words", met: troubleOf(fmt.Errorf("connect to 10.0.0.2:500: %w",
			err))}
	}
	dial := func(errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}
	}
	for name, tt := range map[string]struct {
		reason Reason
		want   Trouble
	}{
		"key":             {met(channel.ErrRefused), TroubleKey},
		"nobody listens":  {met(dial(syscall.ECONNREFUSED)), TroubleRefused},
		"no route":        {met(dial(syscall.EHOSTUNREACH)), TroubleUnreachable},
		"no network":      {met(dial(syscall.ENETUNREACH)), TroubleUnreachable},
		"no answer":       {met(dial(syscall.ETIMEDOUT)), TroubleUnreachable},
		"deadline":        {met(context.DeadlineExceeded), TroubleUnreachable},
		"something else":  {met(os.ErrPermission), TroubleOther},
		"version, here":   {Reason{Code: wire.ByeVersion}, TroubleVersion},
		"version, there":  {Reason{Code: wire.ByeVersion, Remote: true}, TroubleVersion},
		"clone":           {Reason{Code: wire.ByeDuplicate}, TroubleSame},
		"this very node":  {Reason{Code: wire.ByeSelf}, TroubleSame},
		"ends":            {Reason{Code: wire.ByeShutdown, Remote: true}, TroubleRefused},
		"nothing is said": {Reason{}, TroubleOther},
	} {
		if got := tt.reason.Trouble(); got != tt.want {
			t.Errorf("%s: trouble %d, want %d", name, got, tt.want)
		}
	}
}
