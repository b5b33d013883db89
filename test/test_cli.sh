#!/usr/bin/env bash
# Bad input from the outside, through the built program. Each case must give: its exit code (2 for a wrong command line, else 1),
# exactly one line on stderr (warnings apart), `error: ` and a sentence with the words listed (the thing, what was found, the fix).
# It must leave every file as it was: the output directory of an earlier run, the shards, the checkpoints.
#
#     case_of CODE 'word|word|...' flags...      flags are added to a small good run, and win over its own
set -u
cd "$(dirname "$0")/.." || exit 1
. test/report.sh

program=${PROGRAM:-./train_gpt2cu}
[ -x "$program" ] || { fail "$program is not built"; finish; }
d=$(mktemp -d "${TMPDIR:-/tmp}/ahead-cli.XXXXXX") || exit 1
trap 'rm -rf "$d"' EXIT

# --- shards by hand: header of 256 int32, then uint16 ids
le32() { printf '%b' "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)))"; }
ids() { # count: a b c d a b c d ...
    local chunk=$d/chunk
    [ -f "$chunk" ] || for _ in {1..1024}; do printf 'a\0b\0c\0d\0'; done >"$chunk"
    for ((n = $1; n >= 4096; n -= 4096)); do cat "$chunk"; done
    head -c $((2 * n)) "$chunk"
}
shard() { # file, tokens in the file, [magic, version, tokens claimed]
    {
        le32 "${3:-20240520}"
        le32 "${4:-1}"
        le32 "${5:-$2}"
        head -c 1012 /dev/zero
        ids "$2"
    } >"$1"
}
shard "$d/train.bin" 20000
shard "$d/val.bin" 8000
shard "$d/short.bin" 4000 20240520 1 5000
shard "$d/long.bin" 4000 20240520 1 3000
shard "$d/magic.bin" 4000 20240521
shard "$d/version.bin" 4000 20240520 7
shard "$d/negative.bin" 4000 20240520 1 -1
shard "$d/empty.bin" 0
shard "$d/few.bin" 20
shard "$d/id.bin" 4000
printf '\xff\xff' | dd of="$d/id.bin" bs=1 seek=1030 conv=notrunc status=none # the fourth token becomes 65535
printf '<!DOCTYPE html><html><title>404</title><body>The file that you asked for was not found here.</body></html>' >"$d/page.bin"
: >"$d/nothing.bin"
printf 'abc' >"$d/three.bin"
printf -- '--batch_size 2\n# fine so far\n--batch_size many\n' >"$d/bad.txt"
printf -- '--output_dir "runs\n' >"$d/quote.txt"

good=(--input_bin "$d/train.bin" --input_val_bin "$d/val.bin" --output_dir "$d/out" --device cpu --precision fp32
    --n_layer 2 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 16 --batch_size 2 --num_iterations 4
    --learning_rate 0.001 --val_loss_every 2 --val_batch_size 2 --val_tokens 64 --save_every 2)

checksums() { (cd "$d" && find . -type f ! -name stdout ! -name stderr ! -name chunk -exec cksum {} + | sort); }
case_of() { # code words flags...
    local code=$1 words=$2 found said lines before word missing='' problem=''
    shift 2
    before=$(checksums)
    timeout 60 "$program" "${good[@]}" "$@" >"$d/stdout" 2>"$d/stderr" </dev/null
    found=$?
    said=$(cat "$d/stderr")
    lines=$(grep -v -c '^warning: ' "$d/stderr")
    [ "$found" = "$code" ] || problem+=" exit code $found, expected $code;"
    [ "$lines" = 1 ] || problem+=" $lines lines on stderr, expected 1;"
    grep -q '^error: ' <<<"$said" || problem+=" no line starts with 'error: ';"
    IFS='|' read -r -a list <<<"$words"
    for word in "${list[@]}"; do grep -q -i -F -e "$word" <<<"$said" || missing+=" \"$word\""; done
    [ -z "$missing" ] || problem+=" no word of$missing;"
    [ -z "$(comm -23 <(echo "$before") <(checksums))" ] || problem+=" files changed;"
    if [ -z "$problem" ]; then pass; else fail "$* ->$problem it said: $(head -c 300 <<<"$said")"; fi
}

# --- the good run itself: what the cases below must not damage
if "$program" "${good[@]}" >"$d/stdout" 2>"$d/stderr" </dev/null; then pass; else fail "the good run: exit code $?: $(cat "$d/stderr")"; fi
checkpoint=$(find "$d/out" -name 'step_*.ckpt' 2>/dev/null | sort | tail -1)
if [ -s "$d/out/main.log" ] && [ -n "$checkpoint" ]; then pass; else fail "the good run left no main.log or no step_*.ckpt"; fi
if "$program" --help >"$d/stdout" 2>&1 && grep -q -e --batch_size "$d/stdout"; then pass; else fail "--help: no flags shown"; fi

# --- command line
case_of 2 'learning_rat|did you mean --learning_rate' --learning_rat 1
case_of 2 'batchsize|--batch_size' --batchsize 2
case_of 2 'xyzzy|--help' --xyzzy 1
case_of 2 'batch_size|is 0|expected' --batch_size 0
case_of 2 'batch_size|is -3|expected' --batch_size=-3
case_of 2 'batch_size|99999999999|expected' --batch_size 99999999999
case_of 2 'batch_size|"two"|whole number' --batch_size two
case_of 2 'batch_size|"2.5"|whole number' --batch_size 2.5
case_of 2 'learning_rate|nan|number' --learning_rate nan
case_of 2 'batch_size|value' --batch_size
case_of 2 'model|d13|d12' --model d13
case_of 2 'device|tpu|cpu' --device tpu
case_of 2 'precision|fp8|fp32' --precision fp8
case_of 2 'stray' stray
case_of 2 'absent.txt' "@$d/absent.txt"
case_of 2 'bad.txt:3|batch_size|"many"' "@$d/bad.txt"
case_of 2 'quote.txt:1|quote' "@$d/quote.txt"
case_of 2 'n_embd|33|multiple' --n_embd 33
case_of 2 'heads of|multiple of' --n_embd 36 --n_head 3
case_of 2 '100|32|val_batch_size' --val_tokens 100
case_of 2 'val_tokens|val_batch_size' --val_batch_size 3

