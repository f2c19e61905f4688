package ipsecconf

import (
	"fmt"
	"strings"

	"sasyncd/sync/sadb"
)

// authTransform is one value of `auth`. The ICV is truncated as RFC 2404, 4868,
// 2403 and 2857 say; the kernel wants to be told for SHA-2.
type authTransform struct {
	name, kernel string
	key          int    // bytes
	icv          uint32 // bits
}

var authTransforms = [...]authTransform{
	{"hmac-md5", "hmac(md5)", 16, 96},
	{"hmac-ripemd160", "hmac(rmd160)", 20, 96},
	{"hmac-sha1", "hmac(sha1)", 20, 96},
	{"hmac-sha2-256", "hmac(sha256)", 32, 128},
	{"hmac-sha2-384", "hmac(sha384)", 48, 192},
	{"hmac-sha2-512", "hmac(sha512)", 64, 256},
}

// encTransform is one value of `enc`.
type encTransform struct {
	name, kernel string
	min, max     int // bytes of the key
	// counter: its nonces are made of counters, which must not come twice under
	// one key. ipsecctl refuses these with static keys as well.
	counter bool
}

var encTransforms = [...]encTransform{
	{"3des", "cbc(des3_ede)", 24, 24, false},
	{"3des-cbc", "cbc(des3_ede)", 24, 24, false},
	{"aes", "cbc(aes)", 16, 32, false},
	{"aes-128", "cbc(aes)", 16, 16, false},
	{"aes-192", "cbc(aes)", 24, 24, false},
	{"aes-256", "cbc(aes)", 32, 32, false},
	{"blowfish", "cbc(blowfish)", 5, 56, false},
	{"cast128", "cbc(cast5)", 5, 16, false},
	{"null", "ecb(cipher_null)", 0, 0, false},
	{"aesctr", "rfc3686(ctr(aes))", 20, 36, true},
	{"aes-128-ctr", "rfc3686(ctr(aes))", 20, 20, true},
	{"aes-192-ctr", "rfc3686(ctr(aes))", 28, 28, true},
	{"aes-256-ctr", "rfc3686(ctr(aes))", 36, 36, true},
	{"aes-128-gcm", "rfc4106(gcm(aes))", 20, 20, true},
	{"aes-192-gcm", "rfc4106(gcm(aes))", 28, 28, true},
	{"aes-256-gcm", "rfc4106(gcm(aes))", 36, 36, true},
	{"aes-128-gmac", "rfc4543(gcm(aes))", 20, 20, true},
	{"aes-192-gmac", "rfc4543(gcm(aes))", 28, 28, true},
	{"aes-256-gmac", "rfc4543(gcm(aes))", 36, 36, true},
	{"chacha20-poly1305", "rfc7539esp(chacha20,poly1305)", 36, 36, true},
}

// transforms are what an SA rule says about transforms and keys.
type transforms struct {
	auth, enc, comp token // zero if not given
	authKey, encKey keyPair
	authAt, encAt   Pos // of the keys, zero if not given
}

// keyPair are the keys of a rule's own direction and of the reverse one, which
// nil stands for if the rule makes no SA of that direction.
type keyPair struct{ out, in []byte }

func names[T any](list []T, name func(T) string) string {
	var out []string
	for _, x := range list {
		out = append(out, name(x))
	}
	return strings.Join(out, ", ")
}

// algorithms fills in what the SA transforms with, out of the keys of one
// direction. It reports what is wrong and then returns false.
func (p *parser) algorithms(sa *sadb.SA, at Pos, t *transforms, authKey, encKey []byte) bool {
	n := len(p.errs)
	given := func(t token) bool { return t.text != "" }
	switch sa.Key.Proto {
	case sadb.ProtoComp:
		if given(t.auth) || given(t.enc) || authKey != nil || encKey != nil {
			p.errorf(at, "leave out auth, enc and keys", "ipcomp has no keys")
		} else if given(t.comp) && t.comp.text != "deflate" {
			p.errorf(t.comp.pos, "write deflate", "Linux does not compress with %s", t.comp.shown())
		}
		sa.Comp = &sadb.Algorithm{Name: "deflate"}
		return len(p.errs) == n
	case sadb.ProtoAH:
		if given(t.enc) || encKey != nil {
			p.errorf(at, "use esp, or leave it out", "ah does not encrypt")
		}
	}
	if given(t.comp) {
		p.errorf(t.comp.pos, "write an ipcomp rule", "only ipcomp compresses")
	}
	if sa.Key.Proto == sadb.ProtoESP {
		p.encryption(sa, at, t, encKey)
	}
	p.authentication(sa, at, t, authKey)
	return len(p.errs) == n
}

