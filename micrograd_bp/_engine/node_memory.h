/* Memory for nodes, handed out in the order of their birth.

   A walk back over a graph then goes down through memory, which caches and prefetchers are made for. Nodes lie in pages
   of 64 KB; a page is used from its lowest vacant place upwards, and from the bottom again as soon as all that was made
   in it has been freed, so that small graphs stay in the first cache. Pages are cut from regions of 2 MB, which the
   system maps as one large page, in one piece: page by page, 800,000 nodes cost 17,000 faults, more than their
   recording. An empty region is kept for the next graph, but offered to the system, which may take its memory when it
   is short of any. All of it under the interpreter's lock. */

#include <stdint.h>
#include <stdlib.h>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#endif

#define NODE_SIZE (sizeof(PyObject) + 6 * sizeof(double) + 4 * sizeof(void *))
#define REGION ((size_t)1 << 21)
#define PAGE ((size_t)1 << 16)
#define PAGES (REGION / PAGE)
#define HEAD 64 /* at the start of every page, the first one's tells the region */
#define PLACES ((PAGE - HEAD) / NODE_SIZE)
#define WORDS ((PLACES + 63) / 64)
#define FULL (PLACES / 4 * 3) /* a page with more nodes is not worth coming back to */
#define HELD 8 /* empty regions that are not offered to the system */

typedef struct Page {
    struct Page *next, *previous; /* of the open pages, which have room */
    char *base;
    struct Region *region;
    uint32_t live, mark; /* nodes in it; those that it had when it became the current page, or fewer */
    int open;
    uint64_t vacant[WORDS]; /* a bit for each place */
} Page;

typedef struct Region {
    struct Region *next; /* of the empty regions */
    char *base;
    uint32_t begun, busy; /* pages that have been used, and those that hold nodes or are current */
    int populated, offered;
    Page pages[PAGES];
} Region;

static char *fresh, *limit, *first; /* the vacant places of the current page in use now, and where its first one is */
static Page *current, *open_pages;
static Region *newest, *empty_regions;
static size_t regions, held;

static inline Page *page_of(void *node)
{
    Region *region = *(Region **)((uintptr_t)node & ~(uintptr_t)(REGION - 1));
    return &region->pages[(uintptr_t)node / PAGE % PAGES];
}

static inline size_t place_of(Page *page, void *node) { return ((char *)node - page->base - HEAD) / NODE_SIZE; }

static void set_open(Page *page, int open)
{
    if (page->open == open) return;
    page->open = open;
    if (open) {
        page->previous = NULL;
        page->next = open_pages;
        if (open_pages) open_pages->previous = page;
        open_pages = page;
    } else {
        if (page->next) page->next->previous = page->previous;
        if (page->previous) page->previous->next = page->next;
        else open_pages = page->next;
    }
}

/* Have the system provide this memory now, at a third of what the faults would cost; where it cannot, they will. */
static void populate(char *start, size_t size)
{
#ifdef MADV_POPULATE_WRITE
    madvise(start, size, MADV_POPULATE_WRITE);
#else
    (void)start, (void)size;
#endif
}

