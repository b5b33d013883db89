#!/usr/bin/env bash
# Builds everything, runs every test program and prints one line for each. The last line counts all tests:
#     N passed, N failed, N skipped
# Exit code 0 only when nothing failed. A program that crashes, hangs or prints no summary counts as one failed test.
# A program is build/test/test_* (cmocka) or test/test_*.sh; both end in their counts, and say `skipped: why` for what they skip.
# Called by `make test`; test/run.sh NAME... runs only the programs whose name contains a NAME.
# `make test-long` is test/run.sh --long NAME...: test/long/*.sh, which take minutes or ask the network.
# `make test-gpu` is test/run.sh --gpu NAME...: the programs of EMU_TESTS compiled by nvcc, and the trainer, on the GPU here.
set -u
cd "$(dirname "$0")/.." || exit 1
MAKE=${MAKE:-make}
LIMIT=${TEST_TIMEOUT:-300}  # seconds for one program
cores=$(nproc)
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000} # threads that wait go to sleep soon: on a busy machine spinning costs a factor of 5
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores < 4 ? cores : 4))}
goals="train_gpt2cu tools tests" list=list-tests scripts="test/test_*.sh" start=start_beside
if [ "${1:-}" = --long ]; then
    shift
    goals="train_gpt2cu tools" list=help scripts="test/long/*.sh" start=run LIMIT=${TEST_TIMEOUT:-3600}
fi
if [ "${1:-}" = --gpu ]; then
    shift
    gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ')
    if [ "$gpus" = 0 ]; then
        echo "error: no NVIDIA GPU answers here (nvidia-smi -L names none), so nothing was run; make test runs the same kernels without one" >&2
        exit 1
    fi
    goals="train_gpt2cu tools test-gpu-build" list=list-gpu-tests scripts=test/test_train_emu.sh start=run
    export PROGRAM=./train_gpt2cu
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/ahead-test.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work

passed=0 failed=0 skipped=0
began=$SECONDS
# Compilers need up to 1.1 GB each: no more jobs than memory carries.
memory=$(awk '/^MemAvailable/ {print int($2 / 1500000)}' /proc/meminfo)
jobs=$((memory < 1 ? 1 : memory < cores ? memory : cores))
echo "build ($jobs jobs)"
# shellcheck disable=SC2086 # several goals
"$MAKE" -k -j"$jobs" $goals
built=$?
build_seconds=$((SECONDS - began))

# Adds a program's counts from its output; prints its line and, when it failed, what it said.
report() { # name seconds exit-code log
    local counts p f s mark=✓ note=
    counts=$(awk '
        match($0, /[0-9]+ test\(s\)/) && /^\[  (PASSED|FAILED|SKIPPED)/ {
            n = substr($0, RSTART) + 0
            if (/^\[  PASSED/) p += n; else if (/^\[  FAILED/) f += n; else s += n
            seen = 1
        }
        /^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ { p += $1; f += $3; s += $5; seen = 1 }
        END { if (seen) print p + 0, f + 0, s + 0 }' "$4")
    read -r p f s <<<"${counts:-0 0 0}"
    if [ "$3" = 124 ]; then
        f=$((f + 1)) note="stopped after $LIMIT s"
    elif [ -z "$counts" ]; then
        f=$((f + 1)) note="printed no summary, exit code $3"
    elif [ "$3" != 0 ] && [ "$f" = 0 ]; then
        f=$((f + 1)) note="crashed or failed outside its tests, exit code $3"
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    [ "$f" = 0 ] || mark=✗
    printf '  %s %-24s %4d passed %4d failed %4d skipped %6d s  %s\n' "$mark" "$1" "$p" "$f" "$s" "$2" "$note"
    [ "$f" = 0 ] || grep -v -E '^\[ +(RUN|OK) +\]|^ *skip(ped)?: ' "$4" | tail -30 | cut -c 1-400 | sed 's/^/      /'
    [ "$s" = 0 ] || {
        grep -E '^ *skip(ped)?: ' "$4" ||
            sed -n 's/^\[  SKIPPED \] \([a-zA-Z_0-9]*\)$/skipped: \1 (it does not say why)/p' "$4"
    } | sort -u | sed 's/^ */      /'
}

run() { # name command...
    local name=$1 began=$SECONDS code
    shift
    { timeout -k 10 "$LIMIT" "$@" >"$work/log" 2>&1 </dev/null; } 2>/dev/null # bash's own word on a crash
    code=$?
    report "$name" $((SECONDS - began)) "$code" "$work/log"
}

# Most programs have one thread most of the time, and a script waits: as many of them at a time as there are cores, reported when all are
# done. On a GPU one after the other.
beside=()
start_beside() { # name command...: when a core is free
    while [ "$(jobs -rp | wc -l)" -ge "$cores" ]; do wait -n; done
    beside+=("$1")
    run_beside "$@" &
}
run_beside() { # name command...
    local name=$1 began=$SECONDS
    shift
    { timeout -k 10 "$LIMIT" "$@" >"$work/$name.log" 2>&1 </dev/null; } 2>/dev/null
    echo "$? $((SECONDS - began))" >"$work/$name.code"
}
report_beside() {
    local name code seconds
    wait
    for name in "${beside[@]}"; do
        read -r code seconds <"$work/$name.code"
        report "$name" "$seconds" "$code" "$work/$name.log"
    done
    beside=()
}

wanted() { # is this program asked for?
    [ ${#names[@]} = 0 ] && return 0
    local n
    for n in "${names[@]}"; do [[ $1 == *"$n"* ]] && return 0; done
    return 1
}

names=("$@")
echo "test ($OMP_NUM_THREADS threads; the build took $build_seconds s)"
if [ "$built" != 0 ]; then
    failed=$((failed + 1))
    echo "  ✗ the build failed (above)"
fi
programs=$("$MAKE" -s $list | grep "^build/test/") # the probe may print too
mkdir -p build/coverage && export EMU_COVERAGE=$PWD/build/coverage # test/test_coverage.sh reads it
for program in $programs; do
    name=$(basename "$program")
    wanted "$program" || continue
    if [ ! -x "$program" ]; then
        failed=$((failed + 1))
        echo "  ✗ $name: does not compile"
    else
        $start "$name" "$program"
    fi
done
report_beside
unset EMU_COVERAGE
for program in $scripts; do
    [ -e "$program" ] && wanted "$program" || continue
    $start "$(basename "$program" .sh)" bash "$program"
done
report_beside

echo "total $((SECONDS - began)) s"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
