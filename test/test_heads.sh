#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # flags and d are shared with small_run.sh
# Separate heads and consistency through the built program: without weight they change nothing, what they log, that they resume bit
# for bit while their weights move, and which contradictions are refused.
set -u
. "$(dirname "$0")/small_run.sh"

flags=("${shards[@]}"
    --n_layer 2 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4 --grad_accumulation_steps 2
    --num_iterations 16 --learning_rate 0.003 --warmup_iters 4 --weight_decay 0.1 --grad_clip 1 --val_loss_every 8
    --val_batch_size 4 --val_tokens 2048 --keep_checkpoints 0 --arch nocap --save_every 8)
heads=(--mtp_enabled --mtp_heads linear --mtp_max_steps 3 --mtp_weight 0.2 --mtp_agg geo --mtp_rampup_steps 12)

losses() { sed 's/ tps:[0-9]*//' "$d/$1/main.log"; } # all but the speed
plain_losses() { sed 's/ tps:.*//' "$d/$1/main.log" | grep trn:; }
end() { payload "$d/$1/step_00000016.ckpt"; }
field() { grep "^s:$2 val:" "$d/$1/main.log" | grep -o " $3:[0-9.]*" | cut -d : -f 2; } # run, step, key: of a validation

# --- without weight nothing of them is there: the same losses, gradient norms and validations from the first step to the last
train plain
for kind in "linear --mtp_weight 0" "proj --mtp_weight 0" "linear --mtp_weight 0 --consist_weight 0.5 --consist_decay_start 0 --consist_decay_end 0" \
    "proj --mtp_weights 1,0"; do
    read -r -a words <<<"$kind"
    train off --mtp_enabled --mtp_heads "${words[@]}"
    same "$kind: training losses" "$(plain_losses off)" "$(plain_losses plain)"
    same "$kind: validation" "$(grep -o '^s:[0-9]* val:[0-9.]*' "$d/off/main.log")" "$(grep -o '^s:[0-9]* val:[0-9.]*' "$d/plain/main.log")"
    rm -rf "$d/off"
done

# --- with weight: every head is measured by itself, in training and in validation
train heads "${heads[@]}" --consist_weight 0.5 --consist_rampup_steps 6
if [ "$(plain_losses heads)" != "$(plain_losses plain)" ]; then pass; else fail "heads trained the same weights as none"; fi
same "validation before any training" "$(field heads 0 ntp)" "$(grep -o '^s:0 val:[0-9.]*' "$d/plain/main.log" | cut -d : -f 3)"
same "form of a validation line" "$(grep -cE '^s:[0-9]+ val:[0-9.]+ ntp:[0-9.]+ mtp:[0-9.]+ val_ce_2:[0-9.]+ val_ce_3:[0-9.]+ val_bpb:[0-9.]+$' "$d/heads/main.log")" 3
same "form of a training line" "$(grep -cE '^s:[0-9]+ trn:.* consist_weight:[0-9.]+ consist_2:[0-9.]+ mtp:[0-9.]+ ce_2:[0-9.]+ ce_3:[0-9.]+$' "$d/heads/main.log")" 15
same "weights in metrics.jsonl" "$(grep train_loss "$d/heads/metrics.jsonl" | grep -o '"consist_weight":[0-9.]*' | sed -n '1p;4p;7p;16p' | tr '\n' ' ')" \
    '"consist_weight":0 "consist_weight":0.25 "consist_weight":0.5 "consist_weight":0.5 '
train shared --mtp_enabled --mtp_max_steps 3 --num_iterations 0
if [ "$(field heads 0 val_ce_2)" != "$(field shared 0 val_ce_2)" ]; then pass; else fail "head 2 was not measured by itself"; fi
train proj --mtp_enabled --mtp_heads proj --mtp_max_steps 3 --num_iterations 0
same "a new proj head is the next token's, normed once more" "$(field proj 0 val_ce_2 | cut -c 1-4)" "$(field shared 0 val_ce_2 | cut -c 1-4)"
train other --precision bf16 "${heads[@]}" --num_iterations 0
train own "${heads[@]}" --num_iterations 0
same "fp32 validation of a bf16 run" "$(losses other)" "$(losses own)"
same "memory: the teacher's logits and the heads are in the plan" "$(grep -c 'teacher logits' "$d/heads.out")" 1

# --- resume, bit for bit, in the middle of both ramps
kinds=("fp32|linear --mtp_weight 0.3 --consist_weight 0.4 --consist_rampup_steps 12 --consist_temp 2"
    "bf16|proj --mtp_weights 1,0.5:0/1,0:0.5 --consist_weight 0.4 --consist_decay_start 0.25 --consist_decay_end 0.6 --consist_teacher_grad"
    "fp16|linear --mtp_weight 0.3 --mtp_decay_start 0.3 --mtp_decay_end 0.6")
for kind in "${kinds[@]}"; do
    read -r -a words <<<"${kind#*|}"
    name=resumed-${kind%%|*}
    train "$name" --precision "${kind%%|*}" --mtp_enabled --mtp_heads "${words[@]}"
    whole=$(end "$name") log=$(losses "$name")
    rm "$d/$name/step_00000016.ckpt"
    train "$name" --precision "${kind%%|*}" --mtp_enabled --mtp_heads "${words[@]}" --resume 1
    same "$kind resumed: weights and moments" "$(end "$name")" "$whole"
    same "$kind resumed: log" "$(losses "$name")" "$log"
done
train repeated "@$d/resumed-bf16/flags.txt" --output_dir "$d/repeated" --resume 0
same "flags.txt repeats the run" "$(end repeated)" "$(end resumed-bf16)"

# --- contradictions are one sentence before anything is written
refused '--mtp_heads has no effect without --mtp_enabled' --mtp_heads linear
refused 'shared logits degenerate to' --mtp_enabled --consist_weight 0.01
refused 'add --mtp_enabled --mtp_heads linear, or proj' --consist_weight 0.01
refused '--consist_k 3 is beyond the heads of --mtp_max_steps 2' --mtp_enabled --mtp_heads linear --consist_weight 0.01 --consist_k 3
refused '--consist_k has no effect without --consist_weight' --mtp_enabled --mtp_heads linear --consist_k 2 --consist_k 3
refused 'comes after --consist_decay_end 0.1' --mtp_enabled --mtp_heads proj --consist_weight 0.01 --consist_decay_start 0.5 --consist_decay_end 0.1
refused 'expected one of shared, linear, proj' --mtp_enabled --mtp_heads block
refused '--consist_temp is 0: expected a number in 0.01..100' --consist_temp 0
finish
