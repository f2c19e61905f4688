// Package privileges gives up what a daemon does not need: root, capabilities,
// core dumps. It works without a service manager; under the units in
// deploy/systemd little is left to do for it.
//
// Capabilities belong to threads and Go has many, so a process that gives some
// up executes itself anew: then the one thread that did so is all there is.
package privileges
