/* What differs between systems, under one name each: locks, conditions, threads and the clock.
 * POSIX (Linux, macOS) has them as pthreads; Windows has its own.
 *
 * It is included before any system header, for what it defines decides what they declare. */
#ifndef FI_PLATFORM_H
#define FI_PLATFORM_H

#if defined(__linux__)
#define _GNU_SOURCE
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#endif

#include <stdint.h>

#if defined(_WIN32)

#include <windows.h>

#define FI_HAS_FORK 0

typedef SRWLOCK fi_lock;
typedef CONDITION_VARIABLE fi_condition;
#define FI_LOCK_INIT SRWLOCK_INIT
#define FI_CONDITION_INIT CONDITION_VARIABLE_INIT

static inline void fi_acquire(fi_lock *lock) { AcquireSRWLockExclusive(lock); }
static inline void fi_release(fi_lock *lock) { ReleaseSRWLockExclusive(lock); }
static inline void fi_wake_all(fi_condition *condition) { WakeAllConditionVariable(condition); }

static inline void fi_wait(fi_condition *condition, fi_lock *lock)
{
    SleepConditionVariableSRW(condition, lock, INFINITE, 0);
}

static inline void fi_wait_ms(fi_condition *condition, fi_lock *lock, int ms)
{
    SleepConditionVariableSRW(condition, lock, (DWORD)ms, 0);
}

static inline int64_t fi_now_ms(void) { return (int64_t)GetTickCount64(); }

typedef DWORD fi_thread_result;
#define FI_THREAD WINAPI
typedef fi_thread_result FI_THREAD fi_thread_main(void *);

/* Starts a thread that nobody joins; -1 if the system has none to give. */
static inline int fi_start_thread(fi_thread_main *run)
{
    HANDLE thread = CreateThread(NULL, 0, run, NULL, 0, NULL);
    if (thread == NULL)
        return -1;
    CloseHandle(thread);
    return 0;
}

#else

#include <pthread.h>
#include <signal.h>
#include <time.h>

#define FI_HAS_FORK 1

typedef pthread_mutex_t fi_lock;
typedef pthread_cond_t fi_condition;
#define FI_LOCK_INIT PTHREAD_MUTEX_INITIALIZER
#define FI_CONDITION_INIT PTHREAD_COND_INITIALIZER

static inline void fi_acquire(fi_lock *lock) { pthread_mutex_lock(lock); }
static inline void fi_release(fi_lock *lock) { pthread_mutex_unlock(lock); }
static inline void fi_wake_all(fi_condition *condition) { pthread_cond_broadcast(condition); }

static inline void fi_wait(fi_condition *condition, fi_lock *lock)
{
    pthread_cond_wait(condition, lock);
}

static inline void fi_wait_ms(fi_condition *condition, fi_lock *lock, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += ms * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_cond_timedwait(condition, lock, &until);
}

static inline int64_t fi_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

typedef void *fi_thread_result;
#define FI_THREAD
typedef fi_thread_result FI_THREAD fi_thread_main(void *);

/* Starts a thread that nobody joins; -1 if the system has none to give.  It takes no signals:
 * they stay with the program's own threads. */
static inline int fi_start_thread(fi_thread_main *run)
{
    sigset_t all, before;
    pthread_t id;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&id, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return -1;
    pthread_detach(id);
    return 0;
}

#endif
#endif
