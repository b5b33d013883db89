#!/usr/bin/env bash
# --dry_run through the built program: it needs no data, writes nothing, refuses contradictions, and what it says of a GPU's memory
# is what the emulated card gives out. test_plan.cu compares its numbers with runs.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/small_run.sh

dry() { # name flags...: in an empty folder, where it must leave nothing
    local name=$1
    shift
    mkdir -p "$d/empty" && (cd "$d/empty" && "$here/train_gpt2cu" "$@" --dry_run >"$d/$name.out" 2>"$d/$name.err" </dev/null)
}
says() { # name, pattern
    if grep -q -E -e "$2" "$d/$1.out"; then pass; else fail "$1: no \"$2\" in: $(cat "$d/$1.out" "$d/$1.err")"; fi
}
here=$PWD

for preset in scripts/presets/*.txt; do
    name=$(basename "$preset" .txt)
    dry "$name" "@$here/$preset"
    code=$?
    if [ $code = 0 ] && grep -q '^  tokens/s' "$d/$name.out"; then pass; else fail "$preset: exit code $code: $(cat "$d/$name.err")"; fi
done
same 'what dry runs leave behind' "$(find "$d/empty" -mindepth 1)" ''
says d12_nocap '^a dry run in bf16'
says d12_nocap 'all +49 +123\.532M'
says d12_nocap '^  trunk: products +509\.608 '
says d12_nocap '^  head: products +231\.801 '

dry one "@$here/scripts/presets/d12_gpt2.txt" --gpu h100 --precision fp16
says one '^a dry run in fp16'
says one '^a step .*GB/step +h100 ms$'
dry cpu --model d12 --batch_size 1 --gpu cpu --threads 1
says cpu '^a dry run in fp32'
says cpu 'measured just now'
dry here --n_layer 2 --device cpu
says here 'cpu ms$'
dry files --use_cocont --ngram_path absent.ngram --spell_weight 0.1 --n_layer 1
says files '^  spell.w '

flags=("${shards[@]}" --n_layer 1 --n_head 2 --n_embd 32 --vocab_size 257)
refused '--gpu h100 has no effect without --dry_run' --gpu h100
refused '--gpu h100 plans for another device than --device cpu' --gpu h100 --dry_run
refused '--gpu cpu plans for another device than --device cuda' --gpu cpu --device cuda --dry_run
refused 'expected one of auto, rtx4090' --gpu a200 --dry_run

# A GPU's run in bf16 that validates in fp32, on the emulated card: it says what memory is gone. Guard zones, which only that build has,
# are 30 kB.
program=build/test/train_emu
if [ -x $program ]; then
    flags=(--input_bin "$d/train_0*.bin" --input_val_bin "$d/val_0*.bin" --device cuda --precision bf16 --arch gpt2 --n_layer 1 --n_head 2
        --n_embd 64 --vocab_size 257 --sequence_length 64 --batch_size 8 --num_iterations 1 --val_loss_every 1 --val_batch_size 8
        --val_tokens 512 --save_every 0)
    train gpu || fail "the emulated run: $(cat "$d/gpu.err")"
    found=$(sed -n 's/.*"val_loss".*"peak_memory_mb":\([0-9.]*\).*/\1/p' "$d/gpu/metrics.jsonl" | head -1)
    "$program" "${flags[@]}" --dry_run --gpu rtx4090 >"$d/gpu_plan.out"
    planned=$(sed -n 's/^memory *\([0-9]*\) bytes.*/\1/p' "$d/gpu_plan.out")
    says gpu_plan '^  validation in fp32 '
    verdict=$(awk -v f="${found:-0}" -v p="${planned:-0}" 'BEGIN { e = f - p / 1048576; print (p > 0 && e > -0.06 && e < 0.1) ? "good" : e " MiB apart" }')
    same "memory of the emulated run: $found MiB, planned $planned bytes" "$verdict" good
else
    skip "memory of a GPU's run: build/test/train_emu is not built"
fi
finish
