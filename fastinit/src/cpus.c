/* How many CPUs this process may use now: its affinity, and on Linux its control group's quota. */
#include "platform.h"

#include "internal.h"

#if defined(__linux__)

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* CPUs that the control group's quota is worth, rounded up; 0 if it has none.  The group's
 * own file is where /proc/self/cgroup says (v2: "0::/path"), in a container the root. */
static int read_quota(void)
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

/* Read once: a quota seldom changes, and every large fill asks. */
static int quota_cpus(void)
{
    static atomic_int quota = -1;
    if (atomic_load(&quota) < 0)
        atomic_store(&quota, read_quota());
    return atomic_load(&quota);
}

static int affinity_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
    return (int)sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than a cpu_set_t has bits */
}

#elif defined(_WIN32)

static int quota_cpus(void) { return 0; }

/* A process whose threads are in several groups of 64 processors has an affinity of 0. */
static int affinity_cpus(void)
{
    DWORD_PTR mine, all;
    if (GetProcessAffinityMask(GetCurrentProcess(), &mine, &all) && mine != 0)
        return __builtin_popcountll(mine);
    return (int)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
}

#else

#include <unistd.h>

/* macOS has neither a quota nor an affinity that binds. */
static int quota_cpus(void) { return 0; }
static int affinity_cpus(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }

#endif

int fi_cpus(void)
{
    int cpus = affinity_cpus();
    const int quota = quota_cpus();
    if (quota > 0 && quota < cpus)
        cpus = quota;
    return cpus > 0 ? cpus : 1;
}
