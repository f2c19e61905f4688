package netlink

import (
	"fmt"
	"slices"
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

// TestAttributes: each is read, one without a value too, wherever it stands; the list ends
// where the next does not fit.
func TestAttributes(t *testing.T) {
	empty, four := AppendAttr(nil, 3, nil), AppendAttr(nil, 5, []byte("abcd"))
	odd := AppendAttr(nil, 4|1<<15, []byte("abcde"))
	bare := func(size uint16, rest int) []byte {
		b := native.AppendUint16(nil, size)
		return append(native.AppendUint16(b, 6), make([]byte, rest)...)
	}
	for name, tt := range map[string]struct {
		b    []byte
		want string
	}{
		"none":               {nil, ""},
		"empty, last":        {empty, "3: "},
		"empty, first":       {slices.Concat(empty, four), "3: 5:abcd "},
		"padding, flag":      {slices.Concat(odd, four), "4:abcde 5:abcd "},
		"padding missing":    {odd[:9], "4:abcde "},
		"value cut off":      {four[:7], ""},
		"header cut off":     {slices.Concat(four, empty[:3]), "5:abcd "},
		"shorter than it is": {slices.Concat(four, bare(3, 0)), "5:abcd "},
		"longer than it is":  {slices.Concat(four, bare(9, 4)), "5:abcd "},
		"as long as it is":   {bare(8, 4), "6:\x00\x00\x00\x00 "},
	} {
		var got string
		for a := Attrs(tt.b); ; {
			typ, data, ok := a.Next()
			if !ok {
				break
			}
			got += fmt.Sprintf("%d:%s ", typ, data)
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
