#!/usr/bin/env bash
# Style and size: clang-format, the budgets that keep the code readable, includes that only point down, shell scripts.
# `lint.sh --format` rewrites the sources to .clang-format instead. Says what it skipped; exit code 1 when anything is wrong.
set -u
cd "$(dirname "$0")/.." || exit 1

sources() { find train_gpt2.cu llmc test data dev \( -name '*.h' -o -name '*.cuh' -o -name '*.cu' -o -name '*.c' -o -name '*.cpp' \) 2>/dev/null | sort; }
scripts() { find .ci scripts test data dev -name '*.sh' 2>/dev/null; find .ci -type f -name run; }
python() { find scripts data dev -name '*.py' 2>/dev/null; grep -lI -d skip '^#!.*python3' scripts/*; }
text() { sources; scripts; python; find Makefile README.md scripts test data dev -type f \( -name '*.md' -o -name '*.awk' -o -name '*.txt' -o -name Makefile \) 2>/dev/null; }

if [ "${1:-}" = --format ]; then
    command -v clang-format >/dev/null || { echo "error: clang-format is not installed: apt-get install clang-format" >&2; exit 1; }
    for _ in 1 2; do sources | xargs clang-format -i; done # a second pass settles aligned comments
    exit
fi

wrong=0
check() { # what, findings: none is good
    if [ -z "$2" ]; then
        echo "  ✓ $1"
    else
        wrong=$((wrong + 1))
        echo "  ✗ $1"
        head -40 <<<"$2" | sed 's/^/      /'
    fi
}
skip() { echo "  – $1"; }

# --- style
if command -v clang-format >/dev/null; then
    check "clang-format" "$(sources | xargs clang-format --dry-run 2>&1 | grep 'clang-format-violations' | cut -d: -f1 | sort | uniq -c | sed 's/$/ (places; make format)/')"
else
    skip "clang-format: skipped, not installed"
fi
# tables between `clang-format off` and `on` may be as wide as they need
check "lines of 130 columns or less" "$(sources | while read -r file; do
    awk '/clang-format off/ {off = 1} {print off ? "" : $0} /clang-format on/ {off = 0}' "$file" |
        LC_ALL=C.UTF-8 grep -nE '^.{131,}' | sed "s|^|$file:|" | cut -c 1-120
done)"
check "no tabs, no spaces at line ends" "$(sources | xargs grep -nE $'\t| +$' | cut -c 1-120)"

# --- budgets
budget() { # file
    case $1 in
        train_gpt2.cu) echo 1000 ;;
        test/*) echo 500 ;;
        llmc/io/unicode_tables.h) echo 100000 ;; # generated
        *.h | *.cuh) echo 300 ;;
        *) echo 500 ;;
    esac
}
check "files within their budget (headers 300 lines, tests 500, train_gpt2.cu 1000)" "$(sources | while read -r file; do
    lines=$(wc -l <"$file") most=$(budget "$file")
    [ "$lines" -le "$most" ] || echo "$file: $lines lines, at most $most"
done)"
# A function starts at a line in column 0 with a parenthesis and ends at the next } in column 0.
check "functions of 80 lines or less, main 120" "$(sources | xargs awk '
    FNR == 1 { start = comment = 0 }
    /^\/\*/ { comment = 1 }
    comment { if (/\*\//) comment = 0; next }
    /^[A-Za-z_].*\(/ && !/^(typedef|struct|enum|union|namespace|extern)/ { start = FNR; name = $0; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name) }
    start && FNR == start && /[};]$/ { start = 0 }
    /^}/ && start {
        lines = FNR - start + 1
        if (lines > (name == "main" ? 120 : 80)) print FILENAME ":" start ": " name " has " lines " lines"
        start = 0
    }')"

# --- structure
check "includes point down: base <- ops <- model, and optim, io, dist stand on base" "$(
    grep -n '#include "' -r llmc | while IFS=: read -r file line include; do
        from=$(cut -d/ -f2 <<<"$file")
        to=$(sed -n 's/.*"\(\.\.\/\|llmc\/\)\([a-z]*\)\/.*/\2/p' <<<"$include")
        case "$from>${to:-$from}" in
            "$from>$from" | *">base" | "model>ops" | "model>io" | "model>optim") ;;
            *) echo "$file:$line: $include" ;;
        esac
    done
)"

# --- words
check "no unfinished business, no paths of one machine" "$(text | grep -v -x scripts/lint.sh | xargs grep -nE '\b(TODO|FIXME|XXX)\b|/(home|root|Users|work)/' | cut -c 1-140)"

# --- shell
check "shell scripts parse" "$(scripts | while read -r file; do bash -n "$file" 2>&1; done)"
if command -v shellcheck >/dev/null; then
    check "shellcheck" "$(scripts | xargs shellcheck -x -S warning -f gcc 2>&1)"
else
    skip "shellcheck: skipped, not installed"
fi

# --- Python
if command -v python3 >/dev/null; then
    check "Python parses" "$(python | while read -r file; do
        python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$file" 2>&1 | tail -1
    done)"
else
    skip "Python parses: skipped, no python3"
fi
check "Python lines of 130 columns or less in scripts/" "$(python | grep '^scripts/' | LC_ALL=C.UTF-8 xargs grep -HnE '^.{131,}' | cut -c 1-120)"

[ "$wrong" = 0 ] || echo "error: $wrong of the checks above failed" >&2
[ "$wrong" = 0 ]
