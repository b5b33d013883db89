#!/usr/bin/env bash
# What the pages name exists: every flag, preset, script, file and make target in README.md and data/README.md. Commands are run as
# written by test/long/readme.sh.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/report.sh
program=${PROGRAM:-./train_gpt2cu}
[ -x "$program" ] || { fail "$program is not built"; finish; }

# All flags that any program of ours has: the trainer's by --help, the others' by the text of their source.
known=$(
    "$program" --help | grep -oE -- '--[a-z][a-z0-9_]+'
    grep -ohE -- '--[a-z][a-z0-9_]+' data/*.c data/*.h data/*.py scripts/* dev/bench/* dev/export/* dev/*.py test/run.sh 2>/dev/null
)
known=$(sort -u <<<"$known")
for page in README.md data/README.md; do
    for flag in $(grep -oE -- '(^|[^a-z-])--[a-z][a-z0-9_]+' $page | grep -oE -- '--[a-z0-9_]+' | sort -u); do
        if grep -qx -e "$flag" <<<"$known"; then pass; else fail "$page names $flag, which no program has"; fi
    done
    # files of the tree: words that begin with one of its folders; what a command makes is left to test/long/readme.sh
    for file in $(grep -oP '(?<![\w/])(scripts|test|dev|llmc)/[A-Za-z0-9_./*-]+[A-Za-z0-9*]' $page | sort -u); do
        # shellcheck disable=SC2086 # a pattern is meant
        if compgen -G "$file" >/dev/null; then pass; else fail "$page names $file, which is not there"; fi
    done
    for target in $(grep -oE '\bmake [a-z][a-z-]+' $page | cut -d' ' -f2 | sort -u); do
        if grep -qE "^([a-z-]+ )*$target( [a-z-]+)*:" Makefile; then
            pass
        elif grep -qE "\`make $target|^make $target" $page; then
            fail "$page names make $target, which is no target"
        fi
    done
    # a preset in the table, or in a command
    for preset in $(grep -oE '@scripts/presets/[a-z0-9_]+\.txt' $page | cut -c 2- | sort -u); do
        if [ -f "$preset" ]; then pass; else fail "$page names $preset, which is not there"; fi
    done
done
for preset in scripts/presets/*.txt; do
    name=$(basename "$preset" .txt)
    if grep -q "\`$name\`" README.md; then pass; else fail "README.md does not say what the preset $name is"; fi
done
finish
