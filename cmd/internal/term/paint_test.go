package term

import (
	"bytes"
	"testing"
)

// TestPaint: colours are there where they are wanted, and nothing else changes.
func TestPaint(t *testing.T) {
	if got := Paint(true).Good("yes") + Paint(true).Bad("no") + Paint(true).Doubtful("?") + Paint(true).Bad(""); got !=
		"\x1b[32myes\x1b[m\x1b[1;31mno\x1b[m\x1b[33m?\x1b[m" {
		t.Errorf("%q", got)
	}
	if got := Paint(false).Good("yes") + Paint(false).Bad("no") + Paint(false).Doubtful("?"); got != "yesno?" {
		t.Errorf("%q", got)
	}
	if Colours(new(bytes.Buffer)) {
		t.Error("what is no terminal is coloured")
	}
}
