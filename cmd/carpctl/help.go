package main

import "sasyncd/cmd/internal/daemon"

// helps describe the commands of usage.
var helps = daemon.Helps{
	"show": {Forms: []string{"[-jv] show"}, Text: `
Show the groups, their instances and virtual addresses: state, since when and
why, demotions, who else is heard.`, Example: "show"},
	"demote": {Forms: []string{"[-j] demote GROUP N [REASON]"}, Text: `
Demote a group by 1 to 255 until undemote. A MASTER hands over if another
member that could take over is less demoted.`, Example: "demote ipsec 10 maintenance"},
	"undemote": {Forms: []string{"[-j] undemote GROUP"}, Text: `
Take back what demote did.`, Example: "undemote ipsec"},
	"resign": {Forms: []string{"[-j] resign GROUP"}, Text: `
On the MASTER, hand over to another member. Where sasyncd runs, use
sasyncctl failover, which looks first whether a standby is ready.`, Example: "resign ipsec"},
	"announce": {Forms: []string{"[-j] announce"}, Text: `
Tell the networks again where the virtual addresses are.`, Example: "announce"},
	verbDoctor: {Forms: []string{"[-j] doctor"}, Text: `
Look for what keeps an election from working, and say what to do about it.
Run it as root. Exit code 1: there is a problem.`, Example: "doctor"},
	"reload": {Forms: []string{"[-j] reload"}, Text: `
Have carpd read its configuration again, all or nothing. Reload backups first.`, Example: "reload"},
	"freeze": {Forms: []string{"[-j] freeze [SECONDS]"}, Text: `
Let carpd be restarted within 1 to 120 seconds, by default 10, with nothing
changing hands.`, Example: "freeze 15"},
	verbFence: {Forms: []string{"fence GROUP PROGRAM [ARGUMENT ...]"}, Text: `
Until stopped: before this node takes over from a master that is not heard,
run a program that silences it. Only if that succeeds does the node take over.`,
		Example: "fence ipsec /etc/carpd/fence-ipsec"},
	verbNotify: {Forms: []string{"notify GROUP PROGRAM [ARGUMENT ...]"}, Text: `
Until stopped: run a program with the state of the group, and again at every
change.`, Example: "notify ipsec /etc/carpd/notify-ipsec"},
	"help": {Forms: []string{"help [COMMAND]"}, Text: `
Print the list of commands, or more about one of them.`, Example: "help demote"},
}
