/*
Switching stacks. A context is what is left of a fiber while it does not run.

    emu_context_make(&c, stack, size)     a context that will enter emu_fiber_main on that stack
    emu_context_switch(&from, &to, b)     leaves the running fiber in *from and goes on with *to; b: *from is never come back to

On x86-64 the six registers that a call preserves are pushed and the stack pointer is exchanged: 13 ns for a round through a
block's fibers, against 250 ns with ucontext, which asks the system to set the signal mask each time. All fibers of a block stop
at the same call depth, so the processor predicts the `ret` well.
*/
#pragma once

static void emu_fiber_main();  // never returns

#if defined(__x86_64__) && !defined(EMU_UCONTEXT)
typedef struct {
    void* sp;
    EmuStackBounds bounds;  // emu_sanitize.h
} EmuContext;

extern "C" void emu_switch_stacks(void** from, void* to);
asm(R"(
    .text
    .p2align 4
emu_switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

EMU_UNWATCHED EMU void emu_context_make(EmuContext* c, char* stack, size_t size) {
    void** top = (void**)(stack + size);  // 16-byte aligned; a function is entered with its return address on top
    *--top = NULL;
    *--top = (void*)emu_fiber_main;
    for (int i = 0; i < 6; i++) *--top = NULL;
    c->sp = top;
    emu_stack_made(&c->bounds, stack, size);
}
EMU_UNWATCHED EMU inline void emu_context_switch(EmuContext* from, const EmuContext* to, bool for_good) {
    emu_leave_stack(&from->bounds, &to->bounds, for_good);
    emu_switch_stacks(&from->sp, to->sp);
    emu_arrive_on_stack(&from->bounds);
}

#else
#include <ucontext.h>
typedef struct {
    ucontext_t context;
    EmuStackBounds bounds;
} EmuContext;

EMU void emu_context_make(EmuContext* c, char* stack, size_t size) {
    getcontext(&c->context);
    c->context.uc_stack.ss_sp = stack;
    c->context.uc_stack.ss_size = size;
    c->context.uc_link = NULL;
    makecontext(&c->context, emu_fiber_main, 0);
    emu_stack_made(&c->bounds, stack, size);
}
EMU_UNWATCHED EMU void emu_context_switch(EmuContext* from, const EmuContext* to, bool for_good) {
    emu_leave_stack(&from->bounds, &to->bounds, for_good);
    swapcontext(&from->context, &to->context);
    emu_arrive_on_stack(&from->bounds);
}
#endif
