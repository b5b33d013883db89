#!/usr/bin/env bash
# Every kernel of llmc/, and every function there that launches one, must have run in the emulation: in the plain, the checking and
# the sanitizer build. Nothing is run here: test/run.sh lets each program write what it launched to build/coverage.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/report.sh

sources=$(find llmc -name '*.cuh' -o -name '*.h' | sort)
# shellcheck disable=SC2086 # several files
kernels=$(awk '
    /^KERNEL/ {
        line = $0
        sub(/^KERNEL */, "", line)
        sub(/^LAUNCH_BOUNDS\([^)]*\)/, "", line)
        if (line !~ /\(/) { getline; line = $0 }
        sub(/\(.*/, "", line); gsub(/ /, "", line)
        print line
    }' $sources)
# A function starts in column 0 with a parenthesis; a LAUNCH in one of its macros is its own.
# shellcheck disable=SC2086
launchers=$(awk '
    FNR == 1 { name = "" }
    /^[A-Za-z_].*\(/ && !/^(typedef|struct|enum|union)/ { name = $0; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name) }
    /LAUNCH(_SHARED)?\(/ && !/^#define LAUNCH/ && !/^ *(\/\/|LAUNCH\(k, )/ && name != "" { print name }' $sources | sort -u)

declare -A kind=() launches=()
kinds=()
for program in $("${MAKE:-make}" -s list-tests); do
    case $program in
        build/test/*_emu_*) of=plain ;;
        build/test/*_check_*) of=check ;;
        build/test/*_asan_*) of=asan ;;
        *) continue ;;
    esac
    [ -n "${kind[$of]:-}" ] || { kind[$of]=1 kinds+=("$of"); }
    written=build/coverage/$(basename "$program")
    if [ ! -f "$written" ] || [ "$written" -ot "$program" ]; then
        skip "$written is missing or older than its program: make test (all of it) writes it"
        finish
    fi
    while read -r what name count; do
        launches[$of.$what.$name]=$((${launches[$of.$what.$name]:-0} + count))
    done <"$written"
done

printf '%10s' "${kinds[@]}"
echo "  launches of"
missing=()
for what in kernel launcher; do
    [ $what = kernel ] && names=$kernels || names=$launchers
    [ -n "$names" ] || missing+=("found no ${what}s in llmc/")
    for name in $names; do
        for of in "${kinds[@]}"; do
            n=${launches[$of.$what.$name]:-0}
            printf '%10s' "$n"
            if [ "$n" != 0 ]; then pass; else missing+=("$what $name never runs in the $of build: a test of EMU_TESTS (Makefile) must launch it"); fi
        done
        echo "  $what $name"
    done
done
for line in "${missing[@]}"; do fail "$line"; done
for of in plain check asan; do
    [ -n "${kind[$of]:-}" ] || skip "no program of the $of build: it needs clang++"
done
finish
