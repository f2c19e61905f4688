package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/privileges"
)

// keepTo keeps this process to the files that it needs. One that runs commands
// of `track exec` stays as it is, since those would be kept to the same files. A
// reload cannot add what is tracked, so what is needed now is all.
func keepTo(c *conf.Carpd, log *slog.Logger) {
	if slices.ContainsFunc(c.Tracks, func(t conf.Track) bool { return t.Kind == conf.TrackExec }) {
		log.Info("files are not restricted", "reason", "track exec runs commands, which would be, too")
		return
	}
	// The socket is made later, and so would be its directory.
	if err := os.MkdirAll(filepath.Dir(c.Socket), 0o755); err != nil {
		log.Debug("directory of the socket", "err", err)
	}
	privileges.RestrictAndLog(log, files(c))
}

// files are those that carpd uses while it runs.
func files(c *conf.Carpd) []privileges.Path {
	out := append(privileges.Common(), privileges.Path{Path: c.StateDir, Access: privileges.Change},
		privileges.Path{Path: filepath.Dir(c.Socket), Access: privileges.Change})
	out = append(out, privileges.Reads(c.File)...)
	if c.MetricsConfig != "" {
		out = append(out, privileges.Reads(c.MetricsConfig)...)
	}
	for _, in := range c.Instances {
		for _, k := range in.Keys {
			if k.File != "" {
				out = append(out, privileges.Reads(k.File)...)
			}
		}
	}
	for _, t := range c.Tracks {
		if t.Kind == conf.TrackFile {
			out = append(out, privileges.Reads(t.Target)...)
		}
	}
	return out
}
