package daemon

import (
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// RegisterSelf registers what every daemon exports about itself: its build, and
// how often it was started (State.Start).
func RegisterSelf(reg prometheus.Registerer, program string, starts uint64) {
	version, revision := "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version, revision, _, _ = build(info)
	}
	registerSelf(reg, program, starts, version, revision, runtime.Version())
}

func registerSelf(reg prometheus.Registerer, program string, starts uint64, version, revision, goVersion string) {
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: program +
		"_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": goVersion}})
	info.Set(1)
	// A counter: each process exports the number that it began with.
	begun := prometheus.NewCounter(prometheus.CounterOpts{Name: program + "_starts_total",
		Help: "Starts of the daemon since its state directory was made."})
	begun.Add(float64(starts))
	reg.MustRegister(info, begun)
}
