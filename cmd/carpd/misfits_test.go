package main

import (
	"fmt"
	"strings"
	"testing"

	"sasyncd/cmd/internal/conf"
)

// The configuration check tells what an advertisement cannot hold, by the MTU of the
// interface where that is here.
func TestMisfits(t *testing.T) {
	for _, tc := range []struct {
		device, more string
		count        int
		want         string // "": nothing is said
	}{
		{"nosuch0", "", 89, ""},
		{"nosuch0", "", 90, "holds 90 of its 91 IPv6 addresses where the MTU is 1500"}, // with the link-local one
		{"nosuch0", "key 1 0123456789abcdef0123456789abcdef", 90,
			"holds 89 of its 91 IPv6 addresses where the MTU is 1500"},
		{"lo", "", 200, ""}, // MTU 65536
	} {
		var b strings.Builder
		fmt.Fprintf(&b, "vrrp out { carpdev %s; vrid 10; %s\n", tc.device, tc.more)
		for n := range tc.count {
			fmt.Fprintf(&b, "address 2001:db8::%x\n", n+1)
		}
		b.WriteString("}\n")
		c, err := conf.ParseCarpd("carpd.conf", []byte(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, w := range misfits(c) {
			said = append(said, w.Error())
		}
		got := strings.Join(said, "\n")
		if tc.want == "" && got != "" || !strings.Contains(got, tc.want) || tc.want != "" && !strings.HasPrefix(got,
			"carpd.conf:1:1: ") {
			t.Errorf("%d addresses on %s: said %q, want %q", tc.count, tc.device, got, tc.want)
		}
	}
}
