// Package term is the little that control programs need of terminals, in plain
// ANSI: nothing depends on a terminal database.
package term

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Is reports whether w is a terminal.
func Is(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Columns and Rows are what text is laid out for, and the size of a terminal that
// does not tell.
const (
	Columns = 80
	Rows    = 24
)

// Size returns the columns and rows of a terminal.
func Size(f *os.File) (columns, rows int) {
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || ws.Col == 0 || ws.Row == 0 {
		return Columns, Rows
	}
	return int(ws.Col), int(ws.Row)
}

// Sequences of ECMA-48 and of xterm's alternate screen.
const (
	enter = "\x1b[?1049h\x1b[?25l" // alternate screen, no cursor
	leave = "\x1b[?25h\x1b[?1049l"
	home  = "\x1b[H"
	eol   = "\x1b[K" // clear to the end of the line
	eos   = "\x1b[J" // clear to the end of the screen
)

// Screen is a terminal in full-screen use.
type Screen struct {
	out   *os.File
	in    *os.File
	saved *unix.Termios
}

// Open turns to the alternate screen, and lets keys on in be read one by one
// without being echoed; Ctrl-C stays a signal. in may be no terminal, or nil.
func Open(in, out *os.File) (*Screen, error) {
	s := &Screen{out: out}
	if in != nil && Is(in) {
		t, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
		if err != nil {
			return nil, err
		}
		keys := *t
		keys.Lflag &^= unix.ICANON | unix.ECHO
		keys.Cc[unix.VMIN], keys.Cc[unix.VTIME] = 1, 0
		if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &keys); err != nil {
			return nil, err
		}
		s.in, s.saved = in, t
	}
	if _, err := out.WriteString(enter); err != nil {
		_ = s.Close() // the first error counts
		return nil, err
	}
	return s, nil
}

// Draw replaces what is shown. Lines that do not fit are cut.
func (s *Screen) Draw(lines []string) error {
	columns, rows := Size(s.out)
	b := []byte(home)
	for i, l := range lines[:min(len(lines), rows)] {
		if i > 0 {
			b = append(b, '\r', '\n')
		}
		b = append(append(b, Clip(l, columns)...), eol...)
	}
	_, err := s.out.Write(append(b, eos...))
	return err
}

// Close puts the terminal back as it was.
func (s *Screen) Close() error {
	_, err := s.out.WriteString(leave)
	if s.saved != nil {
		if e := unix.IoctlSetTermios(int(s.in.Fd()), unix.TCSETS, s.saved); err == nil {
			err = e
		}
	}
	return err
}

// Clip cuts a line to so many columns, with a mark at the end of one that was
// longer. Characters are taken to be one column wide.
func Clip(line string, columns int) string {
	n := 0
	for i := range line {
		if n++; n > columns {
			cut := []rune(line[:i])
			if len(cut) == 0 {
				return ""
			}
			return string(cut[:len(cut)-1]) + "…"
		}
	}
	return line
}

// Wrap breaks text into lines of Columns, the first behind first and the others
// behind indent.
func Wrap(first, indent, text string) string {
	var b strings.Builder
	line := first
	for i, w := range strings.Fields(text) {
		if i > 0 && len([]rune(line))+1+len([]rune(w)) > Columns {
			b.WriteString(line + "\n")
			line = indent + w
			continue
		}
		if i > 0 {
			line += " "
		}
		line += w
	}
	return b.String() + line + "\n"
}
