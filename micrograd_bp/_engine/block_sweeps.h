/* Sweeps with a vector of numbers for each node, of eight or sixteen outputs or inputs at once.

   The graph is written down once, node by node, outputs first: where a node's numbers stand, where those of its operands
   stand, and the partials. After that no sweep touches a node. A place is taken when a node is first met as an operand,
   and given up when all its uses are done, so that there are as many places as nodes are alive at once, and they stay in
   a cache. In the other direction a node lives just as long, so the same places serve a sweep forward. The sums are those
   of a sweep with one number, in the same order: 0 times anything is 0, also where a partial is inf or nan. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16 /* 8 where there are no more */

#if defined(__GNUC__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE inline
#endif

typedef struct FlatGraph {
    size_t nodes, edges, node_room, edge_room;
    uint32_t places, vacant_count, vacant_room; /* places that there are; those that are vacant now */
    int complete;                               /* 0: there was not enough memory */
    size_t *ends;                               /* of each node, where its edges end */
    uint32_t *places_of, *targets, *vacant;     /* the place of each node, and of each edge's operand */
    double *slopes;
} FlatGraph;

/* Room for more in two arrays that grow together; 0: there is no memory, and nothing is lost. */
static int grow(FlatGraph *g, size_t *room, void **first, size_t first_size, void **second, size_t second_size)
{
    size_t larger = 2 * *room + 1024;
    void *a = realloc(*first, larger * first_size);
    if (a) *first = a;
    void *b = a ? realloc(*second, larger * second_size) : NULL;
    if (b) *second = b;
    if (!a || !b) return g->complete = 0;
    *room = larger;
    return 1;
}

static int more_edges(FlatGraph *g)
{
    return grow(g, &g->edge_room, (void **)&g->targets, sizeof(uint32_t), (void **)&g->slopes, sizeof(double));
}

static int more_nodes(FlatGraph *g)
{
    return grow(g, &g->node_room, (void **)&g->ends, sizeof(size_t), (void **)&g->places_of, sizeof(uint32_t));
}

static ALWAYS_INLINE uint32_t take_vacant(FlatGraph *g) { return g->vacant_count ? g->vacant[--g->vacant_count] : g->places++; }

static void give_vacant(FlatGraph *g, uint32_t place)
{
    if (g->vacant_count == g->vacant_room) {
        uint32_t *larger = realloc(g->vacant, (2 * (size_t)g->vacant_room + 64) * sizeof(uint32_t));
        if (!larger) return; /* it stays unused */
        g->vacant = larger;
        g->vacant_room = 2 * g->vacant_room + 64;
    }
    g->vacant[g->vacant_count++] = place;
}

static ALWAYS_INLINE void flat_edge(FlatGraph *g, uint32_t target, double slope)
{
    if (g->edges == g->edge_room && !more_edges(g)) return;
    g->targets[g->edges] = target;
    g->slopes[g->edges++] = slope;
}

/* The end of a node's edges; its place is vacant from now on. */
static ALWAYS_INLINE void flat_node(FlatGraph *g, uint32_t place)
{
    if (g->nodes == g->node_room && !more_nodes(g)) return;
    g->ends[g->nodes] = g->edges;
    g->places_of[g->nodes++] = place;
    give_vacant(g, place);
}

static void free_flat(FlatGraph *g)
{
    free(g->ends), free(g->places_of), free(g->targets), free(g->slopes), free(g->vacant);
    memset(g, 0, sizeof *g);
}

/* One term of each lane's sum; `begun` says whether there are sums already. */
static ALWAYS_INLINE void add_terms(double *restrict sums, const double *restrict factors, double slope, int begun, const int lanes)
{
    if (slope - slope == 0.0) {
        if (begun)
            for (int i = 0; i < lanes; i++) sums[i] += factors[i] * slope;
        else
            for (int i = 0; i < lanes; i++) sums[i] = 0.0 + factors[i] * slope;
    } else
        for (int i = 0; i < lanes; i++) {
            double sum = begun ? sums[i] : 0.0;
            sums[i] = factors[i] != 0.0 ? sum + factors[i] * slope : sum;
        }
}

static ALWAYS_INLINE void lanes_back(const FlatGraph *g, double *numbers, char *begun, const int lanes)
{
    size_t e = 0;
    for (size_t k = 0; k < g->nodes; k++) {
        uint32_t place = g->places_of[k];
        size_t end = g->ends[k];
        if (begun[place]) {
            begun[place] = 0;
            for (; e < end; e++) {
                uint32_t target = g->targets[e];
                add_terms(numbers + (size_t)target * lanes, numbers + (size_t)place * lanes, g->slopes[e], begun[target], lanes);
                begun[target] = 1;
            }
        }
        e = end;
    }
}

static ALWAYS_INLINE void lanes_forward(const FlatGraph *g, double *numbers, char *begun, const int lanes)
{
    for (size_t k = g->nodes; k-- > 0;) {
        uint32_t place = g->places_of[k];
        char some = 0;
        for (size_t e = k ? g->ends[k - 1] : 0; e < g->ends[k]; e++) {
            uint32_t target = g->targets[e];
            if (!begun[target]) continue;
            add_terms(numbers + (size_t)place * lanes, numbers + (size_t)target * lanes, g->slopes[e], some, lanes);
            some = 1;
        }
        begun[place] = some;
    }
}

/* One sweep: from 1 in lane i at the i-th of the starts (a place, or -1) to the numbers at the stops, stop by stop. */
static void sweep_lanes(const FlatGraph *g, double *numbers, char *begun, int forward, const long long *starts, size_t start_count,
                        const long long *stops, size_t stop_count, double *found, size_t by_lane, size_t by_stop)
{
    const int lanes = start_count > LANES / 2 ? LANES : LANES / 2;
    memset(begun, 0, g->places);
    for (size_t i = 0; i < start_count; i++) {
        if (starts[i] < 0) continue;
        if (!begun[starts[i]]) memset(numbers + starts[i] * lanes, 0, lanes * sizeof(double));
        begun[starts[i]] = 1;
        numbers[starts[i] * lanes + i] = 1.0;
    }
    if (forward)
        lanes == LANES ? lanes_forward(g, numbers, begun, LANES) : lanes_forward(g, numbers, begun, LANES / 2);
    else
        lanes == LANES ? lanes_back(g, numbers, begun, LANES) : lanes_back(g, numbers, begun, LANES / 2);
    for (size_t j = 0; j < stop_count; j++)
        for (size_t i = 0; i < start_count; i++)
            found[i * by_lane + j * by_stop] = stops[j] >= 0 && begun[stops[j]] ? numbers[stops[j] * lanes + i] : 0.0;
}
