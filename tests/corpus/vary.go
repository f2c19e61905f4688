package corpus

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
)

var (
	keyPattern = regexp.MustCompile(`0x000102[0-9a-f]+`)
	spiPattern = regexp.MustCompile(`spi 0x(c1[0-9a-f]{6}|[0-9a-f]{4}) `)
)

// Vary returns the whole corpus as lines of `ip -batch` with other keys, SPIs
// and addresses: all differ from one call to the next, but the addresses of one
// call belong together as they do in the corpus. Orderly numbers would all meet
// in one bucket of the kernel's hash tables, and keys that are all the same hide
// a mixed-up one.
func Vary(r *rand.Rand) (lines []string) {
	for _, k := range SAs() {
		lines = append(lines, "xfrm state add "+k.Args)
	}
	for _, k := range Policies() {
		lines = append(lines, "xfrm policy add "+k.Args)
	}
	net := [3]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}
	addresses := strings.NewReplacer(
		"192.0.2.1", fmt.Sprintf("172.16.%d.%d", net[0], 1+net[1]/2),
		"198.51.100.1", fmt.Sprintf("172.17.%d.%d", net[1], 1+net[2]/2),
		"2001:db8:", fmt.Sprintf("2001:%x:", 0x1000+r.Uint32N(0x8000)),
		"10.", fmt.Sprintf("%d.", 20+net[0]%80),
		"fd00:", fmt.Sprintf("fd%02x:", net[2]),
	)
	for i, line := range lines {
		line = keyPattern.ReplaceAllStringFunc(line, func(s string) string {
			b := make([]byte, len(s)/2-1)
			for j := range b {
				b[j] = byte(r.Uint32())
			}
			return "0x" + hex.EncodeToString(b)
		})
		line = spiPattern.ReplaceAllStringFunc(line, func(s string) string {
			if len(s) < len("spi 0xc1000000 ") { // IPComp
				return fmt.Sprintf("spi 0x%04x ", 0x100+r.Uint32N(0xfe00))
			}
			return fmt.Sprintf("spi 0x%08x ", 0x1000+r.Uint32N(1<<32-0x2000))
		})
		lines[i] = addresses.Replace(line)
	}
	return lines
}
