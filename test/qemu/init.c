/*
 * The whole of a test guest's user space: PID 1 of a kernel with nothing else. It fills memory with what
 * its command line asks for, dirties pages at a rate, checks every page against what it must hold, and
 * says on the console, ten times a second:
 *
 *   seq=12 bad=0 writes=3600 checked=24000 [pcr=<hex>]
 *
 * `seq` rises by one a line: a gap or a repetition is time lost or lived twice. `bad` counts pages found
 * with other content than was written. `pcr` is PCR 12 of the SHA-256 bank, read for this line.
 *
 * Options, as `name=value` on the kernel's command line; sizes in MiB, see guest-image.ts:
 *   fill.zero fill.duplicate fill.compressible fill.incompressible fill.hot fill.rate fill.pcr
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WORDS 512
#define PAGE (WORDS * sizeof(uint64_t))
#define PAGES_PER_MIB 256
#define TICKS_PER_LINE 10
#define TICK_NS 10000000L
#define CHECKS_PER_TICK 200
#define PCR 12

enum kind { ZERO, DUPLICATE, COMPRESSIBLE, INCOMPRESSIBLE, KINDS };

static uint64_t pages_of[KINDS], pages, first_dirty, dirty_pages;
static uint64_t (*memory)[WORDS];
/* How often each page was written; a page's content follows from its number and this. */
static uint32_t *versions;
static uint64_t bad, writes, checked;

static void fail(const char *what) {
  printf("failed: %s: %s\n", what, strerror(errno));
  sync();
  reboot(RB_POWER_OFF);
  _exit(1);
}

static uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

static enum kind kind_of(uint64_t page) {
  int kind = ZERO;
  while (page >= pages_of[kind]) page -= pages_of[kind++];
  return kind;
}

static uint64_t word_of(enum kind kind, uint64_t page, uint32_t version, unsigned i) {
  if (kind == ZERO) return 0;
  if (kind == DUPLICATE) return mix(i);
  /* The ends carry the version, so that a write costs two words and half of one shows. */
  if (i == 0) return version;
  if (i == WORDS - 1) return mix(page ^ ((uint64_t)version << 32));
  /* Every eighth word alone is chance: a general compressor finds about five to one. */
  if (kind == COMPRESSIBLE && i % 8 != 0) return 0x2073276e61656854u + page % 7;
  return mix(page * WORDS + i);
}

static void fill_memory(void) {
  for (uint64_t page = 0; page < pages; page++) {
    enum kind kind = kind_of(page);
    for (unsigned i = 0; i < WORDS; i++) memory[page][i] = word_of(kind, page, 0, i);
  }
}

static void check_page(uint64_t page) {
  enum kind kind = kind_of(page);
  checked++;
  for (unsigned i = 0; i < WORDS; i++) {
    if (memory[page][i] == word_of(kind, page, versions[page], i)) continue;
    bad++;
    return;
  }
}

static void write_page(uint64_t page) {
  enum kind kind = kind_of(page);
  if (memory[page][0] != word_of(kind, page, versions[page], 0)) bad++;
  uint32_t version = ++versions[page];
  memory[page][0] = word_of(kind, page, version, 0);
  memory[page][WORDS - 1] = word_of(kind, page, version, WORDS - 1);
  writes++;
}

/* One command to the vTPM; its answer's length. */
static size_t tpm(const uint8_t *command, size_t bytes, uint8_t answer[4096]) {
  static int device = -1;
  if (device < 0) device = open("/dev/tpm0", O_RDWR | O_CLOEXEC);
  if (device < 0) fail("/dev/tpm0");
  if (write(device, command, bytes) != (ssize_t)bytes) fail("a command to the vTPM");
  ssize_t got = read(device, answer, 4096);
  if (got < 10 || memcmp(answer + 6, "\0\0\0\0", 4) != 0) fail("an answer of the vTPM");
  return got;
}

