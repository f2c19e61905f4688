package engine

// Kernels of different releases work together as far as every attribute of an
// item is known to this version, which can say then what it means. What is not
// known is passed on as it is, between like kernels only.

// sameKernel reports whether a member's kernel reads attributes as this one does.
func (e *Engine) sameKernel(m *member) bool {
	return m.hello.Kernel == e.cfg.Kernel && m.hello.BigEndian == e.cfg.BigEndian
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
