/*
CUDA without a GPU: what stands in for nvcc when tests are compiled as the third execution (-DAHEAD_EMU -Itest/emu). The kernels
are the project's own, unchanged; each CUDA thread is a fiber with its own stack, blocks run one after another, and lanes really
wait at barriers and shuffles. All of it is `static`: a test program is one translation unit.

    cuda_runtime.h  cuda_bf16.h  cuda_fp16.h    include this file            cublasLt.h   the library's twin
    emu_types.h     qualifiers, vectors, the two half-width types, arithmetic
    emu_fiber.h     switching stacks: x86-64 assembly, or ucontext (-DEMU_UCONTEXT, or another processor)
    emu_block.h     the threads of a block: who runs next, who waits where, reports
    emu_lanes.h     __syncthreads, __syncwarp, shuffles, votes, atomics
    emu_memory.h    device memory: one arena, guard pages, NaN poison; the host cannot read it
    emu_check.h     the checking build: races, bounds, uninitialised reads (-DEMU_CHECK)
    emu_publish.h   the checking build: what one block of a launch may read of another
    emu_sanitize.h  the sanitizer build: AddressSanitizer knows device memory, shared memory and the fibers' stacks
    emu_stream.h    streams that queue their work; events; copies
    emu_budget.h    the counting build: every call in order, bytes by kernel (-DEMU_BUDGET)
    emu_launch.h    a kernel launch, its limits, running a grid
    emu_coverage.h  which kernels and which functions that launch them have run
    emu_runtime.h   the functions of the CUDA runtime
    emu_ptx.h       the instructions of llmc/ops/ptx.cuh

What ends a program (exit code EMU_EXIT, a sentence that names kernel, block and thread): a barrier or shuffle that not all lanes
reach, or reach at different lines; a shuffle from a lane that is not there; an access outside device memory or beyond dynamic
shared memory; a host pointer among a kernel's arguments; a copy of the wrong kind or extent; an impossible launch; streams that
wait for each other. What makes results wrong, so that a comparison sees it: reading what was never written (NaN), a missing
barrier (in one of the orders), a missing wait between streams (with one of the seeds), a copy used before it was waited for.

    EMU_ORDER=forward|reverse|random:SEED   order of threads in a block and of blocks in a grid (random:1)
    EMU_STREAMS=SEED                        which stream goes on when several could
    EMU_REPORT=1                            at exit: launches and threads by kernel
    EMU_COVERAGE=FOLDER                     at exit: FOLDER/<program> names what was launched (test/test_coverage.sh)

Not seen here: speed, the GPU's weak memory order, races that no order of whole threads between barriers shows.
*/
#pragma once

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <tuple>
#include <type_traits>

#define EMU static __attribute__((unused))

#include "emu_sanitize.h"

#include "emu_types.h"

#include "emu_fiber.h"

#include "emu_block.h"

#include "emu_publish.h"

#include "emu_lanes.h"

#include "emu_memory.h"

#include "emu_check.h"

#include "emu_stream.h"

#include "emu_budget.h"

#include "emu_coverage.h"

#include "emu_launch.h"

#include "emu_runtime.h"

#include "emu_ptx.h"
