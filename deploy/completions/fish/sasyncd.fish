# fish completion for sasyncd(8)

complete -c sasyncd -f
complete -c sasyncd -s c -r -F -d 'configuration file'
complete -c sasyncd -s d -d 'plain text log on standard error'
complete -c sasyncd -s n -d 'check the configuration'
complete -c sasyncd -s v -d 'print more'
complete -c sasyncd -s V -d 'print the version'
complete -c sasyncd -s h -d 'help'
complete -c sasyncd -n __fish_use_subcommand -a fmt -d 'write the configuration in normal form'
complete -c sasyncd -n '__fish_seen_subcommand_from fmt' -F
