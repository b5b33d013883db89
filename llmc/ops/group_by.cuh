/*
Grouping: items sorted by a key, equal keys in the order of the items, so that what is summed over a group has one order.

    keys   | 2 0 2 1 0 |      order  | 1 4 | 3 | 0 2 |        order[i]: the item that comes i-th

CPU: a counting sort by the calling thread. GPU: every item counts how many come before it, N^2 comparisons in one launch (0.05 ms
for 16,384 items), no atomics and no scratch.
*/
#pragma once

#include "../base/device.cuh"

#if GPU_EXECUTION
KERNEL group_order_kernel(int* RESTRICT order, const int* RESTRICT keys, int N) {
    FOR_EACH(n, (size_t)N) {
        int mine = keys[n], rank = 0;
        for (int i = 0; i < N; i++) rank += (keys[i] < mine) | ((keys[i] == mine) & ((size_t)i < n));
        order[rank] = (int)n;
    }
}
#endif

// order (N): items sorted by keys (N), each in 0..G-1, stable. first: G ints of scratch.
UNUSED static void group_order(int* order, int* first, const int* keys, int N, int G, stream_t stream) {
    (void)stream, (void)first, (void)G;
#if GPU_EXECUTION
    LAUNCH(group_order_kernel, (N + 63) / 64, 64, stream)(order, keys, N);
#else
    if (planning.walks) return;
    memset(first, 0, (size_t)G * sizeof(int));
    for (int n = 0; n < N; n++) first[keys[n]]++;
    for (int g = 0, sum = 0; g < G; g++) {
        int count = first[g];
        first[g] = sum;
        sum += count;
    }
    for (int n = 0; n < N; n++) order[first[keys[n]]++] = n;
#endif
}
