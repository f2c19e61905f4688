package engine

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"sasyncd/carp/api"
	"sasyncd/carp/link"
)

// repairs is what was found changed in the kernel, and what is not as it should be. The
// worker writes it, the engine's thread reads it.
type repairs struct {
	mu         sync.Mutex
	list       []repair
	configured []api.Configured
}

// repair is one kind of change by somebody else.
type repair struct {
	kind   string // one of the Repaired names of api
	count  uint64
	at     time.Duration // of the latest
	said   time.Duration // when that was logged last, 0 never
	failed string        // why it cannot be repaired, "" it can
}

// sayEach is how often repairs of one kind are logged: who removes a rule every second
// does not fill the log.
const sayEach = time.Minute

// of returns the entry of a kind; the caller holds mu.
func (r *repairs) of(kind string) *repair {
	i := slices.IndexFunc(r.list, func(x repair) bool { return x.kind == kind })
	if i < 0 {
		i = len(r.list)
		r.list = append(r.list, repair{kind: kind})
	}
	return &r.list[i]
}

// repaired counts a repair and logs it. Safe for concurrent use.
func (e *Engine) repaired(g *group, kind, text string, args ...any) {
	now := link.BootTime()
	g.repairs.mu.Lock()
	r := g.repairs.of(kind)
	r.count, r.at = r.count+1, now
	count, say := r.count, r.said == 0 || now-r.said >= sayEach
	if say {
		r.said = now
	}
	g.repairs.mu.Unlock()
	if say {
		e.say(slog.LevelError, text, append([]any{"group", g.name, "repairs", count}, args...)...)
	}
}

// mendFailed notes why something cannot be repaired, or that it could, and logs what is
// new of it. Safe for concurrent use.
func (e *Engine) mendFailed(g *group, kind string, err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	g.repairs.mu.Lock()
	r := g.repairs.of(kind)
	fresh := r.failed == "" && why != ""
	r.failed = why
	g.repairs.mu.Unlock()
	if fresh {
		e.say(slog.LevelError, "kernel state cannot be repaired", "group", g.name, "kind", kind, "err", err)
	}
}

// foundConfigured notes which virtual addresses of a group the system has configured,
// and logs what is new of it. Safe for concurrent use.
func (e *Engine) foundConfigured(g *group, list []api.Configured) {
	g.repairs.mu.Lock()
	before := g.repairs.configured
	g.repairs.configured = list
	g.repairs.mu.Unlock()
	for _, c := range list {
		if !slices.Contains(before, c) {
			e.say(slog.LevelError, "virtual address is also configured by the system: remove it there",
				"group", g.name, "address", c.Address, "interface", c.Interface)
		}
	}
	for _, c := range before {
		if !slices.Contains(list, c) {
			e.say(slog.LevelInfo, "virtual address is no longer configured by the system", "group", g.name,
				"address", c.Address, "interface", c.Interface)
		}
	}
}

// describe adds it to what clients see.
func (r *repairs) describe(out *api.GroupState, now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out.Configured = slices.Clone(r.configured)
	for _, x := range r.list {
		if x.count > 0 || x.failed != "" {
			one := api.Repair{Kind: x.kind, Count: x.count, Error: x.failed}
			if x.count > 0 {
				one.AgeMS = (now - x.at).Milliseconds()
			}
			out.Repairs = append(out.Repairs, one)
		}
	}
}
