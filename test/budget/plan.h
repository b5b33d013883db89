/*
The plan of a dry run (model/plan.cuh) on the emulated card: its memory is what the trainer allocates there, to the byte.
*/
#pragma once

#include "run.h"

static void check_planned_memory(const char* flags) {
    char line[1024];
    snprintf(line, sizeof(line), "%s --input_val_bin %s", flags, test_path("s_*.bin"));
    size_t start = emu_memory.live_bytes;
    Run r = run_open(line, 0);
    size_t found = emu_memory.live_bytes - start;
    Trainer* t = r.t;
    PlannedRun run = {t->model.config, &t->flags, &t->objective, t->has_val, true, t->val_T, NULL, NULL};
    size_t planned = plan_memory(&run, t->o.batch_size, 8).total;
    if (t->has_val) feed_close(&t->val);
    run_close(&r);
    if (planned != found) fail_msg("%s: planned %zu bytes of device memory, allocated %zu", flags, planned, found);
}
