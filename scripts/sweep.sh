#!/usr/bin/env bash
# Trains every setting with every seed, one run after another, and ends with the table of scripts/summarize.
#
#     scripts/sweep.sh SETTINGS [--seeds "1 2 3"] [--out DIR] [--dry_run] [@preset]... [-- --flag value ...]
#
# SETTINGS is a file, or - for standard input: one setting a line, `name: flags`, # starts a comment. Call one of them `baseline`:
#     baseline:
#     rate2x: --learning_rate 0.004
# @preset and what stands after -- go to every run; a setting's flags win over them. Paths are seen from the project's folder.
#
# A run is DIR/NAME_sSEED (default DIR: runs/sweep_ and the file's name), its line goes to DIR/results.tsv, what it prints to its
# console.log. Seeds are the outer loop, so that a sweep cut short is still paired. The same command again goes on: runs with a
# line in results.tsv are skipped, interrupted ones continue from their last checkpoint (from the start with --save_every 0).
# The same command in a second terminal takes the runs that the first one has not begun: one GPU each, by CUDA_VISIBLE_DEVICES.
# Also as environment: SEEDS, OUT. --dry_run prints the commands. The table needs Python 3; without it there is results.tsv alone.
# Exit code: 0 all runs are done (or another sweep is at them), 1 some failed, 2 wrong arguments, 130 stopped.
set -u
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000} # threads that wait go to sleep soon, for the sake of a busy machine
stop() {
    echo "error: $*" >&2
    exit 2
}

# --- arguments
file='' seeds=${SEEDS:-1 2 3} out=${OUT:-} dry='' common=()
while [ $# -gt 0 ]; do
    case $1 in
        --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit ;;
        --seeds | --out)
            [ $# -ge 2 ] || stop "$1 needs a value"
            if [ "$1" = --out ]; then out=$2; else seeds=$2; fi
            shift
            ;;
        --dry_run) dry=1 ;;
        @*) common+=("$1") ;;
        --)
            shift
            common+=("$@")
            break
            ;;
        - | [!-]*)
            [ -z "$file" ] || stop "one file of settings at a time: $file, $1"
            file=$1
            ;;
        *) stop "unknown option $1; flags of the trainer stand after -- (--help shows an example)" ;;
    esac
    shift
