#!/usr/bin/env bash
# shellcheck disable=SC2154 # d, program and shards come from small_run.sh
# The other side of test_export.sh: exported models in Hugging Face transformers give the program's losses, samples and tokens, and
# models made there, or written as llm.c writes them, give in the program what they give there.
# Needs the network at its first run: it puts torch, transformers and safetensors from PyPI into build/venv (5 GB, minutes).
set -u
. "$(dirname "$0")/../small_run.sh"
python=build/venv/bin/python
command -v python3 >/dev/null || { fail "no python3 here: apt-get install python3 python3-venv"; finish; }
if ! $python -c 'import torch, transformers, safetensors' 2>/dev/null; then
    echo "putting torch, transformers and safetensors into build/venv (network)"
    if ! python3 -m venv build/venv || ! $python -m pip install -q torch transformers safetensors >"$d/pip" 2>&1; then
        fail "cannot install: $(grep -v '^ *$' "$d/pip" 2>/dev/null | tail -n 1); needed: python3-venv, and PyPI's torch, transformers, safetensors"
        finish
    fi
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} HF_HUB_OFFLINE=1 HF_HOME=$d/hub TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1
$python -B test/long/transformers_check.py "$program" "$d" >"$d/out" 2>"$d/err"
code=$?
while read -r verdict what; do
    case $verdict in
        pass) pass && echo "  $what" ;;
        fail) fail "$what" ;;
    esac
done <"$d/out"
[ $code = 0 ] || fail "transformers_check.py ended with $code: $(tail -n 3 "$d/err")"
finish
