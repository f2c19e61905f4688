#!/bin/sh
# Runs every fuzz target that there is, FUZZTIME each, as many at once as there
# are processors, and prints a line for each. With KEEP=n, up to n of the inputs
# that were found interesting, the shortest, join the corpus of the target
# (testdata/fuzz). An argument, if any, is a regular expression of "package target"
# to choose by.
set -eu
: "${GO:=go}" "${FUZZTIME:=1m}" "${KEEP:=0}"
export GO FUZZTIME KEEP

# one runs one target: --one PACKAGE TARGET, as the script calls itself.
one() {
	dir=$1 target=$2 failed=0
	# Making an input smaller may take a minute by default, which was all there was.
	out=$($GO test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" -fuzzminimizetime 1s -parallel 1 "$dir" 2>&1) || failed=1
	if [ "$failed" -eq 0 ]; then
		printf '%-28s %-20s %s\n' "$dir" "$target" "$(echo "$out" | grep '^fuzz: elapsed' | tail -1 | cut -d: -f2-)"
	else
		printf '%-28s %-20s FAILED\n%s\n' "$dir" "$target" "$out"
	fi
	found=$($GO env GOCACHE)/fuzz/$($GO list -m)/${dir#./}/$target
	if [ "$KEEP" -gt 0 ] && [ -d "$found" ]; then
		mkdir -p "$dir/testdata/fuzz/$target"
		find "$found" -type f -size -3k -printf '%s %p\n' | sort -n | head -n "$KEEP" | while read -r _ input; do
			cp "$input" "$dir/testdata/fuzz/$target/"
		done
	fi
	return "$failed"
}

if [ "${1:-}" = --one ]; then
	one "$2" "$3"
	exit
fi
list=$(grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
	sed -n "s,^func \(Fuzz[A-Za-z0-9_]*\)(.*,$(dirname "$file") \1,p" "$file"
done | grep -E "${1:-.}") || { echo "no target matches $1" >&2; exit 1; }
failed=0
echo "$list" | xargs -P "$(nproc)" -L 1 "$0" --one || failed=1
echo "$(echo "$list" | wc -l) targets, $([ $failed -eq 0 ] && echo none failed || echo some failed)"
exit $failed
