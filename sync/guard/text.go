package guard

import (
	"fmt"
	"strings"
)

// String is the selector as an operator reads it: "10.1.0.0/16 to 10.2.0.0/16 proto 6 dport 80".
func (s Selector) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v to %v", s.Src, s.Dst)
	if s.Proto != 0 {
		fmt.Fprintf(&b, " proto %d", s.Proto)
	}
	port := func(name string, port, mask uint16) {
		switch mask {
		case 0:
		case 0xffff:
			fmt.Fprintf(&b, " %s %d", name, port)
		default:
			fmt.Fprintf(&b, " %s %#x/%#x", name, port, mask)
		}
	}
	port("sport", s.SrcPort, s.SrcPortMask)
	port("dport", s.DstPort, s.DstPortMask)
	if s.MarkMask != 0 {
		fmt.Fprintf(&b, " mark %#x/%#x", s.Mark, s.MarkMask)
	}
	return b.String()
}
