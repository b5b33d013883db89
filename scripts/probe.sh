#!/usr/bin/env bash
# What does this machine offer to build with? Called by the Makefile; writes build/found.mk (make variables) and build/found.txt
# (the block that `make` prints). Nothing is believed that was not compiled and linked: each library is tried with a two-line
# program, because a package database does not know which linker you use.
#
#   in (environment)   CXX NVCC CUDA CUDNN NCCL (auto|0|1) SM ("80 90") CUDNN_FRONTEND_PATH FRONTEND_DIRS
#   out                HAVE_CXX HAVE_CUDA CUDA_HOME CUDA_LIBS SM_LIST GENCODE HAVE_CUDNN FRONTEND HAVE_NCCL HAVE_CMOCKA
set -u
root=$PWD
mkdir -p build/probe
cd build/probe || exit 1
: >found.mk
: >found.txt

say() { printf '  %s %-15s %-12s %s\n' "$1" "$2" "$3" "$4" >>found.txt; }
set_var() { printf '%s := %s\n' "$1" "$2" >>found.mk; }
die() {
    echo "error: $*" >&2
    exit 1
}
links() { "$@" >log.txt 2>&1; }  # compiler and arguments

for choice in CUDA CUDNN NCCL; do
    case ${!choice} in auto | 0 | 1) ;; *) die "$choice=${!choice}: expected auto, 0 or 1" ;; esac
done

# --- C++ compiler and OpenMP: the CPU variants need both
cat >cxx.cpp <<'C'
#include <omp.h>
int main() { return omp_get_max_threads() < 1; }
C
cxx_version=$("$CXX" -dumpfullversion -dumpversion 2>/dev/null | head -1)
if links "$CXX" -std=c++17 -fopenmp cxx.cpp -o cxx; then
    set_var HAVE_CXX 1
    say ✓ "$(basename "$CXX"), OpenMP" "$cxx_version" "CPU variants fp32 bf16 fp16"
else
    say – "$CXX" "missing" "no C++ compiler with OpenMP: run \`make setup\`"
fi

# --- CUDA: nvcc and cuBLASLt. Architectures: the visible GPU's, else one list for every card from Ampere on.
sm_list() { # prints the architectures to build for; $1 = what nvcc offers, e.g. " 80 86 90 "
    local sm list='' gpus
    gpus=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | grep -E '^[0-9]+\.[0-9]+$' | tr -d . | sort -un)
    if [ -n "${SM:-}" ]; then
        for sm in $(tr ' ,' '\n\n' <<<"$SM" | sort -un); do
            [[ $sm =~ ^[0-9]+$ ]] || die "SM=\"$SM\": write compute capabilities without the dot, e.g. SM=\"80 90\""
            [ "$sm" -ge 80 ] || die "SM=\"$SM\": bf16 needs compute capability 8.0 (Ampere) or newer; leave $sm out, or use CUDA=0"
            [[ $1 == *" $sm "* ]] || die "SM=\"$SM\": this nvcc offers$1"
            list+=" $sm"
        done
    else
        for sm in $gpus; do
            [ "$sm" -lt 80 ] || [[ $1 != *" $sm "* ]] || list+=" $sm"
        done
        if [ -n "$gpus" ] && [ "$(tail -1 <<<"$gpus")" -lt 80 ]; then
            echo "the GPU here is older than compute capability 8.0 (Ampere), which bf16 needs" >why.txt
        elif [ -z "$list" ]; then # no GPU, or one that is newer than this nvcc: then its driver compiles the PTX
            for sm in 80 86 89 90 100 120; do [[ $1 != *" $sm "* ]] || list+=" $sm"; done
            echo "it offers no architecture from sm_80 on: use CUDA 12.4 or newer" >why.txt
        fi
    fi
    echo "${list# }"
}
cuda() {
    [ "$CUDA" != 0 ] || { say – nvcc "off" "CUDA=0: CPU variants only"; return 1; }
    command -v "$NVCC" >/dev/null || { say – nvcc "not found" "CPU variants only; for NVIDIA GPUs install the CUDA toolkit 12.4 or newer"; return 1; }
    local version offered sms sm base='' newest gencode='' home where note
    version=$("$NVCC" --version | sed -n 's/.*, V\([0-9.]*\).*/\1/p')
    offered=" $("$NVCC" --list-gpu-code | sed -n 's/^sm_\([0-9]*\)$/\1/p' | sort -n | tr '\n' ' ')"
    sms=$(sm_list "$offered") || exit 1
    [ -n "$sms" ] || { say – nvcc "$version" "$(cat why.txt): CPU variants only"; return 1; }
    # Intermediate code once up to Hopper and once from Blackwell on takes half the time of once for each. No kernel asks for more
    # than sm_80 has; but made from its code, attention spills on sm_100 (dev/sass.py).
    for sm in $sms; do
        if [ -z "$base" ] || { [ "$base" -lt 100 ] && [ "$sm" -ge 100 ]; }; then base=$sm; fi
        gencode+=" -gencode arch=compute_$base,code=sm_$sm" newest=$sm
    done
    gencode+=" -gencode arch=compute_$base,code=compute_$base"
    home=${CUDA_HOME:-$(dirname "$(dirname "$(command -v "$NVCC")")")}
    cuda_libs="-L$home/lib64 -Wl,-rpath,$home/lib64"
    cat >k.cu <<'C'
__global__ void k(float* p) { *p = 1.0f; }
int main() { k<<<1, 1>>>(nullptr); return 0; }
C
    links "$NVCC" -std=c++17 -arch="sm_$newest" -c k.cu -o k.o && links "$CXX" k.o -o k $cuda_libs -lcudart_static -ldl -lrt -lpthread || {
        say – nvcc "$version" "cannot build a two-line program (build/probe/log.txt): CPU variants only"
        return 1
    }
    cat >lt.cpp <<'C'
#include <cublasLt.h>
#include <cstdio>
int main() { size_t v = cublasLtGetVersion(); printf("%zu.%zu.%zu\n", v / 10000, v / 100 % 100, v % 100); return 0; }
C
    links "$CXX" -I"$home/include" lt.cpp -o lt $cuda_libs -lcublasLt || {
        say – nvcc "$version" "cuBLASLt does not link (build/probe/log.txt): CPU variants only"
        return 1
    }
    where="sm_${sms// / sm_} + PTX"
    note="for the GPU here"
    nvidia-smi -L >/dev/null 2>&1 || note="no GPU visible here"
    [ -z "${SM:-}" ] || note="as SM asks"
    say ✓ nvcc "$version" "CUDA variants bf16 fp32 fp16: $where ($note)"
    say ✓ cuBLASLt "$(./lt 2>/dev/null)" "matrix multiplications"
    set_var HAVE_CUDA 1
    set_var CUDA_HOME "$home"
    set_var CUDA_LIBS "$cuda_libs"
    set_var SM_LIST "$sms"
    set_var GENCODE "$gencode"
    cuda_home=$home
}

