package kerneltest

import (
	"net/netip"

	"sasyncd/sync/sadb"
)

// Key material of tests, longer than any algorithm wants.
const sampleKey = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"

// NoLimits are the limits of an SA or policy without any.
func NoLimits() sadb.Limits {
	return sadb.Limits{SoftBytes: sadb.NoLimit, HardBytes: sadb.NoLimit, SoftPackets: sadb.NoLimit,
		HardPackets: sadb.NoLimit}
}

// SampleSA returns a tunnel-mode ESP SA with AES-GCM and a 32-bit window that
// every kernel with ESP accepts.
func SampleSA(src, dst string, spi uint32) *sadb.SA {
	s := &sadb.SA{
		Key:    sadb.SAKey{Dst: netip.MustParseAddr(dst), SPI: spi, Proto: sadb.ProtoESP},
		Src:    netip.MustParseAddr(src),
		Mode:   sadb.ModeTunnel,
		Reqid:  1,
		Window: 32,
		AEAD:   &sadb.Algorithm{Name: "rfc4106(gcm(aes))", Key: sadb.NewSecret([]byte(sampleKey[:20])), TruncBits: 128},
		Limits: NoLimits(),
	}
	s.Selector.Family = s.Key.Family()
	s.Bitmap = []uint32{0}
	return s
}

// SampleESN returns a SampleSA with 64-bit numbers and a window of 128.
func SampleESN(src, dst string, spi uint32) *sadb.SA {
	s := SampleSA(src, dst, spi)
	s.Flags, s.Window, s.BitmapLen = sadb.FlagESN, 128, 4
	s.Bitmap = make([]uint32, 4)
	return s
}

// SamplePolicy returns a policy for traffic from src to dst through a tunnel.
func SamplePolicy(dir sadb.Direction, src, dst, outerSrc, outerDst string) *sadb.Policy {
	t := sadb.Template{
		Src: netip.MustParseAddr(outerSrc), Dst: netip.MustParseAddr(outerDst),
		Proto: sadb.ProtoESP, Reqid: 1, Mode: sadb.ModeTunnel,
		AuthAlgs: ^uint32(0), EncAlgs: ^uint32(0), CompAl: ^uint32(0),
	}
	t.Family = sadb.FamilyOf(t.Dst)
	return &sadb.Policy{
		Key: sadb.PolicyKey{
			Dir:      dir,
			Selector: sadb.SelectorOf(netip.MustParsePrefix(src), netip.MustParsePrefix(dst)),
		},
		Priority:  1000,
		Limits:    NoLimits(),
		Templates: []sadb.Template{t},
	}
}
