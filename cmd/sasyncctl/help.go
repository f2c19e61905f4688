package main

import (
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/sasyncctl/setup"
)

// helps describe the commands of usage.
var helps = daemon.Helps{
	verbInit: setup.Help,
	"status": {Forms: []string{"[-jv] status"}, Text: `
Show in one screen who is MASTER of what, who is in sync and how far behind, the
IKE daemon, the last failover, and what is wrong.`, Example: "status"},
	"check": {Forms: []string{"[-j] [-w seconds] check"}, Text: `
Answer whether a failover would work now, from what all gateways report. Each
reason against it is printed with its remedy.
  -w seconds  wait for at most so long until the answer is yes
Exit code: 0 yes, 1 no, 3 it cannot be told.`, Example: "check -w 60"},
	"doctor": {Forms: []string{"[-aj] doctor"}, Text: `
Say what is wrong on this gateway, of both daemons, and what to do, the worst
first. Run it as root.
  -a  examine all gateways
Exit code: 0 no problem, 1 a problem, 3 something cannot be told.`, Example: "doctor -a"},
	"peers": {Forms: []string{"[-j] peers"}, Text: `
List the other gateways, and why there is no session with one.`, Example: "peers"},
	"show": {Forms: []string{"[-jkv] show [sa | flow | all]"}, Text: `
Print SAs and policies of the kernel in the format of OpenBSD's ipsecctl.
  -v  also print state, counters and ages
  -k  print rules with their keys, which is for root`, Example: "show sa -v"},
	"diff": {Forms: []string{"[-j] diff [PEER]"}, Text: `
List the SAs and policies in which this kernel differs from what the MASTER
has published, or from the kernel of a peer. Exit code 1: there are differences.`, Example: "diff 10.9.0.2"},
	"resync": {Forms: []string{"[-jv] resync [PEER]"}, Text: `
Fetch whole snapshots anew, and wait for them. With a peer, fetch only those
that it is MASTER of, and send it those that this gateway is MASTER of.`, Example: "resync"},
	"failover": {Forms: []string{"[-fjv] failover [GROUP] [to PEER]", "-n [-j] failover [GROUP] [to PEER]"}, Text: `
On the MASTER, hand one group over or all, and tell who took over and after
which gap. It is refused where check does not say yes.
  -f  hand over whatever check says, if a standby is complete
  -n  tell to whom it would go, what is against it and what it would cost, and
      do nothing; the long form is --dry-run
Exit code 1: nobody, or another one, took over.`, Example: "failover to 10.9.0.2"},
	"last": {Forms: []string{"[-jv] last [GROUP]"}, Text: `
Print the last failover of each group, or of one, step by step: when each step
was done after the last sign of the old MASTER, and how long it took. Both the
old and the new MASTER know it, the new one in more detail.
  -v  print all that are remembered, at most 10 of a group`, Example: "last"},
	"guard": {Forms: []string{"[-j] guard", "[-j] guard forget PREFIX | all"}, Text: `
Print what the leak guard holds, and the selectors whose policies have gone.
With forget, let those in a prefix leave in plaintext again.`, Example: "guard forget 10.2.0.0/16"},
	"top": {Forms: []string{"[-j] top"}, Text: `
Show roles, rates and lag, and the tunnels that have carried a packet last, each
second. Leave with q or Ctrl-C.`, Example: "top"},
	"reload": {Forms: []string{"[-j] reload"}, Text: `
Have sasyncd read its configuration again, all or nothing.`, Example: "reload"},
	"help": {Forms: []string{"help [COMMAND]"}, Text: `
Print the list of commands, or more about one of them.`, Example: "help failover"},
}
