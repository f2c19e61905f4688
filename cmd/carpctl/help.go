package main

import "sasyncd/cmd/internal/daemon"

// helps describe the commands of usage.
var helps = daemon.Helps{
	"show": {[]string{"[-jv] show"}, `
Show the groups, their instances and virtual addresses: state, since when and
why, demotions, who else is heard.`, "show"},
	"demote": {[]string{"[-j] demote GROUP N [REASON]"}, `
Demote a group by 1 to 255 until undemote. A MASTER hands over if another
member that could take over is less demoted.`, "demote ipsec 10 maintenance"},
	"undemote": {[]string{"[-j] undemote GROUP"}, `
Take back what demote did.`, "undemote ipsec"},
	"resign": {[]string{"[-j] resign GROUP"}, `
On the MASTER, hand over to another member. Where sasyncd runs, use
sasyncctl failover, which looks first whether a standby is ready.`, "resign ipsec"},
	"announce": {[]string{"[-j] announce"}, `
Tell the networks again where the virtual addresses are.`, "announce"},
	verbDoctor: {[]string{"[-j] doctor"}, `
Look for what keeps an election from working, and say what to do about it.
Run it as root. Exit code 1: there is a problem.`, "doctor"},
	"reload": {[]string{"[-j] reload"}, `
Have carpd read its configuration again, all or nothing. Reload backups first.`,
		"reload"},
	"freeze": {[]string{"[-j] freeze [SECONDS]"}, `
Let carpd be restarted within 1 to 120 seconds, by default 10, with nothing
changing hands.`, "freeze 15"},
	verbFence: {[]string{"fence GROUP PROGRAM [ARGUMENT ...]"}, `
Until stopped: before this node takes over from a master that is not heard,
run a program that silences it. Only if that succeeds does the node take over.`, "fence ipsec /etc/carpd/fence-ipsec"},
	verbNotify: {[]string{"notify GROUP PROGRAM [ARGUMENT ...]"}, `
Until stopped: run a program with the state of the group, and again at every
change.`, "notify ipsec /etc/carpd/notify-ipsec"},
	"help": {[]string{"help [COMMAND]"}, `
Print the list of commands, or more about one of them.`, "help demote"},
}
