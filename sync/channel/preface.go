package channel

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net"
	"net/netip"
)

// Sizes of the preface.
const (
	challengeLen = 32
	answerLen    = sha256.Size
)

const prefaceLabel = "sasyncd preface 1\x00"

func newChallenge() (c [challengeLen]byte) {
	_, _ = rand.Read(c[:]) // never fails
	return c
}

// answer returns the MAC with which a dialler shows that it has the key, for
// this challenge on this connection.
func (k *key) answer(challenge []byte, dialler, listener net.Addr) [answerLen]byte {
	h := hmac.New(sha256.New, k.mac[:])
	h.Write([]byte(prefaceLabel))
	h.Write(challenge)
	for _, a := range []net.Addr{dialler, listener} {
		name := endpoint(a)
		h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(name))))
		h.Write([]byte(name))
	}
	return [answerLen]byte(h.Sum(nil))
}

// match returns the key under which answer is right, nil if there is none. It
// takes the same time whichever fits.
func (ks Keys) match(answer, challenge []byte, dialler, listener net.Addr) *key {
	var fits *key
	for _, k := range ks.list {
		want := k.answer(challenge, dialler, listener)
		if hmac.Equal(want[:], answer) {
			fits = k
		}
	}
	return fits
}

// endpoint writes an address as both ends of a connection write it: IPv4 in its
// own form on a dual-stack socket too, without a zone, which is local.
// Connections in memory use whatever their addresses print as.
func endpoint(a net.Addr) string {
	if ap, ok := addrPort(a); ok {
		return ap.String()
	}
	return a.String()
}

func addrPort(a net.Addr) (netip.AddrPort, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()), true
}
