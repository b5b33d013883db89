#!/usr/bin/env bash
# Do the tests notice? Plants the faults of test/mutants.txt, one at a time, in a copy of the tree, and runs the test programs that
# should turn red. A fault that they miss meets every other program that includes the file; one that nothing misses is a missing
# test, and the exit code is 1. An entry that no longer fits the source is an error before anything is built (exit code 2).
# Called by `make mutants`; MUTANTS="rope adamw" takes the faults whose name or file contains a word.
#
#     test/mutants.sh [--list] [WORD...]
#     JOBS=2                 faults at a time, each in its own copy; default: the cores
#     WIDER=0                do not look further when the programs that an entry names miss its fault
#     MUTANT_TIMEOUT=120     seconds for one program; a hang counts as noticed
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
table=test/mutants.txt
MAKE=${MAKE:-make}
LIMIT=${MUTANT_TIMEOUT:-120}
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000} OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} FAIL_FAST=1
unset MAKEFLAGS MFLAGS

# ---------------------------------------------------------------------------------------------------------------------
# The table: names[i] files[i] tests[i] whys[i] olds[i] news[i]
names=() files=() tests=() whys=() olds=() news=()
die() {
    echo "error: $*" >&2
    exit 2
}
read_table() {
    local line file='' programs='' i=-1 number=0 newline=$'\n' last=''
    while IFS= read -r line; do
        number=$((number + 1))
        case $line in
            '' | '#'*) ;;
            'file '*)
                read -r _ file programs <<<"$line"
                [ -f "$file" ] || die "$table:$number: there is no file $file"
                ;;
            '- '*)
                [ "$last" != + ] || die "$table:$number: old text after the new"
                if [ "$last" = - ]; then olds[i]+=$newline${line:2}; else olds[i]=${line:2}; fi
                last=-
                ;;
            '+ '*)
                if [ "$last" = + ]; then news[i]+=$newline${line:2}; else news[i]=${line:2}; fi
                last=+
                ;;
            *': '*)
                i=$((i + 1)) last=''
                read -r 'names[i]' 'tests[i]' <<<"${line%%: *}"
                tests[i]=${tests[i]:-$programs} files[i]=$file whys[i]=${line#*: } olds[i]='' news[i]=''
                ;;
            *) die "$table:$number: expected \`file PATH PROGRAM..\`, \`name: why\`, \`- old\` or \`+ new\`, found: $line" ;;
        esac
    done <"$table"
}

