#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # d, shards and program come from small_run.sh, which reads flags
# scripts/report in a real browser, offline: a run, a sweep and a run full of markup open in headless Chromium without a message on the
# console, without a request but for the file, fit 1280 and 400 pixels, and show values under the pointer and by keyboard. Screenshots
# stay in build/long/report. Needs the network once: Playwright from PyPI, and Chromium from Debian or from Playwright.
set -u
. "$(dirname "$0")/../small_run.sh"
export OMP_NUM_THREADS=1 PROGRAM=$program
venv=build/long/browser
out=build/long/report
mkdir -p "$out"
give_up() {
    fail "$*"
    finish
}
if ! "$venv/bin/python" -c 'import playwright' 2>/dev/null; then
    { python3 -m venv "$venv" && "$venv/bin/pip" install -q playwright; } >"$d/log" 2>&1 ||
        give_up "playwright cannot be installed into $venv: $(tail -n 1 "$d/log")"
fi
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
if [ -z "$chromium" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get install -y --no-install-recommends chromium fonts-dejavu-core >"$d/log" 2>&1
    chromium=$(command -v chromium)
fi
if [ -z "$chromium" ]; then
    "$venv/bin/playwright" install chromium >"$d/log" 2>&1 || give_up "no Chromium here, and none can be installed: $(tail -n 1 "$d/log")"
fi

flags=("${shards[@]}" --arch gpt2 --n_layer 1 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4
    --learning_rate 0.003 --val_loss_every 20 --val_batch_size 4 --val_tokens 1024 --save_every 0 --num_iterations 200 --sample_every 200)
train run --mtp_enabled --mtp_max_steps 3 --mtp_decay_start 0.5 --prompt '</script><script>alert(1)</script>'
printf 'baseline:\nmtp: --mtp_enabled --mtp_max_steps 2 --mtp_weight 0.3\nfast: --learning_rate 0.006\n' >"$d/sweep.txt"
scripts/sweep.sh "$d/sweep.txt" --seeds "1 2 3" --out "$d/sweep" -- "${flags[@]}" >"$d/log" 2>&1 </dev/null || fail "sweep: $(tail -n 1 "$d/log")"
mkdir "$d/evil"
evil='</script><script>alert(1)</script><img src=http://x.invalid/y onerror=alert(2)>'
sed "s|\"ce_2\"|\"$evil\"|" "$d/run/metrics.jsonl" | sed '20s/"train_loss":[0-9.]*/"train_loss":null/' >"$d/evil/metrics.jsonl"
sed "s|^--prompt .*|--prompt '$evil'|" "$d/run/flags.txt" >"$d/evil/flags.txt"
printf '{"step":200,"tokens":25600,"time":1,"text":"%s"}\n' "$evil" >"$d/evil/samples.jsonl"
for name in run sweep evil; do
    scripts/report "$d/$name" -o "$d/$name.html" >"$d/log" 2>&1 || fail "scripts/report: $(cat "$d/log")"
done

"$venv/bin/python" test/long/browse.py "$chromium" "$out" "$d/run.html" "$d/sweep.html" "$d/evil.html" >"$d/found" 2>&1 ||
    give_up "the browser failed: $(tail -n 3 "$d/found" | tr '\n' ' ')"
found() { # page, width, what, pattern
    local line
    line=$(sed -n "s/^$1 $2 $3: //p" "$d/found")
    if grep -qE -e "$4" <<<"$line"; then pass; else fail "$1 at $2: $3: \"$line\", expected $4"; fi
}
val() { sed -n 's/^s:200 val:\([0-9.]*\).*/\1/p' "$1/main.log"; }
short() { sed 's/0*$//' <<<"$1"; } # as JSON writes it
for page in run sweep evil; do
    for width in 1280 400; do
        found $page $width plots '^([6-9]|1[0-9])$'
        found $page $width lines '^[1-9][0-9]+$'
        for what in tall 'tip inside' fits keyboard escape; do found $page $width "$what" '^True$'; done
    done
    for width in 1280 400 no_script; do
        found $page $width "over time" '^True$'
        found $page $width messages '^\[\]$'
        found $page $width requests '^1$'
        [ $page != sweep ] || found $page $width toggle '^True$'
        [ -s "$out/${page}_$width.png" ] || [ $width = no_script ] || fail "$page: no screenshot at $width"
    done
    found $page no_script tip '^none$'
done
found run 1280 tip "^step [0-9]+ · 25,[0-9]{3} tokens · .* validation $(short "$(val "$d/run")")"
mean=$(awk '{ sum += $1 } END { printf "%.7g", sum / NR }' <<<"$(for s in 1 2 3; do val "$d/sweep/baseline_s$s"; done)")
found sweep 400 tip "baseline ${mean//./\\.}"
found sweep 1280 'tip without it' '(mtp|fast) [0-9.]+'
if grep -q '^sweep 1280 tip without it: .*baseline' "$d/found"; then fail "a setting that is hidden has a value"; else pass; fi
finish
