#include "kern_int.h"
void kern__avx2_act(struct kern *k)
{
    (void)k;
}
