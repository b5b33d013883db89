/*
Silence for a while: what the trainer prints is of no interest to some tests.

    int before = quiet(-1);  ..  quiet(before);
*/
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

// Sends standard output nowhere and returns what brings it back: call it again with that.
static int quiet(int before) {
    fflush(stdout);
    if (before >= 0) return dup2(before, STDOUT_FILENO), close(before), -1;
    int keep = dup(STDOUT_FILENO), nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDOUT_FILENO), close(nowhere);
    return keep;
}
