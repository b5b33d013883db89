#!/usr/bin/env bash
# Fuzzes the readers of files and flags: each target of test/fuzz for FUZZ_SECONDS, from its seeds, the kept cases and what earlier calls
# found, under ASan, UBSan and limits of memory and time. One line for each; the last line counts targets. A finding stops its
# target and is left in build/fuzz/NAME.found: once its cause is removed it belongs into test/fuzz/corpus/NAME, for `make test`.
# Called by `make fuzz`.
#
#     test/fuzz/run.sh [NAME...]      targets; default: all
#     FUZZ_SECONDS=300                of each
#     FUZZ_JOBS=2                     targets at a time; default: the cores
set -u
cd "$(dirname "$0")/../.." || exit 1
. test/report.sh
seconds=${FUZZ_SECONDS:-300} jobs=${FUZZ_JOBS:-$(nproc)}
targets=("$@")
[ $# != 0 ] || for program in build/test/test_fuzz_*; do [ ! -x "$program" ] || targets+=("${program#build/test/test_fuzz_}"); done
if [ ${#targets[@]} = 0 ]; then
    skip "fuzzing: clang has no libFuzzer here: make setup, or apt-get install clang libclang-rt-14-dev (as clang's version)"
    finish
fi
for name in "${targets[@]}"; do
    [ -x "build/test/test_fuzz_$name" ] || { echo "error: there is no target $name; there is: $(cd test/fuzz && printf '%s ' *.c* | sed 's/[.]cu\? / /g')" >&2; exit 2; }
done
base=${TMPDIR:-/tmp}
[ ! -w /dev/shm ] || base=/dev/shm # inputs are files: in memory they are read faster
tmp=$(mktemp -d "$base/ahead-fuzz.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
export TMPDIR=$tmp

one() { # target
    local name=$1 program=build/test/test_fuzz_$1 all=build/fuzz/$1 dict=() kept=()
    mkdir -p "$all" "$tmp/$name" "$all.found"
    FUZZ_SEEDS=$tmp/$name $program >/dev/null 2>&1
    [ ! -f "$tmp/$name.dict" ] || dict=(-dict="$tmp/$name.dict")
    [ ! -d "test/fuzz/corpus/$name" ] || kept=("test/fuzz/corpus/$name")
    nice -n 10 "$program" "$all" "$tmp/$name" ${kept[@]+"${kept[@]}"} ${dict[@]+"${dict[@]}"} -max_total_time="$seconds" -timeout=20 \
        -rss_limit_mb=2048 -malloc_limit_mb=512 -detect_leaks=0 -close_fd_mask=3 -print_final_stats=1 \
        -artifact_prefix="$all.found/" >"$all.log" 2>&1
    echo $? >"$all.code"
}
export -f one
export seconds tmp
printf '%s\n' "${targets[@]}" | xargs -P "$jobs" -I {} bash -c 'one {}'
for name in "${targets[@]}"; do
    all=build/fuzz/$name
    ran=$(sed -n 's/^stat::number_of_executed_units: *//p' "$all.log")
    edges=$(grep -aoE 'cov: [0-9]+' "$all.log" | tail -1)
    if [ "$(cat "$all.code")" = 0 ]; then
        echo "  $name: $ran inputs, ${edges#cov: } edges, no finding"
        pass
    else
        fail "$name: $(grep -aE '^finding|SUMMARY|runtime error' "$all.log" | head -1 | cut -c 1-200); $(sed -n 's/.*Test unit written to //p' "$all.log" | tail -1), all of it in $all.log"
    fi
done
finish
