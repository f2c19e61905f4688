package managers

import "testing"

// firewalldFiles are a zone of firewalld with what docs/firewall.md lets in.
func firewalldFiles() map[string]string {
	files := networkdFiles("KeepConfiguration=yes\n")
	files["/etc/firewalld/zones/public.xml"] = `<?xml version="1.0" encoding="utf-8"?>
<zone>
  <short>Public</short>
  <interface name="wan0"/>
  <interface name="lan0"/>
  <interface name="sync0"/>
  <protocol value="vrrp"/>
  <protocol value="esp"/>
  <port port="500" protocol="udp"/>
  <port port="4500" protocol="udp"/>
  <rule family="ipv4">
    <source address="10.9.0.0/24"/>
    <port port="500" protocol="tcp"/>
    <accept/>
  </rule>
  <forward/>
</zone>
`
	return files
}

// TestFirewalld: its own tables come and go; carpd's do not belong to it.
func TestFirewalld(t *testing.T) {
	s := newSite(t, "", firewalldFiles(), "systemd-networkd.service", "firewalld.service")
	t.Logf("%s", s.m.do("firewall-cmd --state; firewall-cmd --list-all"))
	s.rows([]event{
		{what: "firewall-cmd --reload", do: "firewall-cmd --reload"},
		{what: "firewall-cmd --complete-reload", do: "firewall-cmd --complete-reload", lost: 100},
		{what: "systemctl restart firewalld", do: "systemctl restart firewalld", lost: 100},
		{what: "systemctl stop firewalld", do: "systemctl stop firewalld"},
		{what: "systemctl start firewalld", do: "systemctl start firewalld"},
		{what: "firewalld without protocol 112", do: "firewall-cmd -q --remove-protocol=vrrp; sleep 3; " +
			"firewall-cmd -q --add-protocol=vrrp"},
	})
}

// TestNftables: nftables.service, whose file begins with flush ruleset, as Debian's does.
func TestNftables(t *testing.T) {
	files := networkdFiles("KeepConfiguration=yes\n")
	files["/etc/nftables.conf"] = "#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter {\n\tchain input {\n" +
		"\t\ttype filter hook input priority filter; policy accept;\n\t}\n}\n"
	s := newSite(t, "", files, "systemd-networkd.service", "nftables.service")
	if out := s.m.do("nft list tables"); out == "" {
		t.Errorf("tables: %q", out)
	}
	s.rows([]event{
		{what: "systemctl reload nftables", do: "systemctl reload nftables"},
		{what: "systemctl restart nftables", do: "systemctl restart nftables"},
		{what: "nft flush ruleset", do: "nft flush ruleset"},
	})
}
