/* The pool: the system's plain threads, started when first needed and kept.
 *
 * Not OpenMP: its runtimes hang after fork, clash when two are loaded, and fail to load
 * late (GCC bug 58378 and kin).
 *
 * A job is a number of slices.  Each participant (the caller and the workers that come)
 * takes the slices of its own contiguous run, so that the first touch of a page is by the
 * thread that goes on with its neighbours, and then those that others have not begun, so
 * that a thread whose CPU was taken away holds nobody up.  A job needs no worker to come
 * at all: the caller alone finishes it.  Hence a pool that is busy, could not start its
 * threads, or lost them in a fork makes a fill slower, never wrong.
 */
#include "platform.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "internal.h"

enum { MAX_THREADS = 1024, POLL_MS = 50 };

/* One participant's run of slices.  On a cache line of its own: it is written often. */
typedef struct {
    _Alignas(64) atomic_ullong next;
    uint64_t end;
} slice_run;

typedef struct job {
    fi_work *work;
    const void *context;
    slice_run *runs;
    int participants;   /* runs, the caller's included; constant */
    int joined, active; /* guarded by the pool's lock */
    atomic_int stopped;
    struct job *next;
} job;

static struct {
    fi_lock lock;
    fi_condition work, done;
    job *jobs; /* those that may still be joined */
    int workers;
    unsigned generation; /* counts forks: a child has the memory, but not the threads */
} pool = {FI_LOCK_INIT, FI_CONDITION_INIT, FI_CONDITION_INIT, NULL, 0, 0};

#if FI_HAS_FORK

static void before_fork(void) { fi_acquire(&pool.lock); }
static void after_fork_in_parent(void) { fi_release(&pool.lock); }

static void after_fork_in_child(void)
{
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.work, NULL);
    pthread_cond_init(&pool.done, NULL);
    pool.jobs = NULL;
    pool.workers = 0;
    pool.generation++;
}

static void watch_forks_once(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static void watch_forks(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks_once);
}

#else

static void watch_forks(void) {}

#endif

typedef struct {
    fi_poll *poll;
    void *context;
    int64_t last;
} poller;

static void poll_now_and_then(job *j, poller *p)
{
    if (p == NULL || p->poll == NULL || fi_now_ms() - p->last < POLL_MS)
        return;
    if (atomic_load(&j->stopped) != 0) /* its exception is already set: ask no more */
        return;
    int answer = p->poll(p->context);
    if (answer != 0)
        atomic_store(&j->stopped, answer);
    p->last = fi_now_ms();
}

struct fi_participant {
    job *job;
    int number;
    poller *poller; /* the caller's; NULL: a worker, which does not ask */
};

int fi_number(const fi_participant *me) { return me->number; }

int fi_stopped(fi_participant *me)
{
    poll_now_and_then(me->job, me->poller);
    return atomic_load(&me->job->stopped) != 0;
}

static void participate(job *j, int number, poller *p)
{
    fi_participant me = {j, number, p};
    for (int k = 0; k < j->participants; k++) {
        slice_run *run = &j->runs[(number + k) % j->participants];
        while (atomic_load(&j->stopped) == 0) {
            uint64_t slice = atomic_fetch_add(&run->next, 1);
            if (slice >= run->end)
                break;
            j->work(j->context, slice, &me);
            poll_now_and_then(j, p);
        }
    }
}

static fi_thread_result FI_THREAD worker(void *unused)
{
    (void)unused;
    fi_acquire(&pool.lock);
    for (;;) {
        job *j = pool.jobs;
        while (j != NULL && j->joined == j->participants)
            j = j->next;
        if (j == NULL) {
            fi_wait(&pool.work, &pool.lock);
            continue;
        }
        int number = j->joined++;
        j->active++;
        fi_release(&pool.lock);
        participate(j, number, NULL);
        fi_acquire(&pool.lock);
        if (--j->active == 0)
            fi_wake_all(&pool.done);
    }
    return 0;
}

/* With the lock held. */
static void start_workers(int wanted)
{
    while (pool.workers < wanted && fi_start_thread(worker) == 0)
        pool.workers++;
}

static void enlist(job *j)
{
    fi_acquire(&pool.lock);
    if (pool.workers < j->participants - 1)
        start_workers(j->participants - 1);
    j->next = pool.jobs;
    pool.jobs = j;
    fi_wake_all(&pool.work);
    fi_release(&pool.lock);
}

/* Waits for the slices that workers have begun; polls meanwhile. */
static void retire(job *j, poller *p, unsigned generation)
{
    fi_acquire(&pool.lock);
    job **link = &pool.jobs;
    while (*link != NULL && *link != j)
        link = &(*link)->next;
    if (*link == j)
        *link = j->next;
    while (j->active > 0 && pool.generation == generation) {
        fi_wait_ms(&pool.done, &pool.lock, POLL_MS);
        fi_release(&pool.lock);
        poll_now_and_then(j, p);
        fi_acquire(&pool.lock);
    }
    fi_release(&pool.lock);
}

static void share_out(slice_run *runs, int participants, uint64_t slices)
{
    uint64_t begin = 0;
    for (int i = 0; i < participants; i++) {
        uint64_t share = slices / (uint64_t)participants +
                         ((uint64_t)i < slices % (uint64_t)participants);
        atomic_init(&runs[i].next, begin);
        runs[i].end = begin += share;
    }
}

static int run_job(job *j, uint64_t slices, poller *p)
{
    unsigned generation = pool.generation;
    share_out(j->runs, j->participants, slices);
    j->joined = 1;
    if (j->participants > 1)
        enlist(j);
    participate(j, 0, p);
    if (j->participants > 1)
        retire(j, p, generation);
    int stopped = atomic_load(&j->stopped);
    if (stopped == 0 && pool.generation != generation) {
        /* A poll (a signal handler) forked, and we are the child: what the workers had
         * begun is lost.  Values do not depend on who writes them: do all again. */
        j->participants = 1;
        return run_job(j, slices, p);
    }
    return stopped;
}

int fi_parallel(fi_work *work, const void *context, uint64_t slices, int threads, fi_poll *poll,
                void *poll_context)
{
    watch_forks();
    if (threads > MAX_THREADS)
        threads = MAX_THREADS;
    if ((uint64_t)threads > slices)
        threads = (int)slices;
    slice_run alone[1], *runs = alone;
    char *memory = NULL;
    if (threads > 1)
        memory = malloc(sizeof(slice_run) * ((size_t)threads + 1));
    if (memory != NULL) /* aligned by hand: Windows has no aligned_alloc */
        runs = (slice_run *)(memory + (-(uintptr_t)memory & (_Alignof(slice_run) - 1)));
    else
        threads = 1;
    job j = {.work = work, .context = context, .runs = runs, .participants = threads};
    poller p = {poll, poll_context, fi_now_ms()};
    int stopped = run_job(&j, slices, &p);
    free(memory);
    return stopped;
}
