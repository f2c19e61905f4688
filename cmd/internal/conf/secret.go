package conf

import (
	"encoding/hex"
	"fmt"
	"strings"

	"sasyncd/sync/sadb"
)

// Key is one shared key. Text is set for a key written in characters: it may
// have little entropy and is stretched before it is used, which hexadecimal
// keys need not be.
type Key struct {
	Pos    Pos
	Secret sadb.Secret
	Text   bool
	File   string // where it was read from; "" when it stands in the configuration
}

// sharedKey checks the forms that OpenBSD allows: 0x and 32, 48 or 64
// hexadecimal digits, or exactly 16, 24 or 32 characters. problem and remedy
// never contain anything of the key.
func sharedKey(s string) (k Key, problem, remedy string) {
	if h, ok := strings.CutPrefix(s, "0x"); ok && hexDigits(h) {
		switch len(h) {
		case 32, 48, 64:
			b, err := hex.DecodeString(h)
			if err != nil { // cannot happen: the digits were checked
				return k, "the key is not hexadecimal", hexRemedy
			}
			return Key{Secret: sadb.NewSecret(b)}, "", ""
		}
		return k, fmt.Sprintf("a key of %d hexadecimal digits is %d bits long", len(h), 4*len(h)), hexRemedy
	}
	switch len(s) {
	case 16, 24, 32:
		for _, c := range []byte(s) {
			if c <= ' ' || c >= 0x7f {
				return k, "the key contains a character that is not printable ASCII, or a blank", hexRemedy
			}
		}
		return Key{Secret: sadb.NewSecret([]byte(s)), Text: true}, "", ""
	case 48, 64:
		if hexDigits(s) {
			return k, fmt.Sprintf("the key is %d hexadecimal digits without 0x", len(s)), "write 0x in front of it"
		}
	}
	return k, fmt.Sprintf("a key of %d characters is too short or too long", len(s)),
		"write exactly 16, 24 or 32 characters, or 0x and 32, 48 or 64 hexadecimal digits"
}

// MaxKeys is how many shared keys may be accepted at a time: every stranger
// that connects costs a check of each.
const MaxKeys = 8

const hexRemedy = "write 0x and 32, 48 or 64 hexadecimal digits (128, 192 or 256 bits)"

func hexDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// placeholder is what Print writes instead of a secret. It is not a word that
// is accepted as one, so printed output cannot be used with a wrong key.
func placeholder(s sadb.Secret) string { return fmt.Sprintf("<%d-bytes>", s.Len()) }

// secretWord reads a word that is a key.
func (p *parser) secretWord(keyword, what string) (token, bool) {
	t, ok := p.word(keyword, what)
	if !ok {
		return t, false
	}
	if !t.quoted && strings.HasPrefix(t.text, "<") && strings.HasSuffix(t.text, "-bytes>") {
		p.errorf(t.pos, "write the key itself", "%s stands for a key that was left out when this was printed", t)
		return t, false
	}
	p.secrets[t.pos] = true
	return t, true
}

const passRemedy = `put it between quotes ("...") if it contains blanks`

// secretEnd refuses further words on the line of a secret, without repeating
// them: they are probably the rest of it.
func (p *parser) secretEnd(keyword, remedy string) bool {
	t := p.cur()
	if t.kind != tokWord || t.first || p.keyword(t) {
		return true
	}
	p.errorf(t.pos, remedy, "%s has more than one word", keyword)
	return false
}
