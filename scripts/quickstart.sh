#!/usr/bin/env bash
# From a fresh clone to a trained model in about three minutes: build, make a corpus, train, plot, sample. Called by `make quickstart`.
# Run again, it keeps the corpus and trains afresh. Flags given here go to the trainer: scripts/quickstart.sh --n_layer 6
set -eu
cd "$(dirname "$0")/.."
echo "quickstart: needs no GPU, no network and no Python; about three minutes on two cores"
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000} # threads that wait go to sleep soon: on a busy machine spinning costs a factor of 5
data=data/quickstart run=runs/quickstart
began=$SECONDS

if ! command -v "${CXX:-g++}" >/dev/null; then
    echo "a C++ compiler is missing and has to be installed first, which does need the network"
    scripts/setup.sh build
fi

# Without a GPU the CUDA variants would only cost time here: `make` builds them. A build that has them already is kept.
cuda=${CUDA:-auto}
if ! nvidia-smi -L >/dev/null 2>&1 && [ ! -f build/cuda_bf16.o ]; then cuda=0; fi
${MAKE:-make} -j"$(nproc)" CUDA="$cuda" train_gpt2cu data/make_corpus data/prepare data/shard_stats
echo

if [ ! -f $data/val_000000.bin ]; then
    mkdir -p $data
    data/make_corpus --bytes 6000000 --seed 1 --out $data/train.txt
    data/make_corpus --bytes 200000 --seed 2 --out $data/val.txt
    data/prepare --tokenizer bytes --force --out $data/train $data/train.txt
    data/prepare --tokenizer bytes --force --out $data/val $data/val.txt
    echo
fi

rm -rf $run
./train_gpt2cu @scripts/presets/quickstart.txt "$@"
echo

unigram=$(data/shard_stats $data/val_0*.bin | sed -n 's/.*unigram entropy \([0-9.]*\) nats.*/\1/p')
final=$(sed -n 's/^s:[0-9]* val:\([0-9.]*\).*/\1/p' $run/main.log | tail -1)
awk -f scripts/curve.awk -v svg=$run/loss.svg -v refs="byte frequencies=$unigram" $run/main.log
echo "val loss $final nats a byte; a model that only knows how often each byte occurs has $unigram"
echo "$run: main.log, metrics.jsonl, loss.svg. $((SECONDS - began)) s in all. Next: README.md, \"Your own text\""
