# fish completion for carpctl(8)

function __carpctl_groups
    carpctl show 2>/dev/null | sed -n 's/^group \([^: ]*\).*/\1/p'
end

complete -c carpctl -f
complete -c carpctl -s j -d 'print JSON'
complete -c carpctl -s s -r -F -d 'socket'
complete -c carpctl -s v -d 'print more'
complete -c carpctl -s V -d 'print the version'
complete -c carpctl -s h -d 'help'
complete -c carpctl -n __fish_use_subcommand -a show -d 'who is master of what, and why'
complete -c carpctl -n __fish_use_subcommand -a demote -d 'be a lesser master, until undemote'
complete -c carpctl -n __fish_use_subcommand -a undemote -d 'take back what demote did'
complete -c carpctl -n __fish_use_subcommand -a resign -d 'hand mastership over'
complete -c carpctl -n __fish_use_subcommand -a announce -d 'tell the neighbours again where the addresses are'
complete -c carpctl -n __fish_use_subcommand -a doctor -d 'look for what keeps an election from working'
complete -c carpctl -n __fish_use_subcommand -a reload -d 'read carpd.conf again'
complete -c carpctl -n __fish_use_subcommand -a freeze -d 'restart carpd soon and nothing changes hands'
complete -c carpctl -n __fish_use_subcommand -a fence -d 'have a program silence a master that is not heard'
complete -c carpctl -n __fish_use_subcommand -a notify -d 'run a program at every change of state'
complete -c carpctl -n __fish_use_subcommand -a help -d 'what a command does'
complete -c carpctl -n '__fish_seen_subcommand_from help' -a 'show demote undemote resign announce doctor reload freeze fence notify'
complete -c carpctl -n '__fish_seen_subcommand_from demote undemote resign fence notify' -a '(__carpctl_groups)'
