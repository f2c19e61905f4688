package tracker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// fifo is the reader's end of a named pipe.
//
// One whose writer has gone tells so until it is opened again; one that never
// had a writer tells nothing but ends at once (pipe(7)). The file may go and
// come back under its name, as keepalived removes at its end what it has made.
type fifo struct {
	path string
	fd   int // -1 before open
	part []byte
}

// fifoMode: whoever can write into it decides who is master.
const fifoMode = 0o600

// open opens the pipe, again if it is open, and makes it if it is missing. There
// is always a reader meanwhile, so a writer is not refused.
func (f *fifo) open() error {
	fd, err := openFIFO(f.path)
	if err != nil {
		return err
	}
	f.close()
	f.fd = fd
	return nil
}

func (f *fifo) close() {
	if f.fd >= 0 {
		_ = unix.Close(f.fd)
	}
	f.fd, f.part = -1, nil
}

func openFIFO(path string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOFOLLOW
	fd, err := unix.Open(path, flags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := unix.Mkfifo(path, fifoMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return -1, fmt.Errorf("make fifo %s: %w", path, err)
		}
		fd, err = unix.Open(path, flags, 0)
	}
	if err != nil {
		return -1, fmt.Errorf("open fifo %s: %w", path, err)
	}
	if err := checkFIFO(fd); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("use fifo %s: %w", path, err)
	}
	return fd, nil
}

func checkFIFO(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFIFO:
		return errors.New("it is no fifo: remove it, sasyncd makes one")
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("it belongs to user %d, want root or the user of sasyncd: remove it, sasyncd makes one",
			st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("its mode is %04o, want no write access for group and others: chmod 600", st.Mode&0o7777)
	}
	return nil
}

// longLine bounds what is kept of a line that does not end.
const longLine = 4096

// read reads what is there. writer is false when nobody has the pipe open for
// writing any more and everything is read.
func (f *fifo) read() (lines []string, writer bool, err error) {
	buf := make([]byte, longLine)
	for {
		n, err := unix.Read(f.fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return lines, true, nil
		case err != nil:
			return lines, false, fmt.Errorf("read fifo %s: %w", f.path, err)
		case n == 0:
			return lines, false, nil
		}
		for _, c := range buf[:n] {
			switch {
			case c == '\n':
				lines = append(lines, string(f.part))
				f.part = f.part[:0]
			case len(f.part) < longLine:
				f.part = append(f.part, c)
			}
		}
	}
}

// wait waits for something to read, for the end of the last writer, or for the
// time to pass, in milliseconds.
func (f *fifo) wait(ms int) {
	fds := []unix.PollFd{{Fd: int32(f.fd), Events: unix.POLLIN}}
	_, _ = unix.Poll(fds, ms) // whatever it says, reading tells
}
