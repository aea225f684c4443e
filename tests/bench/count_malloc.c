/* Counts what a program takes from the heap. Preloaded (LD_PRELOAD), it keeps its numbers in the
 * file that SLUICE_MALLOC_COUNTS names, where script/bench reads them while the program runs:
 *
 *   uint64_t allocations, frees, live_bytes, then live blocks by size class of 16 bytes
 *
 * Sizes are those that glibc gives, not those that were asked for, and without its header of eight
 * bytes a block.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define CLASS_BYTES 16
#define CLASSES 4096 /* the last one is for everything larger */

struct counts {
  uint64_t allocations;
  uint64_t frees;
  uint64_t live_bytes;
  uint64_t live_blocks[CLASSES];
};

/* glibc's own names for its allocator. */
extern void* __libc_malloc(size_t size);
extern void* __libc_calloc(size_t count, size_t size);
extern void* __libc_realloc(void* block, size_t size);
extern void* __libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void* block);

static struct counts before_start; /* until the file is there */
static struct counts* counts = &before_start;

static void add(uint64_t* number, uint64_t amount) {
  __atomic_fetch_add(number, amount, __ATOMIC_RELAXED);
}

static uint64_t* class_of(size_t bytes) {
  const size_t index = bytes / CLASS_BYTES;
  return &counts->live_blocks[index < CLASSES ? index : CLASSES - 1];
}

static void* count_block(void* block) {
  if (block == NULL) return NULL;
  const size_t bytes = malloc_usable_size(block);
  add(&counts->allocations, 1);
  add(&counts->live_bytes, bytes);
  add(class_of(bytes), 1);
  return block;
}

static void count_free(void* block) {
  if (block == NULL) return;
  const size_t bytes = malloc_usable_size(block);
  add(&counts->frees, 1);
  add(&counts->live_bytes, (uint64_t)0 - bytes);
  add(class_of(bytes), (uint64_t)0 - 1);
}

__attribute__((constructor)) static void open_file(void) {
  const char* path = getenv("SLUICE_MALLOC_COUNTS");
  if (path == NULL) return;
  const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return;
  if (ftruncate(fd, sizeof(struct counts)) == 0) {
    void* shared = mmap(NULL, sizeof(struct counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared != MAP_FAILED) {
      *(struct counts*)shared = before_start;
      counts = shared;
    }
  }
  close(fd);
}

void* malloc(size_t size) {
  return count_block(__libc_malloc(size));
}

void* calloc(size_t count, size_t size) {
  return count_block(__libc_calloc(count, size));
}

void* realloc(void* block, size_t size) {
  count_free(block);
  void* moved = __libc_realloc(block, size);
  if (moved == NULL && block != NULL && size != 0) count_block(block); /* it is still there */
  return count_block(moved);
}

void* memalign(size_t alignment, size_t size) {
  return count_block(__libc_memalign(alignment, size));
}

void* aligned_alloc(size_t alignment, size_t size) {
  return memalign(alignment, size);
}

int posix_memalign(void** block, size_t alignment, size_t size) {
  *block = memalign(alignment, size);
  return *block == NULL ? ENOMEM : 0;
}

void free(void* block) {
  count_free(block);
  __libc_free(block);
}
