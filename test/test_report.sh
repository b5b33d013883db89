#!/usr/bin/env bash
# Pages and curves of runs, and how they are followed: known records give known numbers on the page, nothing that a run holds runs as
# a script, nothing is loaded, and what cannot be done is one sentence. Needs Python 3; browsers and libraries: test/long.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/report.sh
command -v python3 >/dev/null || { skip "report: no python3 here"; finish; }
d=$(mktemp -d "${TMPDIR:-/tmp}/ahead-report.XXXXXX") || exit 1
trap 'rm -rf "$d"' EXIT

same() { if [ "$2" = "$3" ]; then pass; else fail "$1: $2 is not $3"; fi; } # what, a, b
has() { if grep -qF -e "$2" "$3"; then pass; else fail "$1: no \"$2\" in $3"; fi; } # what, text, file
lacks() { if grep -qF -e "$2" "$3"; then fail "$1: \"$2\" in $3"; else pass; fi; }
refused() { # what, exit code, pattern of the one sentence, command...
    local what=$1 expected=$2 pattern=$3 code
    shift 3
    "$@" >"$d/said" 2>&1
    code=$?
    if [ $code = "$expected" ] && grep -qE -e "$pattern" "$d/said" && [ "$(grep -c . "$d/said")" = 1 ]; then pass; else
        fail "$what: exit code $code, $(head -c 500 "$d/said")"
    fi
}

