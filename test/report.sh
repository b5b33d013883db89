# shellcheck shell=bash
# For test_*.sh: count, say what failed and what was skipped, end with the line that test/run.sh adds up.
#     . test/report.sh; pass; fail "what: found, expected"; skip "what: why"; finish
# FAIL_FAST=1 ends at the first failure.
passed=0 failed=0 skipped=0
pass() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "failed: $*"
    [ -z "${FAIL_FAST:-}" ] || finish
}
skip() {
    skipped=$((skipped + 1))
    echo "skipped: $*"
}
finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
    exit
}
