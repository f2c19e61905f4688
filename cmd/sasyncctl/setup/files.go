package setup

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"sasyncd/cmd/internal/conf"
	"sasyncd/sync/sadb"
)

// Secrets are what both gateways share.
type Secrets struct {
	Key  sadb.Secret // of sasyncd, as its file has it, without the end of the line
	Pass sadb.Secret // of carpd's instances
}

// NewSecrets returns random secrets: a key of 256 bits, as `openssl rand -hex 32`
// gives it, and a password of 112 bits, which is as long as CARP allows.
func NewSecrets() Secrets {
	key, pass := make([]byte, 32), make([]byte, 14)
	rand.Read(key) // never fails (crypto/rand)
	rand.Read(pass)
	return Secrets{Key: sadb.NewSecret([]byte("0x" + hex.EncodeToString(key))),
		Pass: sadb.NewSecret([]byte(base64.RawURLEncoding.EncodeToString(pass)))}
}

// Names of the files in their directory.
const (
	keyName     = "sasyncd.key"
	carpdName   = "carpd.conf"
	sasyncdName = "sasyncd.conf"
)

// keyPath is where sasyncd.conf finds the key.
const keyPath = "/etc/" + keyName

// File is one file of one side.
type File struct {
	Path    string
	Content sadb.Secret
	// Shown is the content with placeholders for secrets, "" for a file that is
	// nothing but one.
	Shown string
	Owner string // user; "" for root
}

// carpdUser runs carpd and reads its configuration itself.
const carpdUser = "carpd"

// files returns the files of one side, in the order in which they are written, below
// a directory.
func (in *Input) files(s Side, secrets Secrets, dir string) []File {
	key := string(secrets.Key.Bytes()) + "\n"
	pass := string(secrets.Pass.Bytes())
	sasyncd := in.sasyncd(s)
	return []File{
		{Path: dir + "/" + keyName, Content: sadb.NewSecret([]byte(key))},
		{Path: dir + "/" + carpdName, Content: sadb.NewSecret([]byte(in.carpd(s, pass))),
			Shown: in.carpd(s, fmt.Sprintf("<%d-bytes>", len(pass))), Owner: carpdUser},
		{Path: dir + "/" + sasyncdName, Content: sadb.NewSecret([]byte(sasyncd)), Shown: sasyncd},
	}
}

// advskew makes the gateway where init runs the better one. Advertisements are 250 and
// 313 ms apart, so that a silent master is replaced within a second.
var advskew = [2]int{64, 80}

func (in *Input) carpd(s Side, pass string) string {
	var b strings.Builder
	b.WriteString("# Made by sasyncctl init. See carpd.conf(5); carpd -n checks this file.\n\n")
	fmt.Fprintf(&b, "group %s {\n\trequire sasyncd\n\twhen-split prefer-traffic\n}\n", group)
	for _, n := range in.networks() {
		fmt.Fprintf(&b, "\ncarp %s {\n\tcarpdev %s\n\tvhid %d\n\tpass %q\n\tadvbase 0\n\tadvskew %d\n", n.name,
			n.Devices[s], n.VHID, pass, advskew[s])
		for _, a := range n.VIPs {
			fmt.Fprintf(&b, "\taddress %s/%d\n", a, a.BitLen())
		}
		fmt.Fprintf(&b, "\tgroup %s\n}\n", group)
	}
	return b.String()
}

func (in *Input) sasyncd(s Side) string {
	return fmt.Sprintf(`# Made by sasyncctl init. See sasyncd.conf(5); sasyncd -n checks this file.

interface %s
peer %s
listen on %s
sharedkey file %q
control %s
`, outside, in.Addresses[1-s], in.Addresses[s], keyPath, in.control())
}

// parse holds the files of one side against the parsers of the daemons.
func parse(files []File) error {
	for _, f := range files {
		var err error
		switch src := f.Content.Bytes(); {
		case strings.HasSuffix(f.Path, "/"+carpdName):
			_, err = conf.ParseCarpd(f.Path, src)
		case strings.HasSuffix(f.Path, "/"+sasyncdName):
			_, err = conf.ParseSasyncd(f.Path, src)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
