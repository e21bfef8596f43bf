/* Runs a fuzz target over the files of its corpus folder, for builds without libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void one(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END)) exit(1);
    long n = ftell(f);
    rewind(f);
    uint8_t *p = malloc(n > 0 ? (size_t)n : 1);
    if (!p || fread(p, 1, (size_t)n, f) != (size_t)n) exit(1);
    fclose(f);
    LLVMFuzzerTestOneInput(p, (size_t)n);
    free(p);
}

int main(int argc, char **argv)
{
    struct dirent **list;
    int n = argc == 2 ? scandir(argv[1], &list, NULL, alphasort) : -1, ran = 0;
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], list[i]->d_name);
        if (list[i]->d_name[0] != '.') one(path), ran++;
        free(list[i]);
    }
    if (n > 0) free(list);
    printf("%d inputs replayed\n", ran);
    return ran == 0;
}
