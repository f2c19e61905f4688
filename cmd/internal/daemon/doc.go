// Package daemon is what sasyncd and carpd share as daemons: flags and exit
// codes, logging, the supervision of tasks, signals, the service manager, the
// listener for metrics and health, the control socket, and the state directory.
//
// It knows nothing of elections or of IPsec. A daemon builds its tasks, puts
// them into a Process and returns what Run returns as its exit code.
package daemon
