#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # flags and d are shared with small_run.sh
# --generate: text from a checkpoint alone is what the training run printed, whatever the model, and says what is missing.
set -u
. "$(dirname "$0")/small_run.sh"

flags=("${shards[@]}" --tokenizer "$d/train_tokenizer.bin"
    --n_layer 2 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4 --num_iterations 60
    --learning_rate 0.004 --warmup_iters 4 --val_loss_every 0 --save_every 60)

generate() { # name flags...: text in $d/text.name, what it says in $d/text.name.err
    local name=$1
    shift
    timeout 60 "$program" --device cpu --tokenizer "$d/train_tokenizer.bin" "$@" >"$d/text.$name" 2>"$d/text.$name.err" </dev/null
}
# What may differ: a run's sample shows bytes that are no text as ? or U+FFFD
letters() { LC_ALL=C tr -d '\000-\010\013-\037\177-\377?'; }
text() { letters <"$d/text.$1"; }
sample() { sed -n '/^sample at step 60: /,/^peak memory/p' "$d/$1.out" | sed 's/^sample at step 60: //; /^peak memory/d' | letters; }

# --- the sample of the run's last step, from its checkpoint: longer than the sequence; a prompt; every way to draw
train gpt2 --arch gpt2 --sample_every 60 --sample_tokens 50 --temperature 0.4 --prompt "Once upon"
generate gpt2 --generate "$d/gpt2" --sample_tokens 50 --temperature 0.4 --prompt "Once upon"
same "gpt2: the text of the run" "$(text gpt2)" "$(sample gpt2)"
same "gpt2: prompt, 50 bytes and a newline" "$(wc -c <"$d/text.gpt2")" 60
same "gpt2: says that the window slid" "$(grep -c '^the last [0-9]* of them saw the 32 tokens before them only' "$d/text.gpt2.err")" 1
train nocap --arch nocap --sample_every 60 --sample_tokens 20 --temperature 0.7 --top_k 20 --top_p 0.9 --prompt "Once upon" --seed 7
generate nocap --generate "$d/nocap/step_00000060.ckpt" --sample_tokens 20 --temperature 0.7 --top_k 20 --top_p 0.9 --prompt "Once upon" --seed 7
same "nocap: the text of the run" "$(text nocap)" "$(sample nocap)"
generate other --generate "$d/nocap" --sample_tokens 20 --temperature 0.7 --top_k 20 --top_p 0.9 --prompt "Once upon" --seed 8
same "nocap: another seed, another text" "$(cmp -s "$d/text.nocap" "$d/text.other" && echo equal)" ""
same "nocap: begins with the prompt" "$(head -c 9 "$d/text.other")" "Once upon"
same "nocap: speed on stderr" "$(grep -cE '^20 tokens, [0-9.]+ tokens/s; the first after [0-9.]+ s, a prompt of 10 tokens$' "$d/text.other.err")" 1

# --- heads that only training needs are left out; a table of tokens comes from the checkpoint, not from its file
train proj --mtp_enabled --mtp_heads proj --sample_every 60 --sample_tokens 20 --temperature 0
generate proj --generate "$d/proj" --sample_tokens 20 --temperature 0
same "mtp heads: the text of the run" "$(text proj)" "$(sample proj)"
data/build_codebook "$d/train_0*.bin" --vocab_size 257 --columns 20 --method snake --out "$d/book" >/dev/null 2>&1
for head in light dense; do
    what=(--tie_embedding light)
    [ $head = dense ] && what=(--head lightrnn --embedding dense --tie_embedding none)
    train light-$head "${what[@]}" --codebook "$d/book" --sample_every 60 --sample_tokens 20 --temperature 1 --prompt "The"
done
rm -f "$d/book"
for head in light dense; do
    generate light-$head --generate "$d/light-$head" --sample_tokens 20 --temperature 1 --prompt "The"
    same "lightrnn, $head embedding: the text of the run" "$(text light-$head)" "$(sample light-$head)"
done

train untold --num_iterations 1 --save_every 1 --tokenizer ""
generate untold --generate "$d/untold" --tokenizer "" --sample_tokens 5
same "the tokenizer beside the shards" "$(wc -c <"$d/text.untold")" 6

# --- what it cannot do, in one sentence each
wrong() { # exit code, sentence, flags...
    local expected=$1 sentence=$2
    shift 2
    generate wrong "$@"
    local code=$?
    if [ $code = "$expected" ] && grep -q -F -e "$sentence" "$d/text.wrong.err" && [ "$(wc -l <"$d/text.wrong.err")" = 1 ] && [ ! -s "$d/text.wrong" ]; then
        pass
    else
        fail "$*: exit code $code, expected $expected and \"$sentence\": $(cat "$d/text.wrong.err")"
    fi
}
mkdir "$d/empty"
wrong 1 "no usable checkpoint in this directory" --generate "$d/empty"
wrong 1 "No such file or directory; name a checkpoint" --generate "$d/nothing"
wrong 1 "not a checkpoint of this program" --generate "$d/val"
wrong 1 "cannot open: No such file" --generate "$d/gpt2" --tokenizer "$d/nothing"
wrong 2 "--n_layer has no effect with --generate" --generate "$d/gpt2" --n_layer 2
wrong 2 "--num_iterations has no effect with --generate" --generate "$d/gpt2" --num_iterations 5
rm "$d"/train_0*.bin # the run named its tokenizer by --tokenizer; one that did not
timeout 60 "$program" --generate "$d/untold" >"$d/text.gone" 2>"$d/text.gone.err"
same "shards are gone: exit code" $? 1
same "shards are gone: names the tokenizer's flag" "$(grep -c 'none match .*; add --tokenizer FILE' "$d/text.gone.err")" 1
finish
