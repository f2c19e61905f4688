package rules

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
)

// HoldPref is where a [Hold] stands in the routing policy: `iif NAME blackhole`.
// Nothing that is forwarded finds a rule before it; see the package comment.
const HoldPref = 3

// Hold keeps what comes in by some interfaces from being forwarded, in both
// families. What is for the node itself passes. What is in the kernel is the
// state, so a Hold that is made later, by another process too, goes on from
// there. Its methods are safe for concurrent use.
type Hold struct{ routing *routing }

// OpenHold opens the routing policy of the calling thread's network namespace.
// It changes nothing.
func OpenHold() (*Hold, error) {
	r, err := openRouting()
	if err != nil {
		return nil, fmt.Errorf("open hold: %w", err)
	}
	return &Hold{r}, nil
}

// Close releases the socket; what is held stays so.
func (h *Hold) Close() error { return h.routing.close() }

// Set holds the interfaces of those names and no other one, whoever held it.
// They need not exist. A kernel without one of the families has nothing to hold
// there.
func (h *Hold) Set(ctx context.Context, names ...string) error {
	_, _, err := h.Mend(ctx, names...)
	return err
}

// Mend is Set. It says which of the interfaces were not held in one of the families,
// and which others were.
func (h *Hold) Mend(ctx context.Context, names ...string) (missing, foreign []string, err error) {
	rules, err := h.routing.rules(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("set hold: %w", err)
	}
	var errs []error
	for _, family := range []sadb.Family{sadb.FamilyIPv4, sadb.FamilyIPv6} {
		var changes []change
		var about []string
		for _, name := range names {
			if r := holdRule(name, family); !slices.Contains(rules, r) {
				changes, about = append(changes, addRule(r)), append(about, name)
			}
		}
		for _, r := range rules {
			if r.pref == HoldPref && r.family == family && !slices.Contains(names, r.iif) {
				changes, about = append(changes, delRule(r)), append(about, r.iif)
			}
		}
		done, err := h.routing.applyEach(changes...)
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			errs = append(errs, fmt.Errorf("set hold: %w", err))
		}
		for i, name := range about {
			list := &foreign
			if slices.Contains(names, name) {
				list = &missing
			}
			if done[i] && !slices.Contains(*list, name) {
				*list = append(*list, name)
			}
		}
	}
	return missing, foreign, errors.Join(errs...)
}

func holdRule(name string, family sadb.Family) rule {
	return rule{iif: name, family: family, pref: HoldPref}
}

// Held lists the interfaces that are held, by name, in any of the families.
func (h *Hold) Held(ctx context.Context) (names []string, err error) {
	rules, err := h.routing.rules(ctx)
	if err != nil {
		return nil, fmt.Errorf("read hold: %w", err)
	}
	for _, r := range rules {
		if r.pref == HoldPref && !slices.Contains(names, r.iif) {
			names = append(names, r.iif)
		}
	}
	return names, nil
}

// Protected reports whether the kernel has a policy that has anything encrypted or
// authenticated; see xfrm.Protects.
func (h *Hold) Protected(vips ...netip.Addr) (bool, error) {
	return xfrm.Protects(h.routing.ns, vips...)
}
