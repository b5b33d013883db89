#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # flags and d are shared with small_run.sh
# Whole runs of the built program on a tiny model: what a run writes, and that it goes on bit for bit after a stop.
set -u
. "$(dirname "$0")/small_run.sh"

flags=("${shards[@]}" --tokenizer "$d/train_tokenizer.bin"
    --n_layer 2 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4 --grad_accumulation_steps 3
    --num_iterations 40 --learning_rate 0.003 --warmup_iters 4 --warmdown_iters 10 --weight_decay 0.1 --val_loss_every 10
    --val_batch_size 4 --val_tokens 2048 --keep_checkpoints 0)

# What a checkpoint says of the run, apart from times and flags: counters, loader, loss scale, sampler, best loss
state() { head -c "$(od -An -t u8 -j 40 -N 8 "$1")" "$1" | grep -a -E '^(adam_steps|tokens_seen|loader_[a-z]*|loss_scale[a-z_]*|sampler_state|best_val)='; }
losses() { sed 's/ tps:.*//' "$d/$1/main.log"; }  # all but the speed

# --- resume, bit for bit, from every checkpoint: mid-shard, at an edge, in fp16 with a loss scale, with recomputation
for kind in "gpt2 fp32" "nocap bf16" "gpt2 fp16"; do
    read -r arch precision <<<"$kind"
    name=$arch-$precision
    sampled=(--sample_every 6 --sample_tokens 3)
    train "$name" --arch "$arch" --precision "$precision" --save_every 7 "${sampled[@]}"
    same "$name: checkpoints, the last step's among them" "$(cd "$d/$name" && echo step_*.ckpt | tr -dc '0-9 ')" \
        "00000007 00000014 00000021 00000028 00000035 00000040"
    whole=$(payload "$d/$name/step_00000040.ckpt") end=$(state "$d/$name/step_00000040.ckpt") log=$(losses "$name")
    for from in 7 14 28; do
        rm "$d/$name"/step_*.ckpt
        train "$name" --arch "$arch" --precision "$precision" --num_iterations 40 --save_every "$from" --resume auto "${sampled[@]}" >/dev/null
        for file in "$d/$name"/step_*.ckpt; do [[ $file == *"$(printf %08d "$from").ckpt" ]] || rm "$file"; done
        train "$name" --arch "$arch" --precision "$precision" --save_every 7 --resume 1 "${sampled[@]}"
        same "$name resumed at $from: weights and moments" "$(payload "$d/$name/step_00000040.ckpt")" "$whole"
        same "$name resumed at $from: run state" "$(state "$d/$name/step_00000040.ckpt")" "$end"
        same "$name resumed at $from: log" "$(losses "$name")" "$log"
    done
done

# --- killed at a random moment, resumed: the same end, no doubled line
{ train killed --save_every 3; } 2>/dev/null &
sleep 0.2
kill -9 $! 2>/dev/null
pkill -9 -f "$d/killed" 2>/dev/null
wait $! 2>/dev/null
train killed --save_every 3 --resume auto
same "killed and resumed: weights" "$(payload "$d/killed/step_00000040.ckpt")" \
    "$(train plain --save_every 3; payload "$d/plain/step_00000040.ckpt")"
same "killed and resumed: log" "$(losses killed)" "$(losses plain)"

# --- recomputation changes nothing; neither does validating, sampling or saving on the way
train gelu --recompute gelu && train block --recompute block && train quiet --val_loss_every 0 --save_every 0
same "recompute gelu" "$(losses gelu)" "$(losses plain)"
same "recompute block" "$(losses block)" "$(losses plain)"
same "without validation" "$(losses quiet)" "$(losses plain | grep -v val:)"

