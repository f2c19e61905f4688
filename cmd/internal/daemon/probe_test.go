package daemon

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestStateTroubleIsTold: a directory that cannot be written is told before anything
// has to be remembered, and so is that it can again.
func TestStateTroubleIsTold(t *testing.T) {
	var b strings.Builder
	dir := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		s := OpenState(dir, "carpd", NewLogger(&b, false, 0))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Watch(ctx) }()
		synctest.Wait()
		if why := s.Trouble(); why != "" {
			t.Errorf("trouble %q with a good directory", why)
		}
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(probeEvery)
		synctest.Wait()
		if why := s.Trouble(); !strings.Contains(why, "no such file") {
			t.Errorf("trouble %q without the directory", why)
		}
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(probeEvery)
		synctest.Wait()
		if why := s.Trouble(); why != "" {
			t.Errorf("trouble %q after the directory is back", why)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if n := strings.Count(b.String(), "state directory"); n != 2 {
		t.Errorf("%d lines, want one for each change:\n%s", n, b.String())
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("%v is left behind, error %v", list, err)
	}
}

// TestFullDiskIsTold: a file system without room is trouble.
func TestFullDiskIsTold(t *testing.T) {
	s := OpenState(t.TempDir(), "carpd", NewLogger(new(strings.Builder), false, 0))
	if err := os.Symlink("/dev/full", s.path("probe")); err != nil {
		t.Fatal(err)
	}
	s.probe()
	if why := s.Trouble(); !strings.Contains(why, "no space left") {
		t.Errorf("trouble %q, want that there is no room", why)
	}
}