static char *map_region(void)
{
#ifdef MAP_ANONYMOUS
    char *memory = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    if ((uintptr_t)memory % REGION) { /* the one below it may be aligned; or else two have an aligned one in them */
        munmap(memory, REGION);
        memory = mmap(NULL, 2 * REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return NULL;
        size_t before = (REGION - (uintptr_t)memory % REGION) % REGION;
        if (before) munmap(memory, before);
        munmap(memory + before + REGION, REGION - before);
        memory += before;
    }
#ifdef MADV_HUGEPAGE
    if (regions) madvise(memory, REGION, MADV_HUGEPAGE); /* the first is filled page by page: most programs are small */
#endif
    return memory;
#else
    char *memory = malloc(2 * REGION);
    return memory ? memory + (REGION - (uintptr_t)memory % REGION) % REGION : NULL;
#endif
}

/* An empty region, used before or new; NULL: there is no memory. */
static Region *another_region(void)
{
    Region *region = empty_regions;
    if (region) {
        empty_regions = region->next;
        if (!region->offered) held--;
    } else {
        if (!(region = malloc(sizeof(Region)))) return NULL;
        if (!(region->base = map_region())) {
            free(region);
            return NULL;
        }
        region->populated = regions++ == 0; /* the first: see another_page */
        region->offered = 0;
    }
    if (!region->populated || region->offered) populate(region->base, REGION);
    region->populated = 1;
    region->offered = 0;
    region->begun = region->busy = 0;
    *(Region **)region->base = region;
    return region;
}

static void retire(Region *region)
{
    for (uint32_t i = 0; i < region->begun; i++) set_open(&region->pages[i], 0);
    if (region == newest) newest = NULL;
    region->next = empty_regions;
    empty_regions = region;
    if (held < HELD) {
        held++;
        return;
    }
#ifdef MADV_FREE
    region->offered = madvise(region->base, REGION, MADV_FREE) == 0;
#endif
    if (!region->offered) held++;
}

/* A page with room; NULL: there is no memory. */
static Page *another_page(void)
{
    Page *page = open_pages;
    if (page) {
        set_open(page, 0);
        page->region->busy += !page->live;
        return page;
    }
    if ((!newest || newest->begun == PAGES) && !(newest = another_region())) return NULL;
    page = &newest->pages[newest->begun];
    page->base = newest->base + PAGE * newest->begun++;
    page->region = newest;
    page->live = page->open = 0;
    for (size_t i = 0; i < WORDS; i++) page->vacant[i] = i < PLACES / 64 ? ~(uint64_t)0 : ((uint64_t)1 << PLACES % 64) - 1;
    newest->busy++;
    if (regions == 1) populate(page->base, PAGE);
    return page;
}

static inline int lowest(uint64_t bits)
{
#if defined(__GNUC__)
    return __builtin_ctzll(bits);
#else
    int i = 0;
    while (!(bits >> i & 1)) i++;
    return i;
#endif
}

/* Go on with the next vacant places of the current page, from this one on; 0: there are none. */
static int next_places(size_t place)
{
    size_t word = place / 64, start, stop;
    uint64_t bits;
    if (place >= PLACES) return 0;
    bits = current->vacant[word] & ~(uint64_t)0 << place % 64;
    while (!bits) {
        if (++word == WORDS) return 0;
        bits = current->vacant[word];
    }
    start = stop = 64 * word + lowest(bits);
    for (;;) { /* to the end of the run, which belongs to nobody else from now on */
        uint64_t taken = ~(uint64_t)0 << stop % 64, gaps = ~current->vacant[word] & taken;
        if (gaps) {
            stop = 64 * word + lowest(gaps);
            current->vacant[word] &= ~(taken & (((uint64_t)1 << stop % 64) - 1));
            break;
        }
        current->vacant[word] &= ~taken;
        stop = 64 * ++word;
        if (word == WORDS) break;
    }
    fresh = current->base + HEAD + NODE_SIZE * start;
    limit = current->base + HEAD + NODE_SIZE * stop;
    return 1;
}

/* The next vacant place, in the current page or in another; NULL: there is no memory. */
static char *refill(void)
{
    if (current) {
        if (next_places(place_of(current, limit))) return fresh;
        if (current->live <= FULL) set_open(current, 1);
        if (!current->live) current->region->busy--; /* not retired: it is taken again at once */
        current = NULL;
        fresh = limit = NULL;
    }
    if (!(current = another_page())) return NULL;
    current->mark = current->live;
    next_places(0);
    return first = fresh;
}

/* All that was made in the current page is gone: begin at the bottom again. */
static void rewind_page(void)
{
    for (size_t i = place_of(current, fresh), end = place_of(current, limit); i < end; i++)
        current->vacant[i / 64] |= (uint64_t)1 << i % 64;
    next_places(0);
    first = fresh;
}

static inline void *take_place(void)
{
    char *node = fresh;
    if (node == limit && !(node = refill())) return NULL;
    fresh = node + NODE_SIZE;
    current->live++;
    return node;
}

static inline void give_place(void *node)
{
    Page *page = page_of(node);
    uint32_t live = --page->live;
    if (page == current && (char *)node + NODE_SIZE == fresh) {
        fresh = node;
    } else {
        size_t place = place_of(page, node);
        page->vacant[place / 64] |= (uint64_t)1 << place % 64;
    }
    if (page == current) {
        if (live <= page->mark) {
            page->mark = live;
            if (fresh != first) rewind_page();
        }
    } else if (live <= FULL) {
        set_open(page, 1);
        if (!live && !--page->region->busy) retire(page->region);
    }
}
