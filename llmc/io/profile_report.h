/*
What a profile (base/profile.h) found, at the end of a run: a table on the console, one line in metrics.jsonl.

    profile    1500 steps, 62.314 s                       seconds   share   ms a step
      mlp, its norm                                        12.301   19.7 %       8.20
    {"step":1500,..,"profile_mlp":12.301,..}              seconds
*/
#pragma once

#include "../base/profile.h"
#include "logger.h"

// steps: trained since profile_start. r: a record of the step that the run ended at; gets the seconds of all sections.
UNUSED static void profile_report(Logger* l, StepRecord* r, const Profile* p, int64_t steps) {
    double all = 0;
    for (int s = 0; s < SECTIONS; s++) all += p->seconds[s];
    logger_clear(l);
    printf("profile    %lld steps, %.3f s %*s seconds   share   ms a step\n", (long long)steps, all, 8, "");
    for (int s = 0; s < SECTIONS; s++) {
        double seconds = p->seconds[s];
        step_record_add(r, SECTION_NAMES[s].key, seconds);
        if (seconds == 0 && p->entries[s] == 0) continue;
        printf("  %-36s %9.3f %6.1f %% %10.3f\n", SECTION_NAMES[s].title, seconds, all > 0 ? 100 * seconds / all : 0.0,
               steps > 0 ? 1e3 * seconds / (double)steps : 0.0);
    }
    logger_values(l, r);
}
