package daemon

import (
	"io"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestSelf(t *testing.T) {
	dir := t.TempDir()
	log := NewLogger(io.Discard, false, 0)
	for want := uint64(1); want <= 3; want++ {
		if got := OpenState(dir, "carpd", log).Start(); got != want {
			t.Errorf("start %d counts as %d", want, got)
		}
	}
	reg := prometheus.NewRegistry()
	registerSelf(reg, "testd", 3, "v1.2.3", "0123456789ab", "go1.26")
	families, err := reg.Gather()
	if err != nil || len(families) != 2 {
		t.Fatalf("%d families, %v", len(families), err)
	}
	if v := families[1].GetMetric()[0].GetCounter().GetValue(); v != 3 {
		t.Errorf("starts are %v", v)
	}
	labels := map[string]string{}
	for _, l := range families[0].GetMetric()[0].GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	if labels["version"] != "v1.2.3" || labels["revision"] != "0123456789ab" || labels["goversion"] != "go1.26" {
		t.Errorf("build info has %v", labels)
	}
}
