#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # flags and d are shared with small_run.sh
# The lightrnn head and embedding through the built program: it learns, resumes bit for bit, validates plain cross-entropies in any
# precision and samples; a better codebook is made from it and training goes on with that; another codebook than a checkpoint's and
# objectives that it is not defined for are refused.
set -u
. "$(dirname "$0")/small_run.sh"

flags=("${shards[@]}"
    --n_layer 2 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4 --grad_accumulation_steps 2
    --num_iterations 16 --learning_rate 0.003 --warmup_iters 4 --warmdown_iters 8 --weight_decay 0.1 --val_loss_every 8
    --val_batch_size 4 --val_tokens 2048 --keep_checkpoints 0 --arch nocap --save_every 8)
light=(--tie_embedding light --table_size 20)
end() { payload "$d/$1/step_00000016.ckpt"; }
losses() { sed 's/ tps:[0-9]*//' "$d/$1/main.log"; } # all but the speed
field() { grep "^s:$2 val:" "$d/$1/main.log" | grep -o " $3:[0-9.]*" | cut -d : -f 2; } # run, step, key: of a validation
val() { grep -o "^s:$2 val:[0-9.]*" "$d/$1/main.log" | cut -d : -f 3; } # run, step
holds() { # what, awk condition
    if awk "BEGIN { exit !($2) }"; then pass; else fail "$1: not $2"; fi
}
refused() { # what, exit code, words of the answer, flags...
    local what=$1 code=$2 words=$3
    shift 3
    "$program" "${flags[@]}" "$@" >"$d/refused" 2>&1
    if [ $? = "$code" ] && grep -qF -- "$words" "$d/refused"; then pass; else fail "$what: $(tail -1 "$d/refused")"; fi
}

# --- it learns, and says what it is
train straight "${light[@]}" --mtp_enabled --mtp_rampup_steps 12 --sample_every 16 --sample_tokens 8
holds "the loss falls" "$(field straight 16 ntp) < $(field straight 0 ntp) - 0.5 && $(field straight 0 ntp) < 6.5"
same "banner" "$(grep -c '^table  *13 rows of up to 20 columns: embedding .* head .* MFLOP a token' "$d/straight.out")" 1
same "a sample" "$(grep -c '^sample at step 16' "$d/straight.out")" 1

# --- resumed while the weight of a second target moves
train halves "${light[@]}" --mtp_enabled --mtp_rampup_steps 12
rm "$d/halves/step_00000016.ckpt"
train halves "${light[@]}" --mtp_enabled --mtp_rampup_steps 12 --resume 1
same "resumed: weights and moments" "$(end halves)" "$(end straight)"
same "resumed: losses" "$(losses halves)" "$(losses straight)"

# --- validation: the same numbers from the same weights, whatever is trained
train plain "${light[@]}" --num_iterations 0
train other "${light[@]}" --num_iterations 0 --precision bf16
same "fp32 validation of a bf16 run" "$(losses other)" "$(losses plain)"
same "validation with a second target" "$(field straight 0 ntp)" "$(grep -o '^s:0 val:[0-9.]*' "$d/plain/main.log" | cut -d : -f 3)"
data/build_ngram "${shards[1]}" --vocab_size 257 --k 8 --out "$d/ngram" >/dev/null 2>&1
train smooth "${light[@]}" --use_cocont --ngram_path "$d/ngram" --ngram_k 8 --cocont_alpha 0.3
same "validation of a smoothed run" "$(grep -o '^s:0 val:[0-9.]*' "$d/smooth/main.log")" "$(grep -o '^s:0 val:[0-9.]*' "$d/plain/main.log")"
same "form of a training line" "$(grep -cE '^s:[0-9]+ trn:[0-9.]+ .* cocont_alpha:0.3[0-9]* cocont:[0-9.]+' "$d/smooth/main.log")" 16
words=(--use_cocont --ngram_path "$d/ngram" --ngram_k 8 --cocont_alpha 0.3 --cocont_mass exact --mtp_enabled --mtp_rampup_steps 12)
train words "${light[@]}" "${words[@]}" --cocont_decay_start 0.25 --cocont_decay_end 0.75
same "validation before a step with n-grams as words" "$(field words 0 ntp)" "$(val plain 0)"
holds "n-grams as words: the loss falls" "$(field words 16 ntp) < $(field words 0 ntp) - 0.5"
same "their share falls to nothing" "$(grep -cE '^s:[0-9]+ trn:.* cocont_alpha:0.[0-9]* cocont:[0-9.]+' "$d/words/main.log")" 12
cp -r "$d/words" "$d/words2" && rm "$d/words2/step_00000016.ckpt"
train words2 "${light[@]}" "${words[@]}" --cocont_decay_start 0.25 --cocont_decay_end 0.75 --resume 1
same "n-grams as words, resumed" "$(end words2)" "$(end words)"
same "n-grams as words, resumed: losses" "$(losses words2)" "$(losses words)"
train cc "${light[@]}" "${words[@]}" --cocont_mode cc --num_iterations 2 --save_every 0
for half in "--head lightrnn" "--embedding lightrnn --tie_embedding none"; do
    read -r -a ends <<<"$half"
    train half "${ends[@]}"
    holds "$half" "$(grep -o '^s:16 val:[0-9.]*' "$d/half/main.log" | cut -d : -f 3) < $(grep -o '^s:0 val:[0-9.]*' "$d/half/main.log" | cut -d : -f 3) - 0.5"
    rm -rf "$d/half"
