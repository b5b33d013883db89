/*
What has run: with EMU_COVERAGE=FOLDER a program writes FOLDER/<its name> when it ends, one line for each kernel (a template under
its own name, whatever its arguments) and for each function with a LAUNCH in it:

    kernel norm_forward_kernel 124
    launcher norm_forward 124

Counted are launches of the process itself: a child that a test forks to see a mistake writes nothing. test/test_coverage.sh
compares the lines with what llmc/ defines.
*/
#pragma once

#include <errno.h>

enum { EMU_COVERED = 512, EMU_NAME = 96 };
static struct {
    const char *what, *text;  // as the call gave it
    uint64_t launches;
} emu_covered[EMU_COVERED];
static int emu_covered_count;
static pid_t emu_covered_by;

EMU void emu_cover(const char* what, const char* text) {
    int i = 0;
    while (i < emu_covered_count && (emu_covered[i].text != text || emu_covered[i].what != what)) i++;
    if (i == EMU_COVERED) emu_fail("more than %d kernels and launchers", EMU_COVERED);
    if (i == emu_covered_count) emu_covered_count++, emu_covered[i].what = what, emu_covered[i].text = text;
    emu_covered[i].launches++;
}

static void emu_write_coverage() {
    char path[4096];
    if (getpid() != emu_covered_by) return;
    snprintf(path, sizeof(path), "%s/%s", getenv("EMU_COVERAGE"), program_invocation_short_name);
    FILE* f = fopen(path, "w");
    for (int i = 0; f && i < emu_covered_count; i++) {
        char name[EMU_NAME];
        snprintf(name, sizeof(name), "%s", emu_covered[i].text + strspn(emu_covered[i].text, "( "));
        name[strcspn(name, "< )")] = 0;
        fprintf(f, "%s %s %lu\n", emu_covered[i].what, name, emu_covered[i].launches);
    }
    if (!f || fclose(f)) fprintf(stderr, "EMU_COVERAGE: cannot write %s: %s\n", path, strerror(errno));
}
__attribute__((constructor)) static void emu_coverage_starts() {
    emu_covered_by = getpid();
    if (getenv("EMU_COVERAGE")) atexit(emu_write_coverage);
}