static void extend_pcr(void) {
  uint8_t answer[4096];
  uint8_t command[65] = {0x80, 0x02, 0, 0, 0,    65, 0, 0, 1, 0x82, 0, 0, 0, PCR,  0, 0,
                         0,    9,    0x40, 0, 0, 9,  0, 0, 0, 0,    0, 0, 0, 0, 1, 0, 0x0b};
  for (int i = 33; i < 65; i++) command[i] = i;
  tpm(command, sizeof command, answer);
}

static void print_pcr(void) {
  uint8_t answer[4096];
  uint8_t command[20] = {0x80, 0x01, 0, 0, 0, 20, 0,    0, 1, 0x7e,
                         0,    0,    0, 1, 0, 0x0b, 3, 0, 0, 0};
  command[17 + PCR / 8] = 1 << PCR % 8;
  if (tpm(command, sizeof command, answer) != 62) fail("a PCR");
  printf(" pcr=");
  for (int i = 30; i < 62; i++) printf("%02x", answer[i]);
}

static uint64_t option(const char *line, const char *name, uint64_t otherwise) {
  const char *at = strstr(line, name);
  return at == NULL ? otherwise : strtoull(at + strlen(name), NULL, 10);
}

static void read_command_line(char *line, size_t bytes) {
  int file = open("/proc/cmdline", O_RDONLY);
  ssize_t got = file < 0 ? -1 : read(file, line, bytes - 1);
  if (got < 0) fail("/proc/cmdline");
  line[got] = 0;
  close(file);
}

static void begin(void) {
  mkdir("/dev", 0755);
  mkdir("/proc", 0755);
  mount("dev", "/dev", "devtmpfs", 0, NULL);
  mount("proc", "/proc", "proc", 0, NULL);
  int console = open("/dev/console", O_RDWR);
  dup2(console, STDOUT_FILENO);
  setvbuf(stdout, NULL, _IOFBF, 4096);
}

static void lay_out(const char *line) {
  static const char *names[KINDS] = {"fill.zero=", "fill.duplicate=", "fill.compressible=",
                                     "fill.incompressible="};
  for (int kind = 0; kind < KINDS; kind++) {
    pages_of[kind] = option(line, names[kind], 0) * PAGES_PER_MIB;
    pages += pages_of[kind];
  }
  first_dirty = pages_of[ZERO] + pages_of[DUPLICATE];
  dirty_pages = pages - first_dirty;
  uint64_t hot = option(line, "fill.hot=", 0) * PAGES_PER_MIB;
  if (hot > 0 && hot < dirty_pages) dirty_pages = hot;
  int shape = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
  memory = mmap(NULL, (pages + 1) * PAGE, shape, flags, -1, 0);
  versions = calloc(pages + 1, sizeof *versions);
  if (memory == MAP_FAILED || versions == NULL) fail("memory");
}

int main(void) {
  char line[4096];
  begin();
  read_command_line(line, sizeof line);
  lay_out(line);
  uint64_t rate = option(line, "fill.rate=", 0), with_pcr = option(line, "fill.pcr=", 0);
  fill_memory();
  if (with_pcr) extend_pcr();

  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  uint64_t chance = 1, cursor = 0, owed = 0;
  for (uint64_t tick = 1;; tick++) {
    owed += rate;
    for (; owed >= 100; owed -= 100) {
      chance = mix(chance);
      if (dirty_pages > 0) write_page(first_dirty + chance % dirty_pages);
    }
    for (int i = 0; i < CHECKS_PER_TICK && pages > 0; i++) check_page(cursor++ % pages);
    if (tick % TICKS_PER_LINE == 0) {
      printf("seq=%lu bad=%lu writes=%lu checked=%lu", tick / TICKS_PER_LINE, bad, writes, checked);
      if (with_pcr) print_pcr();
      printf("\n");
      fflush(stdout);
    }
    next.tv_nsec += TICK_NS;
    if (next.tv_nsec >= 1000000000L) next.tv_sec++, next.tv_nsec -= 1000000000L;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
  }
}
