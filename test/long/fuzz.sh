#!/usr/bin/env bash
# Every reader of files and flags (test/fuzz), fuzzed for five minutes each, as many at a time as there are cores: half an hour on two.
# Needs clang with libFuzzer (make setup). FUZZ_SECONDS=60 is quicker.
set -u
cd "$(dirname "$0")/../.." || exit 1
"${MAKE:-make}" -s -k fuzzers || { echo "failed: the targets do not compile" && echo "0 passed, 1 failed, 0 skipped" && exit 1; }
exec test/fuzz/run.sh
