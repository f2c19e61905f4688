// Package corpus holds every kind of SA and policy that iproute2 can make, for
// tests that copy them.
package corpus

// Kind is one kind of SA or policy. Its name becomes that of a fixture.
type Kind struct{ Name, Args string }

// SAs returns every kind of SA; Args follow `ip xfrm state add`.
func SAs() []Kind {
	return []Kind{
		{"gcm-esn-tunnel4", gcm("192.0.2.1", "198.51.100.1", 0xc1000001) +
			" mode tunnel reqid 1 flag esn replay-window 128 replay-oseq 1000 replay-oseq-hi 2 replay-seq 500 " +
			"replay-seq-hi 1"},
		{"gcm-esn-tunnel6", gcm("2001:db8::1", "2001:db8:1::1", 0xc1000002) +
			" mode tunnel reqid 2 flag esn flag af-unspec replay-window 128"},
		{"gcm-32bit-tunnel4", gcm("198.51.100.1", "192.0.2.1", 0xc1000003) +
			" mode tunnel reqid 1 replay-window 32 replay-seq 77 replay-oseq 99"},
		{"gcm-32bit-window5", gcm("198.51.100.1", "192.0.2.1", 0xc1000004) +
			" mode tunnel reqid 1 replay-window 5 replay-seq 3"},
		{"gcm-bitmap-window", gcm("198.51.100.1", "192.0.2.1", 0xc1000005) +
			" mode tunnel reqid 1 replay-window 100 replay-seq 1234"},
		{"gcm-huge-window", gcm("198.51.100.1", "192.0.2.1", 0xc1000006) + " mode tunnel reqid 1 replay-window 4096"},
		{"gcm-transport4", gcm("192.0.2.1", "198.51.100.1", 0xc1000007) +
			" mode transport reqid 3 sel src 192.0.2.1/32 dst 198.51.100.1/32 proto tcp sport 179"},
		{"gcm-transport6", gcm("2001:db8::1", "2001:db8:1::1", 0xc1000008) +
			" mode transport sel src 2001:db8::/32 dst ::/0 proto udp dport 4789"},
		{"gcm-zero-tail6", gcm("2001:db8::", "2001:db8:1::", 0xc1000009) + " mode tunnel reqid 9"},
		{"cbc-sha256-tunnel4", cbc("192.0.2.1", "198.51.100.1", 0xc1000010) + " mode tunnel reqid 4 replay-window 32"},
		{"cbc-sha256-tunnel6", cbc("2001:db8::1", "2001:db8:1::1", 0xc1000011) +
			" mode tunnel reqid 4 flag esn replay-window 64"},
		{"cbc-sha1-auth", esp("192.0.2.1", "198.51.100.1", 0xc1000012) + " mode tunnel enc 'cbc(aes)' " + key16 +
			" auth 'hmac(sha1)' " + key20},
		{"null-sha256", esp("192.0.2.1", "198.51.100.1", 0xc1000013) +
			" mode tunnel enc 'ecb(cipher_null)' '' auth-trunc 'hmac(sha256)' " + key32 + " 128"},
		{"chacha-tunnel4", chacha("192.0.2.1", "198.51.100.1", 0xc1000014) + " mode tunnel flag esn replay-window 32"},
		{"chacha-transport6", chacha("2001:db8::1", "2001:db8:1::1", 0xc1000015) + " mode transport replay-window 32"},
		{"ccm", esp("192.0.2.1", "198.51.100.1", 0xc1000016) + " mode tunnel aead 'rfc4309(ccm(aes))' " + key19 +
			" 96"},
		{"natt", gcm("198.51.100.1", "192.0.2.1", 0xc1000017) +
			" mode tunnel replay-window 32 encap espinudp 4500 61234 203.0.113.9"},
		{"natt-no-oa", gcm("192.0.2.1", "198.51.100.1", 0xc1000018) + " mode tunnel encap espinudp 4500 4500 0.0.0.0"},
		{"natt6", gcm("2001:db8::1", "2001:db8:1::1", 0xc1000019) + " mode tunnel encap espinudp 4500 4500 ::"},
		{"mark", gcm("192.0.2.1", "198.51.100.1", 0xc100001a) + " mode tunnel mark 0x2a mask 0xff"},
		{"output-mark", gcm("192.0.2.1", "198.51.100.1", 0xc100001b) + " mode tunnel output-mark 0x2b mask 0xf0f"},
		{"if-id", gcm("192.0.2.1", "198.51.100.1", 0xc100001c) + " mode tunnel if_id 0x77"},
		{"flags", gcm("192.0.2.1", "198.51.100.1", 0xc100001d) +
			" mode tunnel flag noecn flag decap-dscp flag nopmtudisc flag wildrecv flag icmp flag af-unspec flag align4"},
		{"extra-flags", gcm("192.0.2.1", "198.51.100.1", 0xc100001e) +
			" mode tunnel extra-flag dont-encap-dscp extra-flag oseq-may-wrap"},
		{"limits", gcm("192.0.2.1", "198.51.100.1", 0xc100001f) +
			" mode tunnel limit time-soft 3000 limit time-hard 3600 limit time-use-soft 1000 limit time-use-hard " +
			"2000 limit byte-soft 1000000 limit byte-hard 2000000 limit packet-soft 10000 limit packet-hard 20000"},
		{"tfcpad", gcm("192.0.2.1", "198.51.100.1", 0xc1000020) + " mode tunnel tfcpad 1400"},
		{"selector-dev", gcm("192.0.2.1", "198.51.100.1", 0xc1000021) +
			" mode tunnel sel src 10.0.0.0/8 dst 0.0.0.0/0 dev lo proto udp dport 53"},
		{"ah4", "src 192.0.2.1 dst 198.51.100.1 proto ah spi 0xc1000023 mode tunnel auth-trunc 'hmac(sha256)' " +
			key32 + " 128 replay-window 32"},
		{"ah6-esn", "src 2001:db8::1 dst 2001:db8:1::1 proto ah spi 0xc1000024 mode transport auth-trunc " +
			"'hmac(sha512)' " + key64 + " 256 flag esn replay-window 256"},
		{"beet", gcm("192.0.2.1", "198.51.100.1", 0xc1000025) + " mode beet sel src 10.0.0.1/32 dst 10.0.0.2/32"},
		{"ipcomp", "src 192.0.2.1 dst 198.51.100.1 proto comp spi 0x1234 mode transport comp deflate"},
		{"ipcomp-tunnel", "src 192.0.2.1 dst 198.51.100.1 proto comp spi 0x1235 mode tunnel comp deflate"},
		{"seq", gcm("192.0.2.1", "198.51.100.1", 0xc1000026) + " mode tunnel seq 0x12345"},
	}
}

