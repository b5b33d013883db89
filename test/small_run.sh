# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154
# For tests that train a tiny model with the built program: set up, then `flags` is the test's own.
#     . test/small_run.sh; flags=("${shards[@]}" ...); train NAME flags...; losses NAME; payload FILE; same WHAT A B
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. test/report.sh

program=${PROGRAM:-./train_gpt2cu}
export PROGRAM=$program # scripts that are tested build nothing: a binary that changes between two runs changes their bits
[ -x "$program" ] && [ -x data/prepare ] && [ -x data/make_corpus ] || { fail "$program, data/prepare or data/make_corpus is not built"; finish; }
d=$(mktemp -d "${TMPDIR:-/tmp}/ahead-run.XXXXXX") || exit 1
trap 'rm -rf "$d"' EXIT

# Two shards of unequal length, so that a run of 20 steps crosses a shard's edge and starts a second epoch.
data/make_corpus --bytes 9000 --seed 5 --out "$d/text" >/dev/null 2>&1
data/make_corpus --bytes 6000 --seed 6 --out "$d/val" >/dev/null 2>&1
data/prepare --tokenizer bytes --out "$d/train" --shard_tokens 5000 "$d/text" >/dev/null
data/prepare --tokenizer bytes --out "$d/val" "$d/val" >/dev/null
shards=(--input_bin "$d/train_0*.bin" --input_val_bin "$d/val_0*.bin" --device cpu)

train() { # name flags...: into $d/name; what it prints goes to $d/name.out
    local name=$1
    shift
    timeout 120 "$program" "${flags[@]}" --output_dir "$d/$name" "$@" >"$d/$name.out" 2>"$d/$name.err" </dev/null
}
payload() { tail -c +$(($(od -An -t u8 -j 40 -N 8 "$1") + 1)) "$1" | cksum; } # tensors: the text in front holds times and flags
same() { # what, a, b
    if [ "$2" = "$3" ]; then pass; else fail "$1: $2 is not $3"; fi
}
refuses() { # exit code, sentence, flags...: one sentence, before anything is written. tries: the function that runs, instead of train
    local expected=$1 sentence=$2
    shift 2
    "${tries:-train}" refused "$@"
    local code=$?
    if [ $code = "$expected" ] && grep -q -F -e "$sentence" "$d/refused.err" && [ "$(wc -l <"$d/refused.err")" = 1 ] && [ ! -e "$d/refused" ]; then
        pass
    else
        fail "$*: exit code $code, expected $expected and \"$sentence\": $(cat "$d/refused.err")"
    fi
}
refused() { refuses 2 "$@"; } # sentence, flags...
