#!/usr/bin/env bash
# Variants must never share a symbol: the linker would silently mix fp32 and bf16 code. So, over the object files of all variants:
#   - global symbols of ours are all named ahead_<what>_<variant>, ahead_train_<variant> among them; one object also has main
#   - weak and unique definitions (templates, inline functions) come from the standard library and CUDA's headers alone,
#     where every variant has the same
#   - no code runs before main (CUDA's own registration excepted)
set -u
cd "$(dirname "$0")/.." || exit 1
. test/report.sh

# Names that headers outside the project may define weakly in several objects.
THEIRS='^(std::|__gnu_cxx::|operator |void\* operator|cuda|dim3::|uint3|__half|__nv_|cublas|cudnn|nccl|nvtx|InitializeInjectionNvtx|(non-virtual )?(vtable|typeinfo|guard variable) .*(std|__gnu_cxx)|DW\.ref|__clang_call_terminate)'
CUDA_OWN='^(__cudaRegisterLinkedBinary|__fatbinwrap|__nv_|__cuda)'

strong() { nm --defined-only "$1" | awk '$(NF-1) ~ /^[TDBRCGS]$/ {print $NF}'; }
weak() { nm --defined-only "$1" | awk '$(NF-1) ~ /^[WVu]$/ {print $NF}'; }

objects=$(ls build/cpu_*.o 2>/dev/null)
grep -q '^HAVE_CUDA' build/found.mk && objects+=" $(ls build/cuda_*.o 2>/dev/null)"
[ -n "$objects" ] || fail "no object files in build/: build first"
mains=0
for object in $objects; do
    variant=$(basename "$object" .o)
    names=$(strong "$object" | grep -v -E "$CUDA_OWN")
    ours=$(grep -v -x main <<<"$names" | c++filt | sed 's/(.*//')
    if grep -q -x "ahead_train_$variant" <<<"$ours"; then pass; else fail "$object: no global function ahead_train_$variant"; fi
    strangers=$(grep -v -x "ahead_[a-z_]*_$variant" <<<"$ours" | head -5 | tr '\n' ' ')
    if [ -z "$strangers" ]; then pass; else fail "$object: global symbols not named ahead_..._$variant (make them static): $strangers"; fi
    mains=$((mains + $(grep -c -x main <<<"$names")))
    theirs=$(weak "$object" | c++filt | sed 's/^\(void\|bool\|int\|float\|char\*\|cudaError\|cudaError_t\) //' | grep -v -E "$THEIRS")
    if [ -z "$theirs" ]; then pass; else fail "$object: weak symbols of ours (make them static): $(head -5 <<<"$theirs" | tr '\n' ';')"; fi
    early=$(nm "$object" | grep -E ' [tT] _GLOBAL__(sub_I|I)_')
    if [ -z "$early" ]; then pass; else fail "$object: code that runs before main: $early"; fi
done
if [ "$mains" = 1 ]; then pass; else fail "main is defined in $mains objects, expected 1"; fi
finish
