// Package trusted opens files and runs programs that nobody else than root, or
// than users who are named, can have put in their place.
//
// A path leads to what it names by way of directories and symbolic links. Whoever
// can write to one of the directories decides what the path means, however the
// file at its end is owned. So the path is walked one component at a time, each
// opened relative to the one before (openat(2)), and every directory must belong
// to root, or to a user who is named, and must not be writable by its group or by
// others. A sticky directory such as /tmp is refused too. This is the rule of
// StrictModes in sshd_config(5). A symbolic link is followed by the walk itself,
// so that the directories of its target obey the same rule.
//
// What stands at the end is judged by its descriptor: it is a regular file with
// such an owner, and nobody else can write to it. Judging opens with O_PATH only
// (open(2)), which does nothing to a device or a FIFO. The same descriptor is
// then read or executed, so that the path is not looked at a second time.
//
// A native program is executed by its descriptor. A script cannot be: the kernel
// gives its name to the interpreter, which opens it again (execve(2), "Interpreter
// scripts"). A script is executed by its name in the descriptor of its directory,
// /proc/self/fd/N/NAME, where only its owners can change the name. So $0 in a
// script still names the script and leads to the files beside it.
//
// All functions may be called by several goroutines at a time. They need /proc.
package trusted
