package harness

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestCpio reads an archive back as the kernel's unpacker does.
func TestCpio(t *testing.T) {
	var c cpio
	c.add("dev", cpioDir, nil)
	c.add("dev/console", cpioConsole, nil)
	c.add("init", cpioFile, []byte("hello"))
	b := c.bytes()
	type entry struct {
		name, content string
		mode          uint64
	}
	var got []entry
	for at := 0; at < len(b); {
		if string(b[at:at+6]) != "070701" {
			t.Fatalf("no header at byte %d: %q", at, b[at:at+6])
		}
		field := func(i int) int {
			n, err := strconv.ParseUint(string(b[at+6+8*i:at+14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		align := func(n int) int { return (n + 3) &^ 3 }
		name := at + 110
		data := align(name + field(11))
		got = append(got, entry{string(b[name : name+field(11)-1]), string(b[data : data+field(6)]), uint64(field(1))})
		if n := got[len(got)-1].name; n == "dev/console" && (field(9) != 5 || field(10) != 1) {
			t.Errorf("the console is device %d:%d", field(9), field(10))
		}
		at = align(data + field(6))
	}
	want := []entry{{"dev", "", cpioDir}, {"dev/console", "", cpioConsole}, {"init", "hello", cpioFile},
		{"TRAILER!!!", "", 0}}
	if !slices.Equal(got, want) {
		t.Errorf("the archive has %v, want %v", got, want)
	}
}

// Modules come behind what they need, each once; what is built in is left out.
func TestModuleOrder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "1.0"), 0o755); err != nil {
		t.Fatal(err)
	}
	// As depmod writes it: what is needed first comes last.
	aliases := "alias crypto-sha512 sha512\nalias pci:v1* virtio-pci\nalias crypto-gcm gcm-new\n"
	if err := os.WriteFile(filepath.Join(dir, "1.0", "modules.alias"), []byte(aliases), 0o600); err != nil {
		t.Fatal(err)
	}
	index := "k/virtio_pci.ko: k/virtio_ring.ko k/virtio.ko\nk/virtio.ko:\nk/virtio_ring.ko: " +
		"k/virtio.ko\nk/virtiofs.ko: k/fuse.ko k/virtio_ring.ko k/virtio.ko\nk/fuse.ko:\nk/sha512.ko:\nk/gcm-new.ko:\nk/esp4.ko:\n"
	if err := os.WriteFile(filepath.Join(dir, "1.0", "modules.dep"), []byte(index), 0o600); err != nil {
		t.Fatal(err)
	}
	x, err := readModules(dir, "1.0")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"k/virtio.ko", "k/virtio_ring.ko", "k/virtio_pci.ko", "k/fuse.ko", "k/virtiofs.ko"}
	if got := x.order("virtio_pci", "builtin", "virtiofs"); !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	// A kernel may give the module of an algorithm another name.
	if got, want := x.preloads(), []string{"k/esp4.ko", "k/sha512.ko", "k/gcm-new.ko"}; !slices.Equal(got, want) {
		t.Errorf("preloads %v, want %v", got, want)
	}
	if got := x.byAlias("pci:v17"); !slices.Equal(got, []string{"virtio-pci"}) {
		t.Errorf("pci:v17 is for %v", got)
	}
}

func TestSlow(t *testing.T) {
	for env, want := range map[string]time.Duration{"": time.Second, "nonsense": time.Second, "0": time.Second,
		"12": 12 * time.Second} {
		t.Setenv(envSlow, env)
		if got := Scaled(time.Second); got != want {
			t.Errorf("with %s=%q a second is %v, want %v", envSlow, env, got, want)
		}
	}
}
