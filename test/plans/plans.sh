#!/usr/bin/env bash
# make plans: cuDNN's attention plans for GPUs that are not here (see plans.c). Builds nothing; runs build/plans/plans with the
# stand-in driver beside it, one process per architecture, as many at a time as there are cores. About 90 s of CPU each.
#     test/plans/plans.sh [SM ...]     default: every architecture that plans.c describes
set -u
cd "$(dirname "$0")/../.." || exit 1
if ! grep -q '^HAVE_CUDNN' build/found.mk; then
    why=$(grep -E 'cuDNN|nvcc' build/found.txt | tail -1 | sed 's/^ *– *//; s/  */ /g')
    echo "skipped: cuDNN plans need nvcc, cuDNN and its frontend headers (${why:-not found here})"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
program=build/plans/plans
architectures=${*:-$("$program")}
rm -f build/plans/*.txt
export LD_LIBRARY_PATH=$PWD/build/plans${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
one() { "$1" "$2" >"build/plans/$2.txt" 2>&1; echo "exit code $?" >>"build/plans/$2.txt"; }
export -f one
# shellcheck disable=SC2016
xargs -n 1 -P "$(nproc)" bash -c 'one "$0" "$1"' "$program" <<<"$architectures"

passed=0 failed=0
for sm in $architectures; do
    log=build/plans/$sm.txt
    grep -v -E '^(exit code|[0-9]+ passed)' "$log"
    counts=$(grep -E '^[0-9]+ passed' "$log" | tail -1)
    if [ -z "$counts" ]; then
        echo "failed: sm_$sm: no result, $(tail -1 "$log")"
        failed=$((failed + 1))
    else
        read -r p _ f _ <<<"$counts"
        passed=$((passed + p)) failed=$((failed + f))
    fi
    echo
done
grep -h '^summary' build/plans/*.txt | sort -V
grep -h '^failed' build/plans/*.txt
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