done
[ -n "$file" ] || stop "no file of settings named; scripts/sweep.sh --help shows one"
if [ "$file" = - ]; then text=$(cat); else text=$(cat -- "$file") || stop "$file: cannot be read"; fi
stem=$(basename "${file%.*}")
out=${out:-runs/sweep_${stem/#-/stdin}}
out=${out%/}
cd "$(dirname "$0")/.." || exit 1

read -r -a seeds <<<"${seeds//,/ }"
[ ${#seeds[@]} -gt 0 ] || stop "--seeds is empty; write for example --seeds \"1 2 3\""
for seed in "${seeds[@]}"; do [[ $seed =~ ^[0-9]+$ ]] || stop "--seeds: \"$seed\" is not a whole number"; done
own() { # where, flags...: what the sweep sets itself
    local where=$1 flag
    shift
    for flag; do
        case $flag in
            --seed | --seed=*) stop "$where: --seed is set by the sweep; use --seeds" ;;
            --output_dir | --output_dir=* | --results | --results=*) stop "$where: ${flag%%=*} is set by the sweep; use --out" ;;
            --resume | --resume=*) stop "$where: --resume is set by the sweep" ;;
        esac
    done
}
own "after --" "${common[@]}"

# --- settings: flags[i] holds the words of setting names[i], one a line
names=() flags=()
while IFS= read -r line; do
    line=${line%%#*}
    [[ $line =~ [^[:space:]] ]] || continue
    [[ $line =~ ^[[:space:]]*([A-Za-z0-9][A-Za-z0-9._+-]*)[[:space:]]*:(.*)$ ]] ||
        stop "setting \"$line\" is not \`name: flags\`; a name has letters, digits and . _ + -"
    name=${BASH_REMATCH[1]}
    words=$(xargs -r -n 1 printf '%s\n' <<<"${BASH_REMATCH[2]}") || stop "setting $name: a quote is not closed"
    [[ " ${names[*]} " != *" $name "* ]] || stop "two settings are called $name"
    mapfile -t list <<<"$words"
    own "setting $name" "${list[@]}"
    names+=("$name") flags+=("$words")
done <<<"$text"
[ ${#names[@]} -gt 0 ] || stop "$file holds no setting; scripts/sweep.sh --help shows one"
arguments() { # setting, seed: the words of that run's command, in `command`
    command=("${common[@]}")
    [ -z "${flags[$1]}" ] || { mapfile -t list <<<"${flags[$1]}" && command+=("${list[@]}"); }
    command+=(--seed "$2")
}
here() { command+=(--output_dir "$dir" --results "$results" --resume auto); }

# --- nothing is trained before every setting is known to parse and no directory belongs to other flags
program=${PROGRAM:-./train_gpt2cu} results=$out/results.tsv
[ -n "${PROGRAM:-}$dry" ] || "${MAKE:-make}" train_gpt2cu || exit 1
quoted() { printf '%q ' "$@" && echo; }
total=$((${#seeds[@]} * ${#names[@]}))
pick() { # number of a run: its setting, seed, name and directory
    i=$(($1 % ${#names[@]})) seed=${seeds[$1 / ${#names[@]}]}
    run=${names[i]}_s$seed
    dir=$out/$run
}
for ((s = 0; s < total; s++)); do
    pick "$s"
    arguments "$i" "$seed"
    if [ "$s" = "$i" ] && [ -x "$program" ]; then
        said=$("$program" "${command[@]}" --help 2>&1 >/dev/null) || stop "setting ${names[i]}: ${said#error: }"
    fi
    record=$dir/sweep.txt
    if [ -s "$record" ] && [ "$(head -n 1 "$record")" != "$(quoted "${command[@]}")" ]; then
        stop "$dir was trained with $(head -n 1 "$record"), now it is $(quoted "${command[@]}"); use another --out, or remove it"
    fi
    if [ -n "$dry" ]; then here && quoted "$program" "${command[@]}"; fi
done
[ -z "$dry" ] || exit 0

# --- the runs
result() { # run: its last val loss in results.tsv, nothing when it has no line
    [ -f "$results" ] && awk -F '\t' -v run="$1" '
        NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
        { n = split($column["output_dir"], part, "/"); if (part[n] == run) loss = $column["val_loss"] }
        END { if (loss != "") print loss == "-" ? "not measured" : loss }' "$results"
}
duration() { # seconds
    if [ "$1" -lt 100 ]; then
        echo "$1 s"
    elif [ "$1" -lt 6000 ]; then
        echo "$((($1 + 30) / 60)) min"
    else
        echo "$(($1 / 3600)).$(($1 % 3600 / 360)) h"
    fi
}
if [ -z "${AHEAD_COMMIT:-}" ]; then
    AHEAD_COMMIT=$(git describe --always --dirty 2>/dev/null)
    export AHEAD_COMMIT
fi
todo=0 ran=0 seconds=0 failed=() pid='' stopped=''
for ((s = 0; s < total; s++)); do pick "$s" && [ -n "$(result "$run")" ] || todo=$((todo + 1)); done
python=$(command -v python3)
echo "sweep: $total runs in $out (${#names[@]} settings, ${#seeds[@]} seeds), $((total - todo)) of them done;" \
    "the table at the end needs Python 3${python:+, which is here}"
trap 'stopped=1; [ -z "$pid" ] || kill "$pid" 2>/dev/null' INT TERM HUP # the trainer saves a checkpoint and ends

for ((s = 0; s < total && !${stopped:-0}; s++)); do
    pick "$s"
    place="[$((s + 1))/$total]"
    loss=$(result "$run")
    if [ -n "$loss" ]; then
        echo "$place $run: done before, val loss $loss"
        continue
    fi
    arguments "$i" "$seed"
    mkdir -p "$dir" || exit 1
    exec 9>>"$dir/sweep.txt" # the lock; the trainer inherits it, so one that outlives its sweep keeps it
    if ! flock -n 9; then
        echo "$place $run: skipped, another sweep is at it"
        continue
    fi
    [ -z "$(result "$run")" ] || continue # done a moment ago by that other sweep
    [ -s "$dir/sweep.txt" ] || quoted "${command[@]}" >&9
    if [ "$(tail -n 1 "$dir/sweep.txt")" = "exit 3" ]; then
        echo "$place $run: skipped, it diverged before; remove $dir to try again"
        failed+=("$run")
        continue
    fi
    note=''
    if compgen -G "$dir/step_*.ckpt" >/dev/null; then note=", from its last checkpoint"; fi
    echo "$place $run$note"
    here
    began=$SECONDS
    "$program" "${command[@]}" </dev/null >>"$dir/console.log" &
    pid=$!
    wait "$pid"
    code=$?
    while [ -n "$stopped" ] && kill -0 "$pid" 2>/dev/null; do wait "$pid"; done
    pid=''
    [ -z "$stopped" ] || break
    if [ $code = 0 ]; then
        ran=$((ran + 1)) todo=$((todo - 1)) seconds=$((seconds + SECONDS - began)) left=''
        [ $todo = 0 ] || left="; about $(duration $((seconds * todo / ran))) left"
        echo "    val loss $(result "$run"), $(duration $((SECONDS - began)))$left"
        continue
    fi
    [ $code != 3 ] || echo "exit 3" >>"$dir/sweep.txt"
    failed+=("$run")
    case $code in
        129 | 130 | 143)
            echo "    stopped by a signal; this command again goes on with it" >&2
            continue
            ;;
    esac
    echo "    exit code $code; $dir/console.log has what it printed" >&2
    if ! grep -q '^s:[0-9]* trn:' "$dir/main.log" 2>/dev/null; then
        : >"$dir/sweep.txt" # it never made a step: other flags may follow
        [ $code != 2 ] && [ $ran != 0 ] || exit 1 # and the other runs would say the same
    fi
done
exec 9>&-

if [ -n "$stopped" ]; then
    echo "stopped; the same command goes on from here" >&2
    exit 130
fi
if [ -n "$python" ] && [ -f "$results" ]; then scripts/summarize "$out" | tee "$out/summary.md"; fi
[ ${#failed[@]} = 0 ] || echo "error: ${#failed[@]} of $total runs failed: ${failed[*]}" >&2
[ ${#failed[@]} = 0 ]
