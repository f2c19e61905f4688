// Package deploy holds files of this directory that programs have to know.
package deploy

import _ "embed"

// The configurations that a package installs. They are comments only.
var (
	//go:embed etc/carpd.conf
	CarpdConf []byte
	//go:embed etc/sasyncd.conf
	SasyncdConf []byte
)
