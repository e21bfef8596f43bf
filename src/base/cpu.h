/* What this machine's processor can do and how much of it we may use. */
#ifndef CPU_H
#define CPU_H

#include <stdbool.h>
#include <stddef.h>

struct cpu {
    bool avx2;   /* AVX2, FMA and F16C, enabled by the system */
    bool avx512; /* AVX-512 F BW DQ VL, VNNI and BF16, enabled by the system */
};

struct cpu cpu_detect(void);
/* "AMD EPYC 9354P"; "unknown" where the system does not say. */
void cpu_name(char *out, size_t room);
/* Cores in the affinity mask, no more than the cgroup's CPU quota rounded up; at least 1. */
int cpu_count(void);

#endif
