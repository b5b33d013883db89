/*
A better codebook from what tokens cost in its rows and columns (llmc/io/codebook_costs.h): a cell (r(v), c(v)) for every token
so that the sum over v of l_r(v, r(v)) + l_c(v, c(v)) gets small. Rows keep their lengths.

    stage 1   tokens -> rows, length[r] of them in row r        one transportation problem (V x rows), exact (transport.h)
    stage 2   the tokens of each row -> its columns             an assignment problem for each row, exact

    round 1   stage 1 on l_r alone: it does not see what the columns of a row will cost
    round 2.. stage 1 on l_r(v,i) + min over j of (l_c(v,j) - price(i,j)), where price <= 0 is a potential of stage 2: minus what
              column j of row i is worth to the tokens that were there. Prices move a part of the way, or tokens run to and fro.
    polish    tokens keep their column and get the best rows (one assignment problem a column), then stage 2 again

The best codebook of all rounds is kept, and the first is that in which tokens only change places in their rows, so the sum never
rises. How far it can be from the best codebook of this shape is known. By weak duality no codebook costs less than
    stage 1 on l_r, plus the transportation problem tokens -> columns on l_c, nor than
    stage 1 with prices, plus the sum of the prices.
Of equal ways each problem takes the one that moves fewer tokens, so what never occurred stays where it is if it can.

On made-up costs of 50,257 tokens in 197 x 256 cells, round 1 came within 26 % of the bound, 8 rounds and the polish within 4 %.
Left out: one V x V problem. It would be exact for the sum, which is a model itself: l_c was measured in the row a token had.
*/
#pragma once

#include "transport.h"

#include "llmc/io/codebook_costs.h"

enum { MATCH_POLISH = 4, MATCH_LANES = 16 };

typedef struct {
    double rows, columns;  // sums of l_r and l_c, nats
} MatchCost;

typedef struct {
    const Codebook* old;
    const CodebookCosts* costs;
    Codebook book;        // the best so far
    MatchCost cost;       // of it
    double bound;         // no codebook of this shape costs less
    float* prices;        // (rows,columns) <= 0; of cells that do not exist -FLT_MAX / 2
    float* priced;        // (V,rows) costs of stage 1 with prices, rounded down
    int moved, new_rows;  // tokens in another cell than in old, tokens in another row
    FILE* log;            // a line for each round, NULL = none
} Match;

static const float match_no_cell = -1.7e38f;

static double match_sum(MatchCost cost) { return cost.rows + cost.columns; }

static MatchCost match_cost(const Codebook* b, const CodebookCosts* c) {
    MatchCost sum = {0, 0};
    for (int v = 0; v < b->V; v++) {
        sum.rows += (double)c->l_r[(size_t)v * (size_t)c->rows + (size_t)b->row[v]];
        sum.columns += (double)c->l_c[(size_t)v * (size_t)c->columns + (size_t)b->col[v]];
    }
    return sum;
}

// All V tokens to K rows or columns. cost: (V,K), capacity: (K), home, to: (V). Returns a bound of what they cost.
static double match_all(int V, int K, const float* cost, const int32_t* capacity, const int32_t* home, int32_t* to) {
    ToolProgress progress = tool_progress_start("tokens", 1, V, "one side of the table for all");
    int32_t* ids = (int32_t*)xmalloc((size_t)V * sizeof(int32_t));
    for (int v = 0; v < V; v++) ids[v] = v;
    Transport t = transport_solve(V, K, cost, (size_t)K, ids, capacity, home, &progress);
    double bound = transport_bound(&t);
    tool_progress_clear(&progress);
    memcpy(to, t.group, (size_t)V * sizeof(int32_t));
    transport_free(&t);
    free(ids);
    return bound;
}

// Stage 1 of the first round: row (V) = the rows that cost least.
static double match_rows(const Codebook* b, const CodebookCosts* c, int32_t* row) {
    return match_all(b->V, b->rows, c->l_r, b->length, b->row, row);
}

