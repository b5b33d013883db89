#!/usr/bin/env bash
# Our training step and PyTorch's, same model and shape, in turns: build/bench/step and dev/bench/pytorch_step.py.
#     dev/bench/side_by_side.sh PYTHON [ROUNDS [SHAPE...]]       PYTHON: an interpreter with torch; shapes: d12_t64 d12 d6
# PyTorch gets what it needs to be fast: all cores as threads, none pinned, no core type forced on its libraries.
set -eu
cd "$(dirname "$0")/../.."
python=${1:?usage: dev/bench/side_by_side.sh PYTHON [ROUNDS [SHAPE...]]}
rounds=${2:-3}
shift $(($# < 2 ? $# : 2))
shapes=("$@")
[ ${#shapes[@]} -gt 0 ] || shapes=(d12_t64 d12 d6)
threads=${OMP_NUM_THREADS:-$(nproc)}
${MAKE:-make} -s build/bench/step CUDA=0
for shape in "${shapes[@]}"; do
    for ((i = 1; i <= rounds; i++)); do
        OMP_NUM_THREADS=$threads build/bench/step "$shape" 5 | awk -v s="$shape" '
            $1 == "step" { best = $5; median = $7 }
            $1 == "limit" { for (i = 1; i < NF; i++) if ($i == "at") at = $(i + 1); for (i = 1; i < NF; i++) if ($i == "tokens/s") tps = $(i - 1) }
            END { printf "ahead.c   %-8s best %8.1f ms  median %8.1f ms  %7.1f tok/s  %s %% of the limit\n", s, best, median, tps, at }'
        env -u OPENBLAS_CORETYPE -u OMP_PROC_BIND -u OMP_NUM_THREADS -u GOMP_SPINCOUNT "$python" dev/bench/pytorch_step.py \
            --shape "$shape" --steps 5 --threads "$threads"
    done
done
