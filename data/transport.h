/*
The cheapest way to send n items to K groups with room for capacity[k] each: exact, by shortest augmenting paths. Groups of room 1
make it the assignment problem, and this the method of Jonker and Volgenant.

    items one after the other:    item -> a --u--> b --w--> c        the new item goes to a, u moves from a to b, w from b to c:
                                         full     full     room      the shortest of all chains that end at a group with room
    edge a -> b                     best[a][b] = the least that moving an item of a to b adds, arg[a][b] = that item
    potential (K)                   keeps all edges >= 0 (Dijkstra's condition): best[a][b] + potential[a] - potential[b]

A chain is searched among K groups, not among n items: at most K * K steps an item, and K for every place that changes hands. Full
size (50,257 tokens, 197 rows) takes seconds.

Numbers: costs (fp32, 0 or more) times a power of two, cut to int64, so the result is exact for these integers; all costs and sums
of K of them stay below 2^62. Of equal ways the one is taken in which more items stay at home: home costs one unit less. The cost
of the result is therefore at most 2 n units above the least, and the least itself where costs that differ do so by 2 n units.
transport_bound proves it apart from the method: by weak duality, for any potentials <= 0,
    cost of any assignment >= sum over i of min over k (cost[i][k] - potential[k]) + sum over k of capacity[k] * potential[k].

Left out: an auction with epsilon scaling. Its gap is n * epsilon, and tokens of equal cost (all that never occurred) bid against
each other in steps of epsilon.
*/
#pragma once

#include "tool.h"

#include <math.h>

typedef struct {
    int n, K;
    size_t stride;             // of cost
    const float* cost;         // (.,stride): row ids[i] is item i's, its first K values count; 0 or more, finite
    const int32_t* ids;        // (n)
    const int32_t* capacity;   // (K) sum n or more; 0 is possible
    const int32_t* home;       // (n) the group to prefer among equals, or -1
    int32_t* group;            // (n) the result
    double scale;              // cost * scale = integer units
    int64_t* potential;        // (K) <= 0, 0 where there is room left
    int64_t* best;             // (K,K)
    int32_t* arg;              // (K,K)
    int32_t *members, *place;  // (n): items by group, group k from first[k]; where an item stands there
    int32_t *first, *used;     // (K)
    int64_t* distance;         // (K) of the search
    int32_t *from, *settled;   // (K): the group before on the chain, -1 = the new item; groups in the order of their distance
    bool* done;                // (K)
} Transport;

static const int64_t transport_far = INT64_C(1) << 61;  // an edge that does not exist

static inline int64_t transport_units(const Transport* t, int i, int k) {
    double cost = (double)t->cost[(size_t)t->ids[i] * t->stride + (size_t)k];
    return (int64_t)(cost * t->scale) - (t->home[i] == k);
}

// The largest power of two that keeps sums of K + 2 costs below 2^59.
static double transport_scale(const Transport* t) {
    float most = 0;
    int exponent, sides = 0;
    for (int i = 0; i < t->n; i++) {
        const float* row = t->cost + (size_t)t->ids[i] * t->stride;
        for (int k = 0; k < t->K; k++) most = most > row[k] ? most : row[k];
    }
    while (t->K + 2 > 1 << sides) sides++;
    frexp((double)most, &exponent);  // most <= 2^exponent
    return most > 0 ? ldexp(1.0, 59 - sides - exponent) : 1.0;
}

static void transport_join(Transport* t, int i, int a) {
    int64_t here = transport_units(t, i, a), *best = t->best + (size_t)a * (size_t)t->K;
    int32_t* arg = t->arg + (size_t)a * (size_t)t->K;
    t->group[i] = a;
    t->place[i] = t->first[a] + t->used[a]++;
    t->members[t->place[i]] = i;
    for (int k = 0; k < t->K; k++) {
        int64_t more = transport_units(t, i, k) - here;
        if (more < best[k]) best[k] = more, arg[k] = i;
    }
}

// Takes item i out of its group, and looks for the next best where it was the best.
static void transport_leave(Transport* t, int i) {
    int a = t->group[i], *members = t->members + t->first[a], last = members[--t->used[a]];
    t->members[t->place[i]] = last;
    t->place[last] = t->place[i];
    for (int k = 0; k < t->K; k++) {
        size_t edge = (size_t)a * (size_t)t->K + (size_t)k;
        if (t->arg[edge] != i) continue;
        t->best[edge] = transport_far, t->arg[edge] = -1;
        for (int m = 0; m < t->used[a]; m++) {
            int64_t more = transport_units(t, members[m], k) - transport_units(t, members[m], a);
            if (more < t->best[edge]) t->best[edge] = more, t->arg[edge] = members[m];
        }
    }
}

