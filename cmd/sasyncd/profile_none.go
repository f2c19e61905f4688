//go:build !profile

package main

import "log/slog"

// profile does nothing in a build without the tag "profile".
func profile(*slog.Logger) {}
