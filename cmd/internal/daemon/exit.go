package daemon

// Exit codes of all programs. 77 and 78 are EX_NOPERM and EX_CONFIG of
// sysexits.h, which systemd's RestartPreventExitStatus can tell from a crash.
const (
	ExitOK        = 0
	ExitFailure   = 1 // at run time; of a question: "no", "differs"
	ExitUsage     = 2
	ExitUnknown   = 3 // cannot tell: the daemon is not reachable
	ExitPrivilege = 77
	ExitConfig    = 78
)
