#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # flags and d are shared with small_run.sh
# Multiple choice in a run: the file that data/make_choices writes, byte for byte; lines and keys; training does not notice it. And
# bits per byte, where the tokenizer is known.
set -u
. "$(dirname "$0")/small_run.sh"
[ -x data/make_choices ] || { fail "data/make_choices is not built"; finish; }

flags=("${shards[@]}" --tokenizer "$d/train_tokenizer.bin"
    --n_layer 2 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4 --num_iterations 20
    --learning_rate 0.003 --val_loss_every 10 --val_batch_size 4 --val_tokens 2048 --keep_checkpoints 0)

# --- the file
cat >"$d/two.jsonl" <<'LINES'
{"ind": 1, "ctx": "A \"b\"\n", "endings": ["x", "y\u00e9\ud83d\ude00"], "label": 1, "more": {"a": [1, {"b": null}], "c": true}}

  {"label":"0","endings":["o","p","q"],"ctx":"\u0041"}
LINES
data/make_choices --out "$d/two.bin" "$d/two.jsonl" >"$d/made" || fail "make_choices: $(cat "$d/made")"
words() { od -An -v -t u2 -j 1024 "$1" | tr -s ' \n' ' ' | sed 's/^ //; s/ $//'; }
same "two examples in the format's words" "$(words "$d/two.bin")" \
    "65535 48 0 1 2 6 65 32 34 98 34 10 2 32 120 8 32 121 195 169 240 159 152 128 65535 32 1 0 3 1 65 2 32 111 2 32 112 2 32 113"
same "and their header" "$(od -An -t d4 -N 16 "$d/two.bin" | tr -s ' ')" " 20240522 1 2 48"
not_made() { # sentence, line
    printf '%s\n' '{"ctx":"a","endings":["b","c"],"label":0}' "$2" >"$d/bad.jsonl"
    if data/make_choices --out "$d/bad.bin" "$d/bad.jsonl" >"$d/bad" 2>&1 || [ -e "$d/bad.bin" ] || ! grep -qF "line 2: $1" "$d/bad"; then
        fail "$2: $(cat "$d/bad")"
    else
        pass
    fi
}
not_made 'no { where one belongs' '[1]'
not_made '"label" is not the number of an ending' '{"ctx":"a","endings":["b","c"],"label":""}'
not_made '"label" is missing or not' '{"ctx":"a","endings":["b","c"],"label":2}'
not_made 'fewer than 2 "endings"' '{"ctx":"a","endings":["b"],"label":0}'
not_made '"ctx" is missing or empty' '{"endings":["b","c"],"label":0}'
not_made 'an unknown escape' '{"ctx":"\q","endings":["b","c"],"label":0}'
not_made 'no " where one belongs' '{"ctx":"a'
not_made 'something follows the object' '{"ctx":"a","endings":["b","c"],"label":0} 1'
data/make_choices --out "$d/train_000000.bin" "$d/two.jsonl" >/dev/null 2>"$d/kept"
same "a shard is not written over" "$(grep -c 'exists and is not a multiple-choice file, so it is kept' "$d/kept")" 1

# --- in a run: the right ending is what the text says all the time, the wrong one is noise
for i in 1 2 3 4 5 6 7 8; do printf '{"ctx":"He said","endings":["the and the","#%s$ @!&"],"label":0}\n' $i; done >"$d/easy.jsonl"
data/make_choices --tokenizer "$d/train_tokenizer.bin" --out "$d/easy.bin" "$d/easy.jsonl" >/dev/null
train off --save_every 20
train on --save_every 20 --hellaswag_bin "$d/easy.bin" --hellaswag_every 10
same "training does not notice it" "$(payload "$d/on/step_00000020.ckpt")" "$(payload "$d/off/step_00000020.ckpt")"
same "nor do the other lines" "$(grep -v eval: "$d/on/main.log" | sed 's/ tps:[0-9]*//')" "$(sed 's/ tps:[0-9]*//' "$d/off/main.log")"
same "lines at 0, 10 and the end" "$(grep -o '^s:[0-9]* eval:' "$d/on/main.log" | tr '\n' ' ')" "s:0 eval: s:10 eval: s:20 eval: "
same "learned" "$(grep '^s:20 eval:' "$d/on/main.log")" "s:20 eval:1.000000 acc:1.000000"
same "on the console" "$(grep -c '^step:20/20 | multiple choice 8/8 = 1.000000 by mean loss' "$d/on.out")" 1
same "in metrics.jsonl" "$(grep -c '^{"step":20,.*"hellaswag_acc_norm":1,"hellaswag_acc":1,' "$d/on/metrics.jsonl")" 1
refused "--hellaswag_bin has no effect without --hellaswag_every" --hellaswag_bin "$d/easy.bin"
refused "--hellaswag_every has no effect without --hellaswag_bin" --hellaswag_every 5
refuses 1 "not a multiple-choice file" --hellaswag_bin "$d/train_000000.bin" --hellaswag_every 5
refuses 1 "an id is not in the vocabulary" --hellaswag_bin "$d/easy.bin" --hellaswag_every 5 --vocab_size 100 --tokenizer "" --val_loss_every 0
refuses 1 "does not fit into --sequence_length 8" --hellaswag_bin "$d/easy.bin" --hellaswag_every 5 --sequence_length 8 --val_tokens 512

# --- bits per byte: with bytes as tokens, the loss in bits
bits() { awk -v run="$1" '/ val_bpb:/ { split($2, v, ":"); sub(/.* val_bpb:/, ""); e = v[2] / log(2) - $1; if (e < 0) e = -e; n++; if (e > w) w = e }
    END { print (n == 3 && w < 2e-6) ? "good" : n " lines, off by " w }' "$d/$1/main.log"; }
same "bytes: val_bpb = val_loss / ln 2" "$(bits off)" good
same "in metrics.jsonl, too" "$(grep -c '"val_loss":.*"val_bpb":[0-9.]*,' "$d/off/metrics.jsonl")" 3
rm "$d/train_tokenizer.bin"
train unknown --tokenizer "" --num_iterations 1
same "without a tokenizer: none" "$(grep -c bpb "$d/unknown/main.log")" 0
finish
