#!/usr/bin/env bash
# Runs a preset to its end: builds if needed, looks for the data, and starts again from the last checkpoint when the run crashes.
#     scripts/run.sh d12_nocap [--flag value]...            flags given here win over the preset's
# A crash is a signal (killed for memory, a bus error) or a failure after the run made progress. A wrong flag (exit 2), a non-finite
# loss (exit 3) and a failure before the first step would only repeat: they end it. RESTARTS=5 at most.
# Ctrl-C, SIGTERM and SIGHUP, to this script or to the trainer, let it save a checkpoint and end (exit 130, 143, 129).
set -u
cd "$(dirname "$0")/.." || exit 1
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000} # threads that wait go to sleep soon: on a busy machine spinning costs a factor of 5
if [ $# -lt 1 ]; then
    echo "usage: scripts/run.sh PRESET [--flag value]...   presets: $(cd scripts/presets && ls | sed 's/\.txt$//' | tr '\n' ' ')" >&2
    exit 2
fi
preset=$1
[ -f "$preset" ] || preset=scripts/presets/${1%.txt}.txt
if [ ! -f "$preset" ]; then
    echo "error: no preset $1; there are: $(cd scripts/presets && ls | sed 's/\.txt$//' | tr '\n' ' ')" >&2
    exit 2
fi
shift

value_of() { # flag: its last value in the arguments, else in the preset
    local name=--$1 value='' i
    value=$(sed -n "s/^ *${name}[ =]*//p" "$preset" | tail -1 | sed 's/^"\(.*\)"$/\1/')
    for ((i = 0; i < ${#args[@]}; i++)); do
        case ${args[i]} in
            "$name") value=${args[i + 1]:-} ;;
            "$name"=*) value=${args[i]#*=} ;;
        esac
    done
    echo "$value"
}
args=("$@")
log=$(value_of output_dir)/main.log
shards=$(value_of input_bin)
if [ -n "$shards" ] && ! compgen -G "$shards" >/dev/null; then
    case $shards in
        *quickstart*) how="\`make quickstart\` makes them" ;;
        *fineweb*) how="README.md, \"FineWeb\", says how to get them" ;;
        *) how="data/prepare makes them from text files" ;;
    esac
    echo "error: no token shards match $shards; $how" >&2
    exit 1
fi

[ -n "${PROGRAM:-}" ] || "${MAKE:-make}" train_gpt2cu || exit 1
progress() { grep -c '^s:[0-9]* trn:' "$log" 2>/dev/null || true; }

# In the background, because a shell that waits for a foreground program hands no signal on. Ctrl-C is ignored there: SIGTERM.
pid='' stopped=''
for signal in INT:130 TERM:143 HUP:129; do
    # shellcheck disable=SC2064 # the exit code is this loop's
    trap "stopped=${signal#*:}; [ -z \"\$pid\" ] || kill \"\$pid\" 2>/dev/null" "${signal%:*}"
done
program=${PROGRAM:-./train_gpt2cu}
for ((attempt = 0; attempt <= ${RESTARTS:-5}; attempt++)); do
    before=$(progress)
    "$program" @"$preset" --resume auto "$@" </dev/null &
    pid=$!
    wait "$pid"
    code=$?
    while [ -n "$stopped" ] && kill -0 "$pid" 2>/dev/null; do
        wait "$pid"
        code=$?
    done
    [ -z "$stopped" ] || exit "$stopped"
    case $code in
        0 | 2 | 3 | 129 | 130 | 143) exit $code ;;
    esac
    if [ $code -lt 128 ] && [ "$(progress)" = "$before" ]; then exit $code; fi
    echo "scripts/run.sh: the run ended with exit code $code; going on from its last checkpoint (restart $((attempt + 1)))" >&2
    pid=''
    sleep "${RESTART_WAIT:-5}"
    [ -z "$stopped" ] || exit "$stopped"
done
echo "error: gave up after ${RESTARTS:-5} restarts; the last exit code was $code" >&2
exit "$code"
