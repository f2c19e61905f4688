package rules

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// foreign is a rule of another program as the kernel lists it.
func foreign(action byte, table byte, edit func(b []byte) []byte) []byte {
	b := make([]byte, sizeRule)
	b[0], b[4], b[7] = unix.AF_INET, table, action
	b = netlink.AppendAttr32(b, fraPriority, 100)
	b = netlink.AppendAttr32(b, fraSuppress, ^uint32(0)) // the kernel lists it always
	if edit != nil {
		b = edit(b)
	}
	return b
}

func TestOtherRules(t *testing.T) {
	vip := netip.MustParseAddr("192.0.2.1")
	from := func(b []byte) []byte {
		b[2] = 32
		return netlink.AppendAttr(b, fraSrc, vip.AsSlice())
	}
	local, main := foreign(fraToTable, tableLocal, nil), foreign(fraToTable, tableMain, nil)
	ours := appendRule(nil, rule{src: vip, pref: 5})
	for name, tt := range map[string]struct {
		list    [][]byte
		denials []string
		lost    bool
	}{
		"as a kernel begins": {[][]byte{local, main}, nil, false},
		"ours":               {[][]byte{local, ours, main}, nil, false},
		"a blackhole": {[][]byte{local, foreign(fraBlackhole, 0, from), main},
			[]string{"100: from 192.0.2.1 blackhole"}, false},
		"behind main": {[][]byte{local, main, foreign(fraProhibit, 0, from)}, nil, false},
		"unreachable, no main": {[][]byte{local, foreign(fraUnreachable, 0, nil)},
			[]string{"100: from all unreachable"}, true},
		"by an interface": {[][]byte{local,
			foreign(fraBlackhole, 0, func(b []byte) []byte {
				return netlink.AppendAttr(b, fraIncoming,
					[]byte("eth0\x00"))
			}), main}, []string{"100: from all iif eth0 blackhole"}, false},
		"for a mark": {[][]byte{local,
			foreign(fraBlackhole, 0, func(b []byte) []byte { return netlink.AppendAttr32(b, 10, 1) }), main}, nil,
			false},
		"not from": {[][]byte{local,
			foreign(fraBlackhole, 0, func(b []byte) []byte { native.PutUint32(b[8:], ruleInvert); return from(b) }),
			main}, nil, false},
		"main without its default": {[][]byte{foreign(fraToTable, tableMain,
			func(b []byte) []byte { return netlink.AppendAttr32(b, fraSuppress, 0) }), foreign(fraBlackhole, 0, nil),
			main}, []string{"100: from all blackhole"}, false},
		"flushed":       {[][]byte{local, ours}, nil, true},
		"another table": {[][]byte{local, foreign(fraToTable, 10, nil)}, nil, false},
		"short":         {[][]byte{{1, 2}, main}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			var list []anyRule
			for _, b := range tt.list {
				if r, ok := decodeAny(b); ok {
					list = append(list, r)
				}
			}
			var got Rules
			got.add(sadb.FamilyIPv4, list)
			var denials []string
			for _, d := range got.Denials {
				denials = append(denials, d.String())
			}
			if !slices.Equal(denials, tt.denials) || (len(got.Lost) > 0) != tt.lost {
				t.Errorf("denials %q, lost %v; want %q, %v", denials, got.Lost, tt.denials, tt.lost)
			}
		})
	}
}
