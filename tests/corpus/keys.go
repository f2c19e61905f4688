package corpus

import "fmt"

// Keys of the lengths the algorithms want, with salts where they have one.
const (
	key16 = "0x000102030405060708090a0b0c0d0e0f"
	key19 = key16 + "101112"
	key20 = key16 + "10111213"
	key32 = key16 + "101112131415161718191a1b1c1d1e1f"
	key36 = key32 + "20212223"
	key64 = key32 + "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"

	aead = "aead 'rfc4106(gcm(aes))' " + key36 + " 128"
)

func esp(src, dst string, spi uint32) string {
	return fmt.Sprintf("src %s dst %s proto esp spi 0x%08x", src, dst, spi)
}

func gcm(src, dst string, spi uint32) string { return esp(src, dst, spi) + " " + aead }

func cbc(src, dst string, spi uint32) string {
	return esp(src, dst, spi) + " enc 'cbc(aes)' " + key16 + " auth-trunc 'hmac(sha256)' " + key32 + " 128"
}

func chacha(src, dst string, spi uint32) string {
	return esp(src, dst, spi) + " aead 'rfc7539esp(chacha20,poly1305)' " + key36 + " 128"
}