# --- a run of three steps with everything that can go wrong in it, and markup wherever text can stand
evil='</script><script>alert(1)</script><img src=x onerror=alert(2)>'
run="$d/r<b>un"
mkdir "$run"
printf -- '--num_iterations 4\n--learning_rate 0.0001\n--sequence_length 32\n--grad_clip 1\n--prompt "%s"\n--old_flag 3\n' "$evil" >"$run/flags.txt"
cat >"$run/metrics.jsonl" <<'END'
{"step":0,"tokens":0,"time":0,"val_loss":5.5,"val_ntp_loss":5.5,"val_mtp_loss":6.5,"peak_memory_mb":20,"val_ce_2":5.75,"precision":"fp32"}
{"step":0,"tokens":1000,"time":1000,"train_loss":5.25,"lr":0.0005,"grad_norm":2.5,"tokens_per_sec":1000,"mtp_weight":0.5,"ce_2":5.5,"precision":"fp32"}
{"step":1,"tokens":2000,"time":1500,"train_loss":null,"lr":0.001,"grad_norm":0.5,"tokens_per_sec":2000,"mtp_weight":0.5,"loss_scale":64,"skipped":1,"precision":"fp32"}
not a record
[1,2]
{"step":2,"tokens":3000,"time":2500,"train_loss":4.25,"lr":0.001,"grad_norm":0.75,"tokens_per_sec":1500,"mtp_weight":0.25,"ce_2":4.5,"loss_scale":32,"</script><b>":4,"precision":"fp32"}
{"step":3,"tokens":3000,"time":2500,"val_loss":4.125678,"val_ce_2":4.5,"precision":"fp32"}
{"step":3,"tok
END
cat >"$run/console.log" <<END
device     cpu, 3 threads, fp32
END
printf '{"step":2,"tokens":3000,"time":2500,"text":"%s\\u000asecond line"}\n{"step":3,"tok' "$evil" >"$run/samples.jsonl"
page="$run/report.html"
same "report: exit code and what it says" "$(scripts/report "$run" 2>&1)$?" "$page: 1 run0"
has "name, escaped" '<h1>r&lt;b&gt;un</h1>' "$page"
has "not finished" 'not finished: step 3 of 4 · cpu, 3 threads · fp32' "$page"
has "last validation" '<span class="name">val loss so far</span><span class="number">4.1257</span>' "$page"
has "tokens" '<span class="number">3k</span><small>3,000, 3 steps</small>' "$page"
has "median speed" '<span class="number">1,500</span>' "$page"
has "skipped step" '1 of 3 steps were skipped because their loss or gradient was not finite: step 1.' "$page"
has "infinite loss" 'The loss was infinite at step 1.' "$page"
has "loss scale" 'The loss scale began at 64, ended at 32 and was lowered once.' "$page"
has "clipping" 'The gradient was clipped in 1 of 3 steps (--grad_clip 1).' "$page"
has "a flag that is not the default" '<td><code>--sequence_length</code></td><td><code>32</code></td><td><code>64</code></td>' "$page"
has "a flag that is not of this version" '<td><code>--old_flag</code></td><td><code>3</code></td><td>not a flag of this version</td>' "$page"
lacks "a flag that is the default" '<code>--learning_rate</code>' "$page"
has "title of a dot, without a script" '<title>validation: 4.125678 at step 3, 3,000 tokens, 2.5 s</title>' "$page"
has "sample" '&lt;img src=x onerror=alert(2)&gt;' "$page"
has "a sample of two lines" 'second line</div>' "$page"
lacks "markup of a run" '<img' "$page"
lacks "markup of a run" '<script>alert' "$page"

# Two scripts, one of them data that parses, the other allowed by its hash alone; curves over both axes; nothing with an address
cat >"$d/page.py" <<'END'
import base64, hashlib, html.parser, json, sys
class Reader(html.parser.HTMLParser):
    scripts, ids, plots, links, policy, inside = [], set(), 0, [], "", False
    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "script":
            self.inside = True
            self.scripts.append("")
        if tag == "meta" and "http-equiv" in values:
            Reader.policy = values["content"]
        Reader.plots += "plot" in values.get("class", "").split()
        self.links += [a for a in attributes if a[0] in ("src", "href", "srcset", "action") or a[0].startswith("on")]
    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "script"
    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data
reader = Reader()
text = open(sys.argv[1], encoding="utf-8").read()
reader.feed(text)
values = json.loads(reader.scripts[0])
points = [series["points"] for chart in values for series in chart]
script = base64.b64encode(hashlib.sha256(reader.scripts[1].encode()).digest()).decode()
print(len(reader.scripts), "default-src 'none'" in reader.policy, "'sha256-%s'" % script in reader.policy, reader.links,
      "url(" in text, "@import" in text, "http:" in text or "https:" in text, len(values) * 2 == reader.plots)
if len(values) > 1:
    print([series["label"] for series in values[1]], values[0][-1]["points"])
END
same "page: parsed" "$(python3 "$d/page.py" "$page")" "2 True True [] False False False True
['</script><b>', 'ce_2', 'val_ce_2'] [[0, 0, 0.0, 5.5], [3, 3000, 2.5, 4.125678]]"

# --- the same run finished: its line of results.tsv counts only when it is of this training
head='date\tcommit\tseed\tdevice\tprecision\tparameters\tsteps\ttokens\ttrain_seconds\tval_loss\tbest_val_loss\tpeak_memory_mb\toutput_dir\tflags\n'
line() { printf '2026-01-02T00:00:00Z\tab<c\t7\tcard\tbf16\t1500000\t3\t%s\t2.5\t%s\t%s\t-\t%s\t%s\n' "$2" "$3" "$3" "$1" "$4"; } # dir tokens loss flags
mkdir "$d/done" && cp "$run/metrics.jsonl" "$d/done" && printf -- '--num_iterations 4\n--output_dir x/done\n' >"$d/done/flags.txt"
{ printf '%b' "$head"; line x/done 9000 4.1 '--num_iterations 4'; line x/done 3000 4.1 '--num_iterations 5'; } >"$d/results.tsv"
scripts/report "$d/done" -o "$d/done.html" >/dev/null
has "another run's line" 'not finished: step 3 of 4' "$d/done.html"
line x/done 3000 4.1 '--num_iterations 4' >>"$d/results.tsv"
scripts/report "$d/done" -o "$d/done.html" >/dev/null
has "its own line" 'finished 2026-01-02T00:00:00Z · card · bf16 · 1.50M parameters · commit ab&lt;c · seed 7' "$d/done.html"
rm "$d/results.tsv"

# --- a sweep: the numbers of scripts/summarize, a toggle for each setting, commands; an unfinished run is drawn and named
mkdir "$d/sweep"
printf '%b' "$head" >"$d/sweep/results.tsv"
for row in "base_s1 1 3.0 0" "base_s2 2 3.2 0" "mtp_s1 1 2.9 1" "mtp_s2 2 3.0 1"; do
    read -r name seed loss on <<<"$row"
    mkdir "$d/sweep/$name"
    printf '{"step":%d,"tokens":%d,"time":%d,"val_loss":%s}\n' 0 0 0 5.5 9 1000 2500 "$loss" >"$d/sweep/$name/metrics.jsonl"
    line "x/$name" 1000 "$loss" "--seed $seed --output_dir x/$name --mtp_enabled $on" | sed "s/\t7\t/\t$seed\t/" >>"$d/sweep/results.tsv"
    echo "--n_layer 2 --prompt \\<b\\> " >"$d/sweep/$name/sweep.txt"
done
mkdir "$d/sweep/late_s1"
printf -- '--seed 1\n--mtp_enabled 0\n--n_layer 3\n' >"$d/sweep/late_s1/flags.txt"
cp "$d/sweep/base_s1/metrics.jsonl" "$d/sweep/late_s1"
page=$d/sweep/report.html
same "sweep: exit code and what it says" "$(scripts/report "$d/sweep" 2>&1)$?" "$page: a sweep0"
cells() { sed -n 's/^<tr><td><span class="[^"]*"><i class="swatch"><\/i> \(.*\)$/\1/p' "$page" | sed 's/<[^>]*>/|/g; s/||*/|/g' | grep "^$1|" | head -n 2; }
wanted() { scripts/summarize "$d/sweep" | sed -n "s/^| \($1 |.*\)/\1/p" | sed 's/ *| */|/g; s/||*/|/g'; }
same "sweep: the rows of summarize, base" "$(cells base)" "$(wanted base)"
same "sweep: the rows of summarize, mtp" "$(cells mtp)" "$(wanted mtp)"
same "sweep: there are two tables" "$(cells mtp | cut -d '|' -f 1-4,7)" "mtp|2|2.950000|0.070711|0.2048
mtp|2|2.950000|0.070711|0.2048"
same "sweep: toggles" "$(grep -o 'id="toggle[0-9]"' "$page" | wc -l)" 3
has "sweep: a toggle hides its curves" 'body:has(#toggle1:not(:checked)) .g1 { display: none; }' "$page"
has "sweep: a command" './train_gpt2cu --n_layer 2 --prompt \&lt;b\&gt; --output_dir x/base_s1' "$page"
has "sweep: not finished" 'Not finished, so not in the tables: late_s1;' "$page"
same "sweep: parsed" "$(python3 "$d/page.py" "$page" | head -n 1)" "2 True True [] False False False True"
rm "$d/sweep/results.tsv"
scripts/report "$d/sweep" >/dev/null
has "sweep: none finished" 'No run is finished yet: no table.' "$page"

# --- what cannot be done
refused "report: no such directory" 1 "^error: $d/absent: no such directory; name a run" scripts/report "$d/absent"
mkdir "$d/empty"
refused "report: no run" 1 "^error: $d/empty: holds no run: expected metrics.jsonl" scripts/report "$d/empty"
: >"$d/empty/metrics.jsonl"
refused "report: an empty run" 1 "^error: $d/empty/metrics.jsonl: no line of it is a record" scripts/report "$d/empty"
before=$(cksum "$run/metrics.jsonl")
refused "report: over an input" 1 "^error: .*/metrics.jsonl: exists and was not written by this program" scripts/report "$run" -o "$run/metrics.jsonl"
refused "plot: over an input" 2 "^error: --out .*/metrics.jsonl: expected a name that ends in .png, .svg or .pdf" scripts/plot "$run" -o "$run/metrics.jsonl"
cp "$run/metrics.jsonl" "$d/mine.png"
refused "plot: over a file of another kind" 1 "^error: $d/mine.png: exists and was not written" scripts/plot "$run" -o "$d/mine.png"
same "nothing was overwritten" "$(cksum "$run/metrics.jsonl")$(cmp "$run/metrics.jsonl" "$d/mine.png")" "$before"
refused "report: cannot be written" 1 "^error: $d/absent/x.html: cannot be written: No such file" scripts/report "$run" -o "$d/absent/x.html"
refused "report: a baseline of one run" 2 "^error: --baseline x: .* is one run" scripts/report "$run" --baseline x
for script in report plot to_tensorboard to_wandb summarize; do
    scripts/$script --no_such_flag >"$d/said" 2>&1
    same "$script: unknown flag: exit code" $? 2
    same "$script --help: exit code" "$(scripts/$script --help >"$d/said" 2>&1; echo $?)" 0
    has "$script --help: says how it is called" "scripts/$script " "$d/said"
done
# Without the libraries, wherever they are: a directory in which importing them fails
mkdir "$d/without"
for library in matplotlib tensorboardX torch wandb; do echo "raise ImportError('No module named $library')" >"$d/without/$library.py"; done
for pair in "plot matplotlib" "to_tensorboard tensorboardX" "to_wandb wandb"; do
    read -r script library <<<"$pair"
    refused "$script without its library" 1 "^error: scripts/$script needs $library.*pip install $library" env PYTHONPATH="$d/without" "scripts/$script" "$run"
    refused "$script: no such run" 1 "^error: $d/absent: no such directory" "scripts/$script" "$d/absent"
done

# --- a log is followed: appended, cut off, resumed, begun afresh; then what a list of records would be is what the sink has
same "follow" "$(python3 -B - "$d" <<'END'
import os, sys
sys.path.insert(0, "scripts")
import follow, runs
path = os.path.join(sys.argv[1], "follow")
os.mkdir(path)
log = os.path.join(path, "metrics.jsonl")
def line(step, loss=1): return '{"step":%d,"tokens":%d,"time":0,"train_loss":%d}\n' % (step, step, loss)
def write(text, mode="w"):
    name = log if mode == "a" else log + ".new"
    with open(name, mode) as file: file.write(text)
    if mode == "w": os.replace(name, log)
class Sink:
    got, calls = [], []
    def add(self, records): self.got += records
    def back(self, kept, gone): self.calls.append(len(gone)); self.got[:] = kept
    def afresh(self): self.calls.append("afresh"); self.got[:] = []
    def flush(self): pass
write(line(0) + line(1))
follower = follow.Follower(runs.read_directory(path), Sink())
quiet, sys.stdout = sys.stdout, open(os.devnull, "w")
def look(): follower.pass_on(); return [(r["step"], r["train_loss"]) for r in Sink.got]
seen = [look()]
write(line(2) + line(3)[:9], "a")
seen.append(look())
write(line(3)[9:], "a")
seen.append(look())
write(line(0) + line(1))
seen.append(look())
write(line(2, 5), "a")
seen.append(look())
write(line(0) + line(1) + line(2, 6) + line(3, 6) + line(4, 6))
seen.append(look())
os.rename(log, log + ".1")
seen.append(look())
write(line(0, 9))
seen.append(look())
with open(log, "r+") as file: file.truncate(0)
write(line(0, 8) + line(1, 8), "a")
seen.append(look())
write(line(0, 7) + line(1, 8) + line(2, 8))  # the line where the last look ended is the same
seen.append(look())
sys.stdout = quiet
for one in seen: print(one)
print(Sink.calls)
END
)" "[(0, 1), (1, 1)]
[(0, 1), (1, 1), (2, 1)]
[(0, 1), (1, 1), (2, 1), (3, 1)]
[(0, 1), (1, 1)]
[(0, 1), (1, 1), (2, 5)]
[(0, 1), (1, 1), (2, 6), (3, 6), (4, 6)]
[(0, 1), (1, 1), (2, 6), (3, 6), (4, 6)]
[(0, 9)]
[(0, 8), (1, 8)]
[(0, 7), (1, 8), (2, 8)]
[2, 1, 'afresh', 'afresh', 'afresh']"

# --- the table of defaults that the page reads is the trainer's
if [ -x train_gpt2cu ]; then
    same "as many defaults as the trainer has flags" "$(python3 -B -c 'import sys; sys.path.insert(0, "scripts"); import runs
print(len(runs.flag_defaults()))')" "$(./train_gpt2cu --help | grep -cE '^  --[a-z]')"
fi
finish
