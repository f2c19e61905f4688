package filter

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzAnswers: whatever the kernel's end says is counted once, or an error.
func FuzzAnswers(f *testing.F) {
	one := make([]byte, 36)
	binary.NativeEndian.PutUint32(one, 36)
	binary.NativeEndian.PutUint16(one[4:], unix.NLMSG_ERROR)
	f.Add(append(one, one...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := answers(b); err == nil && int(n) > len(b)/headerLen {
			t.Errorf("%d answers in %d bytes", n, len(b))
		}
	})
}
