package conf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFailuresThatPassAreNoConfigurationErrors: a configuration error ends a daemon
// for good, so that a failure of the system must not be one, whichever file it
// happens to.
func TestFailuresThatPassAreNoConfigurationErrors(t *testing.T) {
	dir := t.TempDir()
	in := func(name, text string) string { return put(t, filepath.Join(dir, name), text, 0o600) }
	key := in("key", hexKey+"\n")
	static := in("ipsec.conf", "include \""+in("more.conf", "flow from 10.1.0.0/16 to 10.2.0.0/16 peer 192.0.2.2\n")+
		"\"\n"+
		"esp from 192.0.2.1 to 192.0.2.2 spi 0x1000:0x1001 authkey file \""+key+":"+key+"\" enckey file \""+
		in("enc", hexKey+"\n")+":"+key+"\"\n")
	sasyncd := in("sasyncd.conf", "interface carp1\npeer 10.0.0.2\nsharedkey file \""+
		in("shared", strings.Replace(hexKey, "0x", "0x7e", 1)[:len(hexKey)]+"\n")+"\"\ncontrol static \""+static+"\"\n")
	carpd := in("carpd.conf", "vrrp v { carpdev eth0 vrid 1 address 10.0.0.1 auth enforce key 1 file \""+key+"\" }\n")
	for _, failure := range []error{syscall.ENFILE, syscall.EMFILE, syscall.EIO, syscall.ENOMEM, syscall.ESTALE,
		syscall.EINTR, errors.New("no answer in time")} {
		for name, load := range map[string]func(Reader) error{
			sasyncd: func(r Reader) error { _, err := r.LoadSasyncd(sasyncd); return err },
			carpd:   func(r Reader) error { _, err := r.LoadCarpd(carpd); return err },
		} {
			opened := make(map[string]bool)
			if err := load(Reader{Open: func(path string) (*os.File,
				error) {
				opened[path] = true
				return Open(path)
			}}); err != nil {
				t.Fatal(err)
			}
			for file := range opened {
				err := load(Reader{Open: func(path string) (*os.File, error) {
					if path == file {
						return nil, &fs.PathError{Op: "open", Path: path, Err: failure}
					}
					return Open(path)
				}})
				if err == nil || IsConfig(err) || !strings.Contains(err.Error(), file) {
					t.Errorf("%s: %v of %s is a configuration error: %v", filepath.Base(name), failure,
						filepath.Base(file), err)
				}
			}
			if want := map[string]int{sasyncd: 6, carpd: 2}[name]; len(opened) != want {
				t.Errorf("%s: %d files were opened, want %d", filepath.Base(name), len(opened), want)
			}
		}
	}
}
