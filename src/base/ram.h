/* Memory of this machine. */
#ifndef RAM_H
#define RAM_H

#include <stddef.h>

/* Bytes that this process could still fill: what the kernel calls available, or less where a control
 * group bounds it. 0: not known. */
size_t ram_free(void);

#endif
