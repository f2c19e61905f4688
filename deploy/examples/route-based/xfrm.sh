#!/bin/sh
# An xfrm interface for the tunnel to one remote network, the same on every
# gateway, before the IKE daemon starts; see docs/route-based.md.
#
#	xfrm.sh up|down
set -eu
: "${UPLINK:=eth0}"             # where ESP leaves
: "${NAME:=ipsec1}"             # of the interface
: "${ID:=0x2a}"                 # if_id_in and if_id_out of the IKE daemon
: "${NETS:=10.2.0.0/24}"        # behind the tunnel, blank between them
: "${MTU:=1400}"                # what fits with ESP around it

case ${1-} in
up)
	ip link add "$NAME" type xfrm dev "$UPLINK" if_id "$ID"
	# No address and no neighbours: a link-local one would send on a backup too.
	ip link set "$NAME" addrgenmode none mtu "$MTU"
	# Up on both gateways. The fence is what keeps the backup silent.
	ip link set "$NAME" up
	for net in $NETS; do
		ip route replace "$net" dev "$NAME"
		# If the interface should be missing, nothing goes another way.
		ip route replace blackhole "$net" metric 4294967295
	done
	;;
down)
	ip link del "$NAME" # its routes go with it, the blackholes stay
	;;
*)
	echo "usage: $0 up|down" >&2
	exit 2
	;;
esac
