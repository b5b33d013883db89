#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # flags and d are shared with small_run.sh
# The lightrnn decoders that share column weights, through the built program: they learn, resume bit for bit, validate the same
# numbers whatever is trained, sample; another decoder than a checkpoint's is refused.
set -u
. "$(dirname "$0")/small_run.sh"

flags=("${shards[@]}"
    --n_layer 1 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4 --grad_accumulation_steps 2
    --num_iterations 12 --learning_rate 0.003 --warmup_iters 4 --warmdown_iters 4 --weight_decay 0.1 --val_loss_every 6
    --val_batch_size 4 --val_tokens 1024 --keep_checkpoints 0 --arch nocap --save_every 6 --tie_embedding light --table_size 20)
end() { payload "$d/$1/step_00000012.ckpt"; }
losses() { sed 's/ tps:[0-9]*//' "$d/$1/main.log"; } # all but the speed
value() { grep "^s:$2 val:" "$d/$1/main.log" | grep -o " $3:[0-9.]*" | cut -d : -f 2; } # run, step, key: of a validation
holds() { # what, awk condition
    if awk "BEGIN { exit !($2) }"; then pass; else fail "$1: not $2"; fi
}
data/build_ngram "$d/train_0*.bin" --vocab_size 257 --k 8 --out "$d/ngram" >/dev/null 2>&1
objective=(--mtp_enabled --mtp_rampup_steps 9 --use_cocont --ngram_path "$d/ngram" --ngram_k 8 --cocont_alpha 0.3)

for name in shared apart lowrank; do
    case $name in
        shared) decoder=(--lightrnn_decoder shared) ;;
        apart) decoder=(--lightrnn_decoder shared --head lightrnn --embedding lightrnn --tie_embedding none --cocont_mass exact) ;;
        lowrank) decoder=(--lightrnn_decoder lowrank --lightrnn_rank 4) ;;
    esac
    train $name "${decoder[@]}" "${objective[@]}" --sample_every 12 --sample_tokens 8
    holds "$name: the loss falls" "$(value $name 12 ntp) < $(value $name 0 ntp) - 0.4 && $(value $name 0 ntp) < 6.5"
    same "$name: a sample" "$(grep -c '^sample at step 12' "$d/$name.out")" 1
    [ $name = apart ] && continue

    # resumed while the weight of a second target moves
    cp -r "$d/$name" "$d/again"
    rm "$d/again/step_00000012.ckpt"
    train again "${decoder[@]}" "${objective[@]}" --resume 1
    same "$name: resumed: weights and moments" "$(end again)" "$(end $name)"
    same "$name: resumed: losses" "$(losses again)" "$(losses $name)"
    rm -rf "$d/again"

    # validation is the next token's cross-entropy of the same weights, in fp32, whatever is trained
    train plain "${decoder[@]}" --num_iterations 0 --precision bf16
    same "$name: validation" "$(value $name 0 ntp)" "$(grep -o '^s:0 val:[0-9.]*' "$d/plain/main.log" | cut -d : -f 3)"
    rm -rf "$d/plain"
done

# what a user can get wrong
"$program" "${flags[@]}" --output_dir "$d/shared" --resume 1 --num_iterations 13 --lightrnn_decoder lowrank --lightrnn_rank 4 \
    "${objective[@]}" >"$d/other" 2>&1
same "another decoder" "$?" 1
same "one sentence" "$(tail -1 "$d/other" | cut -c1-7)" "error: "
refused "--lightrnn_rank has no effect without --lightrnn_decoder lowrank" --lightrnn_rank 4
finish
