#!/usr/bin/env bash
# The machine code of every CUDA kernel that was built, against the rules of dev/sass.py: no spilled registers, 128-bit loads and
# stores where packs are meant, tensor cores in attention, registers within a multiprocessor. And that the rules can fail: two
# kernels with well known names, written badly, must be called out.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/report.sh

if ! grep -q '^HAVE_CUDA' build/found.mk 2>/dev/null; then
    skip "machine code of the CUDA kernels: none are built here"
    finish
fi
if grep -q -e ' -O1 ' build/flags/cuda 2>/dev/null; then
    skip "machine code of the CUDA kernels: built with DEBUG=1, the rules are for -O3"
    finish
fi
if ! command -v python3 >/dev/null; then
    skip "machine code of the CUDA kernels: dev/sass.py needs python3"
    finish
fi
sass() { python3 dev/sass.py --quiet "$@"; }

# one count per kernel, architecture and variant
said=$(sass build/cuda_bf16.o build/cuda_fp32.o build/cuda_fp16.o 2>&1)
grep '^failed: ' <<<"$said"
read -r p _ f _ <<<"$(tail -1 <<<"$said")"
if [[ "${p:-} ${f:-}" =~ ^[0-9]+\ [0-9]+$ ]]; then
    passed=$((passed + p)) failed=$((failed + f))
else
    fail "dev/sass.py: $(tail -2 <<<"$said")"
fi

d=$(mktemp -d "${TMPDIR:-/tmp}/ahead-sass.XXXXXX") && trap 'rm -rf "$d"' EXIT
cat >"$d/bad.cu" <<'C'
__global__ void rope_kernel(float* x, int n) { // one element at a time
    for (int i = threadIdx.x; i < n; i += blockDim.x) x[i] *= 2.0f;
}
__global__ void gelu_forward_kernel(float4* x, const int* order) { // an array that is indexed at run time
    float4 kept[64];
    for (int i = 0; i < 64; i++) kept[order[i] & 63] = x[i];
    for (int i = 0; i < 64; i++) x[i] = kept[order[i + 64] & 63];
}
C
NVCC=${NVCC:-nvcc}
if "$NVCC" -arch=sm_80 -c "$d/bad.cu" -o "$d/bad.o" >"$d/log" 2>&1; then
    said=$(sass "$d/bad.o")
    status=$?
    if [ "$status" = 1 ]; then pass; else fail "badly written kernels: exit code $status, expected 1"; fi
    for sentence in "rope_kernel: no 128-bit loads" "rope_kernel: no 128-bit stores" "no kernel is called adamw_kernel" \
        "gelu_forward_kernel: [1-9][0-9]* bytes of stack"; do
        if grep -q "$sentence" <<<"$said"; then pass; else fail "dev/sass.py does not notice: $sentence"; fi
    done
else
    fail "a two-kernel file does not compile: $(head -3 "$d/log")"
fi
finish