# --- token shards
case_of 1 'absent_*.bin|prepare' --input_bin "$d/absent_*.bin"
case_of 1 'absent.bin|prepare' --input_val_bin "$d/absent.bin"
case_of 1 "$d|directory" --input_bin "$d"
case_of 1 'short.bin|truncated|5000|11024' --input_bin "$d/short.bin"
case_of 1 'long.bin|3000|7024' --input_bin "$d/long.bin"
case_of 1 'magic.bin|not a token shard|20240520|20240521' --input_bin "$d/magic.bin"
case_of 1 'version.bin|version 7|expected 1' --input_bin "$d/version.bin"
case_of 1 'negative.bin|-1' --input_bin "$d/negative.bin"
case_of 1 'page.bin|not a token shard|<!DOCTYPE html>' --input_bin "$d/page.bin"
case_of 1 'nothing.bin' --input_bin "$d/nothing.bin"
case_of 1 'three.bin' --input_val_bin "$d/three.bin"
case_of 1 'empty.bin|0 tokens|needs' --input_bin "$d/empty.bin"
case_of 1 'few.bin|20 tokens|needs 33|batch_size' --input_bin "$d/few.bin"
case_of 1 'few.bin|20 tokens|needs' --input_val_bin "$d/few.bin"
case_of 1 'train.bin|20000|batch_size' --batch_size 2000
case_of 1 'val.bin|8000|val_tokens' --output_dir "$d/new1" --val_tokens 8192
case_of 1 'id.bin|65535|257' --output_dir "$d/new2" --input_bin "$d/id.bin"
case_of 1 'id.bin|65535|257' --output_dir "$d/new3" --input_val_bin "$d/id.bin"
case_of 1 'id 97|50 ids' --output_dir "$d/new4" --vocab_size 50

# --- output and device
case_of 1 "train.bin/out" --output_dir "$d/train.bin/out"
case_of 1 "train.bin" --output_dir "$d/train.bin"
case_of 1 'memory|GiB|batch_size' --n_layer 256 --n_head 64 --n_embd 8192
if nvidia-smi -L >/dev/null 2>&1; then
    skip "--device cuda where there is no GPU: there is one here"
else
    case_of 1 'cuda|--device cpu' --device cuda
fi

# --- checkpoints: the newest one of the good run, and directories with one damaged one
broken() { # name: a directory with a copy of the checkpoint, to be damaged
    mkdir -p "$d/$1"
    cp "$checkpoint" "$d/$1/"
    echo "$d/$1/$(basename "$checkpoint")"
}
overwrite() { dd of="$1" bs=1 seek="$2" conv=notrunc status=none; } # file, offset; bytes from stdin
if [ -n "$checkpoint" ]; then
    truncate -s 1000 "$(broken cut)"
    printf '\x02' | overwrite "$(broken header)" 8
    file=$(broken flipped) && printf '\xaa\x55\xaa' | overwrite "$file" $(($(stat -c %s "$file") - 4000))
    cp "$d/page.bin" "$(broken page)"
    case_of 1 'out already holds|--resume auto|another directory'
    case_of 1 "$(basename "$checkpoint")|another shape|(384, 32)|(384, 48)|--output_dir" --resume 1 --n_embd 48
    case_of 1 "$(basename "$checkpoint")|another model|h.2." --resume 1 --n_layer 3
    case_of 1 'another shape|wte' --resume auto --vocab_size 500
    case_of 1 'cut/step_|truncated' --resume 1 --output_dir "$d/cut"
    case_of 1 'header/step_|damaged' --resume 1 --output_dir "$d/header"
    case_of 1 'flipped/step_|damaged|checksum' --resume 1 --output_dir "$d/flipped"
    case_of 1 'page/step_|not a checkpoint|<!DOCTYPE' --resume 1 --output_dir "$d/page"
    case_of 1 'nowhere|checkpoint' --resume 1 --output_dir "$d/nowhere"
else
    skip "checkpoints: the good run left none"
fi

# --- the tools
tool() { # code words command...
    local code=$1 words=$2 word missing=''
    shift 2
    "$@" >"$d/stdout" 2>"$d/stderr" </dev/null
    local found=$?
    IFS='|' read -r -a list <<<"$words"
    for word in "${list[@]}"; do grep -q -i -F -e "$word" "$d/stderr" || missing+=" \"$word\""; done
    if [ $found = "$code" ] && [ -z "$missing" ]; then pass; else fail "$*: exit code $found, expected $code; no word of$missing: $(cat "$d/stderr")"; fi
}
tool 1 'error: |page.bin|not a token shard' data/shard_stats "$d/page.bin"
tool 2 'usage' data/shard_stats
tool 1 'error: |absent.txt' data/prepare --out "$d/x" "$d/absent.txt"
if [ "$(data/shard_stats "$d/val.bin")" = "1 shard, 8000 tokens, 4 distinct ids, largest id 100, unigram entropy 1.3863 nats" ]; then
    pass
else
    fail "data/shard_stats of four equally frequent ids: $(data/shard_stats "$d/val.bin"), expected entropy ln 4 = 1.3863"
fi
finish
