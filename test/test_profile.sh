#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # flags and d are shared with small_run.sh
# --profile through the built program: the same training to the bit, and a table whose parts add up to the run; on the emulated GPU
# the same, from events.
set -u
. "$(dirname "$0")/small_run.sh"

flags=("${shards[@]}" --tokenizer "$d/train_tokenizer.bin" --n_layer 2 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32
    --batch_size 2 --grad_accumulation_steps 2 --num_iterations 4 --learning_rate 0.003 --val_loss_every 2 --val_batch_size 2
    --val_tokens 128 --save_every 2 --sample_every 4 --sample_tokens 2 --mtp_enabled --mtp_heads linear --mtp_rampup_steps 0)

check() { # name, sections that must have taken time
    local name=$1 key
    shift
    for key in "$@"; do
        if awk -v key="\"profile_$key\":" '(at = index($0, key)) && substr($0, at + length(key)) + 0 > 0 { good = 1 } END { exit !good }' \
            "$d/$name/metrics.jsonl"; then pass; else fail "$name: section $key took no time"; fi
    done
    same "$name: lines with a profile in metrics.jsonl" "$(grep -c '"profile_' "$d/$name/metrics.jsonl")" 1
    # rows of the table: seconds, share, ms a step; the head line has the sum
    local verdict
    verdict=$(awk '/^profile / { all = $4; rows = 1; next } rows && /^  / { sum += $(NF - 3); share += $(NF - 2); n++ } !/^  / { rows = 0 }
        END { e = sum - all; e = e < 0 ? -e : e; print (n >= 12 && all > 0 && e < 0.0005 * n && share > 99 && share < 101) ? "good" : n " rows: " sum " s of " all ", " share " %" }' "$d/$name.out")
    same "$name: the sum of the sections" "$verdict" good
}

train off || fail "off: $(cat "$d/off.err")"
train on --profile || fail "on: $(cat "$d/on.err")"
same "weights with and without --profile" "$(payload "$d/on/step_00000004.ckpt")" "$(payload "$d/off/step_00000004.ckpt")"
same "profiles of a run without" "$(grep -c profile "$d/off/metrics.jsonl" "$d/off.out" | sed 's/.*://' | tr '\n' ' ')" "0 0 "
check on data embed mixer attention mlp head auxiliary mlp_backward mixer_backward attention_backward embed_backward optimizer \
    validation sample checkpoint

train on --profile --resume auto --num_iterations 6 || fail "resumed: $(cat "$d/on.err")"
same "steps of a resumed run's profile" "$(sed -n 's/^profile *\([0-9]*\) steps.*/\1/p' "$d/on.out")" 2

program=build/test/train_emu
if [ -x $program ]; then
    train gpu --device cuda --precision fp32 --num_iterations 2 || fail "emulated: $(cat "$d/gpu.err")"
    train gpu_on --device cuda --precision fp32 --num_iterations 2 --profile || fail "emulated: $(cat "$d/gpu_on.err")"
    same "emulated weights with and without --profile" "$(payload "$d/gpu_on/step_00000002.ckpt")" "$(payload "$d/gpu/step_00000002.ckpt")"
    check gpu_on embed mixer attention mlp head auxiliary mlp_backward mixer_backward attention_backward optimizer validation
else
    skip "--profile on the emulated GPU: build/test/train_emu is not built"
fi
finish
