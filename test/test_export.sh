#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # flags and d are shared with small_run.sh
# Leaving and arriving, with Python's standard library: what scripts/export_hf writes, scripts/import_hf brings back bit for bit and
# the program reads; models in llm.c's format arrive; wrong files are one sentence. test/long/transformers.sh has the other side.
set -u
. "$(dirname "$0")/small_run.sh"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || { skip "export and import: no python3 (3.8 or newer) here"; finish; }

flags=("${shards[@]}"
    --n_layer 2 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4 --num_iterations 2 --learning_rate 0.02
    --val_loss_every 2 --val_batch_size 4 --val_tokens 2048)
files() { python3 test/export_files.py "$@"; }
val() { sed -n "s/^s:$2 val:\([0-9.]*\).*/\1/p" "$d/$1/main.log"; } # run, step
ckpt() { echo "$d/$1/step_00000002.ckpt"; }
says() { # what, words, text
    if grep -qF -e "$2" <<<"$3"; then pass; else fail "$1: no \"$2\" in: $3"; fi
}
wrong() { # sentence, command...: exit code 1, one sentence, no file
    local sentence=$1 code
    shift
    "$@" >"$d/said" 2>"$d/err" </dev/null
    code=$?
    if [ $code = 1 ] && grep -qF -e "$sentence" "$d/err" && [ "$(wc -l <"$d/err")" = 1 ] && [ -z "$(find "$d"/wrong* -type f 2>/dev/null)" ]
    then pass; else fail "$sentence: exit code $code: $(cat "$d/err")"; fi
}

# --- a flag that shapes the model has to be known to the export, or models would be exported as others
same "flags of the section Model (a new one: say in scripts/model_tensors.py MODEL_FLAGS what the export makes of it)" \
    "$("$program" --help | sed -n '/^Model/,/^$/s/^  --\([a-z_0-9]*\).*/\1/p' | sort | xargs)" \
    "$(cd scripts && python3 -B -c 'import model_tensors; print(*sorted(model_tensors.MODEL_FLAGS))')"
same "rounding to bf16" "$(files bf16)" "12 12 True"

# --- every kind of model leaves and comes back; the program agrees that it is the same
there_and_back() { # name, tensors, flags...
    local name=$1 tensors=$2
    shift 2
    train "$name" "$@"
    scripts/export_hf "$(ckpt "$name")" "$d/hf_$name" >"$d/$name.said" 2>&1 || fail "export $name: $(cat "$d/$name.said")"
    scripts/import_hf "$d/hf_$name" "$d/$name.ckpt" >"$d/$name.line" 2>&1 || fail "import $name: $(cat "$d/$name.line")"
    same "$name: there and back" "$(files equal "$d/$name.ckpt" "$(ckpt "$name")")" "$tensors"
    local line
    line=$(tail -n 1 "$d/$name.line") # what it says a run needs, and the rest of the run's flags
    read -r -a line <<<"${line%% --codebook*}"
    train "${name}_back" "${line[@]:1}" --num_iterations 0
    same "$name: loss of what came back" "$(val "${name}_back" 0)" "$(val "$name" 2)"
}
there_and_back tied 28 --arch gpt2
there_and_back untied 29 --arch gpt2 --tie_embedding none
there_and_back nocap 9 --arch nocap
there_and_back light 15 --arch nocap --tie_embedding light --table_size 20
there_and_back half 33 --arch gpt2 --head lightrnn
same "GPT2LMHeadModel: layout" "$(files layout "$(ckpt tied)" "$d/hf_tied" | xargs)" "1 1 1 1 1 1 1 1 1 1 1 1 1 1"
same "GPT2LMHeadModel: files" "$(cd "$d/hf_tied" && echo *)" "config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json"
same "own class: files" "$(cd "$d/hf_light" && echo *)" "config.json generation_config.json model.safetensors modeling_ahead.py tokenizer.json tokenizer_config.json"

# --- nothing but weights is taken from a checkpoint: training from what came back is training from the checkpoint
train from_run --arch gpt2 --init_from "$(ckpt tied)"
train from_back --arch gpt2 --init_from "$d/tied.ckpt"
same "trained on: weights and moments" "$(payload "$(ckpt from_back)")" "$(payload "$(ckpt from_run)")"
refuses 1 "absent" --init_from "$d/absent"
mkdir "$d/weights" && cp "$d/tied.ckpt" "$d/weights/step_00000000.ckpt"
"$program" "${flags[@]}" --arch gpt2 --output_dir "$d/weights" --resume 1 >/dev/null 2>"$d/err"
says "weights cannot be resumed" "holds weights only, no optimizer state: use it with --init_from, not to resume" "$(cat "$d/err")"