// Policies returns every kind of policy; Args follow `ip xfrm policy add`.
func Policies() []Kind {
	return []Kind{
		{"out4", "src 10.1.0.0/16 dst 10.2.0.0/16 dir out priority 1000 tmpl src 192.0.2.1 dst 198.51.100.1 proto " +
			"esp reqid 1 mode tunnel"},
		{"in4", "src 10.2.0.0/16 dst 10.1.0.0/16 dir in priority 1000 tmpl src 198.51.100.1 dst 192.0.2.1 proto esp " +
			"reqid 1 mode tunnel"},
		{"fwd4", "src 10.2.0.0/16 dst 10.1.0.0/16 dir fwd priority 1000 tmpl src 198.51.100.1 dst 192.0.2.1 proto " +
			"esp reqid 1 mode tunnel"},
		{"short6", "src 2001:db8::/32 dst fd00:1::/48 dir out tmpl src 2001:db8::1 dst 2001:db8:1::1 proto esp reqid " +
			"2 mode tunnel"},
		{"any6", "src ::/0 dst ::/0 dir fwd priority 5000 tmpl src 2001:db8::1 dst 2001:db8:1::1 proto esp reqid 2 " +
			"mode tunnel"},
		{"any4", "src 0.0.0.0/0 dst 0.0.0.0/0 dir in priority 5000 tmpl src 192.0.2.1 dst 198.51.100.1 proto esp " +
			"reqid 2 mode tunnel level use"},
		{"mixed-families", "src fd00:1::/64 dst fd00:2::/64 dir out tmpl src 192.0.2.1 dst 198.51.100.1 proto esp " +
			"reqid 3 mode tunnel"},
		{"transport4",
			"src 192.0.2.1/32 dst 198.51.100.1/32 proto tcp sport 179 dir out tmpl proto esp mode transport"},
		{"transport6-wildcard", "src 2001:db8::1/128 dst 2001:db8:1::1/128 proto udp dport 4789 dir out tmpl src :: " +
			"dst :: proto esp reqid 77 mode transport"},
		{"gre", "src 192.0.2.1/32 dst 198.51.100.1/32 proto gre key 42 dir out tmpl proto esp mode transport"},
		{"icmp", "src 192.0.2.1/32 dst 198.51.100.1/32 proto icmp type 8 code 0 dir out tmpl proto esp mode transport"},
		{"block", "src 10.9.0.0/16 dst 10.8.0.0/16 dir out action block priority 7"},
		{"allow", "src 10.7.0.1/32 dst 0.0.0.0/0 dir out priority 0"},
		{"sub", "src 10.1.0.0/16 dst 10.2.0.0/16 dir out ptype sub tmpl src 192.0.2.1 dst 198.51.100.1 proto esp " +
			"mode tunnel"},
		{"several-templates", "src 10.3.0.0/16 dst 10.4.0.0/16 dir fwd tmpl src 192.0.2.1 dst 198.51.100.1 proto " +
			"comp reqid 5 mode tunnel level use tmpl proto esp reqid 5 mode transport tmpl proto ah spi 0x1000 reqid " +
			"5 mode transport"},
		{"mark", "src 10.1.0.0/16 dst 10.2.0.0/16 dir out mark 0x2a mask 0xff tmpl src 192.0.2.1 dst 198.51.100.1 " +
			"proto esp mode tunnel"},
		{"if-id", "src 10.1.0.0/16 dst 10.2.0.0/16 dir out if_id 0x77 tmpl src 192.0.2.1 dst 198.51.100.1 proto esp " +
			"mode tunnel"},
		{"flags", "src 10.5.0.0/16 dst 10.2.0.0/16 dir out flag localok flag icmp tmpl src 192.0.2.1 dst " +
			"198.51.100.1 proto esp mode tunnel"},
		{"limits", "src 10.6.0.0/16 dst 10.2.0.0/16 dir out limit time-soft 3000 limit time-hard 3600 limit " +
			"byte-soft 1000 limit byte-hard 2000 limit packet-soft 10 limit packet-hard 20 tmpl src 192.0.2.1 dst " +
			"198.51.100.1 proto esp mode tunnel"},
		{"dev", "src 10.1.0.0/16 dst 10.2.0.0/16 dev lo dir out tmpl src 192.0.2.1 dst 198.51.100.1 proto esp " +
			"mode tunnel"},
		{"index", "src 10.1.1.0/24 dst 10.2.0.0/16 dir fwd index 0x5a000012 tmpl src 192.0.2.1 dst 198.51.100.1 " +
			"proto esp mode tunnel"},
	}
}