# Text of a file with its line ends, in $text (command substitution would drop the last ones).
slurp() {
    text=$(cat "$1" && echo .) || exit 1
    text=${text%.}
}
check_table() {
    local i j stale=0 once
    for ((i = 0; i < ${#names[@]}; i++)); do
        slurp "${files[i]}"
        once=${text/"${olds[i]}"/$'\001'}
        if [ -z "${olds[i]}" ] || [ "$once" = "$text" ]; then
            echo "error: stale fault ${names[i]}: ${files[i]} does not contain: ${olds[i]}" >&2
            stale=1
        elif [[ $once == *"${olds[i]}"* ]]; then
            echo "error: fault ${names[i]}: its text is in ${files[i]} more than once: ${olds[i]}" >&2
            stale=1
        fi
        [ "${olds[i]}" != "${news[i]}" ] || die "fault ${names[i]} changes nothing"
        [ -n "${tests[i]}" ] || die "fault ${names[i]} names no test program"
        for ((j = 0; j < i; j++)); do [ "${names[i]}" != "${names[j]}" ] || die "two faults are called ${names[i]}"; done
    done
    [ $stale = 0 ] || exit 2
}

# ---------------------------------------------------------------------------------------------------------------------
# Test programs: `ops_emu_bf16` is build/test/test_ops_emu_bf16, `train` is test/test_train.sh
build() { # program: into $copy
    local goals="build/test/test_$1"
    grep -q -s '"data/' "test/test_$1.c" && goals+=" tools"
    # whole programs on tiny models: what takes time is compiling them
    [ ! -f "test/test_$1.sh" ] || goals="train_gpt2cu tools CXXFLAGS=-O1"
    [ "$1" != train_emu ] || goals="build/test/train_emu tools CXXFLAGS=-O1"
    # shellcheck disable=SC2086 # several goals
    (cd "$copy" && "$MAKE" -s CUDA=0 $goals) >"$copy.log" 2>&1
}
run() { # program: exit code of the test, what it says in $copy.log
    local command=("build/test/test_$1")
    [ ! -f "test/test_$1.sh" ] || command=(bash "test/test_$1.sh")
    { (cd "$copy" && TMPDIR=$copy.tmp timeout -k 5 "$LIMIT" "${command[@]}") >"$copy.log" 2>&1 </dev/null; } 2>/dev/null # bash on a crash
}
# What a red program says first: the name of a test, the emulation's sentence, or a shell test's line.
complaint() { # exit code
    [ "$1" != 124 ] || { echo "stopped after $LIMIT s"; return; }
    local said
    said=$(grep -m 1 -E '^(emulation|error): ' "$copy.log" || sed -n 's/^\[  FAILED  \] \([A-Za-z_0-9]*\)$/\1/p; s/^failed: //p' "$copy.log" | head -1)
    cut -c 1-70 <<<"${said:-exit code $1}"
}
# All programs that can see the file, without those already run: $* = those
wider() { # file, programs...
    local file=/${1#llmc/} source name said=" ${*:2} " # included as ../base/x.h, too
    for source in test/test_*.cu test/test_*.cpp test/test_*.c; do
        name=${source##*/test_} name=${name%.*}
        "${CXX:-g++}" -std=c++17 -I. -MM -x c++ "$source" 2>/dev/null | grep -q -F "$file" ||
            "${CXX:-g++}" -std=c++17 -DAHEAD_EMU -DPRECISION=1 -I. -Itest/emu -MM -x c++ "$source" 2>/dev/null | grep -q -F "$file" || continue
        if [[ $source != *.cu ]]; then
            echo "$name"
        else
            printf "${name}_%s\n" fp32 bf16 fp16
            grep -qE "^(EMU|OBJECTIVE|MODEL)_TESTS := .*\b$name\b" Makefile && printf "${name}_emu_%s\n" bf16 fp32 fp16
            grep -q "^CHECK_TESTS := .*\b$name\b" Makefile && command -v clang++ >/dev/null && echo "${name}_check_bf16"
        fi
    done >"$copy.wider"
    "${CXX:-g++}" -std=c++17 -I. -MM -x c++ ./train_gpt2.cu | grep -q -F "$file" && for source in test/test_*.sh; do
        name=${source##*/test_} name=${name%.sh}
        grep -q -e small_run.sh -e 'program=' "$source" && echo "$name"
    done >>"$copy.wider"
    while read -r name; do [[ $said == *" $name "* ]] || echo "$name"; done <"$copy.wider"
}

# ---------------------------------------------------------------------------------------------------------------------
say() { # mark name text
    printf '  %s %-34s %s\n' "$1" "$2" "$3"
}
# The tests that prove something must be green without a fault. Of all programs every so-many-th is this worker's.
baseline() { # which, of how many
    local program at=0
    copy=$work/$1
    for program in $(for i in $chosen; do echo "${tests[i]}"; done | tr ' ' '\n' | sort -u); do
        [ $((at++ % $2)) = "$1" ] || continue
        if build "$program" && run "$program"; then continue; fi
        echo "error: $program is red without any fault: $(tail -1 "$copy.log" | cut -c 1-200)" >&2
        echo red >>"$work/results"
    done
}
# A program that no entry names was not in the baseline, and may be red, or not compile, by itself.
green_without() { # program; takes the fault out of $copy
    cp "$root/$file" "$copy/$file"
    build "$1" && run "$1"
}
plant() { # index: one fault, one line, one result in $work/results
    local i=$1 file=${files[$1]} program programs code how='' began=$SECONDS
    slurp "$file"
    local faulty=${text/"${olds[i]}"/"${news[i]}"}
    printf '%s' "$faulty" >"$copy/$file"
    for programs in named $([ "${WIDER:-1}" = 0 ] || echo wider); do
        # shellcheck disable=SC2046 # words
        for program in $([ $programs = named ] && echo "${tests[i]}" || wider "$file" ${tests[i]}); do
            if ! build "$program"; then
                [ $programs = named ] || continue
                how="does not compile with $program: $(grep -m 1 error "$copy.log" | cut -c 1-120)"
                say ✗ "${names[i]}" "$how"
                echo broken >>"$work/results"
                break 2
            fi
            run "$program" && continue
            code=$?
            how="noticed by $program, $((SECONDS - began)) s: $(complaint $code)"
            if [ $programs = wider ]; then
                if ! green_without "$program"; then
                    how=''
                    printf '%s' "$faulty" >"$copy/$file"
                    continue
                fi
                how="noticed only by another program, $program (expected: ${tests[i]})"
            fi
            say ✓ "${names[i]}" "$how"
            echo noticed >>"$work/results"
            break 2
        done
    done
    [ -n "$how" ] || {
        say ✗ "${names[i]}" "SURVIVED: ${whys[i]} ($file)"
        echo survived >>"$work/results"
    }
    cp "$root/$file" "$copy/$file"
}
copy_tree() { # which
    copy=$work/$1
    mkdir -p "$copy" "$copy.tmp"
    tar cf - Makefile README.md train_gpt2.cu llmc test scripts dev data/*.[ch] data/*.md data/*.py | tar xf - -C "$copy"
}
worker() { # which, of how many
    local at=0
    copy=$work/$1
    for i in $chosen; do
        [ $((at++ % $2)) != "$1" ] || plant "$i"
    done
}

read_table
check_table
chosen='' list=0
[ "${1:-}" != --list ] || { list=1 && shift; }
for ((i = 0; i < ${#names[@]}; i++)); do
    wanted=$(($# == 0))
    for word in "$@"; do [[ ${names[i]} != *"$word"* && ${files[i]} != *"$word"* ]] || wanted=1; done
    [ $wanted = 0 ] || chosen+=" $i"
done
if [ $list = 1 ]; then
    for i in $chosen; do printf '%-34s %-34s %s\n' "${names[i]}" "${files[i]}" "${whys[i]}"; done
    exit
fi
[ -n "$chosen" ] || die "no fault has a name or file with: $*"

work=$(mktemp -d "${TMPDIR:-/tmp}/ahead-mutants.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cores=$(nproc) memory=$(awk '/^MemAvailable/ {print int($2 / 1500000)}' /proc/meminfo)
jobs=${JOBS:-$((memory < 1 ? 1 : memory < cores ? memory : cores))}
start=$SECONDS
: >"$work/results"
for ((w = 0; w < jobs; w++)); do copy_tree $w; done
for ((w = 0; w < jobs; w++)); do baseline $w "$jobs" & done
wait
[ ! -s "$work/results" ] || exit 2
echo "faults ($jobs at a time; the tests without a fault took $((SECONDS - start)) s)"
for ((w = 0; w < jobs; w++)); do worker $w "$jobs" & done
wait
survived=$(grep -c survived "$work/results") broken=$(grep -c broken "$work/results")
echo "total $((SECONDS - start)) s"
echo "$(grep -c noticed "$work/results") noticed, $survived survived$([ "$broken" = 0 ] || echo ", $broken do not compile")"
[ "$survived" = 0 ] && [ "$broken" = 0 ]
