#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # flags and d are shared with small_run.sh
# N-gram smoothing through the built program, with a table that data/build_ngram made of the training shards: what it logs, that
# validation does not see it, that it resumes bit for bit while alpha moves, and that without weight it is not there.
set -u
. "$(dirname "$0")/small_run.sh"

flags=("${shards[@]}"
    --n_layer 2 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4 --grad_accumulation_steps 2
    --num_iterations 16 --learning_rate 0.003 --warmup_iters 4 --warmdown_iters 8 --weight_decay 0.1 --val_loss_every 8
    --val_batch_size 4 --val_tokens 2048 --keep_checkpoints 0 --arch nocap --save_every 8)
end() { payload "$d/$1/step_00000016.ckpt"; }
losses() { sed 's/ tps:[0-9]*//' "$d/$1/main.log"; } # all but the speed
refused() { # what, words of the answer, flags...
    local what=$1 words=$2
    shift 2
    "$program" "${flags[@]}" "$@" >"$d/refused" 2>&1
    if [ $? = 2 ] && grep -qF -- "$words" "$d/refused"; then pass; else fail "$what: $(tail -1 "$d/refused")"; fi
}

if data/build_ngram "${shards[1]}" --vocab_size 257 --k 8 --out "$d/ngram" >"$d/build" 2>&1; then pass; else fail "$(tail -1 "$d/build")"; fi
cocont=(--use_cocont --ngram_path "$d/ngram" --ngram_k 8 --cocont_alpha 0.3)

# --- without weight it is not there
train plain
for kind in "--cocont_alpha 0" "--cocont_rampup_steps 100000 --cocont_decay_start 0 --cocont_decay_end 0" "--use_cocont 0"; do
    read -r -a words <<<"$kind"
    train off "${cocont[@]}" "${words[@]}"
    same "$kind: weights and moments" "$(end off)" "$(end plain)"
    same "$kind: losses" "$(sed 's/ tps:.*//' "$d/off/main.log")" "$(sed 's/ tps:.*//' "$d/plain/main.log")"
    rm -rf "$d/off"
done

# --- with weight it trains something else, in either mode, and says what the rows cost
for mode in "--cocont_mode topk" "--cocont_mode cc --cocont_gamma 1.3" "--cocont_positions first:4" "--mtp_enabled"; do
    read -r -a words <<<"$mode"
    train with "${cocont[@]}" "${words[@]}"
    if [ "$(end with)" != "$(end plain)" ]; then pass; else fail "$mode: alpha 0.3 trained the same weights as none"; fi
    same "$mode: validation before any training" "$(grep -o '^s:0 val:[0-9.]*' "$d/with/main.log")" "$(grep -o '^s:0 val:[0-9.]*' "$d/plain/main.log")"
    same "$mode: the next token's loss of the first step" "$(grep -o '^s:0 trn:[0-9.]*' "$d/with/main.log")" "$(grep -o '^s:0 trn:[0-9.]*' "$d/plain/main.log")"
    same "$mode: form of a training line" "$(grep -cE '^s:[0-9]+ trn:[0-9.]+ .* cocont_alpha:0.3[0-9]* cocont:[0-9.]+' "$d/with/main.log")" 16
    rm -rf "$d/with"
done

# --- a run that is resumed while alpha moves
moving=("${cocont[@]}" --cocont_rampup_steps 10 --cocont_decay_start 0.75 --cocont_decay_end 1)
train straight "${moving[@]}"
train halves "${moving[@]}"
rm "$d/halves/step_00000016.ckpt"
train halves "${moving[@]}" --resume 1
same "resumed: weights and moments" "$(end halves)" "$(end straight)"
same "resumed: losses" "$(losses halves)" "$(losses straight)"

# --- what a user can get wrong
refused "no table" "needs --ngram_path" --use_cocont
refused "a flag without its switch" "no effect without --use_cocont" --cocont_alpha 0.2
refused "gamma without its mode" "no effect with --cocont_mode topk" "${cocont[@]}" --cocont_gamma 2
refused "positions" "first:N" "${cocont[@]}" --cocont_positions 4
refused "a decay that ends before it starts" "comes after --cocont_decay_end" "${cocont[@]}" --cocont_decay_end 0.5
refused "shares above 1" "--cocont_alpha" "${cocont[@]}" --soft_ce_beta 0.9 --soft_ce_table "$d/ngram"
finish
