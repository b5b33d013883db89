#!/usr/bin/env bash
# shellcheck disable=SC2154 # d, shards and program come from small_run.sh
# The scripts around runs: a sweep of tiny runs is done once, goes on after it was killed, and refuses to mix; summarize gives the
# known answer for known results; plot draws; every preset is a set of flags that trains.
set -u
. "$(dirname "$0")/small_run.sh"
export PROGRAM=$program OMP_NUM_THREADS=1
summary=scripts/summarize
command -v python3 >/dev/null || summary=''
small=("${shards[@]}" --arch gpt2 --n_layer 1 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4
    --num_iterations 12 --learning_rate 0.003 --val_loss_every 6 --val_batch_size 4 --val_tokens 1024 --save_every 3)

says() { # what, pattern, text
    if grep -qE -e "$2" <<<"$3"; then pass; else fail "$1: no \"$2\" in: $(head -c 600 <<<"$3")"; fi
}
lines() { tail -n +2 "$1" | wc -l; } # of a results.tsv

# --- 2 x 2 settings and the baseline, two seeds: each run once, in a directory that says what it is
sweep() { scripts/sweep_mtp.sh --max_steps "2 3" --weights 0.1,0.3 --seeds "1 2" --out "$d/sweep" -- "${small[@]}" "$@" 2>&1 </dev/null; }
said=$(sweep)
same "sweep: exit code" "$?" 0
same "sweep: its directories" "$(cd "$d/sweep" && echo */)" \
    "baseline_s1/ baseline_s2/ mtp2_w0.1_s1/ mtp2_w0.1_s2/ mtp2_w0.3_s1/ mtp2_w0.3_s2/ mtp3_w0.1_s1/ mtp3_w0.1_s2/ mtp3_w0.3_s1/ mtp3_w0.3_s2/"
same "sweep: lines of results.tsv" "$(lines "$d/sweep/results.tsv")" 10
says "sweep: first line" '^sweep: 10 runs .*5 settings, 2 seeds.*, 0 of them done; the table at the end needs Python 3' "$(head -n 1 <<<"$said")"
says "sweep: progress with what is left" '^    val loss [0-9.]+, [0-9]+ s; about [0-9]+ s left$' "$said"
flag() { sed -n "s/^--$2 //p" "$d/sweep/$1/flags.txt"; }
same "flags of a run" "$(for f in mtp_enabled mtp_max_steps mtp_weight mtp_decay_start seed n_embd; do flag mtp3_w0.1_s2 $f; done | tr '\n' ' ')" "1 3 0.1 0.8 2 32 "
same "the baseline looks at the next token" "$(flag baseline_s1 mtp_enabled)" 0

# --- the same command again: nothing runs; one line lost: that run alone goes on, from its last checkpoint
before=$(cksum "$d"/sweep/*/main.log)
said=$(sweep)
same "again: exit code" "$?" 0
same "again: all skipped" "$(grep -c 'done before, val loss' <<<"$said")" 10
same "again: nothing touched" "$(cksum "$d"/sweep/*/main.log)$(lines "$d/sweep/results.tsv")" "${before}10"
grep -v mtp2_w0.3_s2 "$d/sweep/results.tsv" >"$d/less" && cp "$d/less" "$d/sweep/results.tsv"
if [ -n "$summary" ]; then says "one run is missing" '^Not finished, .*: mtp2_w0.3_s2; .* goes on with it' "$($summary "$d/sweep")"; fi
rm "$d/sweep/mtp2_w0.3_s2/step_00000012.ckpt"
said=$(sweep)
says "an interrupted run goes on" '^\[8/10\] mtp2_w0.3_s2, from its last checkpoint$' "$said"
same "it alone" "$(grep -c 'done before' <<<"$said")$(lines "$d/sweep/results.tsv")" 910
same "it did not start afresh" "$(ls "$d/sweep/mtp2_w0.3_s2/main.log".* 2>/dev/null)" ""
same "other flags into the same directories: exit code" "$(sweep --learning_rate 0.1 >"$d/said"; echo $?)" 2
says "other flags: the sentence" '^error: .*/baseline_s1 was trained with .*use another --out' "$(cat "$d/said")"

