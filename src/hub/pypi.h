/* Wheels on a Python package index (PEP 503 pages, PEP 427 file names): finding the one, and taking
 * one member out of it. Neither trusts what it reads. No state: any thread.
 */
#ifndef PYPI_H
#define PYPI_H

#include "buf.h"
#include "err.h"
#include "sha256.h"
#include "source.h"
#include <stddef.h>
#include <stdint.h>

enum { PYPI_PAGE_MAX = 16 << 20, PYPI_LINK_MAX = 4096 };

struct pypi_wheel {
    char link[PYPI_LINK_MAX]; /* as the page has it, perhaps relative; without the fragment */
    char sha256[SHA256_HEX];  /* "" when the page names none */
};

/* The index to ask: `flag`, else PIP_INDEX_URL, else UV_DEFAULT_INDEX (which may be NAME=URL), else
 * PyPI. Borrowed. */
const char *pypi_index(const char *flag);
/* "index/normalised-package/" */
ERR_DOOR int pypi_page_url(const char *index, const char *package, struct buf *out, struct err *e);
/* Finds the wheel of package and version in a page, one for any platform first. */
ERR_DOOR int pypi_find_wheel(const char *html, size_t n, const char *package, const char *version,
                             struct pypi_wheel *w, struct err *e);
/* Copies the member of the wheel behind fd to `to` at offset `at`. `bytes` is what it must measure,
 * -1 unknown; *written gets what it does. ERR_NOT_FOUND: no such member. */
ERR_DOOR int pypi_unpack(int fd, const char *member, int to, int64_t at, int64_t bytes,
                         int64_t *written, struct err *e);

#endif
