package conf

import "strings"

// Keyword is one keyword or one value of a keyword. Path is its words from the
// outermost in: "flushmode", "flushmode sync", "vrrp mac virtual".
type Keyword struct {
	Path string
	// Supported is false for what is parsed but has no effect in this version.
	// Using it is an error.
	Supported bool
}

// Words of the table below: have for what works, later for what does not yet.
const (
	have  = true
	later = false
)

// sasyncdKeywords is every keyword of sasyncd.conf. Values are listed where
// they differ in being supported.
var sasyncdKeywords = []Keyword{
	{"interface", have},
	{"peer", have},
	{"peer discover", have},
	{"listen", have},
	{"sharedkey", have},
	{"flushmode", have},
	{"flushmode startup", have},
	{"flushmode sync", have},
	{"flushmode never", have},
	{"mode", have},
	{"mode master", have},
	{"mode slave", have},
	{"mode skipslave", have},
	{"group", have},
	{"control", have},
	{"control auto", have},
	{"control none", have},
	{"control isakmpd", have},
	{"control iked", have},
	{"control all", have},
	{"control strongswan", have},
	{"control strongswan-ha", have},
	{"control libreswan", have},
	{"control exec", have},
	{"control static", have},
	{"control strongswan at", have},
	{"control strongswan settings", have},
	{"control strongswan-ha at", have},
	{"control strongswan-ha fifo", have},
	{"control strongswan-ha settings", have},
	{"control libreswan at", have},
	{"control iked at", have},
	{"control isakmpd at", have},
	{"tracker", have},
	{"tracker carpd", have},
	{"tracker link", have},
	{"tracker address", have},
	{"tracker keepalived", have},
	{"vip", have},
	{"replay", have},
	{"replay interval", have},
	{"replay margin", have},
	{"replay inbound", have},
	{"replay inbound accept", have},
	{"replay inbound advance", have},
	{"fence", have},
	{"guard", have},
	{"guard auto", have},
	{"guard yes", have},
	{"guard no", have},
	{"guard routes", have},
	{"guard nftables", have},
	{"socket", have},
	{"carpd", have},
	{"carpd socket", have},
	{"metrics", have},
	{"statedir", have},
}

// carpdKeywords is every keyword of carpd.conf.
var carpdKeywords = []Keyword{
	{"group", have},
	{"group preempt", have},
	{"group preempt in-sync", have},
	{"group preempt-delay", have},
	{"group demote-at-start", have},
	{"group start-hold", have},
	{"group require", have},
	{"group alone", have},
	{"group prepare-timeout", have},
	{"group when-split", have},
	{"group when-split continue", have},
	{"group when-split prefer-traffic", have},
	{"group when-split witness", have},
	{"carp", have},
	{"carp carpdev", have},
	{"carp vhid", have},
	{"carp pass", have},
	{"carp advbase", have},
	{"carp advskew", have},
	{"carp address", have},
	{"carp group", have},
	{"carp carppeer", have},
	{"carp hops", have},
	{"carp carp-dialect", have},
	{"carp mac", have},
	{"carp mac plain", have},
	{"carp mac virtual", have},
	{"carp lease", have},
	{"carp lease auto", have},
	{"carp lease nftables", have},
	{"carp preempt", have},
	{"carp key", have},
	{"carp auth", have},
	{"vrrp", have},
	{"vrrp carpdev", have},
	{"vrrp version", have},
	{"vrrp version 2", have},
	{"vrrp version 3", have},
	{"vrrp vrid", have},
	{"vrrp priority", have},
	{"vrrp interval", have},
	{"vrrp address", have},
	{"vrrp group", have},
	{"vrrp mac", have},
	{"vrrp mac plain", have},
	{"vrrp mac virtual", have},
	{"vrrp lease", have},
	{"vrrp lease auto", have},
	{"vrrp lease nftables", have},
	{"vrrp unicast", have},
	{"vrrp hops", have},
	{"vrrp pass", have},
	{"vrrp checksum", have},
	{"vrrp checksum auto", have},
	{"vrrp checksum pseudo", have},
	{"vrrp checksum message", have},
	{"vrrp accept", have},
	{"vrrp accept yes", have},
	{"vrrp accept no", have},
	{"vrrp preempt", have},
	{"vrrp key", have},
	{"vrrp auth", have},
	{"track", have},
	{"track link", have},
	{"track file", have},
	{"track exec", have},
	{"track address", have},
	{"track ping", have},
	{"track bfd", have},
	{"socket", have},
	{"metrics", have},
	{"statedir", have},
}

// SasyncdKeywords returns the table of sasyncd.conf's keywords.
func SasyncdKeywords() []Keyword { return append([]Keyword(nil), sasyncdKeywords...) }

// CarpdKeywords returns the table of carpd.conf's keywords.
func CarpdKeywords() []Keyword { return append([]Keyword(nil), carpdKeywords...) }

// below returns the words that may follow context ("" for the top level).
func below(table []Keyword, context string) []string {
	var out []string
	for _, k := range table {
		rest, ok := k.Path, true
		if context != "" {
			rest, ok = strings.CutPrefix(k.Path, context+" ")
		}
		if ok && !strings.Contains(rest, " ") {
			out = append(out, rest)
		}
	}
	return out
}
