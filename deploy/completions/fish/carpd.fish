# fish completion for carpd(8)

complete -c carpd -f
complete -c carpd -s c -r -F -d 'configuration file'
complete -c carpd -s d -d 'plain text log on standard error'
complete -c carpd -s n -d 'check the configuration'
complete -c carpd -s v -d 'print more'
complete -c carpd -s V -d 'print the version'
complete -c carpd -s h -d 'help'
complete -c carpd -n __fish_use_subcommand -a cleanup -d 'remove virtual addresses and set the fence'
complete -c carpd -n __fish_use_subcommand -a fmt -d 'write the configuration in normal form'
complete -c carpd -n '__fish_seen_subcommand_from fmt' -F
