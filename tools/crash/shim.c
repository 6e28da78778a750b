// Makes chosen file operations of a process fail, wait or kill it: preload this library (LD_PRELOAD) and name a control
// file in PREFIXDB_SHIM_CONTROL. shim.py builds it, makes the control file and changes its rules.
//
// The control file is mapped by this library and by the one who commands it, so a rule takes effect, and its counters
// are seen, at once and without a system call; they survive a kill. Several processes may share a file. Layout, native
// byte order: struct control below. A writer fills a rule's slot first and makes it active last, and never changes an
// active rule. Counters are this library's alone.
//
// Files are told by name at the time of the call (/proc/self/fd), so that a rule also meets files that are open
// already. Calls that nobody has a rule for cost one load. What the C library does inside itself does not pass here:
// of streams, fopen and fread are seen (RocksDB replays its log and its MANIFEST through them), fwrite is not (its info
// log).
//
// Thread-safe; allocates nothing. Linux with glibc; RocksDB, its bindings and CPython go through these symbols.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#undef fread_unlocked  // Some versions of the C library have it as a macro.

enum { MAGIC = 0x5f425250, RULES = 64, PATTERN_BYTES = 192, HOLD_POLL_NS = 500000 };

enum call {
  OPEN = 1 << 0,       // open and fopen of a file that is there or is only read
  CREATE = 1 << 1,     // open and fopen with O_CREAT
  WRITE = 1 << 2,      // write, writev
  PWRITE = 1 << 3,     // pwrite, pwritev
  READ = 1 << 4,       // read, fread
  PREAD = 1 << 5,      // pread
  FSYNC = 1 << 6,      // fsync
  FDATASYNC = 1 << 7,  // fdatasync
  SYNC_RANGE = 1 << 8,
  RENAME = 1 << 9,  // Either name may match.
  TRUNCATE = 1 << 10,
  ALLOCATE = 1 << 11,  // fallocate, posix_fallocate
  MAP = 1 << 12,
  UNLINK = 1 << 13,
  LINK = 1 << 14,
  MKDIR = 1 << 15,
  SPACE = 1 << 16,  // statvfs: a directory is asked as if it were a file in it; BUDGET says what is left of it
};

enum action {
  FAIL = 1,    // return `error`
  SHORTEN,     // write or read half of what was asked, at least one byte
  BUDGET,      // let `budget` bytes through, then return `error`; the write that crosses the line is cut there
  HOLD,        // wait until the rule is withdrawn, then go on
  KILL,        // SIGKILL this process before the call
  KILL_AFTER,  // do the call, then SIGKILL; a write is cut in half before
};

struct rule {
  _Atomic uint32_t active;
  uint32_t calls;  // Set of enum call.
  uint32_t action;
  int32_t error;
  uint64_t after;   // So many matching calls pass first.
  uint64_t times;   // Then so many are hit; 0: all.
  uint64_t budget;  // Bytes, for BUDGET.
  _Atomic uint64_t matched;
  _Atomic uint64_t hit;
  _Atomic uint64_t bytes;       // Let through by BUDGET.
  char pattern[PATTERN_BYTES];  // For the whole path when it has a slash, else for the last part; see fnmatch(3).
};

struct control {
  uint32_t magic;
  _Atomic uint32_t wanted;  // Calls that any active rule names.
  struct rule rules[RULES];
};

_Static_assert(sizeof(struct rule) == 64 + PATTERN_BYTES, "shim.py knows the layout");

static struct control* control;

// What becomes of a call.
struct verdict {
  int error;        // Not 0: fail with it.
  size_t bytes;     // Reads and writes: so many at most.
  bool kill_after;  // Do it, then die.
  bool limited;     // SPACE: `bytes` are left.
};

