package kernel

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/dump"
)

// A dump that the kernel marks as torn anywhere is torn, whatever its end says.
func TestTornDump(t *testing.T) {
	done := message{typ: unix.NLMSG_DONE, flags: unix.NLM_F_MULTI, payload: make([]byte, 4)}
	entry := func(flags uint16) message {
		return message{typ: unix.RTM_NEWADDR, flags: unix.NLM_F_MULTI | flags}
	}
	refused := message{typ: unix.NLMSG_ERROR, payload: native.AppendUint32(nil, ^uint32(unix.EPERM)+1)}
	tornDone := done
	tornDone.flags |= unix.NLM_F_DUMP_INTR
	for _, tc := range []struct {
		name  string
		flags uint16
		msgs  []message
		err   error
	}{
		{"whole", unix.NLM_F_DUMP, []message{entry(0), entry(0), done}, nil},
		{"torn in the middle", unix.NLM_F_DUMP, []message{entry(0), entry(unix.NLM_F_DUMP_INTR), entry(0), done}, dump.ErrInterrupted},
		{"torn at the end", unix.NLM_F_DUMP, []message{entry(0), tornDone}, dump.ErrInterrupted},
		{"refused", unix.NLM_F_DUMP, []message{refused}, unix.EPERM},
		{"no dump", unix.NLM_F_ACK, []message{entry(unix.NLM_F_DUMP_INTR), done}, nil},
	} {
		var v verdict
		for i, m := range tc.msgs {
			if last := v.take(m, tc.flags); last != (i == len(tc.msgs)-1) {
				t.Errorf("%s: message %d is the last: %v", tc.name, i, last)
			}
		}
		if err := v.error(); !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.err)
		}
	}
}
