#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # flags and d are shared with small_run.sh
# --score_bin and --tf_rule excess through the built program: what is written, what is left alone, that training with it resumes bit
# for bit and its losses stay those of all positions, and what is refused.
set -u
. "$(dirname "$0")/small_run.sh"

flags=("${shards[@]}"
    --n_layer 1 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4 --grad_accumulation_steps 2
    --num_iterations 24 --learning_rate 0.003 --warmup_iters 2 --weight_decay 0.1 --val_loss_every 12
    --val_batch_size 4 --val_tokens 1024 --keep_checkpoints 0 --arch nocap --save_every 12)

score() { # name flags...: what it says in $d/name.out, $d/name.err
    local name=$1
    shift
    timeout 60 "$program" --device cpu "$@" >"$d/$name.out" 2>"$d/$name.err" </dev/null
}
halves() { tail -c +1025 "$1" | od -An -v -t u2 -w2 | tr -d ' '; }
losses() { sed 's/ tps:[0-9]*//' "$d/$1/main.log"; } # all but the speed
end() { payload "$d/$1/step_00000024.ckpt"; }
trained() { grep -o '^s:[0-9]* trn:[0-9.]*' "$d/$1/main.log" | head -n "$2"; }
kept() { cksum "$d"/losses/*.losses; }
tokens() { echo $((($(stat -c %s "$1") - 1024) / 2)); }

# --- a reference model, and what it makes of the training shards
train reference --num_iterations 60 --save_every 60
what=(--score_bin "$d/train_0*.bin" --init_from "$d/reference")
score scored "${what[@]}" --score_dir "$d/losses"
same "a file for each shard, of its length" "$(stat -c %s "$d"/losses/*)" "$(stat -c %s "$d"/train_0*.bin)"
same "scored: says what it does" "$(head -1 "$d/scored.out")" "scoring on the CPU in fp32, as asked"
same "scored: the run's batch" "$(grep -c '; 4 windows of 32 tokens at once$' "$d/scored.out")" 1
same "scored: nothing on stderr" "$(wc -c <"$d/scored.err")" 0
same "scored: the first token has no prediction" "$(halves "$d/losses/train_000000.losses" | head -1)" 0
same "scored: every other token has a loss" "$(halves "$d/losses/train_000001.losses" | grep -c -v '^0$')" "$(($(tokens "$d/train_000001.bin") - 1))"
val=$(grep -o '^s:60 val:[0-9.]*' "$d/reference/main.log" | cut -d : -f 3)
mean=$(grep -o '[0-9.]* nats a token' "$d/scored.out" | head -1 | cut -d ' ' -f 1)
same "scored: as well as it validates" "$(awk -v a="$val" -v b="$mean" 'BEGIN { print a - b < 0.2 && b - a < 0.2 }')" 1
score eight "${what[@]}" --score_dir "$d/eight" --batch_size 7
same "scored: whatever the batch, to half a unit" "$(paste <(halves "$d/losses/train_000000.losses") <(halves "$d/eight/train_000000.losses") |
    awk '$1 - $2 > 1 || $2 - $1 > 1' | wc -l)" 0

# --- a file that is there is left alone; one that is missing is written as it was
before=$(kept)
rm "$d/losses/train_000001.losses"
score again "${what[@]}" --score_dir "$d/losses"
same "again: the missing one alone" "$(grep -c 'nats a token' "$d/again.out") $(grep -c '^1 of 2 shards are scored already$' "$d/again.out")" "1 1"
same "again: the same bytes" "$(kept)" "$before"
score third "${what[@]}" --score_dir "$d/losses"
same "all are there" "$(grep -c '^2 of 2 shards are scored already$' "$d/third.out") $(kept)" "1 $before"

# --- training with them: losses stay those of all positions, so the first filtered step reads the same loss
excess=(--tf_rule excess --tf_keep 0.6 --tf_reference "$d/losses" --tf_start_step 2 --tf_stop_step 20)
train plain
train topk --tf_keep 0.6 --tf_start_step 2 --tf_stop_step 20
train excess "${excess[@]}"
same "excess: losses up to its first step" "$(trained excess 3)" "$(trained plain 3)"
if [ "$(trained excess 4)" != "$(trained plain 4)" ]; then pass; else fail "the filter changed nothing"; fi
if [ "$(trained excess 4)" != "$(trained topk 4)" ]; then pass; else fail "the reference changed nothing"; fi
same "excess: banner" "$(grep -c "^filter     gradient of the 60 % farthest above $d/losses's losses, from step 2, until step 20$" "$d/excess.out")" 1
train whole --tf_rule excess --tf_keep 1 --tf_reference "$d/losses"
same "keep 1: is no filter" "$(end whole)" "$(end plain)"
for kind in fp32 bf16; do
    train "excess-$kind" --precision $kind --mtp_enabled --mtp_rampup_steps 4 "${excess[@]}" --input_bin "$d/train_0*.bin"
    whole=$(end "excess-$kind") log=$(losses "excess-$kind")
    rm "$d/excess-$kind/step_00000024.ckpt"
    train "excess-$kind" --precision $kind --mtp_enabled --mtp_rampup_steps 4 "${excess[@]}" --resume 1
    same "$kind resumed at 12, over a shard's end: weights and moments" "$(end "excess-$kind")" "$whole"
    same "$kind resumed at 12: log" "$(losses "excess-$kind")" "$log"
done

# --- what cannot be meant is one sentence before anything is written
wrong() { tries=score refuses "$@"; } # exit code, sentence, flags...
wrong 2 '--score_bin needs --score_dir' "${what[@]}"
wrong 2 '--score_bin needs --init_from' --score_bin "$d/train_0*.bin" --score_dir "$d/refused"
wrong 2 '--score_dir has no effect without --score_bin' --score_dir "$d/refused"
wrong 2 '--n_layer has no effect with --score_bin' "${what[@]}" --score_dir "$d/refused" --n_layer 1
wrong 2 '--score_dir has no effect with --generate' --generate "$d/reference" --score_dir "$d/refused"
wrong 1 "--init_from $d/nothing: No such file" --score_bin "$d/train_0*.bin" --score_dir "$d/refused" --init_from "$d/nothing"
wrong 1 'no file matches' "${what[@]}" --score_bin "$d/none_*.bin" --score_dir "$d/refused"
wrong 1 'losses by another model than --init_from' --score_bin "$d/train_0*.bin" --score_dir "$d/losses" --init_from "$d/plain"
same "refused: the files are as they were" "$(kept)" "$before"
cp "$d/val_000000.bin" "$d/other_000000.bin"
head -c 1000 "$d/val_tokenizer.bin" >"$d/other_tokenizer.bin"
wrong 1 "other_tokenizer.bin: is not $d/train_tokenizer.bin, the tokenizer of the model" "${what[@]}" --score_bin "$d/other_0*.bin" --score_dir "$d/refused"
refuses 2 'add --tf_reference DIR' --tf_rule excess --tf_keep 0.6
refuses 2 '--tf_reference has no effect with --tf_rule topk' --tf_keep 0.6 --tf_reference "$d/losses"
refuses 2 'not defined for the token filter' "${excess[@]}" --tie_embedding light
refuses 1 "val_000000.losses: cannot open" "${excess[@]}" --input_bin "$d/val_0*.bin"
mkdir "$d/mixed"
cp "$d/losses/train_000000.losses" "$d/mixed"
cp "$d/losses/train_000000.losses" "$d/mixed/train_000001.losses"
refuses 1 "mixed/train_000001.losses: losses of 5000 tokens, but" "${excess[@]}" --tf_reference "$d/mixed"
finish