func (p *parser) authentication(sa *sadb.SA, at Pos, t *transforms, key []byte) {
	name, pos := t.auth.text, t.auth.pos
	if name == "" {
		name, pos = "hmac-sha2-256", at // the default of ipsecctl
	}
	if name == "none" {
		switch {
		case sa.Key.Proto == sadb.ProtoAH:
			p.errorf(pos, "name an algorithm", "ah without authentication protects nothing")
		case sa.Crypt != nil && sa.Crypt.Name == "ecb(cipher_null)":
			p.errorf(pos, "name an algorithm", "esp with neither encryption nor authentication protects nothing")
		case key != nil:
			p.errorf(t.authAt, "remove authkey, or name the algorithm that it is for", "auth none has no key")
		}
		return
	}
	for _, a := range authTransforms {
		if a.name != name {
			continue
		}
		switch {
		case key == nil:
			p.errorf(pos, fmt.Sprintf("write authkey and 0x with %d hexadecimal digits", 2*a.key), "%s has no key",
				name)
		case len(key) != a.key:
			p.errorf(t.authAt, fmt.Sprintf("%s takes %d bits, %d hexadecimal digits", name, 8*a.key, 2*a.key),
				"the authentication key has %d bits", 8*len(key))
		}
		sa.Auth = &sadb.Algorithm{Name: a.kernel, Key: sadb.NewSecret(key), TruncBits: a.icv}
		return
	}
	p.errorf(pos, "known are none, "+names(authTransforms[:], func(a authTransform) string { return a.name }),
		"%s is no authentication", t.auth.shown())
}

func (p *parser) encryption(sa *sadb.SA, at Pos, t *transforms, key []byte) {
	name, pos := t.enc.text, t.enc.pos
	switch name {
	case "":
		name, pos = "aes", at // the default of ipsecctl
	case "none":
		name = "null"
	}
	for _, e := range encTransforms {
		if e.name != name {
			continue
		}
		size := fmt.Sprintf("%d bits, %d hexadecimal digits", 8*e.min, 2*e.min)
		if e.max != e.min {
			size = fmt.Sprintf("%d to %d bits, %d to %d hexadecimal digits", 8*e.min, 8*e.max, 2*e.min, 2*e.max)
		}
		switch {
		case e.counter:
			p.errorf(pos, "use aes, or have an IKE daemon make the keys",
				"%s is not for static keys: a counter that begins again with the same key gives both messages away",
				name)
		case e.min == 0 && key != nil:
			p.errorf(t.encAt, "remove enckey", "enc null has no key")
		case e.min > 0 && key == nil:
			p.errorf(pos, "write enckey and 0x with its digits: "+size, "%s has no key", name)
		case len(key) < e.min || len(key) > e.max:
			p.errorf(t.encAt, name+" takes "+size, "the encryption key has %d bits", 8*len(key))
		case e.kernel == "cbc(aes)" && len(key)%8 != 0:
			p.errorf(t.encAt, "AES takes 128, 192 or 256 bits", "the encryption key has %d bits", 8*len(key))
		}
		sa.Crypt = &sadb.Algorithm{Name: e.kernel, Key: sadb.NewSecret(key)}
		return
	}
	var usable []encTransform
	for _, e := range encTransforms {
		if !e.counter {
			usable = append(usable, e)
		}
	}
	p.errorf(pos, "known are none, "+names(usable, func(e encTransform) string { return e.name }),
		"%s is no encryption", t.enc.shown())
}

// authName is the way back from the kernel's name, "" for what has no word.
func authName(a *sadb.Algorithm) string {
	for _, t := range authTransforms {
		if a.Name == t.kernel && a.Key.Len() == t.key && a.TruncBits == t.icv {
			return t.name
		}
	}
	return ""
}

// encName is the same for ciphers, with the size of the key where that is part
// of the word.
func encName(a *sadb.Algorithm) string {
	n := a.Key.Len()
	for _, t := range encTransforms {
		if a.Name == t.kernel && !t.counter && n >= t.min && n <= t.max && t.name != "aes" {
			return t.name
		}
	}
	return ""
}
