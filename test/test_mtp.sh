#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # flags and d are shared with small_run.sh
# Multi-token prediction through the built program: what it logs, that it resumes bit for bit while its weight moves, that it
# leaves validation alone, and that without weight it is not there.
set -u
. "$(dirname "$0")/small_run.sh"

flags=("${shards[@]}"
    --n_layer 2 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4 --grad_accumulation_steps 2
    --num_iterations 24 --learning_rate 0.003 --warmup_iters 4 --warmdown_iters 8 --weight_decay 0.1 --val_loss_every 8
    --val_batch_size 4 --val_tokens 2048 --keep_checkpoints 0 --arch nocap --save_every 8)
mtp=(--mtp_enabled --mtp_max_steps 3 --mtp_weight 0.35 --mtp_rampup_steps 12)

losses() { sed 's/ tps:[0-9]*//' "$d/$1/main.log"; }                   # all but the speed
end() { payload "$d/$1/step_00000024.ckpt"; }
holds() { # what, awk condition
    if awk "BEGIN { exit !($2) }"; then pass; else fail "$1: not $2"; fi
}
field() { grep "^s:$2 val:" "$d/$1/main.log" | grep -o " $3:[0-9.]*" | cut -d : -f 2; } # run, step, key: of a validation

# --- without weight it is not there: the same weights, the same losses, from the first step to the last
train plain
same "learning rate of the first steps" "$(grep -o 'lr:[0-9.e+-]*' "$d/plain/main.log" | head -2 | tr '\n' ' ')" "lr:7.500000e-04 lr:1.500000e-03 "
for kind in "--mtp_weight 0" "--mtp_max_steps 8 --mtp_rampup_steps 1000000 --mtp_weight 0" "--mtp_decay_start 0 --mtp_decay_end 0" \
    "--mtp_weights 1,0"; do
    read -r -a words <<<"$kind"
    train off --mtp_enabled "${words[@]}"
    same "$kind: weights and moments" "$(end off)" "$(end plain)"
    same "$kind: training losses" "$(sed 's/ tps:.*//' "$d/off/main.log" | grep trn:)" "$(sed 's/ tps:.*//' "$d/plain/main.log" | grep trn:)"
    same "$kind: validation" "$(grep -o '^s:[0-9]* val:[0-9.]*' "$d/off/main.log")" "$(grep -o '^s:[0-9]* val:[0-9.]*' "$d/plain/main.log")"
    same "$kind: the total is the next token's loss" "$(field off 8 mtp)" "$(field off 8 val)"
    rm -rf "$d/off"
done
train off "${mtp[@]}" --mtp_enabled 0
same "a preset that is switched off: log" "$(losses off)" "$(losses plain)"

# --- with weight it trains something else, validates the same tokens, and says all it knows
train mtp "${mtp[@]}"
if [ "$(end mtp)" != "$(end plain)" ]; then pass; else fail "weight 0.35 trained the same weights as none"; fi
same "validation before any training" "$(field mtp 0 ntp)" "$(field plain 0 val)"
same "form of a validation line" "$(grep -cE '^s:[0-9]+ val:[0-9.]+ ntp:[0-9.]+ mtp:[0-9.]+ val_ce_2:[0-9.]+ val_ce_3:[0-9.]+ val_bpb:[0-9.]+$' "$d/mtp/main.log")" 4
same "form of a training line" "$(grep -cE '^s:[0-9]+ trn:[0-9.]+ lr:[0-9.e+-]+ norm:[0-9.]+ tps:[0-9]+ mtp:[0-9.]+ ce_2:[0-9.]+ ce_3:[0-9.]+$' "$d/mtp/main.log")" 23
same "the step without weight" "$(grep -cE '^s:0 trn:([0-9.]+) .* mtp:\1$' "$d/mtp/main.log")" 1
same "console" "$(grep -cE '^step:[0-9]+/24 \| val loss [0-9.]+ \| mtp loss [0-9.]+$' "$d/mtp.out")" 4
same "weights in metrics.jsonl" "$(grep train_loss "$d/mtp/metrics.jsonl" | grep -o '"mtp_weight":[0-9.]*' | sed -n '1p;2p;7p;13p;24p' | tr '\n' ' ')" \
    '"mtp_weight":0 "mtp_weight":0.0291666667 "mtp_weight":0.175 "mtp_weight":0.35 "mtp_weight":0.35 '
