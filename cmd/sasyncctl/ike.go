package main

import "sasyncd/sync/engine"

// ikeStop says what a stop of the IKE daemon does, where that is known: whether
// it has the semantics of isakmpd -S.
func ikeStop(k engine.KeyingStatus) string {
	if k.Stop == "" {
		return ""
	}
	return ", its stop " + k.Stop
}
