#!/usr/bin/env bash
# Runs every command of README.md and data/README.md as it is written, in their order, in a fresh copy of the tree.
# A block of ```sh holds commands; one behind a line `<!-- not run: why -->` is counted as skipped, with its reason. Other blocks
# are output or formats. A command fails when its exit code is not 0. Named files that a reader would bring (book1.txt) are made.
set -u
cd "$(dirname "$0")/../.." || exit 1
. test/report.sh
LIMIT=${README_TIMEOUT:-900} # seconds for one block
d=$(mktemp -d "${TMPDIR:-/tmp}/ahead-readme.XXXXXX") || exit 1
trap 'rm -rf "$d"' EXIT
if git rev-parse --git-dir >/dev/null 2>&1; then
    git ls-files -z --cached --others --exclude-standard | xargs -0 tar -cf - | tar -xf - -C "$d"
else
    tar --exclude=./build --exclude=./runs -cf - . | tar -xf - -C "$d"
fi
# blocks of a page as files: NUMBER.sh (its first line names page and line) or NUMBER.skip
mkdir "$d/.blocks"
for page in README.md data/README.md; do
    awk -v page=$page -v dir="$d/.blocks" -v stem="${page//\//.}" '
        /^<!-- not run: .* -->$/ { why = $0; sub(/^<!-- not run: /, "", why); sub(/ -->$/, "", why); next }
        /^```sh$/ { file = sprintf("%s/%s.%04d.%s", dir, stem, NR, why == "" ? "sh" : "skip"); inside = 1
                    print "# " page ":" NR (why == "" ? "" : ": " why) > file; why = ""; next }
        /^```/ { inside = 0; if (file != "") close(file); file = ""; why = ""; next }
        inside { print > file }
        !inside && NF { why = "" }' "$page"
done
cd "$d" || exit 1
make -s tools >/dev/null 2>"$d/tools.err" || fail "make tools: $(tail -3 "$d/tools.err")"
for i in 1 2 3; do data/make_corpus --bytes 400000 --seed $i --out "book$i.txt" >/dev/null; done
blocks=$(find .blocks -name '*.sh' -o -name '*.skip' | sort)
[ -n "$blocks" ] || fail "README.md has no block of commands"
for block in $blocks; do
    where=$(sed -n '1s/^# //p' "$block")
    if [ "${block##*.}" = skip ]; then
        skip "$where"
        continue
    fi
    before=$SECONDS
    if timeout "$LIMIT" bash -euo pipefail "$block" >"$d/out" 2>&1 </dev/null; then
        pass
        echo "  $where: $((SECONDS - before)) s"
    else
        fail "$where (exit code $?): $(sed 1d "$block" | head -3 | tr '\n' ';') said: $(tail -4 "$d/out" | cut -c 1-300)"
    fi
done
finish