// The group with room that item i reaches at the least cost, by Dijkstra over groups; `from` leads back.
static int transport_search(Transport* t, int i) {
    int K = t->K, count = 0, a = 0;
    int64_t *distance = t->distance, *potential = t->potential;
    for (int k = 0; k < K; k++) {
        distance[k] = transport_units(t, i, k) - potential[k];
        t->from[k] = -1, t->done[k] = false;
        if (distance[k] < distance[a]) a = k;
    }
    while (t->used[a] == t->capacity[a]) {
        const int64_t* best = t->best + (size_t)a * (size_t)K;
        int64_t base = distance[a] + potential[a], least = INT64_MAX;
        int next = -1;
        t->settled[count++] = a, t->done[a] = true;
        for (int k = 0; k < K; k++) {
            int64_t through = base + best[k] - potential[k];  // never less for a settled group
            if (through < distance[k]) distance[k] = through, t->from[k] = a;
            if (!t->done[k] && distance[k] < least) least = distance[k], next = k;
        }
        a = next;  // there is always one: capacities sum to n or more
    }
    for (int s = 0; s < count; s++) potential[t->settled[s]] += distance[t->settled[s]] - distance[a];
    return a;
}

static void transport_insert(Transport* t, int i) {
    int to = transport_search(t, i);
    for (int a = t->from[to]; a >= 0; to = a, a = t->from[to]) {
        int moved = t->arg[(size_t)a * (size_t)t->K + (size_t)to];
        transport_leave(t, moved);
        transport_join(t, moved, to);
    }
    transport_join(t, i, to);
}

// Fills group (n). cost, ids, capacity, home as in Transport, the caller's. progress: counts items from `before`, NULL = none.
static Transport transport_solve(int n, int K, const float* cost, size_t stride, const int32_t* ids, const int32_t* capacity,
                                 const int32_t* home, ToolProgress* progress) {
    Transport t;
    size_t groups = (size_t)K, items = (size_t)n, begin = 0;
    t.n = n, t.K = K, t.cost = cost, t.stride = stride, t.ids = ids, t.capacity = capacity, t.home = home;
    t.scale = transport_scale(&t);
    t.group = (int32_t*)xmalloc(items * sizeof(int32_t));
    t.potential = (int64_t*)xcalloc(groups * sizeof(int64_t));
    t.best = (int64_t*)xmalloc(groups * groups * sizeof(int64_t));
    t.arg = (int32_t*)xmalloc(groups * groups * sizeof(int32_t));
    t.place = (int32_t*)xmalloc(items * sizeof(int32_t));
    t.first = (int32_t*)xmalloc(groups * sizeof(int32_t));
    t.used = (int32_t*)xcalloc(groups * sizeof(int32_t));
    t.distance = (int64_t*)xmalloc(groups * sizeof(int64_t));
    t.from = (int32_t*)xmalloc(groups * sizeof(int32_t));
    t.settled = (int32_t*)xmalloc(groups * sizeof(int32_t));
    t.done = (bool*)xmalloc(groups * sizeof(bool));
    for (size_t e = 0; e < groups * groups; e++) t.best[e] = transport_far, t.arg[e] = -1;
    for (size_t k = 0; k < groups; k++) {
        t.first[k] = (int32_t)begin;
        begin += (size_t)capacity[k];
    }
    if (begin < items) fail("%d items for %zu places: this is a bug; please report it", n, begin);
    t.members = (int32_t*)xmalloc(begin * sizeof(int32_t));
    for (int i = 0; i < n; i++) {
        transport_insert(&t, i);
        if (progress && i % 64 == 0) tool_progress_show(progress, i);
    }
    return t;
}

static void transport_free(Transport* t) {
    free(t->group);
    free(t->potential);
    free(t->best);
    free(t->arg);
    free(t->members);
    free(t->place);
    free(t->first);
    free(t->used);
    free(t->distance);
    free(t->from);
    free(t->settled);
    free(t->done);
    memset(t, 0, sizeof *t);
}

// What the items cost where they are.
UNUSED static double transport_total(const Transport* t) {
    double sum = 0;
    for (int i = 0; i < t->n; i++) sum += (double)t->cost[(size_t)t->ids[i] * t->stride + (size_t)t->group[i]];
    return sum;
}

// No assignment within the capacities costs less than this, whatever the potentials are worth.
UNUSED static double transport_bound(const Transport* t) {
    double sum = 0;
    for (int k = 0; k < t->K; k++) sum += (double)t->capacity[k] * ((double)t->potential[k] / t->scale);
    for (int i = 0; i < t->n; i++) {
        const float* row = t->cost + (size_t)t->ids[i] * t->stride;
        double least = INFINITY;
        for (int k = 0; k < t->K; k++) {
            double cost = (double)row[k] - (double)t->potential[k] / t->scale;
            least = least < cost ? least : cost;
        }
        sum += least;
    }
    return sum;
}
