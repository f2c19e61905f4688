package capture

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
)

// frameLog keeps the latest frames, in the form in which a pcap file has them.
type frameLog struct {
	frames []loggedFrame
	next   int
}

type loggedFrame struct {
	at     int64
	length int
	data   []byte
}

const keepFrames = 50_000

func newFrameLog() *frameLog { return &frameLog{} }

func (l *frameLog) add(p *Packet) {
	f := loggedFrame{at: p.At.UnixNano(), length: p.Length}
	if len(l.frames) < keepFrames {
		f.data = slices.Clone(p.Frame)
		l.frames = append(l.frames, f)
		return
	}
	f.data = append(l.frames[l.next].data[:0], p.Frame...)
	l.frames[l.next] = f
	l.next = (l.next + 1) % keepFrames
}

// write writes a pcap file with nanoseconds, in order of time.
func (l *frameLog) write(name string) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	slices.SortStableFunc(l.frames, func(a, b loggedFrame) int { return cmp.Compare(a.at, b.at) })
	w := bufio.NewWriter(f)
	le := binary.LittleEndian
	h := le.AppendUint32(nil, 0xa1b23c4d)
	h = le.AppendUint16(h, 2)
	h = le.AppendUint16(h, 4)
	h = append(h, make([]byte, 8)...)
	h = le.AppendUint32(h, 1<<16)
	h = le.AppendUint32(h, 1) // LINKTYPE_ETHERNET
	w.Write(h)
	for _, fr := range l.frames {
		r := le.AppendUint32(nil, uint32(fr.at/1e9))
		r = le.AppendUint32(r, uint32(fr.at%1e9))
		r = le.AppendUint32(r, uint32(len(fr.data)))
		r = le.AppendUint32(r, uint32(fr.length))
		w.Write(r)
		w.Write(fr.data)
	}
	return w.Flush()
}
