package capture

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness/lab"
)

const (
	// The kernel hands over a block after retireMillis, however little is in it. So
	// small blocks, and many: who reads may stand still for 5 s. Where frames of up to
	// 64 kB are wanted in full a block has to hold one.
	ringSize     = 1 << 22
	smallBlock   = 1 << 14
	largeBlock   = 1 << 17
	retireMillis = 20
	snapLength   = 224
)

// ring is a TPACKET_V3 receive ring on one interface (packet_mmap.rst).
type ring struct {
	fd    int
	mem   []byte
	block int // size
	next  int
}

// openRing opens a ring for what arrives at the port from its node.
func openRing(p *lab.Port, snap uint32) (*ring, error) {
	var r *ring
	err := p.Node.Net().Fabric().Do(func() (err error) {
		r, err = openRingHere(p.OuterIndex(), snap)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture on %s: %w", p.Outer, err)
	}
	return r, nil
}

func openRingHere(ifindex int, length uint32) (_ *ring, err error) {
	// Protocol 0: nothing arrives before the ring is complete and bound.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	r := &ring{fd: fd, block: smallBlock}
	if length > smallBlock/2 {
		r.block = largeBlock
	}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return nil, fmt.Errorf("set ring version: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return nil, fmt.Errorf("ignore outgoing packets: %w", err)
	}
	snap := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: length}}
	prog := unix.SockFprog{Len: uint16(len(snap)), Filter: &snap[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return nil, fmt.Errorf("set snap length: %w", err)
	}
	req := unix.TpacketReq3{
		Block_size: uint32(r.block), Block_nr: uint32(ringSize / r.block),
		Frame_size: 2048, Frame_nr: ringSize / 2048,
		Retire_blk_tov: retireMillis,
	}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return nil, fmt.Errorf("make ring: %w", err)
	}
	if r.mem, err = unix.Mmap(fd, 0, ringSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map ring: %w", err)
	}
	all := binary.BigEndian.Uint16([]byte{byte(unix.ETH_P_ALL & 0xff), unix.ETH_P_ALL >> 8})
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifindex}); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	return r, nil
}

func (r *ring) close() {
	if r.mem != nil {
		unix.Munmap(r.mem)
	}
	unix.Close(r.fd)
}

// drops returns how many frames the kernel could not store since the last call.
func (r *ring) drops() (int, error) {
	st, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, fmt.Errorf("read capture statistics: %w", err)
	}
	return int(st.Drops), nil
}

// take passes all frames of finished blocks to f, which must not keep them.
func (r *ring) take(f func(at time.Time, frame []byte, length int)) {
	for {
		block := r.mem[r.next*r.block : (r.next+1)*r.block]
		// tpacket_block_desc: version, offset of private data, then the header.
		h := (*unix.TpacketHdrV1)(unsafe.Pointer(&block[8]))
		if atomic.LoadUint32(&h.Block_status)&unix.TP_STATUS_USER == 0 {
			return
		}
		off := h.Offset_to_first_pkt
		for range h.Num_pkts {
			p := (*unix.Tpacket3Hdr)(unsafe.Pointer(&block[off]))
			mac := off + uint32(p.Mac)
			f(time.Unix(int64(p.Sec), int64(p.Nsec)), block[mac:mac+p.Snaplen:mac+p.Snaplen], int(p.Len))
			off += p.Next_offset
		}
		atomic.StoreUint32(&h.Block_status, unix.TP_STATUS_KERNEL)
		r.next = (r.next + 1) % (ringSize / r.block)
	}
}
