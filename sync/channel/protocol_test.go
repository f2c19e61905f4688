package channel

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// What docs/protocol.md says of the connection is what the code does.
func TestProtocolPageHasLabelsAndTimes(t *testing.T) {
	b, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.Join(strings.Fields(string(b)), " ") // sentences may go over the end of a line
	g := newGate(ListenConfig{})
	for _, want := range []string{
		"label `" + strings.TrimSuffix(prefaceLabel, "\x00") + "` and a zero byte",
		fmt.Sprintf("**challenge**: %d random bytes", challengeLen),
		fmt.Sprintf("**answer**: %d bytes of HMAC-SHA256", answerLen),
		"| root, hexadecimal | the bytes | HKDF-Extract, salt `" + saltRandom + "` |",
		fmt.Sprintf("argon2id, salt `%s`, %d passes, %d KiB, %d lanes, 32 bytes |", saltArgon2, argonTime, argonMemory,
			argonLanes),
		"HKDF-Extract, salt `" + saltASCII + "` |",
		"| *mac* | the root | HKDF-Expand to 32 bytes, info `" + infoMAC + "` |",
		"| dialler's Ed25519 seed | the root | HKDF-Expand to 32 bytes, info `" + infoDial + "` |",
		"| listener's Ed25519 seed | the root | HKDF-Expand to 32 bytes, info `" + infoListen + "` |",
		"Key exchange " + config(&identity{}, &identity{}).CurvePreferences[0].String() + " only.",
		"| challenge or answer | " + prefaceTimeout.String() + " |",
		"| TLS handshake | " + tlsTimeout.String() + " |",
		"| first frame | " + helloTimeout.String() + " |",
		fmt.Sprintf("| a piece of %d KiB to be accepted by the other side | %s |", writeChunk>>10, WriteTimeout),
		fmt.Sprintf("lets %d connections wait for their first frame at a time, %d of them from one address", g.max,
			g.perAddr),
		fmt.Sprintf("and takes %g a second", g.rate),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("docs/protocol.md lacks %q", want)
		}
	}
}