# --- validation: one number, however it is cut, and in fp32 whatever the training precision
val_of() { sed -n 's/^s:0 val:\([0-9.]*\).*/\1/p' "$d/$1/main.log"; }
train val2 --val_batch_size 2 --num_iterations 0
train val64 --val_batch_size 64 --num_iterations 0
train val_bf16 --precision bf16 --num_iterations 0
train val_low --precision bf16 --val_precision bf16 --num_iterations 0
same "validation by batches of 2" "$(val_of val2)" "$(val_of plain)"
same "validation by batches of 64" "$(val_of val64)" "$(val_of plain)"
same "fp32 validation of a bf16 run" "$(val_of val_bf16)" "$(val_of plain)"
close=$(awk -v a="$(val_of val_low)" -v b="$(val_of plain)" 'BEGIN { d = a - b; print (d * d < 1e-4 && a != b) }')
same "bf16 validation is close and not equal" "$close" 1
for kind in "bf16 fp32" "fp32 bf16"; do
    read -r precision other <<<"$kind"
    train "moved_$precision" --precision "$precision" --val_precision "$other" --save_every 40
    train "measured_$precision" --precision "$other" --val_precision "$other" --num_iterations 0 \
        --init_from "$d/moved_$precision/step_00000040.ckpt"
    same "$other validation of a $precision run follows its weights" "$(val_of "measured_$precision")" \
        "$(sed -n 's/^s:40 val:\([0-9.]*\).*/\1/p' "$d/moved_$precision/main.log")"
done

# --- it learns, and says so in the formats that tools read
first=$(sed -n 's/^s:0 trn:\([0-9.]*\) .*/\1/p' "$d/plain/main.log")
last=$(sed -n 's/^s:40 val:\([0-9.]*\).*/\1/p' "$d/plain/main.log")
same "first loss near ln 257 = 5.55" "$(awk -v x="$first" 'BEGIN { print (x > 5.4 && x < 5.7) }')" 1
same "last loss below 3.6" "$(awk -v x="$last" 'BEGIN { print (x > 1 && x < 3.6) }')" 1
rate() { sed -n "s/^s:$1 trn:.* lr:\([^ ]*\).*/\1/p" "$d/plain/main.log"; }
same "learning rate: warming up, at its height, half way down" "$(rate 0) $(rate 3) $(rate 35)" "7.500000e-04 3.000000e-03 1.500000e-03"
same "one training line per step" "$(grep -c '^s:[0-9]* trn:' "$d/plain/main.log")" 40
same "metrics.jsonl: tokens of the last step" "$(grep -c '"tokens":15360,' "$d/plain/metrics.jsonl")" 2
same "results.tsv: one line per run and a header" "$(head -n 1 "$d/results.tsv" | cut -f 1-3)" "$(printf 'date\tcommit\tseed')"

# --- target, samples, skipping and stopping
train target --target_val_loss 5 --num_iterations 400
same "stops at the target" "$(grep -c '^target reached: val loss [0-4]' "$d/target.out")" 1
train sample --sample_every 40 --sample_tokens 20 --prompt "Once" --seed 3
train again --sample_every 40 --sample_tokens 20 --prompt "Once" --seed 3
same "a sample that continues the prompt" "$(grep -c '^sample at step 40: Once' "$d/sample.out")" 1
same "the same sample again" "$(grep '^sample' "$d/sample.out" | cksum)" "$(grep '^sample' "$d/again.out" | cksum)"
train narrow --vocab_size 256 --val_loss_every 0 --sample_every 10
same "a tokenizer of another vocabulary: exit code" "$?" 1
same "a tokenizer of another vocabulary: sentence" "$(grep -c 'has 257 ids, but --vocab_size is 256' "$d/narrow.err")" 1
train nan --learning_rate 100 --warmup_iters 0 --lr_schedule constant --num_iterations 400 --adam_eps 0 --weight_decay 10 --save_every 1
same "diverges: exit code 3" "$?" 3
same "diverges: names step, micro-step and tensor" "$(grep -cE '^error: step [0-9]+, micro-step [0-9]+: not finite: ' "$d/nan.err")" 1
finish
