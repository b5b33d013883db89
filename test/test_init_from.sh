#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # flags and d are shared with small_run.sh
# --init_from: a run that starts from the weights of another one has its loss, and starts afresh; a file of another model is refused.
set -u
. "$(dirname "$0")/small_run.sh"

flags=("${shards[@]}" --arch gpt2
    --n_layer 2 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4 --num_iterations 8 --learning_rate 0.01
    --val_loss_every 8 --val_batch_size 4 --val_tokens 2048 --keep_checkpoints 0 --save_every 4)
val() { sed -n "s/^s:$2 val:\([0-9.]*\).*/\1/p" "$d/$1/main.log"; } # run, step
losses() { sed 's/ tps:.*//' "$d/$1/main.log"; }
says() { # what, words, run
    if grep -qF -e "$2" "$d/$3.out"; then pass; else fail "$1: no \"$2\" in: $(grep -a '^weights' "$d/$3.out")"; fi
}

# --- its loss, at step 0
train source
from=(--init_from "$d/source/step_00000008.ckpt")
train next "${from[@]}"
same "loss of the weights" "$(val next 0)" "$(val source 8)"
says "a line says so" "weights    of $d/source/step_00000008.ckpt, after 8 steps of its run" next
same "all steps are run" "$(grep -c '^s:[0-9]* trn:' "$d/next/main.log")" 8
train bf16 "${from[@]}" --precision bf16 --val_precision bf16 --num_iterations 0
same "into bf16" "$(awk -v a="$(val bf16 0)" -v b="$(val source 8)" 'BEGIN { print ((a - b) ^ 2 < 1e-4 && a != b) }')" 1
train again --init_from "$d/source/step_00000008.ckpt" --seed 7
same "the seed plays no part" "$(losses again)" "$(losses next)"

# --- a run that was stopped goes on from its own checkpoint, not from the file
rm "$d/again/step_00000008.ckpt"
train again "${from[@]}" --seed 7 --resume auto
same "resumed: log" "$(losses again)" "$(losses next)"
same "resumed: weights and moments" "$(payload "$d/again/step_00000008.ckpt")" "$(payload "$d/next/step_00000008.ckpt")"
says "resumed: a line says so" "which leaves --init_from unread" again

# --- heads that only training needs may be in one alone; positions may be cut
train heads "${from[@]}" --mtp_enabled --mtp_heads proj --num_iterations 4
same "with heads: the loss" "$(val heads 0)" "$(val source 8)"
says "with heads: they are new" "; at random: mtp.2.a mtp.2.b" heads
train bare --init_from "$d/heads/step_00000004.ckpt" --num_iterations 0
same "without heads: the loss" "$(val bare 0)" "$(val heads 4)"
says "without heads: they are left" "; left out: mtp.2.a mtp.2.b" bare
train whole --val_sequence_length 16 --num_iterations 0 "${from[@]}"
train short --sequence_length 16 --num_iterations 0 "${from[@]}"
same "fewer positions" "$(val short 0)" "$(val whole 0)"

# --- lightrnn, and its codebook
light=(--arch nocap --tie_embedding light --table_size 20)
train light "${light[@]}"
train light_next "${light[@]}" --init_from "$d/light/step_00000008.ckpt" --num_iterations 0
same "lightrnn" "$(val light_next 0)" "$(val light 8)"
data/build_codebook "${shards[1]}" --method snake --vocab_size 257 --columns 20 --out "$d/snake" >/dev/null 2>&1
refuses 1 "use --codebook as that run did" "${light[@]}" --codebook "$d/snake" --init_from "$d/light/step_00000008.ckpt"

# --- a file of another model
refuses 1 "its model has 2 layers, 2 heads, width 32, this run's 2, 4, 32; add --n_layer 2 --n_head 2 --n_embd 32" "${from[@]}" --n_head 4
refuses 1 "its model was made with --arch gpt2, this run has --arch nocap; add --arch gpt2" "${from[@]}" --arch nocap
refuses 1 "its model was made with --vocab_size 257, this run has --vocab_size 300" "${from[@]}" --vocab_size 300
refuses 1 "has positions for 32 tokens, --sequence_length is 64; use --sequence_length 32 or less" "${from[@]}" --sequence_length 64
refuses 1 "it has no tensor lm_head, which this run's model has" "${from[@]}" --tie_embedding none
train untied --tie_embedding none --num_iterations 1
refuses 1 "it has a tensor lm_head, this run's model has none" --init_from "$d/untied/step_00000001.ckpt"
refuses 1 "not a checkpoint of this program: expected it to start with \"AHADCKP1\", found" --init_from "$d/train_tokenizer.bin"
refuses 1 "absent: cannot open: No such file" --init_from "$d/absent"
cp "$d/source/step_00000008.ckpt" "$d/damaged"
printf x | dd of="$d/damaged" bs=1 conv=notrunc seek=$(($(od -An -t u8 -j 40 -N 8 "$d/damaged") + 4321)) 2>/dev/null
refuses 1 "damaged: the checksum of tensor wte is wrong" --init_from "$d/damaged"
finish
