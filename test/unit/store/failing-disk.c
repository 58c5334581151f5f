/*
 * Makes the write of LMDB's commit (to the meta page, through the descriptor that syncs) fail as it does on
 * a disk that is going bad: the bytes have arrived, the system says that they have not. To be preloaded.
 * FAIL_FILE: while that file is there. FAIL_RESTORE: so does the write by which LMDB takes it back.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define META_BYTES 128
#define META_END 8192

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
  ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
  int is_meta = count == META_BYTES && at < META_END;
  if (!is_meta || access(getenv("FAIL_FILE"), F_OK) != 0) return real(fd, bytes, count, at);
  int is_commit = (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
  if (is_commit || getenv("FAIL_RESTORE") == NULL) real(fd, bytes, count, at);
  if (!is_commit && getenv("FAIL_RESTORE") == NULL) return count;
  errno = EIO;
  return -1;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
  return pwrite64(fd, bytes, count, at);
}
