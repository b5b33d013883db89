#!/usr/bin/env bash
# shellcheck disable=SC2154 # shared with survival.sh
# What runs live through: signals, kill -9, full and read-only disks, lost shards, damaged checkpoints. Each ends in one sentence,
# keeps the last good checkpoint, and `--resume auto` then ends where the run that nothing happened to ends.
set -u
. "$(dirname "$0")/survival.sh"
says() { # what, expression, text
    if grep -q -E -- "$2" <<<"$3"; then pass; else fail "$1: \"$2\" is not in: $3"; fi
}
stops() { # what, name, exit code, signal: how a run that was asked to stop has ended
    local step
    step=$(sed -n 's/^stopped by .* at step \([0-9]*\) of .*/\1/p' "$d/$2.out")
    same "$1: exit code" "$code" "$3"
    says "$1: last line" "^stopped by $4.* at step [0-9]+ of [0-9]+; $d/$2/step_[0-9]{8}.ckpt is saved: the same command goes on$" \
        "$(tail -n 1 "$d/$2.out")"
    if [ -e "$d/$2/$(printf 'step_%08d.ckpt' "${step:-0}")" ]; then pass; else fail "$1: there is no checkpoint of step $step"; fi
    same "$1: training lines" "$(grep -c ' trn:' "$d/$2/main.log")" "$step"
    same "$1: not in results.tsv" "$(cat "$d/$2-/results.tsv" 2>/dev/null)" ""
}
listens() { # it has handlers for SIGHUP, SIGINT and SIGTERM (before exec this shell has some, too)
    [ "/proc/$run/exe" -ef "$program" ] && (((0x$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$run/status") & 0x4003) == 0x4003))
}
trains() { grep -q '^s:5 trn' "$d/$1/main.log"; }

# --- SIGTERM between micro-steps, with no other checkpoint; then on
endless=(--num_iterations 20000 --warmdown_iters 0 --grad_accumulation_steps 8)
begin term "" "${endless[@]}" --save_every 0
until_there trains term
kill "$run"
ended
stops "SIGTERM" term 143 SIGTERM
same "SIGTERM: files left" "$(leftovers term)" ""
steps=$(($(grep -c ' trn:' "$d/term/main.log") + 3))
for name in term straight; do go $name "" "${endless[@]}" --num_iterations $steps --save_every $steps; done
same "SIGTERM: goes on: weights" "$code $(payload "$d/term/$(printf 'step_%08d.ckpt' $steps)")" \
    "0 $(payload "$d/straight/$(printf 'step_%08d.ckpt' $steps)")"
same_lines "SIGTERM: goes on: main.log" "$(logged term)" "$(logged straight)"

# --- SIGINT while validating, in this precision and in another; SIGHUP while sampling; the run goes on as if nothing had been
set -m # a background job of a shell without job control ignores SIGINT
"$program" "${flags[@]}" "${endless[@]}" >"$d/nowhere.out" 2>&1 </dev/null &
run=$!
until_there listens
kill "$run"
ended
says "without --output_dir: says so" '^stopped by SIGTERM at step [0-9]+ of 20000; nothing is saved without --output_dir$' \
    "$(tail -n 1 "$d/nowhere.out")"
long=(--val_tokens 2000000 --val_batch_size 4)
yes 'It was a long validation text. ' | head -c 2100000 >"$d/long"
data/prepare --tokenizer bytes --out "$d/longval" "$d/long" >/dev/null
for kind in "fp32 fp32" "bf16 fp32"; do
    read -r precision val_precision <<<"$kind"
    name=int-$precision
    begin "$name" "" --precision "$precision" --val_precision "$val_precision" --input_val_bin "$d/longval_0*.bin" "${long[@]}" \
        --val_loss_every 3 --num_iterations 5 --save_every 1
    until_there listens
    kill -INT "$run"
    ended
    stops "SIGINT in validation, $kind" "$name" 130 SIGINT
    same "SIGINT in validation, $kind: nothing logged" "$(cat "$d/$name/main.log")" ""
done
set +m
begin hup "" --sample_tokens 60000
until_there grep -a -q '^sample at step 10' "$d/hup.out"
kill -HUP "$run"
ended
stops "SIGHUP in a sample" hup 129 SIGHUP
same "SIGHUP in a sample: at its step" "$(grep -a -c '^stopped by SIGHUP at step 10 of 30' "$d/hup.out")" 1
go hup ""
is_whole "SIGHUP in a sample" hup
same "SIGHUP in a sample: samples" "$(grep -a '^sample' "$d/hup.out" | cksum)" "$(grep -a '^sample' "$d/whole.out" | cksum)"

# --- the scripts around it: a signal for the script reaches the trainer, which saves and ends; neither starts it again
printf '%s\n' '--num_iterations 20000' "--input_bin \"$d/train_0*.bin\"" '--save_every 0' >"$d/preset.txt"
script() { # name: run.sh in the background
    PROGRAM=$program RESTART_WAIT=0 scripts/run.sh "$d/preset.txt" "${flags[@]:2}" --num_iterations "$2" --save_every "$3" \
        --output_dir "$d/$1" >"$d/$1.out" 2>"$d/$1.err" </dev/null &
    run=$!
}
trainer() { pgrep -P "$run" -f -- "--output_dir $d/$1"; }
mkdir -p "$d/script-" "$d/alone-"
for how in script alone; do
    script $how 20000 0
    until_there trains $how
    if [ $how = script ]; then kill "$run"; else kill "$(trainer alone)"; fi
    ended
    same "run.sh, SIGTERM to the $how: ends" "$code $(grep -c '^stopped by SIGTERM' "$d/$how.out")" "143 1"
    same "run.sh, SIGTERM to the $how: once" "$(grep -c restart "$d/$how.err")" 0
done
mkdir -p "$d/crash-"
script crash 3000 100
until_there [ -e "$d/crash/step_00000100.ckpt" ]
kill -9 "$(trainer crash)"
until_there grep -q 'going on from its last checkpoint (restart 1)' "$d/crash.err"
until_there grep -q '^resuming' "$d/crash.out"
kill "$run"
ended
same "run.sh, kill -9: goes on, then stops" "$code $(grep -c '^stopped by SIGTERM' "$d/crash.out")" "143 1"
echo 'slow:' >"$d/sweep.txt"
scripts/sweep.sh "$d/sweep.txt" --seeds 3 --out "$d/sweep" -- "${flags[@]}" "${endless[@]}" --save_every 0 >"$d/sweep.out" 2>&1 </dev/null &
run=$!
until_there trains sweep/slow_s3
kill "$run"
ended
same "sweep.sh, SIGTERM: exit code, checkpoints" "$code $(compgen -G "$d/sweep/slow_s3/*.ckpt" | wc -l)" "130 1"
says "sweep.sh, SIGTERM: says how to go on" '^stopped; the same command goes on from here$' "$(cat "$d/sweep.out")"

# --- a second signal does not wait for the checkpoint (its fsync, the fourth, sleeps), the echo of the first one does not count
begin twice "fsync 4 sleep" "${endless[@]}" --save_every 0 --sample_every 0
until_there trains twice
kill "$run"
kill -HUP "$run" # another one: a second SIGTERM could be one with the first
until_there compgen -G "$d/twice/*.ckpt.tmp" >/dev/null
sleep 0.6
same "twice: the echo" "$(compgen -G "$d/twice/*.ckpt.tmp" | wc -l)" 1 # kill -0 also finds what has died and nobody waited for
kill "$run"
ended
same "twice: exit code, checkpoints" "$code $(compgen -G "$d/twice/*.ckpt")" "143 "

# --- kill -9 at six moments: inside a checkpoint, before it is renamed, after, in a log line, in the line of results.tsv, before
# its end; each but the last in one run after the other
for fault in "pwrite 100 kill" "rename 3 kill" "unlink 1 kill" "fflush 9 kill" "pwrite 3 kill" "write 2 kill"; do
    go killed "$fault"
    same "killed by $fault" "$code" 137
done
go killed ""
is_whole "killed" killed
go killed ""
is_whole "done, and started once more" killed

# --- a disk that is full: at a checkpoint (by a fault, by a limit), in the logs
fails() { # what, name, sentence
    same "$1: exit code" "$code" 1
    says "$1: sentence" "^error: $3" "$(cat "$d/$2.err")"
    same "$1: one sentence" "$(wc -l <"$d/$2.err")" 1
    same "$1: files left" "$(leftovers "$2")" ""
}
recovers() { # what, name: the same run afterwards
    go "$2" ""
    is_whole "$1" "$2"
}
go full "pwrite 250 ENOSPC"
fails "disk full" full "$d/full/step_000000[0-9]{2}.ckpt: cannot write: No space left on device; free some space or .*earlier checkpoints are whole"
if compgen -G "$d/full/step_*.ckpt" >/dev/null; then pass; else fail "disk full: no checkpoint is left"; fi
recovers "disk full" full
(ulimit -f 100 && go limit "" && exit "$code")
code=$?
fails "file size limit" limit "$d/limit/step_00000004.ckpt: cannot write: File too large; "
recovers "file size limit" limit
go readonly "open 4 EROFS"
fails "read-only" readonly "$d/readonly/step_000000[0-9]{2}.ckpt: cannot create its temporary file: Read-only file system; "
recovers "read-only" readonly
go logless "fflush 9 ENOSPC"
same "logs that cannot be written: the run ends" "$code$(payload "$d/logless/$last")" "0$whole"
same "logs that cannot be written: said once" "$(grep -c '^warning: .*cannot write the logs: No space left on device; the run goes on without' "$d/logless.err")" 1
go unlisted "write 1 ENOSPC"
says "results.tsv that cannot be written" "^warning: $d/unlisted-/results.tsv: cannot append this run: No space left" "$(cat "$d/unlisted.err")"
same "results.tsv that cannot be written: no half line" "$(cat "$d/unlisted-/results.tsv")" ""
go unlisted ""
same "results.tsv: written when there is room" "$(results unlisted)" "$(results whole)"

# --- a shard that is deleted, or cut, while the run reads the one before it (the first checkpoint's fsync waits for it)
shard=$d/train_000001.bin
for how in deleted cut; do
    begin $how "fsync 4 nap"
    until_there [ -e "$d/$how/step_00000004.ckpt.tmp" ]
    cp "$shard" "$d/kept" && if [ $how = cut ]; then truncate -s 3000 "$shard"; else rm "$shard"; fi
    ended
    fails "a shard is $how" $how "$shard: was deleted, or changed its length, while the run went on; bring it back and go on with --resume auto"
    go $how ""
    case $how in
        cut) fails "resumed while a shard is cut" cut "$shard: truncated: its header says" ;;
        deleted) fails "resumed without a shard" deleted "cannot resume: the checkpoint was written with 2 token shards of .*, and the 1 that match" ;;
    esac
    cp "$d/kept" "$shard"
    recovers "a shard is $how" $how
done

# --- outliers: 150 steps of text, then 10 of digits, then text again. The steps of digits change nothing, and the detector goes
# through a checkpoint
data/make_corpus --bytes 19500 --seed 7 --out "$d/part0" >/dev/null 2>&1
seq 1 1000 | tr '\n' '7' | head -c 1380 >"$d/part1"
for part in 0 1; do data/prepare --tokenizer bytes --out "$d/mixed$part" "$d/part$part" >/dev/null; done
spiked=(--input_bin "$d/mixed[01]_0*.bin" --grad_accumulation_steps 1 --num_iterations 165 --val_loss_every 0 --sample_every 0
    --save_every 5 --keep_checkpoints 0 --warmdown_iters 0)
digits=$((($(stat -c %s "$d/mixed0_000000.bin") - 1024) / 2 / 128)) # the step that reads the first of them
go spiked "" "${spiked[@]}" --skip_loss_z 4
left_out=$(sed -n 's/^s:\([0-9]*\) trn.*skipped:1.*/\1/p' "$d/spiked/main.log" | tr '\n' ' ')
says "outliers: the first of them" "^$digits $((digits + 1)) $((digits + 2)) " "$left_out"
same "outliers: all are skipped, and nothing else" "$(wc -w <<<"$left_out") $(awk '{print $NF}' <<<"$left_out")" \
    "$(wc -w <<<"$left_out") $((digits + $(wc -w <<<"$left_out") - 1))"
before=$(((digits + 4) / 5 * 5))
checkpoint() { printf '%s/%s/step_%08d.ckpt' "$d" "$1" "$2"; }
same "outliers: they change nothing" "$(payload "$(checkpoint spiked $((before + 5)))")" "$(payload "$(checkpoint spiked $before)")"
same "outliers: steps that Adam counts" "$(head -c 5000 "$(checkpoint spiked 165)" | grep -a -c "^adam_steps=$((165 - $(wc -w <<<"$left_out")))$")" 1
spiked_log=$(logged spiked) spiked_end=$(payload "$(checkpoint spiked 165)")
for from in 60 $before; do # while it watches; among the outliers
    for ((s = from + 5; s <= 165; s += 5)); do rm -f "$(checkpoint spiked "$s")"; done
    go spiked "" "${spiked[@]}" --skip_loss_z 4
    same_lines "outliers: resumed at $from: log" "$(logged spiked)" "$spiked_log"
    same "outliers: resumed at $from: weights" "$(payload "$(checkpoint spiked 165)")" "$spiked_end"
done
go free "" "${spiked[@]}" --save_every 165
go wide "" "${spiked[@]}" --save_every 165 --skip_loss_z 1e9 --skip_grad_z 1e9
same "outliers: a limit that nothing reaches changes nothing" "$(payload "$(checkpoint wide 165)")" "$(payload "$(checkpoint free 165)")"
same "outliers: off: nothing in the log" "$(grep -c '_z:\|skipped' "$d/free/main.log")" 0
same "outliers: both are logged" "$(grep -c ' loss_z:.* norm_z:' "$d/wide/main.log")" 165

# --- a step that is not finite: what, where, and its batch in a file that a run can read
wild=(--learning_rate 100 --warmup_iters 0 --lr_schedule constant --num_iterations 400 --adam_eps 0 --weight_decay 10 --save_every 0
    --sample_every 0 --val_loss_every 0)
go wild "" "${wild[@]}"
same "not finite: exit code" "$code" 3
says "not finite: what and where" "^error: step [0-9]+, micro-step [01]: not finite: [a-z ]+[a-z0-9.]+.*: [0-9]+ NaN and [0-9]+ infinite of [0-9]+ values, the first is value [0-9]+, .*; the batch is in $d/wild/nonfinite_step_[0-9]+.bin; " \
    "$(cat "$d/wild.err")"
bad=$(compgen -G "$d/wild/nonfinite_step_*.bin")
step=${bad##*_} micro=$(sed -n 's/.*micro-step \([01]\):.*/\1/p' "$d/wild.err")
at=$(((2 * ${step%.bin} + micro) * 128))
same "not finite: its tokens" "$(tail -c +1025 "$bad" | cksum)" "$(tail -c +$((1025 + 2 * at)) "$d/train_000000.bin" | head -c 258 | cksum)"
go again "" --input_bin "$bad" --num_iterations 2
same "not finite: a run reads the batch" "$code" 0
go unwritten "open 1 ENOSPC" "${wild[@]}"
same "not finite, disk full: exit code" "$code" 3
says "not finite, disk full: says both" "not finite: .*; the batch could not be written to .*: No space left on device; " "$(cat "$d/unwritten.err")"

# --- the newest checkpoint is cut, or has a flipped bit: said, and the one before it serves
for how in cut flipped; do
    go $how-ckpt "rename 7 kill"
    newest=$(cd "$d/$how-ckpt" && echo step_*.ckpt | sed 's/.* //')
    if [ $how = cut ]; then
        truncate -s -5000 "$d/$how-ckpt/$newest"
        why="truncated: expected [0-9]+ bytes, found [0-9]+; use another one"
    else
        byte=$(od -An -t u1 -j 300000 -N 1 "$d/$how-ckpt/$newest")
        printf '%b' "\\0$(printf %o $((byte ^ 8)))" | dd of="$d/$how-ckpt/$newest" bs=1 seek=300000 conv=notrunc 2>/dev/null
        why="damaged: the checksum of tensor [a-z0-9._]+ is wrong; use another one"
    fi
    go $how-ckpt ""
    says "checkpoint $how: warning" "^warning: $d/$how-ckpt/$newest: $why" "$(cat "$d/$how-ckpt.err")"
    says "checkpoint $how: the one before" "^warning: trying the checkpoint before it" "$(cat "$d/$how-ckpt.err")"
    is_whole "checkpoint $how" $how-ckpt
done
finish
