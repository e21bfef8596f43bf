/* What cpu.h says against what the system says elsewhere. */
#include "cpu.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The first line of /proc/cpuinfo that starts with key, or "". */
static void cpuinfo(const char *key, char *out, size_t room)
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    assert_non_null(f);
    bool found = false;
    while (!found && fgets(out, (int)room, f)) found = strncmp(out, key, strlen(key)) == 0;
    if (!found) *out = 0;
    fclose(f);
}

static bool has(const char *flags, const char *name)
{
    char word[40];
    snprintf(word, sizeof word, " %s ", name);
    return strstr(flags, word) != NULL;
}

static void test_levels_are_those_of_the_kernel(void **state)
{
    (void)state;
    char flags[8192];
    cpuinfo("flags", flags, sizeof flags);
    flags[strcspn(flags, "\n")] = ' ';
    static const char *const avx512[] = {"avx512f",  "avx512bw",    "avx512dq",
                                         "avx512vl", "avx512_vnni", "avx512_bf16"};
    bool avx2 = has(flags, "avx2") && has(flags, "fma") && has(flags, "f16c"), all = avx2;
    for (size_t i = 0; i < sizeof avx512 / sizeof *avx512; i++) all = all && has(flags, avx512[i]);
    struct cpu c = cpu_detect();
    assert_int_equal(c.avx2, avx2);
    assert_int_equal(c.avx512, all);
}

static void test_name(void **state)
{
    (void)state;
    char line[256], name[128], tight[4];
    cpuinfo("model name", line, sizeof line);
    cpu_name(name, sizeof name);
    assert_true(strlen(name) > 0);
    if (*line)
        assert_non_null(strstr(line, name));
    else
        assert_string_equal(name, "unknown");
    cpu_name(tight, sizeof tight);
    assert_int_equal(strlen(tight), 3);
    assert_memory_equal(tight, name, 3);
}

static void test_count_follows_affinity(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    int n = cpu_count();
    assert_in_range(n, 1, CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
        if (CPU_ISSET(i, &before)) CPU_SET(i, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(cpu_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(cpu_count(), n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels_are_those_of_the_kernel),
        cmocka_unit_test(test_name),
        cmocka_unit_test(test_count_follows_affinity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
