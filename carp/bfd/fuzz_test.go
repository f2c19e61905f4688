package bfd

import (
	"bytes"
	"testing"
	"time"
)

// FuzzDecode: what is accepted keeps the rules that the session relies on, and is
// what is sent again.
func FuzzDecode(f *testing.F) {
	f.Add(good.Append(nil))
	f.Add((&Packet{State: Down, Multiplier: 3, MyDiscr: 1, DesiredMinTx: time.Second}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Decode(b)
		if err != nil {
			if p != (Packet{}) {
				t.Errorf("something of what is refused: %+v", p)
			}
			return
		}
		if p.MyDiscr == 0 || p.Multiplier == 0 || p.State > Up || p.Poll && p.Final ||
			p.YourDiscr == 0 && p.State > Down || max(p.DesiredMinTx, p.RequiredMinRx) > MaxInterval {
			t.Errorf("accepted %+v", p)
		}
		want := bytes.Clone(b[:Length])
		want[3] = Length // longer ones end in what is ignored
		if got := p.Append(nil); !bytes.Equal(got, want) {
			t.Errorf("%x becomes %x", want, got)
		}
	})
}

// FuzzSession: whatever a neighbor sends, a session that is left alone afterwards
// is Down, says so slowly, and needs no more than that to come Up.
func FuzzSession(f *testing.F) {
	down := &Packet{State: Down, Multiplier: 1, MyDiscr: 9, RequiredMinRx: time.Millisecond}
	up := &Packet{State: Up, Poll: true, Multiplier: 255, MyDiscr: 9, YourDiscr: own, DesiredMinTx: MaxInterval}
	f.Add(up.Append(down.Append(nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, now := session(0), time.Duration(0)
		for ; len(b) >= Length; b = b[Length:] {
			p, err := Decode(b[:Length])
			if err != nil {
				continue
			}
			if reply, send, _ := s.Receive(now, &p); send && reply.Poll && reply.Final {
				t.Fatalf("reply %+v", reply)
			}
			now += time.Millisecond
		}
		now += 256 * MaxInterval
		s.Tick(now)
		if st := s.Status(); st.State != Down || st.Heard || st.Transmit != SlowInterval {
			t.Fatalf("without a neighbor: %+v", st)
		}
		hello := Packet{State: Down, Multiplier: 3, MyDiscr: 5, RequiredMinRx: interval50, DesiredMinTx: time.Second}
		s.Receive(now, &hello)
		hello.State, hello.YourDiscr = Init, own
		s.Receive(now, &hello)
		if st := s.Status(); st.State != Up {
			t.Fatalf("with a new neighbor: %+v", st)
		}
	})
}
