#!/usr/bin/env bash
# shellcheck disable=SC2154 # shared with survival.sh
# Kills a run with SIGKILL at 100 moments, and resumes it each time until it is done: 60 moments are calls that write (any of those in
# test/faults.c, picked by a seed), half of the bytes of a write written; 40 are times. Whatever the moment, the end is the end of the
# run that was never killed: weights and moments bit for bit, every line of main.log and metrics.jsonl once, one line in
# results.tsv, no file left over. Needs nothing but the build; two minutes or so. SEED=2 KILLS=100 take other moments, or more.
set -u
. "$(dirname "$0")/../survival.sh"
RANDOM=${SEED:-1}
kills=0 runs=0 wanted=${KILLS:-100}

export FAULT_COUNT=$d/count
go counted "any 0 count"
unset FAULT_COUNT
calls=$(cat "$d/count")
began=$(date +%s%N)
go timed ""
millis=$((($(date +%s%N) - began) / 1000000))
echo "a whole run makes $calls calls in $millis ms"

while [ $kills -lt "$wanted" ]; do
    runs=$((runs + 1))
    name=run$runs
    for ((attempt = 0; attempt < 40; attempt++)); do
        if [ $((kills % 5)) -lt 3 ]; then
            fault="any $((RANDOM % calls + 1)) kill"
            go "$name" "$fault"
        else
            delay=$((RANDOM % millis))
            fault="after $delay ms"
            begin "$name" ""
            sleep "$((delay / 1000)).$(printf %03d $((delay % 1000)))"
            kill -9 "$run" 2>/dev/null
            ended
        fi
        [ $code = 137 ] || break
        kills=$((kills + 1))
        [ $kills -lt "$wanted" ] || break
    done
    [ $code != 0 ] || fault="(none)"
    if [ $code = 137 ]; then go "$name" ""; fi
    if [ $code = 0 ]; then is_whole "run $runs, killed $kills times so far, last $fault" "$name"; else fail "$name: exit code $code, $fault: $(cat "$d/$name.err")"; fi
    rm -rf "${d:?}/$name" "$d/$name-"
done
echo "killed $kills times in $runs runs"
same "kills" "$kills" "$wanted"
finish