# --- killed in the middle, both the sweep and its trainer; then the same command
endless() { scripts/sweep.sh "$d/one.txt" --seeds 3 --out "$d/killed" -- "${small[@]}" --num_iterations 300 --save_every 20; }
printf '# a comment\n\nslow: --weight_decay 0.1 # the only setting\n' >"$d/one.txt"
set -m
endless >/dev/null 2>&1 </dev/null &
group=$!
set +m
for ((i = 0; i < 400; i++)); do
    [ ! -e "$d/killed/slow_s3/step_00000040.ckpt" ] || break
    sleep 0.02
done
same "a second sweep leaves a run in progress alone" "$(endless 2>&1 </dev/null | grep -c 'skipped, another sweep is at it')" 1
{ kill -9 -- "-$group" && wait "$group"; } 2>/dev/null
flock -w 10 "$d/killed/slow_s3/sweep.txt" true # until its trainer is gone, too
if [ ! -e "$d/killed/results.tsv" ]; then pass; else fail "killed: the run was over before it could be killed"; fi
said=$(endless 2>&1 </dev/null)
says "killed: goes on" '^\[1/1\] slow_s3, from its last checkpoint$' "$said"
train_flags=("${small[@]}" --num_iterations 300 --save_every 0 --weight_decay 0.1 --seed 3)
"$program" "${train_flags[@]}" --output_dir "$d/straight" >/dev/null 2>&1
logged() { sed 's/ tps:.*//' "$1/main.log"; }
same "killed and resumed is the run that was never killed" "$(logged "$d/killed/slow_s3")" "$(logged "$d/straight")"

# --- wrong arguments are one sentence, before anything is written
refused() { # sentence, settings, arguments...
    local sentence=$1 code
    printf '%b' "$2" >"$d/wrong.txt"
    shift 2
    scripts/sweep.sh "$d/wrong.txt" --out "$d/refused" "$@" >"$d/said" 2>&1 </dev/null
    code=$?
    if [ $code = 2 ] && grep -qF -e "$sentence" "$d/said" && [ ! -e "$d/refused" ]; then pass; else fail "$sentence: exit code $code, $(cat "$d/said")"; fi
}
refused 'did you mean --learning_rate?' 'a:\nb: --learning_rat 3\n' -- "${small[@]}"
refused '--seed is set by the sweep' 'a: --seed 3\n'
refused '--output_dir is set by the sweep' 'a:\n' -- --output_dir=x
refused 'two settings are called a' 'a:\na: --seed 1\n'
refused 'is not `name: flags`' 'no colon here\n'
refused 'is not a whole number' 'a:\n' --seeds "1 two"
refused 'stand after --' 'a:\n' --num_iterations 3

# --- a run that diverges is told apart, and does not stop the others
said=$(printf 'wild: --learning_rate 100 --lr_schedule constant --adam_eps 0 --weight_decay 10\ntame:\n' |
    scripts/sweep.sh - --seeds 1 --out "$d/wild" -- "${small[@]}" --num_iterations 400 --val_loss_every 400 --save_every 0 2>&1)
same "diverges: exit code" "$?" 1
says "diverges: goes on" '^error: 1 of 2 runs failed: wild_s1$' "$said"
same "diverges: the other run is done" "$(lines "$d/wild/results.tsv")" 1
if [ -n "$summary" ]; then says "diverges: the table tells" '^Diverged, .*: wild_s1\.$' "$said"; fi

# --- summarize: known results, known answer
if [ -z "$summary" ]; then
    skip "summarize: no python3 here"
