package peer

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The times that docs/protocol.md promises to other implementations are those
// of the code.
func TestProtocolPageHasTheTimes(t *testing.T) {
	b, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	for row, value := range map[string]string{
		"hello to be answered by hello":                             greetTimeout.String(),
		"ping every":                                                pingEvery.String(),
		"silence after which a connection is dead":                  deadAfter.String(),
		"silence after which other addresses of the peer are tried": suspectAfter.String(),
		"delay between attempts at the addresses of a peer":         stagger.String(),
		"first, and longest, wait before dialling again":            backoffMin.String() + ", " + backoffMax.String(),
		"age at which a connection is replaced":                     fmt.Sprintf("%dh", int(renewAfter.Hours())),
	} {
		if line := "\n| " + row + " | " + value + " |\n"; !strings.Contains(string(b), line) {
			t.Errorf("docs/protocol.md lacks %q", strings.TrimSpace(line))
		}
	}
}
