package keying

import "strings"

// What a stop of an IKE daemon by the service manager does, be it on purpose, by
// an upgrade or by a reboot.
const (
	StopKeeps = "keeps tunnels"      // as isakmpd -S: no word to peers, kernel left alone
	StopTears = "tears tunnels down" // peers are told, or the kernel is emptied
	StopAsIs  = ""                   // there is no unit that tells
)

// unitLint is what in a unit would harm a failover, where the drop-in that is shipped
// for it is not in force.
func unitLint(unit, what string) Lint {
	return Lint{unit + ": " + what, "run `systemctl enable sasyncd`, which brings " + unit +
		".d/50-sasyncd.conf (sasyncd-generator)"}
}

// judgeUnit says what a stop of a daemon does, and what in its systemd unit
// would harm a failover.
func judgeUnit(d Daemon, props map[string]string) (stop string, lint []Lint) {
	if props == nil {
		return StopAsIs, nil
	}
	unit := props["Id"]
	add := func(what string) {
		lint = append(lint, unitLint(unit, what))
	}
	stop = StopKeeps
	switch d {
	case StrongSwan:
		if props["KillSignal"] != "9" {
			stop = StopTears
			add("a stop tells peers to delete their SAs, and empties the kernel")
		}
		if r, ok := props["Restart"]; ok && r != "always" {
			add("a charon that was killed on losing mastership stays away")
		}
	case OpenIKED:
		if props["KillSignal"] != "9" {
			stop = StopTears
			add("a stop removes its SAs and flows from the kernel")
		}
		if !strings.Contains(props["ExecStart"], " -S") {
			add("iked starts active, before this node is master")
		}
		if r, ok := props["Restart"]; ok && r != "no" {
			add("it is restarted while the VIPs are here, and its start empties the kernel's SAs")
		}
	case Libreswan:
		if !strings.Contains(props["ExecStop"], "--leave-state") {
			stop = StopTears
			add("a stop tells peers to delete their SAs, and empties the kernel")
		}
		if strings.Contains(props["ExecStopPost"], "xfrm") || strings.Contains(props["ExecStartPre"], "_stackmanager") {
			stop = StopTears
			add("a start or stop flushes the kernel's SAs and policies")
		}
		if r, ok := props["Restart"]; ok && r != "always" {
			add("a pluto that has ended stays away")
		}
	default:
		stop = StopAsIs
	}
	return stop, lint
}