# --- what only training needs is left out
train heads --arch gpt2 --mtp_enabled --mtp_heads linear --spell_weight 0.1 --tokenizer "$d/train_tokenizer.bin"
says "heads are named" "left out, as only training needs them: mtp.2.w spell.w spell.b" "$(scripts/export_hf "$(ckpt heads)" "$d/hf_heads")"
same "heads are left out" "$(grep -ac -e mtp -e spell "$d/hf_heads/model.safetensors")" 0

# --- bf16, F16 in two files with OpenAI's names
scripts/export_hf "$(ckpt tied)" "$d/bf16" --dtype bf16 >/dev/null
scripts/import_hf "$d/bf16/model.safetensors" "$d/bf16.ckpt" >/dev/null
train bf16_back --arch gpt2 --init_from "$d/bf16.ckpt" --num_iterations 0
files halve "$d/hf_tied" "$d/f16"
scripts/import_hf "$d/f16" "$d/f16.ckpt" >/dev/null
train f16_back --arch gpt2 --init_from "$d/f16.ckpt" --num_iterations 0
near() { # what, a, b, most: apart, but not by more
    same "$1" "$(awk -v a="$2" -v b="$3" -v most="$4" 'BEGIN { d = a < b ? b - a : a - b; print (d > 0 && d < most) }')" 1
}
near "bf16 and back: close and not equal" "$(val bf16_back 0)" "$(val tied 2)" 0.005
near "F16 and back: closer" "$(val f16_back 0)" "$(val tied 2)" 0.0005

# --- llm.c
files llmc "$(ckpt tied)" "$d/fp32.bin" 3
says "llm.c: a line for the run" "./train_gpt2cu --init_from $d/llmc.ckpt --arch gpt2 --n_layer 2" "$(scripts/import_llmc "$d/fp32.bin" "$d/llmc.ckpt")"
same "llm.c, fp32" "$(files equal "$d/llmc.ckpt" "$(ckpt tied)")" 28
files llmc "$d/bf16.ckpt" "$d/bf16.bin" 5
scripts/import_llmc "$d/bf16.bin" "$d/llmc16.ckpt" >/dev/null
same "llm.c, bf16" "$(files equal "$d/llmc16.ckpt" "$d/bf16.ckpt")" 28

# --- what a user can get wrong
x=$d/wrong
wrong "fp32.bin: not a checkpoint of ahead.c: expected it to start with \"AHADCKP1\"" scripts/export_hf "$d/fp32.bin" "$x"
wrong "absent: cannot open: No such file or directory" scripts/export_hf "$d/absent" "$x"
wrong "already has a config.json; name another directory, or add --force" scripts/export_hf "$(ckpt tied)" "$d/f16"
wrong "train_000000.bin: not a tokenizer file" scripts/export_hf "$(ckpt tied)" "$x" --tokenizer "$d/train_000000.bin"
head -c 20000 "$(ckpt tied)" >"$d/cut.ckpt"
wrong "cut.ckpt: truncated: expected" scripts/export_hf "$d/cut.ckpt" "$x"
files foreign "$(ckpt tied)" "$d/foreign.ckpt"
wrong "its tensor h.0.attn.q_norm.w is not known here, so the model cannot be exported" scripts/export_hf "$d/foreign.ckpt" "$x"
cp "$(ckpt tied)" "$d/damaged.ckpt"
printf x | dd of="$d/damaged.ckpt" bs=1 conv=notrunc seek=$(($(od -An -t u8 -j 40 -N 8 "$d/damaged.ckpt") + 4321)) 2>/dev/null
wrong "damaged: the checksum of tensor wte is wrong" scripts/export_hf "$d/damaged.ckpt" "$x/"
wrong "tied.ckpt is already there; name another file, or add --force" scripts/import_hf "$d/hf_tied" "$d/tied.ckpt"
wrong "$d: no *.safetensors in it" scripts/import_hf "$d" "$x"
mkdir "$d/broken"
sed 's/"gelu_new"/"relu"/' "$d/hf_tied/config.json" >"$d/broken/config.json"
wrong "its activation_function is relu, --arch gpt2 has gelu_new" scripts/import_hf "$d/broken/model.safetensors" "$x"
sed 's/"n_embd": 32/"n_embd": 64/' "$d/hf_tied/config.json" >"$d/broken/config.json"
cp "$d/hf_tied/model.safetensors" "$d/broken"
wrong "its transformer.wte.weight is (257, 32), $d/broken/config.json makes it (257, 64)" scripts/import_hf "$d/broken" "$x"
head -c 9000 "$d/hf_tied/model.safetensors" >"$d/broken/model.safetensors"
wrong "model.safetensors: truncated" scripts/import_hf "$d/broken" "$x"
wrong "not a model of llm.c: expected it to start with 20240326" scripts/import_llmc "$d/train_000000.bin" "$x"
head -c 30000 "$d/fp32.bin" >"$d/cut.bin"
wrong "cut.bin: truncated: expected 1" scripts/import_llmc "$d/cut.bin" "$x"
finish
