package kerneltest

import (
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
)

func TestFakeConforms(t *testing.T) {
	for name, abi := range map[string]ABI{
		"all":      {sadb.Features{Direction: true, Keepalive: true, PCPU: true, CPUs: 4}, IPTFSBuilt},
		"Debian12": Debian12(),
	} {
		t.Run(name, func(t *testing.T) {
			Conformance(t, func(*testing.T) Bench {
				k := New(time.Now)
				k.SetABI(abi)
				other := k.Other()
				return Bench{Subject: k, Other: other, FlushSA: other.FlushSA, FlushPolicy: other.FlushPolicy,
					Features: k.Features()}
			}, func(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) })
		})
	}
}
