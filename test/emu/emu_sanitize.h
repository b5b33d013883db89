/*
The sanitizer build (-fsanitize=address,undefined): what the emulation tells AddressSanitizer, so that a kernel's stray access is
a report at the very byte. Without it all of this is nothing.

    device memory    | forbidden .. | allocation ... | forbidden ...    emu_memory.h: only what cudaMalloc gave is allowed, and
                                                                        nothing of it after cudaFree
    dynamic shared   | forbidden .. | bytes of the launch | forbidden   emu_launch.h
    static shared    | redzone | variable | redzone |                   __shared__ is plain `static`: thread-local variables have
                                                                        no redzones. So it is not poisoned before each block;
                                                                        that is the plain and the checking build's to see
    a fiber's stack  redzones around the arrays that a CUDA thread has in local memory; each switch of stacks is announced

A report is followed by the emulation's sentence with kernel, block, thread and offset, and ends the program with EMU_EXIT.
*/
#pragma once

#ifdef __has_feature
#define EMU_HAS_FEATURE(x) __has_feature(x)
#else
#define EMU_HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || EMU_HAS_FEATURE(address_sanitizer)
#define EMU_ASAN 1
#else
#define EMU_ASAN 0
#endif

// For the emulation's own innermost loops, which take no address from a kernel: watched, they are half of a test's time.
#if EMU_ASAN
#define EMU_UNWATCHED __attribute__((no_sanitize("address", "undefined")))
#else
#define EMU_UNWATCHED
#endif

// Bounds of a stack as the sanitizer wants to know them; it keeps something of its own in `fake` while the stack rests.
typedef struct {
    void* fake;
    const void* bottom;
    size_t size;
} EmuStackBounds;

#if EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

static EmuStackBounds* emu_left;  // the stack that was left last

EMU void emu_forbid(const void* p, size_t bytes) { __asan_poison_memory_region(p, bytes); }
EMU void emu_allow(const void* p, size_t bytes) { __asan_unpoison_memory_region(p, bytes); }

EMU void emu_stack_made(EmuStackBounds* s, char* stack, size_t size) {
    *s = (EmuStackBounds){NULL, stack, size};
    __asan_unpoison_memory_region(stack + size - 4096,
                                  4096);  // redzones of the functions that the last fiber never returned from
}
// In front of a switch and behind it; from NULL: that stack is not come back to.
EMU_UNWATCHED EMU inline void emu_leave_stack(EmuStackBounds* from, const EmuStackBounds* to, bool for_good) {
    emu_left = from;
    __sanitizer_start_switch_fiber(for_good ? NULL : &from->fake, to->bottom, to->size);
}
EMU_UNWATCHED EMU inline void emu_arrive_on_stack(
    EmuStackBounds* me) {  // tells where the stack that was left lies: so the host's is learned
    __sanitizer_finish_switch_fiber(me ? me->fake : NULL, &emu_left->bottom, &emu_left->size);
}

// Options that hold unless ASAN_OPTIONS says otherwise.
//     exitcode                      as every other report of the emulation
//     detect_leaks=0                tests hand device objects and host tables to a process that ends: that is no finding
//     detect_stack_use_after_return=0   it would give each of 1,024 fibers a second stack of megabytes
//     handle_segv, handle_sigbus    guard pages are the emulation's (emu_catch_crashes)
extern "C" __attribute__((used, visibility("default"))) const char* __asan_default_options() {
    return "exitcode=99:detect_leaks=0:detect_stack_use_after_return=0:handle_segv=0:handle_sigbus=0";
}
extern "C" __attribute__((used, visibility("default"))) const char* __ubsan_default_options() {
    return "exitcode=99:print_stacktrace=1";
}
#else
EMU inline void emu_forbid(const void*, size_t) {}
EMU inline void emu_allow(const void*, size_t) {}
EMU inline void emu_stack_made(EmuStackBounds*, char*, size_t) {}
EMU inline void emu_leave_stack(EmuStackBounds*, const EmuStackBounds*, bool) {}
EMU inline void emu_arrive_on_stack(EmuStackBounds*) {}
#endif
