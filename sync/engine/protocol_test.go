package engine

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"sasyncd/sync/replica"
)

// The bounds that docs/protocol.md states are those of the code.
func TestProtocolPageHasTheBounds(t *testing.T) {
	b, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.Join(strings.Fields(string(b)), " ") // sentences may go over the end of a line
	for _, want := range []string{
		fmt.Sprintf("| counters in a message | %d |", counterBatch),
		fmt.Sprintf("fewer than %d entries", counterBatch),
		fmt.Sprintf("in messages of up to %d", maximaBatch),
		fmt.Sprintf("journal (%d changes here)", replica.JournalRecords),
		fmt.Sprintf("(%d changes are kept for it)", replica.TailRecords),
		fmt.Sprintf("A new master waits %s for that", tailLimit),
		fmt.Sprintf("%d here. The sum of a bucket", replica.SumBuckets),
		fmt.Sprintf("sends **digest** every %s", replica.DigestEvery),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("docs/protocol.md lacks %q", want)
		}
	}
}
