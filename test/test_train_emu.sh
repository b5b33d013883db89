#!/usr/bin/env bash
# The whole trainer on the emulated GPU (make test-gpu: on a real one): the same losses as on the CPU, and after a stop it goes on
# bit for bit.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/report.sh

program=${PROGRAM:-build/test/train_emu}
[ -x $program ] && [ -x data/prepare ] && [ -x data/make_corpus ] || { fail "$program, data/prepare or data/make_corpus is not built"; finish; }
d=$(mktemp -d "${TMPDIR:-/tmp}/ahead-emu.XXXXXX") || exit 1
trap 'rm -rf "$d"' EXIT
data/make_corpus --bytes 9000 --seed 5 --out "$d/text" >/dev/null 2>&1
data/make_corpus --bytes 6000 --seed 6 --out "$d/val" >/dev/null 2>&1
data/prepare --tokenizer bytes --out "$d/train" --shard_tokens 5000 "$d/text" >/dev/null
data/prepare --tokenizer bytes --out "$d/val" "$d/val" >/dev/null
flags=(--input_bin "$d/train_0*.bin" --input_val_bin "$d/val_0*.bin" --tokenizer "$d/train_tokenizer.bin" --n_layer 2 --n_head 2
    --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 2 --grad_accumulation_steps 2 --num_iterations 12
    --learning_rate 0.003 --warmup_iters 2 --warmdown_iters 4 --weight_decay 0.1 --val_loss_every 6 --val_batch_size 2
    --val_tokens 512 --keep_checkpoints 0 --save_every 6 --log_every 1)

train() { # name flags...
    local name=$1
    shift
    timeout 120 $program "${flags[@]}" --output_dir "$d/$name" "$@" >"$d/$name.out" 2>&1 </dev/null
}
payload() { tail -c +$(($(od -An -t u8 -j 40 -N 8 "$1") + 1)) "$1" | cksum; }

for arch in gpt2 nocap lightrnn; do
    trunk=(--arch "$arch")
    [ $arch != lightrnn ] || trunk=(--arch nocap --tie_embedding light --table_size 20 --mtp_enabled --mtp_max_steps 3 --mtp_rampup_steps 4)
    train cpu-$arch "${trunk[@]}" --device cpu --precision fp32
    train gpu-$arch "${trunk[@]}" --device cuda --precision fp32 || fail "$arch: $(tail -1 "$d/gpu-$arch.out")"
    worst=$(paste -d ' ' <(grep -o '\(val\|trn\):[0-9.]*' "$d/cpu-$arch/main.log") <(grep -o '\(val\|trn\):[0-9.]*' "$d/gpu-$arch/main.log") |
        awk '{ split($1, a, ":"); split($2, b, ":"); e = a[2] - b[2]; e = e < 0 ? -e : e; if (e > worst) worst = e; n++ }
            END { print (n >= 14 && worst < 1e-4) ? "good" : worst " in " n " losses" }')
    if [ "$worst" = good ]; then pass; else fail "$arch: emulated losses differ from the CPU's by $worst"; fi
done

# Text with cached keys and values, and past the end of the sequence: the CPU's
for arch in gpt2 nocap; do
    for device in cpu cuda; do
        timeout 120 $program --generate "$d/gpu-$arch" --device $device --precision fp32 --prompt "Once upon" --sample_tokens 30 \
            --temperature 0 >"$d/text-$device" 2>"$d/text-$device.err" || fail "$arch, text: $(tail -1 "$d/text-$device.err")"
    done
    same=$(cmp "$d/text-cpu" "$d/text-cuda" 2>&1)
    if [ -z "$same" ] && [ "$(wc -c <"$d/text-cuda")" -gt 10 ]; then pass; else fail "$arch: the text differs from the CPU's: $same"; fi
done

# Losses of a shard, and a filter that compares with them, read while the steps before are still queued: the CPU's
head -c 300 "$d/val" >"$d/few"
data/prepare --tokenizer bytes --out "$d/few" "$d/few" >/dev/null
for device in cpu cuda; do
    timeout 120 $program --score_bin "$d/few_0*.bin" --score_dir "$d/losses-$device" --init_from "$d/gpu-gpt2" --device $device --precision fp32 \
        >"$d/score-$device.out" 2>&1 </dev/null || fail "scoring: $(tail -1 "$d/score-$device.out")"
    train excess-$device --arch gpt2 --device $device --precision fp32 --input_bin "$d/few_0*.bin" --num_iterations 6 --save_every 0 \
        --tf_rule excess --tf_keep 0.5 --tf_reference "$d/losses-cpu" || fail "excess: $(tail -1 "$d/excess-$device.out")"
done
far=$(paste <(od -An -v -t u2 -w2 -j 1024 "$d/losses-cpu/few_000000.losses") <(od -An -v -t u2 -w2 -j 1024 "$d/losses-cuda/few_000000.losses") |
    awk '$1 - $2 > 1 || $2 - $1 > 1 { n++ } END { print n + 0, "of", NR }')
if [[ $far == "0 of 3"* ]]; then pass; else fail "scoring: emulated losses differ from the CPU's: $far"; fi
far=$(paste -d ' ' <(grep -o 'trn:[0-9.]*' "$d/excess-cpu/main.log") <(grep -o 'trn:[0-9.]*' "$d/excess-cuda/main.log") |
    awk '{ split($1, a, ":"); split($2, b, ":"); e = a[2] - b[2]; n += e < 1e-4 && e > -1e-4 } END { print n + 0 }')
if [ "$far" = 6 ]; then pass; else fail "excess: $far of 6 emulated losses are the CPU's"; fi

train bf16 --arch nocap --device cuda --precision bf16 || fail "bf16: $(tail -1 "$d/bf16.out")"
if grep -q '"precision":"bf16"' "$d/bf16/metrics.jsonl"; then pass; else fail "bf16: the run had another precision"; fi
whole=$(payload "$d/bf16/step_00000012.ckpt")
rm "$d/bf16/step_00000012.ckpt"
train bf16 --arch nocap --device cuda --precision bf16 --resume auto
again=$(payload "$d/bf16/step_00000012.ckpt")
if [ "$whole" = "$again" ]; then pass; else fail "bf16: resumed from step 6 the weights differ"; fi
finish
