#!/usr/bin/env bash
# The fuzz targets' kept cases: few, small, and of targets that are there. Running them is what build/test/test_fuzz_* do.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/report.sh
for dir in test/fuzz/corpus/*/; do
    name=$(basename "$dir")
    if compgen -G "test/fuzz/$name.c*" >/dev/null; then pass; else fail "$dir: there is no target test/fuzz/$name.c"; fi
done
bytes=$(find test/fuzz/corpus -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }')
if [ "$bytes" -lt 204800 ]; then pass; else fail "test/fuzz/corpus has $bytes bytes, expected less than 204800: keep fewer cases"; fi
built=$("${MAKE:-make}" -s list-tests | grep -o 'build/test/test_fuzz_[a-z]*' | wc -l)
[ "$built" != 0 ] || skip "the fuzz targets' cases: clang has no libFuzzer here: make setup, or apt-get install clang libclang-rt-14-dev (as clang's version)"
finish