done

# --- a better codebook from what tokens cost, and the run goes on with it
seen=(--input_val_bin "$d/train_0*.bin" --val_tokens 6400) # validation on the training text: what the costs sum to
book=(--head lightrnn --codebook)
data/build_codebook --vocab_size 257 --columns 20 --out "$d/first" >/dev/null
train round1 "${book[@]}" "$d/first" "${seen[@]}"
before=$(cksum <"$d/round1/main.log")
train round1 "${book[@]}" "$d/first" "${seen[@]}" --resume 1 --codebook_costs "$d/costs" --codebook_costs_tokens 6400
same "costs of the codebook in use" "$(grep -o '[0-9.]* nats a token' "$d/round1.out")" "$(val round1 16) nats a token"
same "measuring leaves the log alone" "$(cksum <"$d/round1/main.log")" "$before"
data/build_codebook --vocab_size 257 --method matching --codebook "$d/first" --costs "$d/costs" --out "$d/second" >"$d/match" 2>&1
objective() { sed -n "s/^$1: objective \([0-9.]*\) .*/\1/p" "$d/match"; }
holds "matching lowers the objective" "$(objective after) < 0.99 * $(objective before)"
data/reassign_codebook --checkpoint "$d/round1/step_00000016.ckpt" --codebook "$d/second" --out "$d/round2" >"$d/said" 2>&1
same "the moved checkpoint" "$(grep -c '^.*step_00000016.ckpt: [0-9]* of 257 tokens moved' "$d/said")" 1
train round2 "${book[@]}" "$d/second" "${seen[@]}" --resume 1 --num_iterations 24 --save_every 24
holds "it goes on" "$(val round2 24) < $(val round2 16) && $(val round2 16) < 6"
refused "costs of a dense head" 2 "measures a lightrnn head" --resume 1 --codebook_costs "$d/x" --output_dir "$d/round1"
refused "costs of a new model" 2 "measures a trained model" "${light[@]}" --codebook_costs "$d/x"
refused "tokens without costs" 2 "has no effect without --codebook_costs" "${light[@]}" --codebook_costs_tokens 9
refused "costs of more text than there is" 1 "tokens at most, but --codebook_costs_tokens is 20000" "${book[@]}" "$d/first" --output_dir "$d/round1" --resume 1 \
    --codebook_costs "$d/x" --codebook_costs_tokens 20000
refused "costs over another file" 1 "is not a file of codebook costs, so it is kept" "${book[@]}" "$d/first" --output_dir "$d/round1" \
    --resume 1 --codebook_costs "$d/first" --codebook_costs_tokens 1024

# --- what a user can get wrong
data/build_codebook "${shards[1]}" --method snake --vocab_size 257 --columns 20 --out "$d/snake" >"$d/build" 2>&1 ||
    fail "build_codebook: $(tail -1 "$d/build")"
refused "another codebook" 1 "use --codebook as that run did" "${light[@]}" --mtp_enabled --mtp_rampup_steps 12 --num_iterations 17 \
    --output_dir "$d/straight" --resume 1 --codebook "$d/snake"
refused "heads of their own" 2 "not defined for heads of their own" "${light[@]}" --mtp_enabled --mtp_heads linear
refused "the token filter" 2 "not defined for the token filter" "${light[@]}" --tf_keep 0.5
refused "rows of a dense head" 2 "--cocont_mass exact has no effect with a dense head" --use_cocont --ngram_path "$d/ngram" --ngram_k 8 --cocont_mass exact
refused "a mass without n-grams" 2 "--cocont_mass has no effect without --use_cocont" "${light[@]}" --cocont_mass exact
refused "the corrected estimator" 2 "use --cocont_mass exact" "${light[@]}" --use_cocont --ngram_path "$d/ngram" --ngram_k 8 --cocont_mode cc
finish
