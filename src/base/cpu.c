/* gcc's cpu model checks CPUID and XGETBV together, so a level it reports can really be used. */
#include "cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <sched.h>
#include <stdio.h>
#include <string.h>

struct cpu cpu_detect(void)
{
    struct cpu c = {0};
#if defined(__x86_64__)
    __builtin_cpu_init();
    unsigned eax, ebx, ecx = 0, edx; /* gcc knows no "f16c": CPUID 1, ECX bit 29 */
    bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx >> 29 & 1;
    c.avx2 = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    c.avx512 = c.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
#endif
    return c;
}

void cpu_name(char *out, size_t room)
{
    char line[256];
    snprintf(out, room, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "model name", 10) != 0) continue;
        char *p = strchr(line, ':');
        if (!p) continue;
        p += 1 + strspn(p + 1, " ");
        p[strcspn(p, "\n")] = 0;
        snprintf(out, room, "%s", p);
        break;
    }
    if (f) fclose(f);
}

static int cgroup_cores(void)
{
    long quota = 0, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!f) return 0;
    int got = fscanf(f, "%ld %ld", &quota, &period); /* "max 100000" reads as 0 */
    fclose(f);
    return got == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int cpu_count(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set), limit = cgroup_cores();
    if (limit > 0 && limit < n) n = limit;
    return n > 0 ? n : 1;
}
