package filter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// Whether the kernel understands the rules, and what they do, is shown with real
// packets in tests/election; here is what the encoding promises.
func TestAttributes(t *testing.T) {
	got := nest(5, text(1, "abc"), number(2, 0x01020304), attr(3, []byte{9}))
	head := func(length, kind uint16) []byte {
		return binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, length), kind)
	}
	want := bytes.Join([][]byte{head(28, 5|0x8000), head(8, 1), []byte("abc\x00"), head(8, 2), {1, 2, 3, 4}, head(5, 3),
		{9, 0, 0, 0}}, nil)
	if !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

func answer(seq uint32, code int32) []byte {
	b := make([]byte, 36)
	binary.NativeEndian.PutUint32(b, 36)
	binary.NativeEndian.PutUint16(b[4:], unix.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(b[8:], seq)
	binary.NativeEndian.PutUint32(b[16:], uint32(code))
	return b
}

func TestAnswers(t *testing.T) {
	both := append(answer(1, 0), answer(2, 0)...)
	if n, err := answers(both); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := answers(append(both, answer(3, -int32(unix.EOPNOTSUPP))...)); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("refusal: %v", err)
	}
	short := answer(1, 0)
	for _, size := range []uint32{0, 4, 37, 1 << 31} {
		binary.NativeEndian.PutUint32(short, size)
		if _, err := answers(short); err == nil {
			t.Errorf("length of %d is accepted", size)
		}
	}
	if n, err := answers(both[:10]); n != 0 || err != nil {
		t.Errorf("stub: %d, %v", n, err)
	}
}

// Every message of a batch is numbered, asks for its answer, and is whole.
func TestBatch(t *testing.T) {
	b := newBatch(unix.NFPROTO_INET)
	b.add(unix.NFT_MSG_NEWTABLE, flagsCreate, text(unix.NFTA_TABLE_NAME, table))
	b.rule(chain, verdict(dropped))
	var kinds []uint16
	for rest := b.b; len(rest) > 0; {
		size := binary.NativeEndian.Uint32(rest)
		if size%4 != 0 || int(size) > len(rest) {
			t.Fatalf("message of %d bytes, %d are left", size, len(rest))
		}
		kind, flags := binary.NativeEndian.Uint16(rest[4:]), binary.NativeEndian.Uint16(rest[6:])
		if seq := binary.NativeEndian.Uint32(rest[8:]); kind != batchBegin &&
			(flags&unix.NLM_F_ACK == 0 || int(seq) != len(kinds)) {
			t.Errorf("message %#x: flags %#x, number %d", kind, flags, seq)
		}
		kinds = append(kinds, kind)
		rest = rest[size:]
	}
	if len(kinds) != 3 || kinds[0] != batchBegin || kinds[2] != 0xa00|unix.NFT_MSG_NEWRULE || b.n != 2 {
		t.Errorf("kinds %#x, %d answers", kinds, b.n)
	}
}
