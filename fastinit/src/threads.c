/* The pool: plain POSIX threads, started when first needed and kept.
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
#if defined(__linux__)
#define _GNU_SOURCE
#include <sched.h>
#endif
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    job *jobs; /* those that may still be joined */
    int workers;
    unsigned generation; /* counts forks: a child has the memory, but not the threads */
} pool = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, 0, 0};

static void before_fork(void) { pthread_mutex_lock(&pool.lock); }
static void after_fork_in_parent(void) { pthread_mutex_unlock(&pool.lock); }

static void after_fork_in_child(void)
{
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.work, NULL);
    pthread_cond_init(&pool.done, NULL);
    pool.jobs = NULL;
    pool.workers = 0;
    pool.generation++;
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

typedef struct {
    fi_poll *poll;
    void *context;
    int64_t last;
} poller;

static void poll_now_and_then(job *j, poller *p)
{
    if (p == NULL || p->poll == NULL || now_ms() - p->last < POLL_MS)
        return;
    if (atomic_load(&j->stopped) != 0) /* its exception is already set: ask no more */
        return;
    int answer = p->poll(p->context);
    if (answer != 0)
        atomic_store(&j->stopped, answer);
    p->last = now_ms();
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

static void *worker(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        job *j = pool.jobs;
        while (j != NULL && j->joined == j->participants)
            j = j->next;
        if (j == NULL) {
            pthread_cond_wait(&pool.work, &pool.lock);
            continue;
        }
        int number = j->joined++;
        j->active++;
        pthread_mutex_unlock(&pool.lock);
        participate(j, number, NULL);
        pthread_mutex_lock(&pool.lock);
        if (--j->active == 0)
            pthread_cond_broadcast(&pool.done);
    }
    return NULL;
}

/* With the lock held.  Signals stay with the program's own threads. */
static void start_workers(int wanted)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.workers < wanted) {
        pthread_t id;
        if (pthread_create(&id, NULL, worker, NULL) != 0)
            break;
        pthread_detach(id);
        pool.workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void enlist(job *j)
{
    pthread_mutex_lock(&pool.lock);
    if (pool.workers < j->participants - 1)
        start_workers(j->participants - 1);
    j->next = pool.jobs;
    pool.jobs = j;
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.lock);
}

/* Waits for the slices that workers have begun; polls meanwhile. */
static void retire(job *j, poller *p, unsigned generation)
{
    pthread_mutex_lock(&pool.lock);
    job **link = &pool.jobs;
    while (*link != NULL && *link != j)
        link = &(*link)->next;
    if (*link == j)
        *link = j->next;
    while (j->active > 0 && pool.generation == generation) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += POLL_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&pool.done, &pool.lock, &until);
        pthread_mutex_unlock(&pool.lock);
        poll_now_and_then(j, p);
        pthread_mutex_lock(&pool.lock);
    }
    pthread_mutex_unlock(&pool.lock);
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
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    if (threads > MAX_THREADS)
        threads = MAX_THREADS;
    if ((uint64_t)threads > slices)
        threads = (int)slices;
    slice_run alone[1], *runs = alone;
    if (threads > 1)
        runs = aligned_alloc(_Alignof(slice_run), sizeof(slice_run) * (size_t)threads);
    if (runs == NULL) {
        runs = alone;
        threads = 1;
    }
    job j = {.work = work, .context = context, .runs = runs, .participants = threads};
    poller p = {poll, poll_context, now_ms()};
    int stopped = run_job(&j, slices, &p);
    if (runs != alone)
        free(runs);
    return stopped;
}

/* CPUs that the control group's quota is worth, rounded up; 0 if it has none.  The group's
 * own file is where /proc/self/cgroup says (v2: "0::/path"), in a container the root. */
static int cgroup_cpus(void)
{
    char path[4200] = "/sys/fs/cgroup", line[4096];
    FILE *f = fopen("/proc/self/cgroup", "r");
    if (f == NULL)
        return 0;
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "0::/", 4) == 0) {
            line[strcspn(line, "\n")] = 0;
            strcat(path, line + 3);
        }
    fclose(f);

    int cpus = 0;
    const size_t root = strlen("/sys/fs/cgroup");
    for (;;) { /* the tightest quota from here up to the root */
        size_t end = strlen(path);
        strcpy(path + end, "/cpu.max");
        double quota, period;
        if ((f = fopen(path, "r")) != NULL) {
            if (fscanf(f, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0) {
                int n = (int)(quota / period) + (quota > period * (double)(int)(quota / period));
                cpus = cpus == 0 || n < cpus ? n : cpus;
            }
            fclose(f);
        }
        path[end] = 0;
        char *slash = strrchr(path, '/');
        if (end <= root || slash == NULL)
            return cpus;
        *slash = 0;
    }
}

int fi_cpus(void)
{
    static atomic_int quota = -1;
    if (atomic_load(&quota) < 0)
        atomic_store(&quota, cgroup_cpus());
    int cpus = 0, limit = atomic_load(&quota);
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cpus = CPU_COUNT(&set);
#endif
    if (cpus == 0)
        cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (limit > 0 && limit < cpus)
        cpus = limit;
    return cpus > 0 ? cpus : 1;
}
