package dump

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
)

func TestRetry(t *testing.T) {
	other := errors.New("no such device")
	torn := fmt.Errorf("list: %w", ErrInterrupted)
	library := fmt.Errorf("list: %w", netlink.ErrDumpInterrupted)
	for _, tc := range []struct {
		name  string
		errs  []error // of each try; the last repeats
		each  time.Duration
		tries int
		err   error
	}{
		{name: "at once", errs: []error{nil}, tries: 1},
		{name: "torn once", errs: []error{torn, nil}, tries: 2},
		{name: "torn by the library's word", errs: []error{library, library, nil}, tries: 3},
		{name: "another error is not repeated", errs: []error{other}, tries: 1, err: other},
		{name: "another error ends the tries", errs: []error{torn, other}, tries: 2, err: other},
		{name: "always torn", errs: []error{torn}, tries: 8, err: ErrInterrupted},
		{name: "always torn and long", errs: []error{torn}, each: 400 * time.Millisecond, tries: 3,
			err: ErrInterrupted},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, n := time.Now(), 0
				list, err := List(func() ([]int, error) {
					time.Sleep(tc.each)
					n++
					return []int{n}, tc.errs[min(n, len(tc.errs))-1]
				})
				if n != tc.tries || !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
					t.Errorf("%d tries, error %v; want %d, %v", n, err, tc.tries, tc.err)
				}
				if !slices.Equal(list, []int{n}) {
					t.Errorf("list %v is not that of the last try", list)
				}
				if took := time.Since(began); n > 1 && took == 0 || took > 1500*time.Millisecond {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}
