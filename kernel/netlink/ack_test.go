package netlink

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestAcknowledgements(t *testing.T) {
	errno := func(e unix.Errno) []byte { return native.AppendUint32(nil, uint32(-int32(e))) }
	request := make([]byte, headerSize+8)
	native.PutUint32(request, uint32(len(request)))
	text := AppendAttr(nil, unix.NLMSGERR_ATTR_MSG, []byte("Requested type not found\x00"))
	for _, c := range []struct {
		name  string
		m     Message
		errno unix.Errno
		text  string
	}{
		{"success", Message{Type: unix.NLMSG_ERROR, Payload: append(errno(0), request...)}, 0, ""},
		{"bare", Message{Type: unix.NLMSG_ERROR, Payload: append(errno(unix.EEXIST), request[:headerSize]...)},
			unix.EEXIST, ""},
		{"capped, with words", Message{Type: unix.NLMSG_ERROR, Flags: unix.NLM_F_CAPPED | unix.NLM_F_ACK_TLVS,
			Payload: append(append(errno(unix.ENOSYS), request[:headerSize]...), text...)}, unix.ENOSYS,
			"Requested type not found"},
		{"whole, with words", Message{Type: unix.NLMSG_ERROR, Flags: unix.NLM_F_ACK_TLVS,
			Payload: append(append(errno(unix.ENOSYS), request...), text...)}, unix.ENOSYS, "Requested type not found"},
		{"end of a dump, with words", Message{Type: unix.NLMSG_DONE, Flags: unix.NLM_F_ACK_TLVS,
			Payload: append(errno(unix.EINVAL), text...)}, unix.EINVAL, "Requested type not found"},
		{"end of a dump", Message{Type: unix.NLMSG_DONE, Payload: errno(0)}, 0, ""},
		{"nothing", Message{Type: unix.NLMSG_ERROR}, unix.EBADMSG, ""},
	} {
		if e, s := ack(c.m); e != c.errno || s != c.text {
			t.Errorf("%s: %v %q, want %v %q", c.name, e, s, c.errno, c.text)
		}
	}
}
