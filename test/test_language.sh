#!/usr/bin/env bash
# Every kernel header also compiles with g++ against the CUDA declarations of test/emu (-DAHEAD_EMU), in all three precisions:
# kernels stay inside the device language of llmc/base/device.cuh, so that an emulation can run them. Syntax only, nothing runs.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/report.sh

headers=$(find llmc -name '*.cuh' | sort)
for header in $headers; do
    for precision in 0 1 2; do
        said=$(echo "#include \"$header\"" | ${CXX:-g++} -std=c++17 -x c++ -fsyntax-only -Wall -DAHEAD_EMU -DPRECISION=$precision \
            -I. -Itest/emu - 2>&1)
        if [ -z "$said" ]; then pass; else fail "$header, PRECISION=$precision: $(grep -m 3 -E 'error|warning' <<<"$said" | tr '\n' ';')"; fi
    done
done
finish
