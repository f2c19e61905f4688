package xfrm

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// statFile has the kernel's counts of packets that IPsec dropped. The path by
// way of the process itself is there in a unit that hides the rest of /proc.
const statFile = "/proc/self/net/xfrm_stat"

// ErrorCount is one of the kernel's counters of dropped packets.
type ErrorCount struct {
	Name  string // as Documentation/networking/xfrm_proc.rst explains, XfrmInNoStates for example
	Count uint64
}

// ErrorCounts reads the counts of this network namespace, in the kernel's order.
// A kernel built without CONFIG_XFRM_STATISTICS has none: the error is then
// fs.ErrNotExist.
func ErrorCounts() ([]ErrorCount, error) {
	b, err := os.ReadFile(statFile)
	if err != nil {
		return nil, fmt.Errorf("read errors of IPsec: %w", err)
	}
	return parseErrorCounts(string(b))
}

func parseErrorCounts(text string) ([]ErrorCount, error) {
	var out []ErrorCount
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 2 {
			return nil, fmt.Errorf("read errors of IPsec: %q is not a name and a number", line)
		}
		n, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read errors of IPsec: %w", err)
		}
		out = append(out, ErrorCount{f[0], n})
	}
	return out, nil
}