// The next definition of a function, which is the C library's.
#define REAL(name)                                                \
  static __typeof__(name)* real;                                  \
  if (real == NULL) {                                             \
    real = (__typeof__(name)*)(uintptr_t)dlsym(RTLD_NEXT, #name); \
    if (real == NULL) abort();                                    \
  }

__attribute__((constructor)) static void attach(void) {
  const char* path = getenv("PREFIXDB_SHIM_CONTROL");
  if (path == NULL) return;
  const int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
  struct stat status;
  if (file < 0 || fstat(file, &status) != 0 || (size_t)status.st_size < sizeof(struct control)) {
    dprintf(STDERR_FILENO, "the control file of the shim cannot be used: %s\n", path);
    abort();
  }
  // The system call, not mmap: that one is ours.
  void* mapped = (void*)syscall(SYS_mmap, NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0L);
  syscall(SYS_close, file);
  if (mapped == MAP_FAILED || ((struct control*)mapped)->magic != MAGIC) {
    dprintf(STDERR_FILENO, "not a control file of the shim: %s\n", path);
    abort();
  }
  control = mapped;
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static bool matches(const struct rule* rule, const char* path) {
  const char* name = path;
  if (strchr(rule->pattern, '/') == NULL) {
    const char* slash = strrchr(path, '/');
    if (slash != NULL) name = slash + 1;
  }
  return fnmatch(rule->pattern, name, 0) == 0;
}

// Takes `wanted` bytes out of the budget; returns how many there were.
static size_t spend(struct rule* rule, size_t wanted) {
  uint64_t spent = atomic_load(&rule->bytes);
  for (;;) {
    const uint64_t left = rule->budget > spent ? rule->budget - spent : 0;
    const uint64_t granted = wanted < left ? wanted : left;
    if (atomic_compare_exchange_weak(&rule->bytes, &spent, spent + granted)) return (size_t)granted;
  }
}

static void apply(struct rule* rule, enum call call, struct verdict* verdict) {
  switch (rule->action) {
    case FAIL:
      verdict->error = rule->error;
      break;
    case SHORTEN:
      verdict->bytes = verdict->bytes > 1 ? verdict->bytes / 2 : verdict->bytes;
      break;
    case BUDGET:
      if (call == SPACE) {
        const uint64_t spent = atomic_load(&rule->bytes);
        verdict->limited = true;
        verdict->bytes = rule->budget > spent ? (size_t)(rule->budget - spent) : 0;
      } else if (call == ALLOCATE) {  // Only looks: the writes into the space will take it.
        const uint64_t spent = atomic_load(&rule->bytes);
        if (spent > rule->budget || verdict->bytes > rule->budget - spent) verdict->error = rule->error;
      } else {
        const size_t granted = spend(rule, verdict->bytes);
        if (granted == 0 && (verdict->bytes > 0 || atomic_load(&rule->bytes) >= rule->budget)) {
          verdict->error = rule->error;
        }
        verdict->bytes = granted;
      }
      break;
    case HOLD: {
      const struct timespec moment = {0, HOLD_POLL_NS};
      while (atomic_load(&rule->active)) nanosleep(&moment, NULL);
      break;
    }
    case KILL:
      die();
      break;
    case KILL_AFTER:
      verdict->kill_after = true;
      verdict->bytes = verdict->bytes > 1 ? verdict->bytes / 2 : verdict->bytes;
      break;
    default:
      abort();
  }
}

static bool interesting(enum call call) {
  return control != NULL && (atomic_load_explicit(&control->wanted, memory_order_relaxed) & call) != 0;
}

// Asks every rule about a call on `path` (and `other`, when not NULL); the first that applies decides.
static struct verdict judge(enum call call, const char* path, const char* other, size_t bytes) {
  struct verdict verdict = {0, bytes, false, false};
  const int saved = errno;
  for (int index = 0; index < RULES; index++) {
    struct rule* rule = &control->rules[index];
    if (!atomic_load(&rule->active) || !(rule->calls & call)) continue;
    if (!matches(rule, path) && (other == NULL || !matches(rule, other))) continue;
    const uint64_t number = atomic_fetch_add(&rule->matched, 1);
    if (number < rule->after || (rule->times != 0 && number - rule->after >= rule->times)) continue;
    if (rule->action != BUDGET) atomic_fetch_add(&rule->hit, 1);
    apply(rule, call, &verdict);
    if (rule->action == BUDGET) {
      if (verdict.error == 0 && verdict.bytes == bytes) continue;  // Still within the budget.
      atomic_fetch_add(&rule->hit, 1);
    }
    break;
  }
  errno = saved;
  return verdict;
}

static struct verdict judge_file(enum call call, int file, size_t bytes) {
  struct verdict verdict = {0, bytes, false, false};
  if (!interesting(call)) return verdict;
  char link[32], path[PATH_MAX];
  const int saved = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  const ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
  errno = saved;
  if (length <= 0 || path[0] != '/') return verdict;
  path[length] = '\0';
  return judge(call, path, NULL, bytes);
}

static struct verdict judge_path(enum call call, const char* path, const char* other) {
  struct verdict verdict = {0, 0, false, false};
  return interesting(call) ? judge(call, path, other, 0) : verdict;
}

// Returns the path of what is named in a directory that a descriptor stands for.
static const char* whole(int directory, const char* path, char found[PATH_MAX]) {
  if (directory == AT_FDCWD || path[0] == '/') return path;
  char link[32];
  const int saved = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
  const ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, found, PATH_MAX - 1);
  errno = saved;
  if (length < 0) return path;
  const int room = PATH_MAX - (int)length;
  return snprintf(found + length, (size_t)room, "/%s", path) < room ? found : path;
}

// Ends a hooked call: `result` is what the real one returned.
#define FINISH(result)                \
  do {                                \
    __typeof__(result) done = result; \
    if (verdict.kill_after) die();    \
    return done;                      \
  } while (0)

#define REFUSE(value)       \
  if (verdict.error != 0) { \
    errno = verdict.error;  \
    return value;           \
  }

#define OPENING(name, directory, ...)                                                           \
  mode_t mode = 0;                                                                              \
  if (flags & (O_CREAT | __O_TMPFILE)) {                                                        \
    va_list arguments;                                                                          \
    va_start(arguments, flags);                                                                 \
    mode = va_arg(arguments, mode_t);                                                           \
    va_end(arguments);                                                                          \
  }                                                                                             \
  REAL(name);                                                                                   \
  char found[PATH_MAX];                                                                         \
  const char* const whole_path = whole(directory, path, found);                                 \
  const struct verdict verdict = judge_path(flags & O_CREAT ? CREATE : OPEN, whole_path, NULL); \
  REFUSE(-1);                                                                                   \
  FINISH(real(__VA_ARGS__, flags, mode))

int open(const char* path, int flags, ...) { OPENING(open, AT_FDCWD, path); }
int open64(const char* path, int flags, ...) { OPENING(open64, AT_FDCWD, path); }
int openat(int directory, const char* path, int flags, ...) { OPENING(openat, directory, directory, path); }
int openat64(int directory, const char* path, int flags, ...) { OPENING(openat64, directory, directory, path); }

#define OPENING_STREAM(name)                                                             \
  REAL(name);                                                                            \
  const struct verdict verdict = judge_path(mode[0] == 'r' ? OPEN : CREATE, path, NULL); \
  REFUSE(NULL);                                                                          \
  FINISH(real(path, mode))

FILE* fopen(const char* path, const char* mode) { OPENING_STREAM(fopen); }
FILE* fopen64(const char* path, const char* mode) { OPENING_STREAM(fopen64); }

ssize_t write(int file, const void* data, size_t bytes) {
  REAL(write);
  const struct verdict verdict = judge_file(WRITE, file, bytes);
  REFUSE(-1);
  FINISH(real(file, data, verdict.bytes));
}

// Vectors are written one by one when a rule cuts them, as a file system may.
ssize_t writev(int file, const struct iovec* vectors, int count) {
  REAL(writev);
  size_t bytes = 0;
  for (int index = 0; index < count; index++) bytes += vectors[index].iov_len;
  const struct verdict verdict = judge_file(WRITE, file, bytes);
  REFUSE(-1);
  if (verdict.bytes == bytes) FINISH(real(file, vectors, count));
  struct iovec first = vectors[0];
  if (first.iov_len > verdict.bytes) first.iov_len = verdict.bytes;
  FINISH(real(file, &first, 1));
}

#define WRITING_AT(name)                                          \
  REAL(name);                                                     \
  const struct verdict verdict = judge_file(PWRITE, file, bytes); \
  REFUSE(-1);                                                     \
  FINISH(real(file, data, verdict.bytes, offset))

ssize_t pwrite(int file, const void* data, size_t bytes, off_t offset) { WRITING_AT(pwrite); }
ssize_t pwrite64(int file, const void* data, size_t bytes, off64_t offset) { WRITING_AT(pwrite64); }

ssize_t read(int file, void* data, size_t bytes) {
  REAL(read);
  const struct verdict verdict = judge_file(READ, file, bytes);
  REFUSE(-1);
  FINISH(real(file, data, verdict.bytes));
}

// A stream ends early only at the end of its file, so nothing is cut here.
#define READING_STREAM(name)                                          \
  REAL(name);                                                         \
  const struct verdict verdict = judge_file(READ, fileno(stream), 0); \
  REFUSE(0);                                                          \
  FINISH(real(data, size, count, stream))

size_t fread(void* data, size_t size, size_t count, FILE* stream) { READING_STREAM(fread); }
size_t fread_unlocked(void* data, size_t size, size_t count, FILE* stream) { READING_STREAM(fread_unlocked); }

#define READING_AT(name)                                         \
  REAL(name);                                                    \
  const struct verdict verdict = judge_file(PREAD, file, bytes); \
  REFUSE(-1);                                                    \
  FINISH(real(file, data, verdict.bytes, offset))

ssize_t pread(int file, void* data, size_t bytes, off_t offset) { READING_AT(pread); }
ssize_t pread64(int file, void* data, size_t bytes, off64_t offset) { READING_AT(pread64); }

#define ON_FILE(name, call, size, refusal, ...)                \
  REAL(name);                                                  \
  const struct verdict verdict = judge_file(call, file, size); \
  REFUSE(refusal);                                             \
  FINISH(real(__VA_ARGS__))

int fsync(int file) { ON_FILE(fsync, FSYNC, 0, -1, file); }
int fdatasync(int file) { ON_FILE(fdatasync, FDATASYNC, 0, -1, file); }
int sync_file_range(int file, off64_t offset, off64_t bytes, unsigned int flags) {
  // Without flags it does nothing but say whether the kernel has it: no disk is asked, so none fails.
  const enum call call = flags == 0 ? 0 : SYNC_RANGE;
  ON_FILE(sync_file_range, call, 0, -1, file, offset, bytes, flags);
}
int ftruncate(int file, off_t size) { ON_FILE(ftruncate, TRUNCATE, 0, -1, file, size); }
int ftruncate64(int file, off64_t size) { ON_FILE(ftruncate64, TRUNCATE, 0, -1, file, size); }
int fallocate(int file, int mode, off_t offset, off_t bytes) {
  ON_FILE(fallocate, ALLOCATE, (size_t)bytes, -1, file, mode, offset, bytes);
}
int fallocate64(int file, int mode, off64_t offset, off64_t bytes) {
  ON_FILE(fallocate64, ALLOCATE, (size_t)bytes, -1, file, mode, offset, bytes);
}
// These two return the error instead of setting errno.
int posix_fallocate(int file, off_t offset, off_t bytes) {
  ON_FILE(posix_fallocate, ALLOCATE, (size_t)bytes, verdict.error, file, offset, bytes);
}
int posix_fallocate64(int file, off64_t offset, off64_t bytes) {
  ON_FILE(posix_fallocate64, ALLOCATE, (size_t)bytes, verdict.error, file, offset, bytes);
}
void* mmap(void* address, size_t bytes, int protection, int flags, int file, off_t offset) {
  ON_FILE(mmap, MAP, 0, MAP_FAILED, address, bytes, protection, flags, file, offset);
}
void* mmap64(void* address, size_t bytes, int protection, int flags, int file, off64_t offset) {
  ON_FILE(mmap64, MAP, 0, MAP_FAILED, address, bytes, protection, flags, file, offset);
}

#define SPACE_LEFT(name)                                                \
  REAL(name);                                                           \
  char inside[PATH_MAX];                                                \
  snprintf(inside, sizeof inside, "%s/.", path);                        \
  const struct verdict verdict = judge_path(SPACE, inside, NULL);       \
  REFUSE(-1);                                                           \
  const int result = real(path, found);                                 \
  if (result == 0 && verdict.limited && found->f_frsize != 0) {         \
    found->f_bavail = found->f_bfree = verdict.bytes / found->f_frsize; \
  }                                                                     \
  return result

int statvfs(const char* path, struct statvfs* found) { SPACE_LEFT(statvfs); }
int statvfs64(const char* path, struct statvfs64* found) { SPACE_LEFT(statvfs64); }

#define ON_PATH(name, call, path, other, ...)                   \
  REAL(name);                                                   \
  const struct verdict verdict = judge_path(call, path, other); \
  REFUSE(-1);                                                   \
  FINISH(real(__VA_ARGS__))

int rename(const char* from, const char* to) { ON_PATH(rename, RENAME, from, to, from, to); }
int renameat(int from_directory, const char* from, int to_directory, const char* to) {
  char from_found[PATH_MAX], to_found[PATH_MAX];
  const char* const whole_from = whole(from_directory, from, from_found);
  const char* const whole_to = whole(to_directory, to, to_found);
  ON_PATH(renameat, RENAME, whole_from, whole_to, from_directory, from, to_directory, to);
}
int link(const char* from, const char* to) { ON_PATH(link, LINK, from, to, from, to); }
int unlink(const char* path) { ON_PATH(unlink, UNLINK, path, NULL, path); }
int unlinkat(int directory, const char* path, int flags) {
  char found[PATH_MAX];
  const char* const whole_path = whole(directory, path, found);
  ON_PATH(unlinkat, UNLINK, whole_path, NULL, directory, path, flags);
}
int mkdirat(int directory, const char* path, mode_t mode) {
  char found[PATH_MAX];
  const char* const whole_path = whole(directory, path, found);
  ON_PATH(mkdirat, MKDIR, whole_path, NULL, directory, path, mode);
}
int mkdir(const char* path, mode_t mode) { ON_PATH(mkdir, MKDIR, path, NULL, path, mode); }
