package netlink

import (
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzMessages(f *testing.F) {
	b, at := BeginMessage(nil, unix.NLMSG_ERROR, unix.NLM_F_CAPPED|unix.NLM_F_ACK_TLVS, 1, 2)
	b = append(b, make([]byte, 4+headerSize)...)
	b = AppendAttr(b, unix.NLMSGERR_ATTR_MSG, []byte("text\x00"))
	EndMessage(b, at)
	f.Add(append(b, b...))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		for rest := Messages(datagram); ; {
			before := len(rest)
			m, ok := rest.Next()
			if !ok {
				return
			}
			if len(rest) >= before {
				t.Fatal("no progress")
			}
			ack(m)
		}
	})
}
