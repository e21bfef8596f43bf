#include "kern_int.h"
void kern__avx2_probe(struct kern *k)
{
    (void)k;
}
