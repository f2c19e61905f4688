package lab

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// XfrmStat returns the counters of /proc/net/xfrm_stat of the node that are not zero.
func (nd *Node) XfrmStat() map[string]int {
	nd.t.Helper()
	m := map[string]int{}
	err := nd.Do(func() error {
		f, err := os.Open("/proc/thread-self/net/xfrm_stat")
		if err != nil {
			return err
		}
		defer f.Close()
		sc := bufio.NewScanner(f)
		for sc.Scan() {
			fields := strings.Fields(sc.Text())
			if len(fields) != 2 {
				return fmt.Errorf("read xfrm_stat: line %q is not a name and a number", sc.Text())
			}
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				return fmt.Errorf("read xfrm_stat: %w", err)
			}
			if n != 0 {
				m[fields[0]] = n
			}
		}
		return sc.Err()
	})
	if err != nil {
		nd.t.Fatalf("xfrm counters of %s: %v", nd.Name, err)
	}
	return m
}

// Refused adds up, of two readings of [Node.XfrmStat], the packets that arrived
// in between and were thrown away for their sequence number. With ESN one that
// is too old for the window is taken for the next high word and fails its
// check, so errors of both kinds count.
func Refused(before, after map[string]int) int {
	n := 0
	for _, k := range []string{"XfrmInStateSeqError", "XfrmInStateProtoError"} {
		n += after[k] - before[k]
	}
	return n
}

// Tunnel is a pair of static SAs with policies, in place of an IKE daemon,
// between the outside VIPs and rgw of the standard lab.
type Tunnel struct {
	Local, Remote       string // outer addresses: the VIP, and rgw's
	LocalNet, RemoteNet string
	ReqID               int
	SPIOut, SPIIn       uint32 // seen from the gateways
	// NATPort is, for a remote end behind a NAT, the UDP port that the NAT has
	// given it; 0 for plain ESP. The gateways' is 4500.
	NATPort uint16
	// Extra is what the gateways' SAs and policies have besides ("if_id 42",
	// "mark 42 mask 0xffffffff"). It is local: the remote end has none.
	Extra string
	// ExtraIn is the same of the gateways' inbound SAs alone ("output-mark 0x10").
	ExtraIn   string
	algorithm [2]string
}

// Tunnels returns the two tunnels of the standard lab: AES-CBC with HMAC-SHA256
// and 32-bit counters on IPv4, AES-GCM with ESN on IPv6. Keys are fresh.
func Tunnels() []Tunnel {
	cbc := func() string {
		return "auth-trunc hmac(sha256) " + randomKey(32) + " 128 enc cbc(aes) " + randomKey(32) + " replay-window 32"
	}
	gcm := func() string {
		return "aead rfc4106(gcm(aes)) " + randomKey(20) + " 128 replay-window 128 flag esn"
	}
	return []Tunnel{
		{
			Local: VIPOut.String(), Remote: RGWOut.String(), LocalNet: LANNet.String(), RemoteNet: RemNet.String(),
			ReqID: 4, SPIOut: 0x1001, SPIIn: 0x1002, algorithm: [2]string{cbc(), cbc()},
		},
		{
			Local: VIPOut6.String(), Remote: RGWOut6.String(), LocalNet: LANNet6.String(), RemoteNet: RemNet6.String(),
			ReqID: 6, SPIOut: 0x2001, SPIIn: 0x2002, algorithm: [2]string{gcm(), gcm()},
		},
	}
}

func randomKey(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return "0x" + hex.EncodeToString(b)
}

// Install installs the tunnels on a gateway.
func Install(gw *Node, tunnels []Tunnel) {
	gw.t.Helper()
	gw.IP(InstallLines(tunnels)...)
}

// InstallLines are the commands of [Install], for a gateway in another kernel.
func InstallLines(tunnels []Tunnel) []string {
	var lines []string
	for _, tn := range tunnels {
		lines = append(lines, tn.states()...)
		lines = append(lines, tn.policies("out", "in", "fwd")...)
	}
	return lines
}

// InstallRemote installs the other ends on rgw.
func InstallRemote(rgw *Node, tunnels []Tunnel) {
	rgw.t.Helper()
	rgw.IP(InstallRemoteLines(tunnels)...)
}

// InstallRemoteLines are the commands of [InstallRemote].
func InstallRemoteLines(tunnels []Tunnel) []string {
	var lines []string
	for _, tn := range tunnels {
		tn.Extra, tn.ExtraIn = "", ""
		lines = append(lines, tn.states()...)
		lines = append(lines, tn.mirrored().policies("out", "in", "fwd")...)
	}
	return lines
}

// Negotiate gives both ends SAs with fresh keys and the next SPIs for the
// tunnels, and deletes the old ones, as IKE daemons do, so that no packet is
// lost: what receives comes before what sends, and goes after it. It returns the
// new tunnels.
func Negotiate(gw, rgw *Node, old []Tunnel) []Tunnel {
	gw.t.Helper()
	fresh := Tunnels()
	var out, in, addOut, addIn []string
	for i, tn := range old {
		fresh[i].SPIOut, fresh[i].SPIIn, fresh[i].ReqID = tn.SPIOut+0x10, tn.SPIIn+0x10, tn.ReqID
		st := fresh[i].states()
		addOut, addIn = append(addOut, st[0]), append(addIn, st[1])
		out = append(out, fmt.Sprintf("xfrm state del src %s dst %s proto esp spi %#x", tn.Local, tn.Remote, tn.SPIOut))
		in = append(in, fmt.Sprintf("xfrm state del src %s dst %s proto esp spi %#x", tn.Remote, tn.Local, tn.SPIIn))
	}
	gw.IP(addIn...)
	rgw.IP(addOut...)
	gw.IP(addOut...)
	rgw.IP(addIn...)
	for _, del := range []struct {
		nd    *Node
		lines []string
	}{{gw, out}, {rgw, in}, {rgw, out}, {gw, in}} {
		// After a flush there are none, which is no error.
		_, _ = del.nd.tryWith("ip -force -batch -", strings.Join(del.lines, "\n")+"\n")
	}
	return fresh
}

func (tn Tunnel) mirrored() Tunnel {
	tn.Local, tn.Remote = tn.Remote, tn.Local
	tn.LocalNet, tn.RemoteNet = tn.RemoteNet, tn.LocalNet
	return tn
}

func (tn Tunnel) states() []string {
	state := func(src, dst string, spi uint32, alg, extra string, sport, dport uint16) string {
		line := fmt.Sprintf("xfrm state add src %s dst %s proto esp spi %#x reqid %d mode tunnel %s %s", src, dst, spi,
			tn.ReqID, alg, extra)
		if tn.NATPort != 0 {
			line += fmt.Sprintf(" encap espinudp %d %d 0.0.0.0", sport, dport)
		}
		return line
	}
	return []string{
		state(tn.Local, tn.Remote, tn.SPIOut, tn.algorithm[0], tn.Extra, 4500, tn.NATPort),
		state(tn.Remote, tn.Local, tn.SPIIn, tn.algorithm[1], tn.Extra+" "+tn.ExtraIn, tn.NATPort, 4500),
	}
}

func (tn Tunnel) policies(dirs ...string) []string {
	var lines []string
	for _, dir := range dirs {
		p := tn
		if dir != "out" {
			p = tn.mirrored()
		}
		lines = append(lines, fmt.Sprintf("xfrm policy add dir %s src %s dst %s %s tmpl src %s dst %s proto esp "+
			"reqid %d mode tunnel",
			dir, p.LocalNet, p.RemoteNet, p.Extra, p.Local, p.Remote, p.ReqID))
	}
	return lines
}
