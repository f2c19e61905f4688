#!/bin/sh
# Runs every fuzz target that there is, one after the other, FUZZTIME each, and
# prints a line for each. With KEEP=n, up to n of the inputs that were found
# interesting, the shortest, join the corpus of the target (testdata/fuzz).
# Arguments, if any, are regular expressions of "package target" to choose from.
set -eu
: "${GO:=go}" "${FUZZTIME:=1m}" "${KEEP:=0}"
pick=${1:-.}
failed=0 ran=0
cache=$($GO env GOCACHE)/fuzz
module=$($GO list -m)
list=$(grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
	sed -n "s,^func \(Fuzz[A-Za-z0-9_]*\)(.*,$(dirname "$file") \1,p" "$file"
done)
while read -r dir target; do
	echo "$dir $target" | grep -Eq "$pick" || continue
	ran=$((ran + 1))
	if out=$($GO test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" "$dir" 2>&1); then
		printf '%-28s %-20s %s\n' "$dir" "$target" "$(echo "$out" | grep '^fuzz: elapsed' | tail -1 | cut -d: -f2-)"
	else
		failed=$((failed + 1))
		printf '%-28s %-20s FAILED\n%s\n' "$dir" "$target" "$out"
	fi
	if [ "$KEEP" -gt 0 ] && [ -d "$cache/$module/${dir#./}/$target" ]; then
		mkdir -p "$dir/testdata/fuzz/$target"
		find "$cache/$module/${dir#./}/$target" -type f -size -3k -printf '%s %p\n' | sort -n | head -n "$KEEP" | while read -r _ input; do
			cp "$input" "$dir/testdata/fuzz/$target/"
		done
	fi
done <<EOF
$list
EOF
echo "$ran targets, $failed failed"
[ "$failed" -eq 0 ]
