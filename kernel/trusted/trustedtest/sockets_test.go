package trustedtest

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// The directory of a test's sockets has room for one, however long the test's name
// is, and is gone with the test.
func TestSocketsOfALongName(t *testing.T) {
	var dir string
	t.Run(strings.Repeat("key 1 0123456789abcdef ", 10), func(t *testing.T) {
		dir = Dir(t)
		l, err := net.Listen("unix", filepath.Join(dir, "control.sock"))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if base := os.Getenv("TMPDIR"); len(dir) > len(base)+len("/d4294967295") {
			t.Errorf("%s is longer than it need be", dir)
		}
	})
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left behind: %v", dir, err)
	}
}
