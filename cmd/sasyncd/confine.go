package main

import (
	"log/slog"
	"os"
	"path/filepath"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/privileges"
)

// confine keeps this process to the files that it needs, from the moment when
// everything is open and before it talks to the network. A process that itself
// acts on the IKE daemon, for want of a privileged one, stays as it is: it runs
// programs, which would be kept to the same files.
func confine(c *conf.Sasyncd, h *privilegedLink, log *slog.Logger) {
	if acts(c) && (h.client == nil || foreign(c.File)) {
		log.Info("files are not restricted", "reason", "this process controls the ike daemon itself")
		return
	}
	// The control socket is made later, and so would be its directory.
	if err := os.MkdirAll(filepath.Dir(c.Socket), 0o755); err != nil {
		log.Debug("directory of the control socket", "err", err)
	}
	privileges.RestrictAndLog(log, files(c))
}

// files are those that the network-facing process uses while it runs.
func files(c *conf.Sasyncd) []privileges.Path {
	out := append(privileges.Common(), privileges.Path{Path: c.StateDir, Access: privileges.Change},
		privileges.Path{Path: filepath.Dir(c.Socket), Access: privileges.Change})
	out = append(out, privileges.Reads(c.File)...)
	if c.MetricsConfig != "" {
		out = append(out, privileges.Reads(c.MetricsConfig)...)
	}
	for _, k := range c.Keys {
		if k.File != "" {
			out = append(out, privileges.Reads(k.File)...)
		}
	}
	for _, g := range c.Groups {
		if g.Control.Kind == conf.ControlStatic {
			out = append(out, privileges.Reads(g.Control.Path)...) // also before anybody has looked into it
		}
	}
	for _, f := range c.StaticFiles {
		out = append(out, privileges.Reads(f)...)
	}
	if c.Tracker.Kind == conf.TrackKeepalived {
		out = append(out, privileges.Path{Path: filepath.Dir(c.Tracker.Path), Access: privileges.Change})
	}
	if dir := os.Getenv("SASYNCD_PROFILE"); dir != "" { // of a build for measurements
		out = append(out, privileges.Path{Path: dir, Access: privileges.Change})
	}
	return out
}
