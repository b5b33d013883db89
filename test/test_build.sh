#!/usr/bin/env bash
# The build itself: no compiler said anything, the binary links, and every CUDA variant compiles for every architecture of the list.
# What nvcc compiles cannot run without a GPU; that it compiles and links is tested here, its arithmetic through the CPU variants.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/report.sh

found() { sed -n "s/^$1 := *//p" build/found.mk; }

said=$(find build/log -type f -size +0 2>/dev/null)
if [ -z "$said" ]; then pass; else fail "compiler messages, expected none: $(for f in $said; do head -3 "$f"; done)"; fi

for object in cpu_fp32 cpu_bf16 cpu_fp16; do
    if [ -f build/$object.o ]; then pass; else fail "$object does not compile"; fi
done
if [ -x train_gpt2cu ]; then pass; else fail "train_gpt2cu does not link"; fi
if [ -x train_gpt2cu ] && ./train_gpt2cu --help >/dev/null; then pass; else fail "./train_gpt2cu --help: exit code $?"; fi

if [ -n "$(found HAVE_CUDA)" ]; then
    for object in cuda_bf16 cuda_fp32 cuda_fp16; do
        if [ -f build/$object.o ]; then pass; else fail "$object does not compile for sm $(found SM_LIST)"; fi
        # the fatbinary names each architecture it carries
        for sm in $(found SM_LIST); do
            if grep -q -a "sm_$sm" build/$object.o 2>/dev/null; then pass; else fail "$object has no code for sm_$sm"; fi
        done
    done
else
    skip "CUDA variants: $(grep nvcc build/found.txt | sed 's/^ *– *//; s/  */ /g')"
fi
if [ -n "$(found HAVE_CUDNN)" ]; then
    if [ -f build/attention_cudnn.o ]; then pass; else fail "attention_cudnn.cpp does not compile"; fi
else
    why=$(grep cuDNN build/found.txt | sed 's/^ *– *//; s/  */ /g')
    skip "cuDNN attention: ${why:-no CUDA variants here}"
fi
if nvidia-smi -L >/dev/null 2>&1 && [ -n "$(found HAVE_CUDA)" ]; then
    d=$(mktemp -d "${TMPDIR:-/tmp}/ahead-gpu.XXXXXX") && trap 'rm -rf "$d"' EXIT
    data/make_corpus --bytes 20000 --seed 1 --out "$d/text" && data/prepare --tokenizer bytes --out "$d/t" "$d/text" >/dev/null
    for precision in bf16 fp32 fp16; do
        if said=$(./train_gpt2cu --device cuda --precision $precision --input_bin "$d/t_0*.bin" --input_val_bin "$d/t_0*.bin" \
            --n_layer 2 --n_head 2 --n_embd 64 --vocab_size 257 --sequence_length 64 --batch_size 4 --num_iterations 10 \
            --val_loss_every 10 --val_batch_size 4 --val_tokens 2048 2>&1); then pass; else fail "10 steps on the GPU in $precision: $(tail -2 <<<"$said")"; fi
    done
else
    skip "CUDA kernels on a GPU: none visible here, they were compiled and not run"
fi
finish