// What the columns cost at least, whatever the rows: column j has as many cells as there are rows longer than j.
static double match_columns_bound(const Codebook* b, const CodebookCosts* c) {
    int32_t* height = (int32_t*)xcalloc((size_t)b->columns * sizeof(int32_t));
    int32_t* col = (int32_t*)xmalloc((size_t)b->V * sizeof(int32_t));
    for (int r = 0; r < b->rows; r++) {
        for (int j = 0; j < b->length[r]; j++) height[j]++;
    }
    double bound = match_all(b->V, b->columns, c->l_c, height, b->col, col);
    free(height);
    free(col);
    return bound;
}

// ids (V): the tokens by line (V), a row or a column; those of line k end at ends[k] (lines). Both the caller's.
static int32_t* match_lines(int V, int lines, const int32_t* line, int32_t** ends) {
    int32_t *ids = (int32_t*)xmalloc((size_t)V * sizeof(int32_t)), *at = (int32_t*)xcalloc((size_t)(lines + 1) * sizeof(int32_t));
    for (int v = 0; v < V; v++) at[line[v] + 1]++;
    for (int k = 0; k < lines; k++) at[k + 1] += at[k];
    for (int v = 0; v < V; v++) ids[at[line[v]]++] = v;
    *ends = at;
    return ids;
}

// Tokens keep their row (or, by_columns, their column) and get the cheapest places in it. line (V): kept; place (V): the result.
// step: how far prices (rows,columns) move to the potentials, 0 = not at all.
static void match_places(const Match* m, bool by_columns, const int32_t* line, int32_t* place, double step) {
    const Codebook* b = m->old;
    const int32_t *old_line = by_columns ? b->col : b->row, *old_place = by_columns ? b->row : b->col;
    int lines = by_columns ? b->columns : b->rows, K = by_columns ? b->rows : b->columns, V = b->V;
    const float* cost = by_columns ? m->costs->l_r : m->costs->l_c;
    int32_t *ends, *ids = match_lines(V, lines, line, &ends), *home = (int32_t*)xmalloc((size_t)V * sizeof(int32_t));
    int32_t capacity[CODEBOOK_COSTS_SIDE];
    ToolProgress progress = tool_progress_start("tokens", 1, V, by_columns ? "rows within columns" : "columns within rows");
    for (int i = 0; i < V; i++) home[i] = old_line[ids[i]] == line[ids[i]] ? old_place[ids[i]] : -1;
    for (int k = 0, begin = 0; k < lines; begin = ends[k++]) {
        for (int j = 0; j < K; j++) capacity[j] = by_columns ? k < b->length[j] : j < b->length[k];
        Transport t = transport_solve(ends[k] - begin, K, cost, (size_t)K, ids + begin, capacity, home + begin, NULL);
        for (int i = 0; i < t.n; i++) place[ids[begin + i]] = t.group[i];
        for (int j = 0; j < K && step > 0; j++) {
            float* price = &m->prices[(size_t)k * (size_t)K + (size_t)j];
            if (capacity[j]) *price += (float)(step * ((double)t.potential[j] / t.scale - (double)*price));
        }
        transport_free(&t);
        tool_progress_show(&progress, begin);
    }
    tool_progress_clear(&progress);
    free(home);
    free(ids);
    free(ends);
}

// The least over j < n of cost[j] - price[j]
static float match_least(const float* cost, const float* price, int n) {
    float least[MATCH_LANES], all;
    int j = 0;
    for (int l = 0; l < MATCH_LANES; l++) least[l] = INFINITY;
    for (; j + MATCH_LANES <= n; j += MATCH_LANES) {
        for (int l = 0; l < MATCH_LANES; l++) {
            float x = cost[j + l] - price[j + l];
            least[l] = x < least[l] ? x : least[l];
        }
    }
    for (; j < n; j++) least[0] = fminf(least[0], cost[j] - price[j]);
    all = least[0];
    for (int l = 1; l < MATCH_LANES; l++) all = fminf(all, least[l]);
    return all;
}

