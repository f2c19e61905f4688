/*
 * For user-mode-linux on processors whose extended register state is larger
 * than the 2696 bytes it was built for (those with AMX): the kernel refuses to
 * set a part of the state, so its first process would die with "ptrace set fp
 * regs failed". Loaded with LD_PRELOAD, this sets the whole state: what
 * user-mode-linux knows, and the rest, the tile registers that nobody in the
 * guest can use, as unused.
 */
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define XSTATE_BV 512           /* offset of the bitmap of components in use */
#define TILES     (3ul << 17)   /* XTILECFG and XTILEDATA */

long ptrace(enum __ptrace_request req, ...)
{
	static char state[1 << 16] __attribute__((aligned(64)));
	struct iovec all = { state, sizeof state }, *part;
	unsigned long used;
	long pid, addr, word, r;
	void *data;
	size_t n;
	va_list ap;

	va_start(ap, req);
	pid = va_arg(ap, long);
	addr = va_arg(ap, long);
	data = va_arg(ap, void *);
	va_end(ap);

	switch ((int)req) {
	case PTRACE_PEEKTEXT:
	case PTRACE_PEEKDATA:
	case PTRACE_PEEKUSER: /* the system call stores the word, the function returns it */
		r = syscall(SYS_ptrace, req, pid, addr, &word);
		return r < 0 ? r : word;
	case PTRACE_GETREGSET:
	case PTRACE_SETREGSET:
		if (addr == NT_X86_XSTATE)
			break;
		/* fallthrough */
	default:
		return syscall(SYS_ptrace, req, pid, addr, data);
	}

	part = data;
	r = syscall(SYS_ptrace, PTRACE_GETREGSET, pid, addr, &all);
	if (r < 0)
		return r;
	n = part->iov_len < all.iov_len ? part->iov_len : all.iov_len;
	if (req == PTRACE_GETREGSET) {
		memcpy(part->iov_base, state, n);
		part->iov_len = n;
		return 0;
	}
	memcpy(state, part->iov_base, n);
	memcpy(&used, state + XSTATE_BV, sizeof used);
	used &= ~TILES;
	memcpy(state + XSTATE_BV, &used, sizeof used);
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, addr, &all);
}
