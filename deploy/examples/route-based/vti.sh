#!/bin/sh
# A vti interface for the tunnel to one remote gateway, the same on every gateway,
# before the IKE daemon starts; see docs/route-based.md. Prefer xfrm.sh for what is
# new.
#
#	vti.sh up|down
set -eu
: "${NAME:=vti1}"               # of the interface
: "${VIP:=203.0.113.1}"         # our end: the virtual address
: "${REMOTE:=198.51.100.1}"     # theirs
: "${KEY:=42}"                  # mark of the SAs and policies
: "${NETS:=10.2.0.0/24}"        # behind the tunnel, blank between them
: "${MTU:=1400}"                # what fits with ESP around it

case $VIP in
*:*) kind=vti6 family=-6 ;;
*) kind=vti family=-4 ;;
esac

case ${1-} in
up)
	ip $family tunnel add "$NAME" mode $kind local "$VIP" remote "$REMOTE" key "$KEY"
	ip link set "$NAME" addrgenmode none mtu "$MTU"
	# Up on both gateways. The fence is what keeps the backup silent.
	ip link set "$NAME" up
	for net in $NETS; do
		ip route replace "$net" dev "$NAME"
		# If the interface should be missing, nothing goes another way.
		ip route replace blackhole "$net" metric 4294967295
	done
	# The policies of the tunnel have been applied when a packet comes out of it.
	[ $kind = vti6 ] || echo 1 >"/proc/sys/net/ipv4/conf/$NAME/disable_policy"
	;;
down)
	ip $family tunnel del "$NAME" # its routes go with it, the blackholes stay
	;;
*)
	echo "usage: $0 up|down" >&2
	exit 2
	;;
esac