# --- cuDNN with its header-only frontend: the fast attention
cudnn() {
    [ "$CUDNN" != 0 ] || { say – cuDNN "off" "CUDNN=0: own attention kernel"; return 1; }
    cat >dnn.cpp <<'C'
#include <cudnn.h>
#include <cstdio>
int main() { size_t v = cudnnGetVersion(); printf("%zu.%zu.%zu\n", v / 10000, v / 100 % 100, v % 100); return 0; }
C
    links "$CXX" -I"$cuda_home/include" dnn.cpp -o dnn $cuda_libs -lcudnn -lnvrtc || {
        say – cuDNN "not found" "own attention kernel"
        return 1
    }
    local version dir frontend
    version=$(./dnn 2>/dev/null)
    [ "${version%%.*}" -ge 9 ] || { say – cuDNN "$version" "older than 9.0: own attention kernel"; return 1; }
    for dir in $FRONTEND_DIRS; do
        [[ $dir == /* ]] || dir=$root/$dir
        [ -f "$dir/cudnn_frontend.h" ] || continue
        printf '#include <cudnn_frontend_version.h>\n' >fe.cpp
        frontend=$(links "$CXX" -I"$dir" -E -dM fe.cpp -o fe.txt &&
            awk '/CUDNN_FRONTEND_M[AI][JN]OR_VERSION|CUDNN_FRONTEND_PATCH_VERSION/ && $3 ~ /^[0-9]+$/ {v[substr($2, 16, 2)] = $3}
                 END {print v["MA"] "." v["MI"] "." v["PA"]}' fe.txt)
        awk -F. '{exit !($1 > 1 || $2 >= 14)}' <<<"$frontend" || continue # 1.14: the oldest that works
        say ✓ cuDNN "$version" "attention, with cudnn-frontend $frontend"
        set_var HAVE_CUDNN 1
        set_var FRONTEND "$dir"
        return 0
    done
    say – cuDNN "$version" "no frontend headers 1.14 or newer: own attention kernel (\`make setup\` fetches them)"
    return 1
}

# --- NCCL: several GPUs
nccl() {
    [ "$NCCL" != 0 ] || { say – NCCL "off" "NCCL=0: one GPU"; return 1; }
    cat >nccl.cpp <<'C'
#include <nccl.h>
#include <cstdio>
int main() { int v = 0; ncclGetVersion(&v); printf("%d.%d.%d\n", v / 10000, v / 100 % 100, v % 100); return 0; }
C
    links "$CXX" -I"$cuda_home/include" nccl.cpp -o nccl $cuda_libs -lnccl || { say – NCCL "not found" "one GPU"; return 1; }
    [ -f ../../llmc/dist/comm.cuh ] || { say – NCCL "$(./nccl 2>/dev/null)" "found, not used: this version trains on one GPU"; return 1; }
    say ✓ NCCL "$(./nccl 2>/dev/null)" "several GPUs"
    set_var HAVE_NCCL 1
}

if cuda; then
    cudnn || [ "$CUDNN" != 1 ] || die "CUDNN=1, but cuDNN or its frontend headers were not found: see build/probe/log.txt, set CUDNN_FRONTEND_PATH"
    nccl || [ "$NCCL" != 1 ] || die "NCCL=1, but: $(grep NCCL found.txt | sed 's/^ *– *//; s/  */ /g')"
elif [ "$CUDA" = 1 ]; then
    die "CUDA=1, but no CUDA program builds here: $(tail -1 found.txt | sed 's/^ *– *//; s/  */ /g')"
fi

# --- cmocka: the tests
cat >cm.c <<'C'
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
static void t(void** s) { (void)s; }
int main(void) { const struct CMUnitTest tests[] = {cmocka_unit_test(t)}; return cmocka_run_group_tests(tests, NULL, NULL); }
C
if links "$CXX" -x c++ -fpermissive cm.c -o cm -lcmocka || links cc cm.c -o cm -lcmocka; then
    set_var HAVE_CMOCKA 1
    say ✓ cmocka "$(pkg-config --modversion cmocka 2>/dev/null)" "make test"
else
    say – cmocka "not found" "for make test only: \`make setup\` installs it"
fi

mv found.txt ../found.txt
mv found.mk ../found.mk
cat ../found.txt
