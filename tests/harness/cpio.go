package harness

import (
	"bytes"
	"fmt"
)

// cpio is an archive in the "newc" format, which the kernel unpacks as its
// first root (Documentation/driver-api/early-userspace/buffer-format.rst).
type cpio struct {
	b     bytes.Buffer
	inode int
}

// Types and modes as in stat(2).
const (
	cpioDir  = 0o040755
	cpioFile = 0o100755
	// cpioConsole is /dev/console, which is character device 5:1.
	cpioConsole = 0o020600
)

// add appends a file or directory; what it is in must have been added before.
func (c *cpio) add(name string, mode int, content []byte) {
	c.inode++
	links, major, minor := 1, 0, 0
	switch mode {
	case cpioDir:
		links = 2
	case cpioConsole:
		major, minor = 5, 1
	}
	fmt.Fprintf(&c.b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		c.inode, mode, 0, 0, links, 0, len(content), 0, 0, major, minor, len(name)+1, 0)
	c.b.WriteString(name + "\x00")
	c.pad()
	c.b.Write(content)
	c.pad()
}

func (c *cpio) pad() {
	for c.b.Len()%4 != 0 {
		c.b.WriteByte(0)
	}
}

// bytes ends the archive.
func (c *cpio) bytes() []byte {
	c.add("TRAILER!!!", 0, nil)
	return c.b.Bytes()
}
