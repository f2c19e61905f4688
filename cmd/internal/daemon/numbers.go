package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Numbers remembers bounds by name over restarts. In contrast to [State] it does
// not go on without the disk: what it says is relied upon for sequence numbers
// that must not come twice. Safe for concurrent use.
type Numbers struct {
	path string

	mu     sync.Mutex
	bounds map[string]uint64
	err    error // why they are lost
}

// NumbersFile is the name of its file in the state directory.
const NumbersFile = "static-numbers"

// OpenNumbers opens the bounds in the state directory. That they cannot be read
// is reported by Bound and Raise.
func OpenNumbers(dir string) *Numbers {
	n := &Numbers{path: filepath.Join(dir, NumbersFile), bounds: make(map[string]uint64)}
	src, err := os.ReadFile(n.path)
	if errors.Is(err, fs.ErrNotExist) {
		return n
	}
	if n.err = err; err == nil {
		n.err = n.parse(string(src))
	}
	if n.err != nil {
		n.err = fmt.Errorf("read how far static keys are used: %w; write new keys, then remove the file", n.err)
	}
	return n
}

func (n *Numbers) parse(src string) error {
	for i, line := range strings.Split(strings.TrimSuffix(src, "\n"), "\n") {
		number, id, ok := strings.Cut(line, " ")
		v, err := strconv.ParseUint(number, 10, 64)
		if !ok || err != nil || id == "" {
			return fmt.Errorf("%s:%d: not a number and a name", n.path, i+1)
		}
		n.bounds[id] = max(n.bounds[id], v)
	}
	return nil
}

// Bound returns the bound of a name, 0 if there is none.
func (n *Numbers) Bound(id string) (uint64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.bounds[id], n.err
}

// Raise raises bounds; those that are higher already stay. The disk has them
// when it returns nil.
func (n *Numbers) Raise(bounds map[string]uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return n.err
	}
	next := maps.Clone(n.bounds)
	for id, v := range bounds {
		next[id] = max(next[id], v)
	}
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(next)) {
		fmt.Fprintf(&b, "%d %s\n", next[id], id)
	}
	if err := ReplaceFile(n.path, []byte(b.String()), true); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(n.path)); err != nil {
		return err
	}
	n.bounds = next
	return nil
}

// syncDir waits until the disk has the names in a directory.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync state directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync state directory: %w", err)
	}
	return nil
}
