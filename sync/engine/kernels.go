package engine

import "strings"

// Kernels of different releases work together as far as every attribute of an
// item is known to this version, which can say then what it means. What is not
// known is passed on as it is, between like kernels only. What a kernel does not
// know of an SA it goes without there, or the SA is refused: see sadb.Features.

// sameKernel reports whether a member's kernel reads attributes as this one does.
func (e *Engine) sameKernel(m *member) bool {
	return m.hello.Kernel == e.cfg.Kernel && e.sameOrder(m)
}

// sameOrder reports whether a member's kernel has the byte order of this one.
func (e *Engine) sameOrder(m *member) bool { return m.hello.BigEndian == e.cfg.BigEndian }

// noteLacks logs once what SAs go without on this kernel.
func (e *Engine) noteLacks(g *group) {
	if fresh := g.rcv.Lacked() &^ g.reading.lackTold; fresh != 0 {
		g.reading.lackTold |= fresh
		e.log.Warn("SAs are installed without what this kernel does not have", "group", g.name,
			"without", strings.Join(fresh.Names(), ", "))
	}
}

// standbyOfOtherKernel reports whether a standby with another kernel follows.
func (e *Engine) standbyOfOtherKernel(g *group) bool {
	for _, m := range e.members {
		if ms := m.groups[g.name]; ms != nil && ms.out != nil && !e.sameKernel(m) {
			return true
		}
	}
	return false
}
