package xfrm

import (
	"errors"

	"golang.org/x/sys/unix"
)

// warmAlgorithms are those that IKE daemons negotiate, by the type and name
// under which the kernel's crypto layer (and its user interface) has them.
var warmAlgorithms = [...][2]string{
	{"aead", "rfc4106(gcm(aes))"}, {"aead", "rfc7539esp(chacha20,poly1305)"}, {"aead", "rfc4309(ccm(aes))"},
	{"skcipher", "cbc(aes)"}, {"skcipher", "rfc3686(ctr(aes))"},
	{"hash", "hmac(sha1)"}, {"hash", "hmac(sha256)"}, {"hash", "hmac(sha384)"}, {"hash", "hmac(sha512)"},
}

// WarmCrypto has the kernel load the modules of common algorithms, which takes
// it tens of milliseconds each at the first SA that needs one. A standby holds
// the SAs of its master and has them all; this is for the first SA of a node's
// life. It returns how many are ready. Where the crypto layer has no user
// interface (CONFIG_CRYPTO_USER_API) it does nothing and returns the error.
func WarmCrypto() (ready int, err error) {
	for _, a := range warmAlgorithms {
		fd, err := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return ready, err
		}
		err = unix.Bind(fd, &unix.SockaddrALG{Type: a[0], Name: a[1]})
		_ = unix.Close(fd)
		switch {
		case err == nil:
			ready++
		case !errors.Is(err, unix.ENOENT): // this kernel lacks it
			return ready, err
		}
	}
	return ready, nil
}
