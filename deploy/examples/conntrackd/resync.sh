#!/bin/sh
# Run every minute (conntrackd-resync.timer): if this gateway is the MASTER, tells
# the other about the connections that were begun before this one took over.
# conntrackd itself tells only what has changed since.
set -eu
: "${VIP:=203.0.113.1}"
: "${CONF:=/etc/conntrackd/conntrackd.conf}"

[ -n "$(ip -o addr show to "$VIP")" ] || exit 0
conntrackd -C "$CONF" -R # what the kernel has, into its memory
conntrackd -C "$CONF" -B # and that to the other gateway
