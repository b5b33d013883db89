#!/usr/bin/env bash
# Installs what building and testing need and this machine lacks: g++ (with OpenMP), make, cmocka. Debian packages, so it needs
# root or a sudo that asks for no password; otherwise it prints the command and stops. Asks the network only when something is missing.
# `setup.sh build` ends there: it is enough to train. Else it adds clang with its sanitizers and libFuzzer, for the tests that need them
# (make test, make fuzz, make budget), which are skipped without.
#
# With nvcc and cuDNN but without cuDNN's frontend (headers only), it also puts those headers into build/venv with pip: the fast
# attention needs them, nothing else does, so a failure there is reported and the trainer uses its own attention kernel.
# CUDNN=0 leaves that out. `make clean` keeps build/venv.
set -eu
cd "$(dirname "$0")/.."
FRONTEND_VERSIONS='nvidia-cudnn-frontend>=1.14,<1.33'  # 1.14: CUDA 13; 1.32: the newest that was tried

missing=()
command -v g++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
printf '#include <stdarg.h>\n#include <stddef.h>\n#include <setjmp.h>\n#include <stdint.h>\n#include <cmocka.h>\n' |
    g++ -x c++ -fsyntax-only - 2>/dev/null || missing+=(libcmocka-dev)

home=${CUDA_HOME:-$(dirname "$(dirname "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")")}
have_header() { echo "#include <$1>" | g++ -x c++ -E -I"$home/include" ${2:+-I"$2"} - >/dev/null 2>&1; }
wants_frontend() {
    [ "${CUDNN:-auto}" != 0 ] && [ "${CUDA:-auto}" != 0 ] && command -v nvcc >/dev/null || return 1
    have_header cudnn.h || return 1
    local dir
    for dir in "${CUDNN_FRONTEND_PATH:-/usr/include}" build/venv/lib/python3*/site-packages/include .venv/lib/python3*/site-packages/include; do
        have_header cudnn_frontend_version.h "$dir" && return 1
    done
    return 0
}
can_make_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

install() {
    local sudo='' command
    command="apt-get update && apt-get install -y --no-install-recommends $*"
    if [ "$(id -u)" != 0 ]; then
        sudo=sudo
        sudo -n true 2>/dev/null || sudo=
    fi
    if ! command -v apt-get >/dev/null || { [ "$(id -u)" != 0 ] && [ -z "$sudo" ]; }; then
        echo "error: missing: $*; install them, on Debian or Ubuntu with: sudo sh -c '$command'" >&2
        return 1
    fi
    echo "  installing $* (network)"
    DEBIAN_FRONTEND=noninteractive $sudo apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@" >/dev/null || {
        echo "error: installing $* failed; try: sudo sh -c '$command'" >&2
        return 1
    }
}

[ ${#missing[@]} = 0 ] || install "${missing[@]}" || exit 1

# clang's package only recommends the one with its libraries
fuzzer() { compgen -G "$(clang -print-resource-dir)/lib/*/libclang_rt.fuzzer*" >/dev/null; }
if [ "${1:-}" != build ]; then
    command -v clang++ >/dev/null || install clang || true
    ! command -v clang++ >/dev/null || fuzzer || install "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev" || true
    command -v clang++ >/dev/null && fuzzer || echo "  clang with libFuzzer is not here: going on without; make test skips what needs it"
fi

frontend=
if wants_frontend; then
    echo "  nvcc and cuDNN are here, cuDNN's frontend headers are not: fetching them with pip into build/venv (network)"
    can_make_venv || install python3-venv || true
    if python3 -m venv build/venv && timeout 300 build/venv/bin/pip install -q --no-deps "$FRONTEND_VERSIONS"; then
        frontend=fetched
    else
        echo "  not fetched: going on without cuDNN attention. By hand: pip install --no-deps '$FRONTEND_VERSIONS', then CUDNN_FRONTEND_PATH=.../include"
        rm -rf build/venv
    fi
fi
[ ${#missing[@]} = 0 ] && [ -z "$frontend" ] || rm -f build/found.mk # look again
echo "  setup: everything that make, make test and make quickstart need is here"
