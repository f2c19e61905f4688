package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sasyncd/sync/engine"
)

// registry holds everything that the metrics listener shows.
func registry(e *engine.Engine) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(engine.NewCollector(e), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}
