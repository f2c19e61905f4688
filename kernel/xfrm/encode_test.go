package xfrm

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/sync/sadb"
)

func TestWhatCannotBeEncodedSaysWhy(t *testing.T) {
	base, err := newDecoder(testName).sa(oneFixture(t, "sas.hex", "gcm-32bit-tunnel4"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		change     func(*sadb.SA)
	}{
		{"offloaded", "offloaded", func(s *sadb.SA) { s.Offloaded = true }},
		{"families", "another family", func(s *sadb.SA) { s.Src = netip.MustParseAddr("::1") }},
		{"window", "want at most 32", func(s *sadb.SA) { s.Window = 300 }},
		{"interface", `interface "eth7"`, func(s *sadb.SA) { s.Selector.Interface = "eth7" }},
		{"high word", "without ESN", func(s *sadb.SA) { s.Seq = 1 << 33 }},
		{"bitmap", "bitmap has 2 words, want 1", func(s *sadb.SA) { s.Bitmap = make([]uint32, 2) }},
		{"bitmap length", "want at most 128", func(s *sadb.SA) { s.BitmapLen, s.Bitmap = 129, nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			sa := *base
			c.change(&sa)
			e := encoder{ifindex: testIndex}
			b, err := e.appendSA([]byte("before"), &sa, 0, 0)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			if !strings.Contains(err.Error(), "192.0.2.1 spi 0xc1000003") {
				t.Errorf("error %v does not say which sa", err)
			}
			if string(b) != "before" {
				t.Errorf("%d bytes left of what failed", len(b)-6)
			}
		})
	}
}

func TestUnknownBitmap(t *testing.T) {
	word := func(window, length uint32, seq uint64, i uint32) uint32 {
		return bitmapWord(&sadb.SA{Window: window, BitmapLen: length, Counters: sadb.Counters{Seq: seq}}, i)
	}
	for _, c := range []struct {
		window, length uint32
		seq            uint64
		want           []uint32
	}{
		{32, 0, 9, []uint32{0xffffffff}},
		{5, 0, 9, []uint32{0x1f}},
		{0, 0, 9, []uint32{0}},
		{5, 0, 0, []uint32{0}},
		{64, 3, 9, []uint32{0xffffffff, 0xffffffff, 0}},
		{65, 3, 9, []uint32{0xffffffff, 0xffffffff, 1}},
	} {
		for i, want := range c.want {
			if got := word(c.window, c.length, c.seq, uint32(i)); got != want {
				t.Errorf("window %d of %d words, seq %d: word %d is %#x, want %#x", c.window, c.length, c.seq, i, got,
					want)
			}
		}
	}
}

func TestOpErrors(t *testing.T) {
	for errno, target := range map[unix.Errno]error{
		unix.EEXIST: fs.ErrExist, unix.ENOENT: fs.ErrNotExist, unix.ESRCH: fs.ErrNotExist, unix.EPERM: fs.ErrPermission,
	} {
		err := fmt.Errorf("wrapped: %w", &OpError{Kind: sadb.OpAddSA, Item: "esp dst 192.0.2.1 spi 0x00000001",
			Errno: errno, Text: "words"})
		if !errors.Is(err, target) || !errors.Is(err, errno) {
			t.Errorf("%v is not %v", err, target)
		}
		if want := "add-sa esp dst 192.0.2.1 spi 0x00000001: " + errno.Error() +
			" (words)"; !strings.Contains(err.Error(), want) {
			t.Errorf("%q, want %q", err, want)
		}
	}
	if errors.Is(&OpError{Errno: unix.EINVAL}, fs.ErrNotExist) {
		t.Error("EINVAL taken for absence")
	}
}

func TestTags(t *testing.T) {
	var g tags
	seen := map[uint32]bool{}
	for range 1000 {
		tag := g.nextSA()
		if !IsOurs(tag) || IsOurPolicy(tag) || seen[tag] {
			t.Fatalf("tag %#x", tag)
		}
		seen[tag] = true
		for _, dir := range []sadb.Direction{sadb.DirIn, sadb.DirOut, sadb.DirFwd} {
			index := g.nextPolicy(dir)
			if !IsOurPolicy(index) || index&7 != uint32(dir-sadb.DirIn) || seen[index] {
				t.Fatalf("index %#x for %s", index, dir)
			}
			seen[index] = true
		}
	}
	g.policy.Store(tagPolicySlots - 1)
	if index := g.nextPolicy(sadb.DirFwd); !IsOurPolicy(index) {
		t.Errorf("index %#x after the last", index)
	}
}

func TestHiddenKeys(t *testing.T) {
	alg := func(key string) *sadb.Algorithm {
		return &sadb.Algorithm{Name: "x", Key: sadb.NewSecret([]byte(key))}
	}
	for _, c := range []struct {
		sa   sadb.SA
		want bool
	}{
		{sadb.SA{AEAD: alg("\x00\x00\x00\x00")}, true},
		{sadb.SA{Crypt: alg(""), Auth: alg("\x00\x00\x00\x00")}, true},
		{sadb.SA{Crypt: alg(""), Auth: alg("\x00\x01\x00\x00")}, false},
		{sadb.SA{Comp: alg("")}, false},
	} {
		if got := KeysHidden(&c.sa); got != c.want {
			t.Errorf("%+v: %v, want %v", c.sa, got, c.want)
		}
	}
}
