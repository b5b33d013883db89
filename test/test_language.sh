#!/usr/bin/env bash
# Every header with kernels also compiles by itself with g++ against the CUDA declarations of test/emu (-DAHEAD_EMU): kernels stay inside
# the device language of llmc/base/device.cuh, so that an emulation can run them. Syntax only, in bf16; the emulated trainer compiles all
# headers in all three precisions.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/report.sh

check() { # header: `ok`, or the header and what the compiler says
    local said
    said=$(echo "#include \"$1\"" | ${CXX:-g++} -std=c++17 -x c++ -fsyntax-only -Wall -DAHEAD_EMU -DPRECISION=1 -I. -Itest/emu - 2>&1)
    if [ -z "$said" ]; then echo ok; else echo "$1: $(grep -m 3 -E 'error|warning' <<<"$said" | tr '\n' ';')"; fi
}
export -f check
while read -r line; do
    if [ "$line" = ok ]; then pass; else fail "$line"; fi
done < <(grep -rlE '^(KERNEL|DEVICE)|__global__' llmc --include='*.cuh' | sort | xargs -P "$(nproc)" -I {} bash -c 'check {}')
finish
