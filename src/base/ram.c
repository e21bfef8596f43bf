/* What files of the page cache hold counts as free, both for the kernel and, by memory.stat, for the group. */
#include "ram.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The number behind `key` in a file of lines, or the file's first word where key is ""; 0: none, or "max". */
static uint64_t read_number(const char *path, const char *key)
{
    char line[256];
    unsigned long long n = 0;
    size_t len = strlen(key);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, len) == 0 && sscanf(line + len, "%llu", &n) == 1) break;
    if (f) fclose(f);
    return n;
}

size_t ram_free(void)
{
    static const char *const groups[][3] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current",
         "/sys/fs/cgroup/memory.stat"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes",
         "/sys/fs/cgroup/memory/memory.usage_in_bytes", "/sys/fs/cgroup/memory/memory.stat"}};
    uint64_t best = read_number("/proc/meminfo", "MemAvailable:") << 10;
    for (int i = 0; i < 2; i++) {
        uint64_t most = read_number(groups[i][0], ""), used = read_number(groups[i][1], "");
        uint64_t files = read_number(groups[i][2], "inactive_file ");
        if (!most) continue;
        used -= files < used ? files : used;
        uint64_t left = most > used ? most - used : 1;
        if (!best || left < best) best = left;
    }
    return (size_t)best;
}
