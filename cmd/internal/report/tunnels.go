package report

import "sasyncd/sync/engine"

// Tunnels is the answer to tunnels: those that have carried a packet last come first.
type Tunnels struct {
	Tunnels []engine.Tunnel `json:"tunnels"`
}

// TunnelsMost is how many tunnels are told at most.
const TunnelsMost = 200
