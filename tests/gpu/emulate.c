/* Runs the kernels of src/model/gpu on a processor: the threads of a group take turns, each on a stack of its own, and change
 * places at SYNC. Whose turn it is first is another each time: what depends on it shows. Compiled by the tests as a library,
 * with -DKERNELS=path of the source with its declarations and, or not, -DBF16. */

#define _XOPEN_SOURCE 700
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <ucontext.h>

static int thread_now, threads_now, group_now, groups_now;
static void meet(void);

/* A kernel `name` is called with its `struct name_args`, of so many bytes. */
#define KERNEL(name)                                                                                                   \
    static void name##_thread(name##_PARAMETERS);                                                                      \
    const size_t name##_bytes = sizeof(struct name##_args);                                                            \
    void name(const void *args);                                                                                       \
    void name(const void *args) {                                                                                      \
        const struct name##_args *a = args;                                                                            \
        name##_thread(name##_UNPACKED(a));                                                                             \
    }                                                                                                                  \
    static void name##_thread(name##_PARAMETERS)
#define DEVICE static inline
#define SHARED static
#define SYNC meet()
#define THREAD thread_now
#define THREADS threads_now
#define GROUP group_now
#define GROUPS groups_now
#define RESTRICT restrict

#include KERNELS

#define MOST 256
#define STACK 65536

typedef void (*kernel)(const void *);

static struct turn {
    jmp_buf place;
    ucontext_t begin;
    void *stack;
    int begun, done;
} turns[MOST];
static jmp_buf home;
static ucontext_t away;
static kernel kernel_now;
static const void *args_now;

/* A thread's whole life: one kernel after the other. */
static void live(void) {
    for (;;) {
        kernel_now(args_now);
        turns[thread_now].done = 1;
        if (!_setjmp(turns[thread_now].place)) _longjmp(home, 1);
    }
}

static void meet(void) {
    if (!_setjmp(turns[thread_now].place)) _longjmp(home, 1);
}

/* Lets thread `at` run until it meets or ends. */
static void go(int at) {
    thread_now = at;
    if (_setjmp(home)) return;
    if (turns[at].begun) _longjmp(turns[at].place, 1);
    turns[at].begun = 1;
    turns[at].stack = malloc(STACK);
    getcontext(&turns[at].begin);
    turns[at].begin.uc_stack.ss_sp = turns[at].stack;
    turns[at].begin.uc_stack.ss_size = STACK;
    turns[at].begin.uc_link = &away;
    makecontext(&turns[at].begin, live, 0);
    swapcontext(&away, &turns[at].begin);
}

static unsigned chance(void) {
    static unsigned state = 1;
    state = state * 1664525u + 1013904223u;
    return state >> 16;
}

/* 0; or −1 where some threads of a group ended while others waited for them. */
int emulate(kernel run, int groups, int threads, const void *args);
int emulate(kernel run, int groups, int threads, const void *args) {
    kernel_now = run;
    args_now = args;
    groups_now = groups;
    threads_now = threads;
    const int backward = chance() & 1;
    for (int group = 0; group < groups; group++) {
        group_now = backward ? groups - 1 - group : group;
        int left = threads;
        for (int at = 0; at < threads; at++) turns[at].done = 0;
        while (left > 0) {
            /* An odd factor visits each of a power of two once. */
            const unsigned factor = chance() | 1, first = chance();
            int ended = 0;
            for (unsigned i = 0; i < (unsigned)threads; i++) {
                const int at = (int)((i * factor + first) & (unsigned)(threads - 1));
                go(at);
                ended += turns[at].done;
            }
            if (ended != 0 && ended != threads) return -1;
            left -= ended;
        }
    }
    return 0;
}
