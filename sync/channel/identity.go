package channel

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// identity is what one role proves: an Ed25519 key in a certificate that exists
// only because TLS wants one.
type identity struct {
	cert   tls.Certificate
	public ed25519.PublicKey
}

// newIdentity returns the identity of a seed, byte for byte the same each time.
func newIdentity(seed []byte) (identity, error) {
	private := ed25519.NewKeyFromSeed(seed)
	public := private.Public().(ed25519.PublicKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		// Nobody looks at the dates: a gateway that boots with a wrong clock
		// must be able to connect.
		NotBefore: time.Unix(0, 0).UTC(),
		NotAfter:  time.Unix(1<<33, 0).UTC(),
	}
	// Ed25519 signatures take no randomness.
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return identity{}, fmt.Errorf("make certificate: %w", err)
	}
	return identity{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, public}, nil
}

var errIdentity = errors.New("peer proved another identity")

// config returns the TLS settings for a side that shows own and accepts other
// only.
func config(own, other *identity) *tls.Config {
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		MaxVersion:       tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768},
		Certificates:     []tls.Certificate{own.cert},

		// Names and authorities mean nothing here; VerifyConnection decides,
		// on both sides and in every handshake.
		InsecureSkipVerify: true, //nolint:gosec // see above
		ClientAuth:         tls.RequireAnyClientCert,
		VerifyConnection: func(cs tls.ConnectionState) error {
			// The key counts, not the certificate, whose form may change
			// with the version of the library.
			if len(cs.PeerCertificates) != 1 {
				return errIdentity
			}
			if k, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey); !ok || !other.public.Equal(k) {
				return errIdentity
			}
			return nil
		},
		SessionTicketsDisabled: true,
		// Records are filled by the caller; small ones after a pause cost.
		DynamicRecordSizingDisabled: true,
	}
}

// dial and listen return the settings of the roles.
func (k *key) dial() *tls.Config   { return config(&k.dialler, &k.listener) }
func (k *key) listen() *tls.Config { return config(&k.listener, &k.dialler) }