same "keys of a validation" "$(grep -cE '"val_loss":([0-9.]+),"val_ntp_loss":\1,"val_mtp_loss":[0-9.]+,"mtp_weight":.*"val_ce_2":[0-9.]+,"val_ce_3":' "$d/mtp/metrics.jsonl")" 4
w8=$(awk 'BEGIN { print 0.35 * 8 / 12 }')
difference="$(field mtp 8 mtp) - ($(field mtp 8 ntp) + $w8 * ($(field mtp 8 val_ce_2) + $(field mtp 8 val_ce_3)) / 2)"
holds "total of a validation in mid-ramp" "($difference) ^ 2 < 1e-11"
same "a look-ahead does not move the data" "$(grep -o '"tokens":[0-9]*' "$d/mtp/metrics.jsonl")" "$(grep -o '"tokens":[0-9]*' "$d/plain/metrics.jsonl")"

# --- another precision, and another model for validation: the same numbers from the same weights
train other --precision bf16 "${mtp[@]}" --num_iterations 0 --mtp_rampup_steps 0
train own "${mtp[@]}" --num_iterations 0 --mtp_rampup_steps 0
same "the precision that was asked for" "$(grep -o '"precision":"[a-z0-9]*"' "$d/other/metrics.jsonl" | sort -u)" '"precision":"bf16"'
same "fp32 validation of a bf16 run" "$(losses other)" "$(losses own)"
holds "a total with its weight from the first step" "$(field own 0 mtp) > 1.3 * $(field own 0 ntp)"
for K in 2 5 8; do
    train far$K --mtp_enabled --mtp_max_steps $K --num_iterations 0
    same "validation with a look-ahead of $K" "$(field far$K 0 ntp)" "$(field mtp 0 ntp)"
    same "the loss two ahead with a look-ahead of $K" "$(field far$K 0 val_ce_2)" "$(field mtp 0 val_ce_2)"
done

# --- resume, bit for bit, while the weight moves: up a ramp, down a line of a list, at the edge of two parts; in three precisions
kinds=("fp32|--mtp_enabled --mtp_max_steps 3 --mtp_weight 0.35 --mtp_rampup_steps 12"
    "bf16|--mtp_enabled --mtp_max_steps 3 --mtp_weights 1,0.5,0.25:0/1,0.5:0/1"
    "fp16|--mtp_enabled --mtp_weight 0.3 --mtp_agg geo --mtp_rampup_steps 20 --mtp_decay_start 0.5")
for kind in "${kinds[@]}"; do
    read -r -a words <<<"${kind#*|}"
    name=resumed-${kind%%|*}
    train "$name" --precision "${kind%%|*}" "${words[@]}"
    whole=$(end "$name") log=$(losses "$name")
    for from in 8 16; do
        cp -r "$d/$name" "$d/$name$from"
        for file in "$d/$name$from"/step_*.ckpt; do [[ $file == *"$(printf %08d $from).ckpt" ]] || rm "$file"; done
        train "$name$from" --precision "${kind%%|*}" "${words[@]}" --resume 1
        same "$kind resumed at $from: weights and moments" "$(end "$name$from")" "$whole"
        same "$kind resumed at $from: log" "$(losses "$name$from")" "$log"
    done
done
train repeated "@$d/resumed-bf16/flags.txt" --output_dir "$d/repeated"
same "flags.txt repeats the run" "$(end repeated)" "$(end resumed-bf16)"

# --- a diverging run still names its step and tensor
train nan "${mtp[@]}" --learning_rate 100 --warmup_iters 0 --lr_schedule constant --num_iterations 400 --adam_eps 0 --weight_decay 10 --save_every 0
same "diverges: exit code 3" "$?" 3
same "diverges: names step, micro-step and tensor" "$(grep -cE '^error: step [0-9]+, micro-step [0-9]+: not finite: ' "$d/nan.err")" 1
same "diverges: it repeats" "$(grep -c 'did not repeat' "$d/nan.err")" 0

# --- contradictions are one sentence before anything is written
refused 'did you mean 1,0.5:0/1?' --mtp_enabled --mtp_weights '1,0.5->0;1'
refused 'did you mean --mtp_weights?' --mtp_weigths 1,1
refused 'expected a whole number in 2..8' --mtp_enabled --mtp_max_steps 9
refused 'has no effect without --mtp_enabled' --mtp_weight 0.2
finish
