/*
Grouping: entries sorted by a key, equal keys in the order of the entries, so that what is summed over a group has one order.

    keys    | 2 0 2 1 -1 0 |                     a key below 0: the entry is left out
    order   | 1 5 | 3 | 0 2 | .                  order[i]: the entry that comes i-th
    first   0     2   3     5                    (G+1) where each group starts; first[G]: how many entries are sorted

CPU: a counting sort by the calling thread. GPU: a warp per group counts its entries, one warp adds the counts up, and the warps
write what they find in the order in which they find it: G N comparisons, twice, of keys that lie in the second-level cache (197
groups of 16,384 entries: 26 MB from there, some 10 us), nothing atomic, the number of entries sorted not known to the host.

Tiles: the groups cut into pieces of at most `size` entries for products that work on tiles (gemm_grouped.cuh), wave by wave: a
wave is `wave` entries of the order. The list of a wave is as long as it can ever be; its last tiles may be empty (count 0).

    wave     |        0        |        1        |
    groups   | 0         | 1 | 2         | 4     |
    tiles    | 0    | 0  | 1 | 2 | - - | 2   | 4     | - -

Tried and dropped: every entry counting those before it (N^2 comparisons: 3 ms for 16,384 positions of 8 targets).
*/
#pragma once

#include "../base/device.cuh"

#if GPU_EXECUTION
enum { GROUP_AHEAD = 4 };  // keys under way in each lane

// One warp finds the entries of `group` among keys (N), in order. order: where they go, NULL: they are only counted; it has
// room for `most`. Returns their number.
DEVICE_ONLY int group_find(int* order, const int* RESTRICT keys, int N, int group, int most) {
    int found = 0;
    for (int i = 0; i < N && found < most; i += GROUP_AHEAD * WARP) {
        int key[GROUP_AHEAD];
        UNROLL for (int j = 0; j < GROUP_AHEAD; j++) {
            int at = i + j * WARP + LANE;
            key[j] = at < N ? keys[at] : -1;
        }
        UNROLL for (int j = 0; j < GROUP_AHEAD; j++) {
            unsigned same = __ballot_sync(0xffffffffu, key[j] == group);
            if (order && key[j] == group) order[found + __popc(same & ((1u << LANE) - 1))] = i + j * WARP + LANE;
            found += __popc(same);
        }
    }
    return found;
}

KERNEL group_count_kernel(int* RESTRICT first, const int* RESTRICT keys, int N, int G) {
    FOR_ROWS(g, G) {
        int count = group_find(NULL, keys, N, g, N);
        if (FIRST_LANE) first[g] = count;
    }
}

// Sum of x over the lanes before this one; *total over all of the warp.
DEVICE_ONLY int warp_before(int x, int* total) {
    int sum = x;
    for (int o = 1; o < WARP; o *= 2) {
        int left = __shfl_up_sync(0xffffffffu, sum, o);
        if (LANE >= o) sum += left;
    }
    *total = __shfl_sync(0xffffffffu, sum, WARP - 1);
    return sum - x;
}

// first (G+1): from the number of entries of each group to where it starts. One warp.
KERNEL group_first_kernel(int* first, int G) {
    FOR_ROWS(once, 1) {
        int start = 0;
        for (int from = 0; from < G; from += WARP) {
            int g = from + LANE, total;
            int before = warp_before(g < G ? first[g] : 0, &total);
            if (g < G) first[g] = start + before;
            start += total;
        }
        if (FIRST_LANE) first[G] = start;
    }
}

KERNEL group_order_kernel(int* RESTRICT order, const int* RESTRICT first, const int* RESTRICT keys, int N, int G) {
    FOR_ROWS(g, G) { group_find(order + first[g], keys, N, g, first[g + 1] - first[g]); }
}
#endif

// order (N): entries sorted by keys (N), each in 0..G-1 or below 0, stable. first (G+1): start of each group, and of the rest.
UNUSED static void group_order(int* order, int* first, const int* keys, int N, int G, stream_t stream) {
    (void)stream;
#if GPU_EXECUTION
    LAUNCH(group_count_kernel, G, WARP, stream)(first, keys, N, G);
    LAUNCH(group_first_kernel, 1, WARP, stream)(first, G);
    LAUNCH(group_order_kernel, G, WARP, stream)(order, first, keys, N, G);
#else
    if (planning.walks) return;
    memset(first, 0, ((size_t)G + 1) * sizeof(int));
    for (int n = 0; n < N; n++) {
        if (keys[n] >= 0) first[keys[n] + 1]++;
    }
    for (int g = 0; g < G; g++) first[g + 1] += first[g];
    for (int n = 0; n < N; n++) {
        if (keys[n] >= 0) order[first[keys[n]]++] = n;
    }
    for (int g = G; g > 0; g--) first[g] = first[g - 1];
    first[0] = 0;
#endif
}

enum { GROUP_TILE = 64 };  // most entries of a tile
typedef struct alignas(16) GroupTile {
    int group, first, count;  // entries first .. first + count - 1 of the order
    int unused;
} GroupTile;

// Tiles in the list of one wave.
UNUSED static int group_tiles_most(int G, int size, int wave) { return wave / size + (G < wave ? G : wave); }

#if GPU_EXECUTION
// One warp writes the list of a wave.
KERNEL group_tiles_kernel(GroupTile* RESTRICT tiles, const int* RESTRICT first, int G, int size, int wave, int waves, int most) {
    FOR_ROWS(w, waves) {
        GroupTile* list = tiles + (size_t)w * most;
        int at = 0, begin = w * wave, end = begin + wave;
        for (int from = 0; from < G; from += WARP) {
            int g = from + LANE, start = 0, stop = 0, total;
            if (g < G) start = first[g] > begin ? first[g] : begin, stop = first[g + 1] < end ? first[g + 1] : end;
            int count = stop > start ? (stop - start + size - 1) / size : 0, before = warp_before(count, &total);
            for (int i = 0; i < count; i++) {
                int left = stop - start - i * size;
                GroupTile tile = {g, start + i * size, left < size ? left : size, 0};
                list[at + before + i] = tile;
            }
            at += total;
        }
        GroupTile none = {0, 0, 0, 0};
        for (int i = at + LANE; i < most; i += WARP) list[i] = none;
    }
}

// tiles (waves, group_tiles_most): of the groups that start at first (G+1), at most `size` entries each.
UNUSED static void group_tiles(GroupTile* tiles, const int* first, int G, int size, int wave, int waves, stream_t stream) {
    LAUNCH(group_tiles_kernel, waves, WARP, stream)(tiles, first, G, size, wave, waves, group_tiles_most(G, size, wave));
}
#endif
