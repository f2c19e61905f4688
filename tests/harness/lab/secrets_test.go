package lab

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func TestSecretsAreFound(t *testing.T) {
	key := []byte("\x8f\x02\xd3\x9cKm!\xfe\x11\x90\xab\xcd\x5a\x77\x31\x08\x99\xe4")
	var s secrets
	s.learn("a command", "ip xfrm state add enc cbc(aes) 0x"+hex.EncodeToString(key)+" spi 0x1001")
	s.learn("carpd.conf", `carp one { pass "mekmitasdigoat" }`)
	for name, text := range map[string]string{
		"raw":             "log key=" + string(key[:8]) + "\n",
		"hex":             "key=0x" + hex.EncodeToString(key),
		"HEX":             strings.ToUpper(hex.EncodeToString(key[4:12])),
		"hex, odd":        "a" + hex.EncodeToString(key),
		"hex with colons": strings.ReplaceAll(fmt.Sprintf("% x", key), " ", ":"),
		"hex with blanks": fmt.Sprintf("% x", key),
		"base64":          base64.StdEncoding.EncodeToString(key),
		"base64, shifted": base64.URLEncoding.EncodeToString(append([]byte("x"), key...)),
		"decimal":         fmt.Sprint(key),
		"Go syntax":       strings.ReplaceAll(fmt.Sprint(key), " ", ", "),
		"password":        "pass mekmitasdigoat",
	} {
		if s.leak("<6>role group=g from=BACKUP\n"+text+"\n<6>ready\n") == "" {
			t.Errorf("a key is not found in %s: %q", name, text)
		}
	}
	for name, text := range map[string]string{
		"a node id":    "node=00112233445566778899aabbccddeeff",
		"other digits": "1 2 3 4 5 6 7 8 9 10 300 4000",
		"a part":       hex.EncodeToString(key[:window-1]),
		"words":        "configuration of this gateway is right and complete",
	} {
		if what := s.leak(text); what != "" {
			t.Errorf("%s counts as %s", name, what)
		}
	}
	if what := new(secrets).leak("anything"); what != "" {
		t.Error(what)
	}
}
