#!/usr/bin/env bash
# What does looking ahead buy? Trains mtp_max_steps x mtp_weight x seed, and next-token prediction alone with every seed.
#
#     scripts/sweep_mtp.sh [--max_steps "2 3"] [--weights "0.1 0.35"] [--decay_starts 0.8] [--seeds "1 2 3"] [--out DIR]
#                          [--dry_run] [@preset]... [-- --flag value ...]
#
# With nothing named: the lists above, @scripts/presets/quickstart.txt (a minute a run on two cores), DIR = runs/sweep_mtp.
# Also as environment: MAX_STEPS, WEIGHTS, DECAY_STARTS, SEEDS, OUT. @preset and flags after -- go to every run.
# A decay start of 0.8 lets the weight down to 0 over the last fifth of the run; 1 holds it, which costs up to ln(1 + w) nats.
# The run mtp2_w0.1_s3 looks 2 tokens ahead with weight 0.1 and seed 3. Running again goes on: scripts/sweep.sh --help.
# Two tables come out, at equal tokens and at equal time. Three seeds are the least for a sentence, eight for a claim; a seed
# changes the initial weights only, the data come in the same order.
set -u
max_steps=${MAX_STEPS:-2 3} weights=${WEIGHTS:-0.1 0.35} decay_starts=${DECAY_STARTS:-0.8} rest=() named=''
while [ $# -gt 0 ]; do
    case $1 in
        --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit ;;
        --max_steps | --weights | --decay_starts)
            [ $# -ge 2 ] || { echo "error: $1 needs a list: $1 \"2 3\"" >&2 && exit 2; }
            case $1 in --max_steps) max_steps=$2 ;; --weights) weights=$2 ;; *) decay_starts=$2 ;; esac
            shift
            ;;
        --)
            named=1
            rest+=("$@")
            break
            ;;
        *)
            [[ $1 != @* ]] || named=1
            rest+=("$1")
            ;;
    esac
    shift
done
read -r -a max_steps <<<"${max_steps//,/ }"
read -r -a weights <<<"${weights//,/ }"
read -r -a decay_starts <<<"${decay_starts//,/ }"
if [ ${#max_steps[@]} = 0 ] || [ ${#weights[@]} = 0 ] || [ ${#decay_starts[@]} = 0 ]; then
    echo "error: a list is empty; write for example --max_steps \"2 3\" --weights \"0.1 0.35\" --decay_starts 0.8" >&2
    exit 2
fi

settings="baseline: --mtp_enabled 0"
for steps in "${max_steps[@]}"; do
    for weight in "${weights[@]}"; do
        for start in "${decay_starts[@]}"; do
            name=mtp${steps}_w$weight
            [ ${#decay_starts[@]} = 1 ] || name+=_d$start
            settings+=$'\n'"$name: --mtp_enabled --mtp_max_steps $steps --mtp_weight $weight --mtp_decay_start $start"
        done
    done
done
[ -n "$named" ] || rest=(@scripts/presets/quickstart.txt "${rest[@]}")
OUT=${OUT:-runs/sweep_mtp} exec "$(dirname "$0")/sweep.sh" - "${rest[@]}" <<<"$settings"