else
    mkdir "$d/made"
    table() { # "name seed loss flags"...: a results.tsv in $d/made
        printf 'date\tcommit\tseed\tdevice\tprecision\tparameters\tsteps\ttokens\ttrain_seconds\tval_loss\tbest_val_loss\tpeak_memory_mb\toutput_dir\tflags\n'
        local row name seed loss flags
        for row; do
            read -r name seed loss flags <<<"$row"
            printf '2026-01-01T00:00:00Z\tabc\t%s\tcpu\tfp32\t9\t9\t1000\t10.0\t%s\t%s\t-\tgone/%s\t--seed %s --output_dir "gone/%s" %s\n' \
                "$seed" "$loss" "$loss" "$name" "$seed" "$name" "$flags"
        done
    }
    # differences 0.1 -0.1 0.3 0.5 0.2: mean 0.2, std sqrt(0.05), t = 2 with 4 degrees of freedom: p = 0.1161165235
    off='--mtp_enabled 0 --mtp_weight 0.1' on='--mtp_enabled 1 --mtp_weight 0.1'
    table "base_s1 1 3.0 $off" "base_s2 2 3.2 $off" "base_s3 3 2.9 $off" "base_s4 4 3.1 $off" "base_s5 5 3.3 $off" \
        "mtp_s5 5 3.5 $on" "mtp_s1 1 3.1 $on" "mtp_s2 2 3.1 $on" "mtp_s3 3 3.2 $on" "mtp_s4 4 3.6 $on" >"$d/made/results.tsv"
    said=$($summary "$d/made")
    says "paired: baseline" '^\| base \| 5 \| 3\.100000 \| 0\.158114 \| baseline ' "$said"
    says "paired: mean, std, difference, interval, p" \
        '^\| mtp \| 5 \| 3\.300000 \| 0\.234521 \| \+0\.200000 \| -0\.077645 \.\. \+0\.477645 \| 0\.1161 \| 0\.1161 \| paired \|' "$said"
    says "equal tokens, said" '^At equal tokens, 1,000 of training' "$said"
    says "no metrics, said" '^At equal time: no table, because metrics.jsonl is missing of base_s1, ' "$said"
    # Welch: means 3.1 and 3.25 of 5 and 2 runs, variances 0.025 and 0.045: t = 0.15 / sqrt(0.0275), 1.475610 degrees of freedom
    table "base_s1 1 3.0 $off" "base_s2 2 3.2 $off" "base_s3 3 2.9 $off" "base_s4 4 3.1 $off" "base_s5 5 3.3 $off" \
        "mtp_s1 1 3.1 $on" "mtp_s2 2 3.4 $on" >"$d/made/results.tsv"
    said=$($summary "$d/made")
    says "Welch" '^\| mtp \| 2 \| 3\.250000 \| 0\.212132 \| \+0\.150000 \| -0\.871178 \.\. \+1\.171178 \| 0\.4888 \| 0\.4888 \| Welch \|' "$said"
    says "few seeds, said" '^Some settings have fewer than three seeds' "$said"
    table "a_s1 1 3.0 --n_layer 2" "b_s1 1 3.2 --n_layer 3" "c_s1 1 - --n_layer 4" >"$d/made/results.tsv"
    said=$($summary "$d/made" --baseline b)
    says "one seed: no p" '^\| a \| 1 \| 3\.000000 \|  \| -0\.200000 \|  \|  \|  \| none: one run \|' "$said"
    says "no validation, said" '^Without a finite validation loss, .*: c_s1 ' "$said"
    says "no such baseline" '^error: --baseline z: no such setting; there are: a, b$' "$($summary "$d/made" --baseline z 2>&1)"
    says "nothing there" '^error: .*no such file' "$($summary "$d/absent" 2>&1)"
    # two curves: at 3000 tokens, at 20 s (one on its line between 2.6 at 15 s and 2.2 at 25 s: 2.4)
    table "x_s1 1 2.5 --n_layer 2" "y_s1 1 2.2 --n_layer 3" >"$d/made/results.tsv"
    mkdir -p "$d/made/x_s1" "$d/made/y_s1"
    record() { printf '{"step":%d,"tokens":%d,"time":%d,"val_loss":%s}\n' "$@"; }
    { record 0 0 0 5.5; record 10 1000 10000 3.1; record 30 3000 20000 2.5; echo '{"step":31,"tok'; } >"$d/made/x_s1/metrics.jsonl"
    { record 0 0 0 5.5; record 10 1000 5000 3.0; record 30 3000 15000 2.6; record 40 4000 25000 2.2; } >"$d/made/y_s1/metrics.jsonl"
    said=$($summary "$d/made")
    says "equal tokens" '^At equal tokens, 3,000 of' "$said"
    says "equal tokens: the faster run" '^\| y \| 1 \| 2\.600000 \|.*\| 15\.0 \|$' "$said"
    says "equal time" '^At equal time, 20\.0 s of' "$said"
    says "equal time: the faster run" '^\| y \| 1 \| 2\.400000 \|.*\| 3,500 \|$' "$said"
    # printed t-tables, two-sided: t, degrees of freedom, p
    said=$(python3 -B -c '
import sys; sys.path.insert(0, "scripts")
from student_t import *
rows = [(12.706, 1, .05), (4.303, 2, .05), (2.776, 4, .05), (4.604, 4, .01), (2.228, 10, .05), (3.169, 10, .01), (1.812, 10, .1),
        (2.042, 30, .05), (1.980, 120, .05), (636.62, 1, .001), (0.741, 4, .5)]
print(sum(abs(critical(p, df) - t) <= 0.00051 * max(1, t / 50) and abs(p_value(t, df) / p - 1) < 1e-3 for t, df, p in rows), len(rows))
print(abs(p_value(2, 4) - 0.11611652351681556) < 1e-14, p_value(0, 3), holm([.01, None, .04, .03]) == [.03, None, .06, .06])')
    same "t-tables" "$said" $'11 11\nTrue 1.0 True'
fi

# --- plot
if [ -z "$summary" ] || ! python3 -c 'import matplotlib' 2>/dev/null; then
    skip "plot: no python3 with matplotlib here"
    [ -z "$summary" ] || says "plot: says what it needs, first" 'needs matplotlib.*apt-get install python3-matplotlib' "$(scripts/plot "$d/sweep" 2>&1 | head -n 1)"
else
    scripts/plot "$d/sweep" >/dev/null 2>&1
    scripts/plot "$d/sweep/mtp3_w0.3_s1" --out "$d/one.png" >/dev/null 2>&1
    for file in "$d/sweep/curves.png" "$d/one.png"; do
        same "plot: $(basename "$file") is a PNG" "$(head -c 4 "$file" 2>/dev/null | tail -c 3)" PNG
    done
    says "plot: nothing there" '^error: .*: no such directory' "$(scripts/plot "$d/absent" 2>&1)"
fi

# --- every preset trains, at a size for a test
tiny=("${shards[@]}" --n_layer 1 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4 --grad_accumulation_steps 1
    --num_iterations 2 --val_loss_every 2 --val_batch_size 4 --val_tokens 256 --save_every 0 --sample_every 0)
ngram=()
if [ -x data/build_ngram ] && data/build_ngram "$d/train_0*.bin" --vocab_size 257 --k 16 --out "$d/made.ngram" >/dev/null 2>&1; then
    ngram=(--ngram_path "$d/made.ngram")
fi
help=$("$program" --help)
for preset in scripts/presets/*.txt; do
    extra=()
    mapfile -t included < <(sed -n 's,^@,scripts/presets/,p' "$preset")
    if grep -q use_cocont "$preset" "${included[@]}"; then
        grep -q -e --use_cocont <<<"$help" || { skip "$preset: this program has no --use_cocont"; continue; }
        extra=("${ngram[@]}")
    fi
    if "$program" "@$preset" "${tiny[@]}" "${extra[@]}" --output_dir "$d/preset" >"$d/said" 2>&1; then pass; else fail "$preset: $(tail -n 1 "$d/said")"; fi
    same "$preset: its own directory" "$(sed -n 's/^--output_dir //p' "$preset")" "runs/$(basename "$preset" .txt)"
done
finish
