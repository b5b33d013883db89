#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # flags and d are shared with small_run.sh
# The spelling loss and the token filter through the built program: what they log, that they leave validation and the data alone,
# that off is absent, and that a run resumes bit for bit while a weight moves and a filter comes and goes.
set -u
. "$(dirname "$0")/small_run.sh"

flags=("${shards[@]}"
    --n_layer 1 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4 --grad_accumulation_steps 2
    --num_iterations 12 --learning_rate 0.003 --warmup_iters 2 --weight_decay 0.1 --val_loss_every 6
    --val_batch_size 4 --val_tokens 1024 --keep_checkpoints 0 --arch nocap --save_every 6)
spell=(--spell_weight 0.3 --spell_letters 3 --spell_rampup_steps 4 --spell_decay_start 0.5)
tf=(--tf_keep 0.6 --tf_start_step 2 --tf_stop_step 9 --mtp_enabled --mtp_rampup_steps 4)

losses() { sed 's/ tps:[0-9]*//' "$d/$1/main.log"; } # all but the speed
end() { payload "$d/$1/step_00000012.ckpt"; }
field() { grep -o "^s:$2 trn:.*" "$d/$1/main.log" | grep -o "[ :]$3:[0-9.]*" | cut -d : -f 3; } # run, step, key: of a training line
trained() { grep -o '^s:[0-9]* trn:[0-9.]*' "$d/$1/main.log" | head -n "$2"; }
validated() { grep -o '^s:[0-9]* val:[0-9.]*' "$d/$1/main.log"; }

# --- off is absent
train plain
train off --spell_weight 0 --spell_letters 7 --tf_keep 1 --tf_norm all
same "weight 0 and keep 1: weights and moments" "$(end off)" "$(end plain)"
same "weight 0 and keep 1: log" "$(losses off)" "$(losses plain)"

# --- spelling: the first two steps train the same (weight 0, then one update that moved only the trunk's gradient)
train spell "${spell[@]}"
same "spelling: a step of weight 0" "$(trained spell 2)" "$(trained plain 2)"
if [ "$(trained spell 6)" != "$(trained plain 6)" ]; then pass; else fail "spelling trained the same weights as none"; fi
same "spelling: validation before any training" "$(validated spell | head -1)" "$(validated plain | head -1)"
same "spelling: steps with a loss" "$(grep -c ' spell:[0-9.]*' "$d/spell/main.log")" 11
same "spelling: a uniform start" "$(grep -cE '^s:1 trn:.* spell:(4\.[89]|5\.0)' "$d/spell/main.log")" 1
same "spelling: weights in metrics.jsonl" "$(grep train_loss "$d/spell/metrics.jsonl" | grep -o '"spell_weight":[0-9.]*' | sed -n '1p;3p;5p;10p' | tr '\n' ' ')" \
    '"spell_weight":0 "spell_weight":0.15 "spell_weight":0.3 "spell_weight":0.15 '
same "spelling: banner" "$(grep -c '^objective  the next 3 letters of the text, as written, with weight 0.3$' "$d/spell.out")" 1
train case --spell_weight 0.3 --spell_case lower --spell_mode token --spell_letters 8
same "spelling in bf16" "$(train half --precision bf16 "${spell[@]}" && validated half | wc -l)" 3
train far --spell_weight 0.3 --spell_letters 8 --mtp_enabled --mtp_max_steps 2 --num_iterations 0
same "look-ahead for letters does not move validation" "$(validated far | head -1)" "$(validated plain | head -1)"

# --- the filter: losses stay those of all positions, so the first filtered step reads the same loss
train filter --tf_keep 0.6 --tf_start_step 2 --tf_stop_step 9
same "filter: losses up to its first step" "$(trained filter 3)" "$(trained plain 3)"
if [ "$(trained filter 4)" != "$(trained plain 4)" ]; then pass; else fail "the filter changed nothing"; fi
same "filter: banner" "$(grep -c '^filter     gradient of the 60 % largest losses, from step 2, until step 9$' "$d/filter.out")" 1
same "filter: its price is said" "$(train ever --tf_keep 0.5 --num_iterations 0 && grep -c 'tf_stop_step' "$d/ever.out")" 1
train minmax --tf_rule minmax --tf_threshold 0.5 --tf_norm all
same "filter: validation before any training" "$(validated minmax | head -1)" "$(validated plain | head -1)"

# --- resume, bit for bit
for kind in "fp32|${spell[*]} ${tf[*]}" "bf16|${spell[*]}" "fp16|${tf[*]}"; do
    read -r -a words <<<"${kind#*|}"
    name=resumed-${kind%%|*}
    train "$name" --precision "${kind%%|*}" "${words[@]}"
    whole=$(end "$name") log=$(losses "$name")
    rm "$d/$name/step_00000012.ckpt"
    train "$name" --precision "${kind%%|*}" "${words[@]}" --resume 1
    same "$kind resumed at 6: weights and moments" "$(end "$name")" "$whole"
    same "$kind resumed at 6: log" "$(losses "$name")" "$log"
done

# --- what cannot be meant is one sentence before anything is written
refuses 2 'has no effect without --spell_weight' --spell_letters 5
refuses 2 'has no effect without --tf_keep' --tf_norm all
refuses 2 'not defined for heads of their own' --tf_keep 0.6 --mtp_enabled --mtp_heads linear
mv "$d/train_tokenizer.bin" "$d/elsewhere.bin"
refuses 1 '--spell_weight needs the tokenizer of the training shards' --spell_weight 0.1
train spell2 "${spell[@]}" --tokenizer "$d/elsewhere.bin"
same "a tokenizer by name" "$(losses spell2)" "$(losses spell)"
finish
