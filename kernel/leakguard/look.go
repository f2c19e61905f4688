package leakguard

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/dump"
	"sasyncd/kernel/netlink"
)

// sizeHeader is that of struct nfgenmsg: family, version, number of the ruleset.
const sizeHeader = 4

// request is the payload of a message about the table: with attribute 1 all messages of
// nf_tables name their table.
func request() []byte {
	return netlink.AppendAttr([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, 1, append([]byte(tableName), 0))
}

// ask sends a request and calls f, if not nil, for the messages of the answer. Without
// payload it is one about no table.
func (f *Filter) ask(ctx context.Context, kind uint16, payload []byte, each func(m netlink.Message) error) error {
	if payload == nil {
		payload = make([]byte, sizeHeader)
	}
	return f.req.Request(ctx, unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_ACK, payload, each)
}

// concerns reports whether a message of nf_tables is about the table.
func concerns(m netlink.Message) bool {
	if m.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Payload) < sizeHeader || m.Payload[0] != unix.NFPROTO_INET {
		return false
	}
	for rest := netlink.Attrs(m.Payload[sizeHeader:]); ; {
		typ, data, more := rest.Next()
		if !more || typ == 1 {
			return more && unix.ByteSliceToString(data) == tableName
		}
	}
}

// look is what the kernel tells of the table, its chains, rules and sets. Each has a
// handle that the kernel gives once, so a table that was made anew looks different. The
// counter is not in it.
type look struct {
	sum         [sha256.Size]byte
	rules, sets int
}

// look reads the table. Where there is none the look is that of nothing.
func (f *Filter) look(ctx context.Context) (l look, err error) {
	err = dump.Retry(func() error {
		l = look{}
		h := sha256.New()
		see := func(m netlink.Message) error {
			if concerns(m) {
				// Without the number of the ruleset, which every change of any table raises.
				_, err := h.Write(m.Payload[sizeHeader:])
				return err
			}
			return nil
		}
		if err := f.ask(ctx, unix.NFT_MSG_GETTABLE, request(), see); err != nil {
			if errors.Is(err, unix.ENOENT) {
				return nil
			}
			return err
		}
		for _, x := range []struct {
			kind uint16
			n    *int
		}{{unix.NFT_MSG_GETCHAIN, nil}, {unix.NFT_MSG_GETRULE, &l.rules}, {unix.NFT_MSG_GETSET, &l.sets}} {
			if err := f.req.Request(ctx, unix.NFNL_SUBSYS_NFTABLES<<8|x.kind, unix.NLM_F_DUMP, request(),
				func(m netlink.Message) error {
					if x.n != nil && concerns(m) {
						*x.n++
					}
					return see(m)
				}); err != nil {
				return err
			}
		}
		h.Sum(l.sum[:0])
		return nil
	})
	return l, err
}

// counter reads the counter, and reports whether there is a table. A table of another
// make may have none.
func (f *Filter) counter(ctx context.Context) (v volume, there bool, err error) {
	err = f.ask(ctx, unix.NFT_MSG_GETTABLE, request(), nil)
	if err != nil {
		if errors.Is(err, unix.ENOENT) {
			err = nil
		}
		return v, false, err
	}
	payload := netlink.AppendAttr(request(), unix.NFTA_OBJ_NAME, append([]byte(counterName), 0))
	payload = netlink.AppendAttr(payload, unix.NFTA_OBJ_TYPE,
		binary.BigEndian.AppendUint32(nil, unix.NFT_OBJECT_COUNTER))
	err = f.ask(ctx, unix.NFT_MSG_GETOBJ, payload, func(m netlink.Message) error {
		v = decodeCounter(m.Payload)
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return v, true, err
}

// decodeCounter reads the message of a counter.
func decodeCounter(payload []byte) (v volume) {
	if len(payload) < sizeHeader {
		return v
	}
	for rest := netlink.Attrs(payload[sizeHeader:]); ; {
		typ, data, more := rest.Next()
		if !more {
			return v
		}
		if typ != unix.NFTA_OBJ_DATA {
			continue
		}
		for rest := netlink.Attrs(data); ; {
			typ, data, more := rest.Next()
			if !more {
				break
			}
			if len(data) != 8 {
				continue
			}
			switch typ {
			case unix.NFTA_COUNTER_PACKETS:
				v.packets = binary.BigEndian.Uint64(data)
			case unix.NFTA_COUNTER_BYTES:
				v.bytes = binary.BigEndian.Uint64(data)
			}
		}
	}
}
