# fish completion for sasyncctl(8)

function __sasyncctl_peers
    sasyncctl peers 2>/dev/null | sed -n '2,$s/^\([^ (][^ ]*\) .*/\1/p'
end

function __sasyncctl_groups
    sasyncctl status 2>/dev/null | sed -n 's/^group \([^: ]*\).*/\1/p'
end

complete -c sasyncctl -f
complete -c sasyncctl -s a -d 'doctor: all gateways'
complete -c sasyncctl -s f -l force -d 'failover: even if check does not say yes'
complete -c sasyncctl -s j -d 'print JSON'
complete -c sasyncctl -s k -d 'show keys'
complete -c sasyncctl -s n -l dry-run -d 'failover and init: only tell what it would do'
complete -c sasyncctl -s s -r -F -d 'socket'
complete -c sasyncctl -s v -d 'print more'
complete -c sasyncctl -s V -d 'print the version'
complete -c sasyncctl -s w -x -d 'check: wait so many seconds'
complete -c sasyncctl -s h -l help -d 'help'
complete -c sasyncctl -n __fish_use_subcommand -a status -d 'who is master of what, who is in sync, what is wrong'
complete -c sasyncctl -n __fish_use_subcommand -a check -d 'would a failover work now?'
complete -c sasyncctl -n __fish_use_subcommand -a doctor -d 'what is wrong, and what to do'
complete -c sasyncctl -n __fish_use_subcommand -a peers -d 'the other gateways'
complete -c sasyncctl -n __fish_use_subcommand -a show -d 'what the kernel holds'
complete -c sasyncctl -n __fish_use_subcommand -a diff -d 'what differs'
complete -c sasyncctl -n __fish_use_subcommand -a resync -d 'whole snapshots anew'
complete -c sasyncctl -n __fish_use_subcommand -a failover -d 'hand mastership over'
complete -c sasyncctl -n __fish_use_subcommand -a last -d 'the last failover, step by step'
complete -c sasyncctl -n __fish_use_subcommand -a guard -d 'what the leak guard holds'
complete -c sasyncctl -n __fish_use_subcommand -a top -d 'rates and lag, each second'
complete -c sasyncctl -n __fish_use_subcommand -a reload -d 'read the configuration again'
complete -c sasyncctl -n __fish_use_subcommand -a init -d 'set up this gateway and its peer'
complete -c sasyncctl -n __fish_use_subcommand -a help -d 'what a command does'
complete -c sasyncctl -n '__fish_seen_subcommand_from help' -a 'status check doctor peers show diff resync failover last guard top reload init'
complete -c sasyncctl -n '__fish_seen_subcommand_from show' -a 'sa flow all'
complete -c sasyncctl -n '__fish_seen_subcommand_from guard; and not __fish_seen_subcommand_from forget' -a forget
complete -c sasyncctl -n '__fish_seen_subcommand_from forget' -a all
complete -c sasyncctl -n '__fish_seen_subcommand_from last' -a '(__sasyncctl_groups)'
complete -c sasyncctl -n '__fish_seen_subcommand_from diff resync' -a '(__sasyncctl_peers)'
complete -c sasyncctl -n '__fish_seen_subcommand_from failover; and not __fish_seen_subcommand_from to' -a 'to (__sasyncctl_groups)'
complete -c sasyncctl -n '__fish_seen_subcommand_from failover; and __fish_seen_subcommand_from to' -a '(__sasyncctl_peers)'
complete -c sasyncctl -n '__fish_seen_subcommand_from init' -l own -x -d 'address of this gateway on the sync link'
complete -c sasyncctl -n '__fish_seen_subcommand_from init' -l outside -x -a '(ls /sys/class/net)' -d 'interface outside'
complete -c sasyncctl -n '__fish_seen_subcommand_from init' -l outside-vip -x -d 'virtual addresses outside'
complete -c sasyncctl -n '__fish_seen_subcommand_from init' -l outside-vhid -x -d 'vhid outside'
complete -c sasyncctl -n '__fish_seen_subcommand_from init' -l inside -x -a '(ls /sys/class/net)' -d 'interface inside'
complete -c sasyncctl -n '__fish_seen_subcommand_from init' -l inside-vip -x -d 'virtual addresses inside'
complete -c sasyncctl -n '__fish_seen_subcommand_from init' -l inside-vhid -x -d 'vhid inside'
complete -c sasyncctl -n '__fish_seen_subcommand_from init' -l peer-outside -x -a '(ls /sys/class/net)' -d 'interface of the peer outside'
complete -c sasyncctl -n '__fish_seen_subcommand_from init' -l peer-inside -x -a '(ls /sys/class/net)' -d 'interface of the peer inside'
complete -c sasyncctl -n '__fish_seen_subcommand_from init' -l ike -x -a 'strongswan libreswan openiked static none' -d 'IKE daemon'
complete -c sasyncctl -n '__fish_seen_subcommand_from init' -l static -r -F -d 'static keys'
complete -c sasyncctl -n '__fish_seen_subcommand_from init' -l ssh -x -d 'destination of the peer for ssh'
complete -c sasyncctl -n '__fish_seen_subcommand_from init' -l wait -x -d 'seconds until a failover has to be possible'
complete -c sasyncctl -n '__fish_seen_subcommand_from init' -l print -d 'of the peer, only print the commands'
