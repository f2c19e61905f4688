// Package kernel is the XFRM subsystem of Linux and the routing rules that keep
// a standby silent, over netlink.
package kernel
