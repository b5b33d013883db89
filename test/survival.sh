# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # d, flags and program are shared with small_run.sh and the test
# What test_survival.sh and test/long/kill.sh share: a tiny run, faults planted into it (test/faults.c), and what must hold at its end.
. "$(dirname "${BASH_SOURCE[0]}")/small_run.sh"
export OMP_NUM_THREADS=1
flags=("${shards[@]}" --tokenizer "$d/train_tokenizer.bin"
    --n_layer 2 --n_head 2 --n_embd 32 --vocab_size 257 --sequence_length 32 --batch_size 4 --grad_accumulation_steps 2
    --num_iterations 30 --learning_rate 0.003 --warmup_iters 4 --warmdown_iters 10 --weight_decay 0.1 --val_loss_every 10
    --val_batch_size 4 --val_tokens 512 --save_every 4 --keep_checkpoints 2 --sample_every 10 --sample_tokens 3 --top_k 5) # so that no sample ends by itself
last=step_00000030.ckpt
faults=$d/faults.so
if ! ${CC:-gcc} -shared -fPIC -O1 test/faults.c -o "$faults" -ldl; then
    fail "test/faults.c does not compile"
    finish
fi

begin() { # name, fault or "", flags...: in the background as $run, each with a results.tsv of its own
    local name=$1 fault=$2
    shift 2
    mkdir -p "$d/$name-"
    if [ -n "$fault" ]; then
        FAULT=$fault LD_PRELOAD=$faults "$program" "${flags[@]}" --results "$d/$name-/results.tsv" --output_dir "$d/$name" --resume auto \
            "$@" >"$d/$name.out" 2>"$d/$name.err" </dev/null &
    else
        "$program" "${flags[@]}" --results "$d/$name-/results.tsv" --output_dir "$d/$name" --resume auto \
            "$@" >"$d/$name.out" 2>"$d/$name.err" </dev/null &
    fi
    run=$!
}
ended() { # its exit code in $code
    { wait "$run"; } 2>/dev/null
    code=$?
}
go() { begin "$@" && ended; }
until_there() { # command...: until it is true; a minute at most
    local i
    for ((i = 0; i < 6000; i++)); do
        if "$@" 2>/dev/null; then return; fi
        sleep 0.01
    done
}
logged() { sed 's/ tps:.*//' "$d/$1/main.log"; }
measured() { sed 's/"time":[^,]*,//; s/"tokens_per_sec":[^,]*,//; s/"peak_memory_mb":[^,]*,//' "$d/$1/${2:-metrics}.jsonl"; }
results() { awk -F '\t' '{ print NF, $7, $8, $10, $11 }' "$d/$1-/results.tsv"; }
same_lines() { # what, a, b
    if [ "$2" = "$3" ]; then pass; else fail "$1: $(diff <(echo "$2") <(echo "$3") | head -n 4)"; fi
}
leftovers() { (cd "$d/$1" && find . -name '*.tmp'); }
# That a run which was interrupted is, in the end, the run "whole" that was not
is_whole() { # what, name
    same "$1: weights and moments" "$(payload "$d/$2/$last")" "$whole"
    same_lines "$1: main.log" "$(logged "$2")" "$(logged whole)"
    same_lines "$1: metrics.jsonl" "$(measured "$2")" "$(measured whole)"
    same_lines "$1: samples.jsonl" "$(measured "$2" samples)" "$(measured whole samples)"
    same "$1: results.tsv" "$(results "$2")" "$(results whole)"
    same "$1: files left" "$(leftovers "$2")" ""
}
go whole ""
whole=$(payload "$d/whole/$last")
