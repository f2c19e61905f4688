package netlink

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/dump"
)

// A dump that the kernel marks as torn anywhere is torn, whatever its end says.
func TestTornDump(t *testing.T) {
	done := Message{Type: unix.NLMSG_DONE, Flags: unix.NLM_F_MULTI, Payload: make([]byte, 4)}
	entry := func(flags uint16) Message {
		return Message{Type: unix.RTM_NEWADDR, Flags: unix.NLM_F_MULTI | flags}
	}
	refused := Message{Type: unix.NLMSG_ERROR, Payload: native.AppendUint32(nil, ^uint32(unix.EPERM)+1)}
	tornDone := done
	tornDone.Flags |= unix.NLM_F_DUMP_INTR
	for _, tc := range []struct {
		name  string
		flags uint16
		msgs  []Message
		err   error
	}{
		{"whole", unix.NLM_F_DUMP, []Message{entry(0), entry(0), done}, nil},
		{"torn in the middle", unix.NLM_F_DUMP, []Message{entry(0), entry(unix.NLM_F_DUMP_INTR), entry(0), done},
			dump.ErrInterrupted},
		{"torn at the end", unix.NLM_F_DUMP, []Message{entry(0), tornDone}, dump.ErrInterrupted},
		{"refused", unix.NLM_F_DUMP, []Message{refused}, unix.EPERM},
		{"no dump", unix.NLM_F_ACK, []Message{entry(unix.NLM_F_DUMP_INTR), done}, nil},
	} {
		var v Verdict
		for i, m := range tc.msgs {
			if last := v.Take(m, tc.flags); last != (i == len(tc.msgs)-1) {
				t.Errorf("%s: message %d is the last: %v", tc.name, i, last)
			}
		}
		if err := v.Err(); !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.err)
		}
	}
}