// Stage 1 with prices. Only numbers of one sign are added, so what rounding adds is below 4 * 2^-24 of a cost, and taken off.
static double match_priced_rows(Match* m, int32_t* row) {
    const Codebook* b = m->old;
    size_t rows = (size_t)b->rows, columns = (size_t)b->columns;
    double prices = 0;
    for (size_t v = 0; v < (size_t)b->V; v++) {
        for (size_t i = 0; i < rows; i++) {
            float least = match_least(m->costs->l_c + v * columns, m->prices + i * columns, b->columns);
            m->priced[v * rows + i] = (m->costs->l_r[v * rows + i] + least) * (1 - 0x1p-21f);
        }
    }
    for (size_t i = 0; i < rows * columns; i++) prices += m->prices[i] > match_no_cell ? (double)m->prices[i] : 0;
    return match_all(b->V, b->rows, m->priced, b->length, b->row, row) + prices;
}

// Keeps the codebook with these cells (V) if it is better than the best.
static void match_keep(Match* m, const int32_t* row, const int32_t* col, const char* what, int round) {
    const char* bug = "this is a bug; please report it";
    Codebook b = codebook_from_cells("the matched codebook", m->old->V, m->old->columns, row, col, bug);
    MatchCost cost = match_cost(&b, m->costs);
    bool better = !m->book.V || match_sum(cost) < match_sum(m->cost);
    if (m->log) {
        fprintf(m->log, "%s %d: objective %.10g (rows %.10g, columns %.10g), bound %.10g\n", what, round, match_sum(cost),
                cost.rows, cost.columns, m->bound);
        fflush(m->log);
    }
    if (better) {
        codebook_free(&m->book);
        m->book = b, m->cost = cost;
    } else {
        codebook_free(&b);
    }
}

// old: of the costs, which must be finite and not negative. rounds: 1 = the two stages once, without polish. match_free it.
static Match match_codebook(const Codebook* old, const CodebookCosts* costs, int rounds, FILE* log) {
    Match m;
    memset(&m, 0, sizeof m);
    m.old = old, m.costs = costs, m.log = log;
    size_t V = (size_t)old->V, cells = (size_t)old->rows * (size_t)old->columns;
    int32_t *row = (int32_t*)xmalloc(V * sizeof(int32_t)), *col = (int32_t*)xmalloc(V * sizeof(int32_t));
    m.prices = (float*)xcalloc(cells * sizeof(float));
    m.priced = rounds > 1 ? (float*)xmalloc(V * (size_t)old->rows * sizeof(float)) : NULL;
    for (size_t i = 0; i < cells; i++) m.prices[i] = old->token[i] < 0 ? match_no_cell : 0;
    double columns_bound = match_columns_bound(old, costs);
    match_places(&m, false, old->row, col, 0);
    match_keep(&m, old->row, col, "round", 0);
    for (int k = 1; k <= rounds; k++) {
        double bound = k == 1 ? match_rows(old, costs, row) + columns_bound : match_priced_rows(&m, row);
        m.bound = m.bound > bound ? m.bound : bound;
        match_places(&m, false, row, col, k == 1 ? 1 : k <= 5 ? 0.3 : 1.5 / k);
        match_keep(&m, row, col, "round", k);
    }
    for (int k = 1; k <= MATCH_POLISH && rounds > 1; k++) {
        double before = match_sum(m.cost);
        memcpy(col, m.book.col, V * sizeof(int32_t));
        match_places(&m, true, col, row, 0);
        match_places(&m, false, row, col, 0);
        match_keep(&m, row, col, "polish", k);
        if (match_sum(m.cost) > before * (1 - 2e-4)) break;
    }
    for (size_t v = 0; v < V; v++) {
        m.new_rows += m.book.row[v] != old->row[v];
        m.moved += m.book.row[v] != old->row[v] || m.book.col[v] != old->col[v];
    }
    free(row);
    free(col);
    return m;
}

static void match_free(Match* m) {
    codebook_free(&m->book);
    free(m->prices);
    free(m->priced);
    memset(m, 0, sizeof *m);
}
