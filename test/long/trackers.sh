#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # d, shards and program come from small_run.sh, which reads flags
# scripts/to_tensorboard and to_wandb with the real libraries, from PyPI: all keys, places and values of metrics.jsonl come back from
# the event files and from an offline run; a run that is followed is killed, resumed and finished meanwhile. Needs the network once.
set -u
. "$(dirname "$0")/../small_run.sh"
export OMP_NUM_THREADS=1 WANDB_SILENT=true WANDB_ERROR_REPORTING=false
venv=build/long/trackers
python=$venv/bin/python
if ! "$python" -c 'import tensorboardX, tensorboard, wandb' 2>/dev/null; then
    mkdir -p build/long
    { python3 -m venv "$venv" && "$venv/bin/pip" install -q tensorboardX tensorboard wandb; } >"$d/pip.log" 2>&1 || {
        fail "tensorboardX, tensorboard and wandb cannot be installed into $venv: $(tail -n 1 "$d/pip.log")"
        finish
    }
fi
read_back() { "$python" test/long/read_trackers.py "$@" 2>&1 | tail -n 1; }
flags=("${shards[@]}" --arch gpt2 --n_layer 1 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4
    --learning_rate 0.003 --val_loss_every 25 --val_batch_size 4 --val_tokens 1024 --save_every 50 --mtp_enabled --mtp_max_steps 3)

mkdir "$d/runs"

# --- after a run; a second call takes the place of the first
train runs/a --num_iterations 120
for x in tokens step; do
    for _ in 1 2; do "$python" scripts/to_tensorboard "$d/runs/a" --x $x --out "$d/$x" >"$d/said" 2>&1; done
    same "tensorboard: said, over $x" "$(cat "$d/said")" "$d/runs/a: 126 records in $d/$x/a"
    said=$(read_back tensorboard "$d/$x/a" "$d/runs/a/metrics.jsonl" $x)
    if [[ $said =~ ^same\ [0-9]{4}$ ]]; then pass; else fail "tensorboard over $x: $said"; fi
    same "tensorboard: one file" "$(find "$d/$x/a" -type f | wc -l)" 1
done
"$python" scripts/to_wandb --offline "$d/runs/a" >"$d/said" 2>&1
same "wandb: said" "$(tail -n 1 "$d/said")" "$d/runs/a: 126 records"
same "wandb: reads back" "$(read_back wandb "$d/runs/a/wandb" "$d/runs/a/metrics.jsonl")" "same 126"

# --- two runs in one call
train runs/b --num_iterations 25 --save_every 0
"$python" scripts/to_wandb --offline "$d/runs" --group both >"$d/said" 2>&1
same "wandb: two runs" "$(read_back wandb "$d/runs/b/wandb" "$d/runs/b/metrics.jsonl")" "same 27"

# --- followed: it does not exist yet, is killed, is resumed from a checkpoint before that, and ends
watch() { # name program...: in the background; what it says goes to $d/name.said
    local name=$1
    shift
    timeout 400 "$python" "$@" --follow >"$d/$name.said" 2>&1 &
}
watch tb scripts/to_tensorboard "$d/live"
tb=$!
watch wb scripts/to_wandb --offline "$d/live"
wb=$!
live=("$program" "${flags[@]}" --output_dir "$d/live" --num_iterations 600 --save_every 200)
until_true() { # command...: waits for it, two minutes at most
    local i
    for ((i = 0; i < 1200; i++)); do
        if "$@" >"$d/null" 2>&1; then return 0; fi
        sleep 0.1
    done
    fail "waited in vain for: $*"
}
"${live[@]}" >>"$d/live.out" 2>&1 &
trainer=$!
until_true grep -qE '^{"step":2[5-9][0-9],' "$d/live/metrics.jsonl"
kill -STOP "$trainer" # until both have read beyond the checkpoint
for name in tb wb; do until_true grep -qE ': step [2-9][0-9]{2}$' "$d/$name.said"; done
{ kill -9 "$trainer" && wait "$trainer"; } 2>/dev/null
"${live[@]}" --resume 1 >>"$d/live.out" 2>&1
wait "$tb"
same "follow: to_tensorboard ends with the run" "$?" 0
wait "$wb"
same "follow: to_wandb ends with the run" "$?" 0
for name in tb wb; do
    if grep -q "live: resumed at step 200$" "$d/$name.said"; then pass; else fail "$name: $(tail -n 3 "$d/$name.said")"; fi
done
said=$(read_back tensorboard "$d/live/tensorboard" "$d/live/metrics.jsonl" tokens)
if [[ $said =~ ^same\ [0-9]{4}$ ]]; then pass; else fail "tensorboard, followed: $said"; fi
same "wandb, followed" "$(read_back wandb "$d/live/wandb" "$d/live/metrics.jsonl" again)" "same $(wc -l <"$d/live/metrics.jsonl")"
finish
