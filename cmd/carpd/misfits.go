package main

import (
	"net"

	"sasyncd/cmd/internal/conf"
)

// misfits warns of instances whose advertisements do not hold all their addresses on
// the interface that they are for, or on an Ethernet where it is not here.
func misfits(c *conf.Carpd) (warnings []conf.Error) {
	cfg := engineConfig(c)
	for _, m := range cfg.Misfits(func(device string) int {
		l, err := net.InterfaceByName(device)
		if err != nil {
			return 0
		}
		return l.MTU
	}) {
		for i := range c.Instances {
			if in := &c.Instances[i]; in.Name == m.Instance {
				warnings = append(warnings, conf.Error{Pos: in.Pos, Problem: m.String(),
					Remedy: "split it into several instances to have all advertised"})
			}
		}
	}
	return warnings
}
