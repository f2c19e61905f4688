package engine

import (
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sasyncd/carp"
)

// TestSlowKernelDoesNotCostTheTakeover: an address that is there and that the kernel
// does not route yet is told of. The fence opens, and the others serve.
func TestSlowKernelDoesNotCostTheTakeover(t *testing.T) {
	e, f := testEngine(t, nil)
	e.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	late := netip.MustParseAddr("fe80::200:5eff:fe00:20a")
	f.late = []netip.Addr{late}
	e.order(e.groups[0], carp.Action{Kind: carp.ActAcquire, Op: 1})
	for _, w := range e.queues.work.take() {
		e.runTask(w)
	}
	if got, want := strings.Join(f.log, ", "), "acquire, unfence, announce, own"; got != want {
		t.Errorf("the kernel was told %s; want %s", got, want)
	}
	said := e.queues.out.take()
	if len(said) != 1 || said[0].level != slog.LevelWarn || !slices.Contains(said[0].args, any("addresses")) {
		t.Errorf("it says %+v", said)
	}
}
