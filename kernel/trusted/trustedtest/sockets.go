package trustedtest

import "os"

// T is what Dir needs of a test.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Dir returns a new directory (mode 0700) for the sockets of a test, removed when the
// test ends. Its path is short, and does not depend on the test's name as that of
// testing.T.TempDir does: the address of a unix socket has 107 characters (unix(7)).
func Dir(t T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatalf("make a directory for sockets: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the directory of sockets: %v", err)
		}
	})
	return dir
}
