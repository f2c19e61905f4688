package kerneltest

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestFakeConforms(t *testing.T) {
	Conformance(t, func(*testing.T) Bench {
		k := New(time.Now)
		other := k.Other()
		return Bench{Subject: k, Other: other, FlushSA: other.FlushSA, FlushPolicy: other.FlushPolicy}
	}, func(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) })
}
