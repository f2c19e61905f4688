package sadb

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// TestKeysAreOverwritten: once nobody holds a secret the memory in which its key was
// holds it no more.
func TestKeysAreOverwritten(t *testing.T) {
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{8, 20, 36, 48, 64, 256, 1000} {
		const n = 32
		var at [n]int64
		var mask [n][]byte // keys, but for one bit in each byte
		held := make([]Secret, n)
		for i := range held {
			key := make([]byte, size)
			for j := range key {
				key[j] = byte(1 + r.UintN(255))
			}
			held[i] = NewSecret(key)
			if !bytes.Equal(held[i].Bytes(), key) {
				t.Fatalf("a key of %d bytes is not what was given", size)
			}
			if at[i], err = strconv.ParseInt(fmt.Sprintf("%p", held[i].Bytes()), 0, 64); err != nil {
				t.Fatal(err)
			}
			for j := range key {
				key[j] ^= 0x80
			}
			mask[i] = key
		}
		// there counts the keys whose memory still holds them.
		there := func() (count int) {
			buf := make([]byte, size)
			for i := range at {
				if _, err := mem.ReadAt(buf, at[i]); err != nil {
					t.Fatal(err)
				}
				for j := range buf {
					buf[j] ^= 0x80
				}
				if bytes.Equal(buf, mask[i]) {
					count++
				}
			}
			return count
		}
		runtime.GC()
		if got := there(); got != n {
			t.Fatalf("%d keys of %d bytes while all are held, want %d", got, size, n)
		}
		one := held[0] // a copy holds it as well
		held = nil
		for end := time.Now().Add(10 * time.Second); there() != 1 && time.Now().Before(end); {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
		if got := there(); got != 1 {
			t.Errorf("%d keys of %d bytes are in memory, of which one is held", got, size)
		}
		runtime.KeepAlive(one)
	}
}
