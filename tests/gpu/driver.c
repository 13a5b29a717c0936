/* Stands in for NVIDIA's driver, cuBLAS and NVRTC where there is no GPU: the calls that src/model/gpu/cuda makes, with
 * the manners that a GPU has and a processor has not.
 *
 * - Work on a stream is done when somebody waits for it and not before, so what is read or freed too early shows.
 * - What is copied in is taken at the call, as from pageable memory, and more than 64 KiB of it make the host wait; what is
 *   copied out arrives at the wait.
 * - Memory begins with noise and ends at a page that cannot be touched. Every copy, clearing and product is checked
 *   against it, products by cuBLAS's own rules for sizes and distances.
 * - NVRTC's image is the kernels' source, compiled as C by emulate.c with a check of alignment; threads and groups run in an
 *   order that changes all the time.
 *
 * The tests compile this as one library and put it under the three names before a program that they start.
 *
 *   STANDIN_SOURCE      folder of emulate.c
 *   STANDIN_REPORT      file for the numbers of calls, written when the program ends
 *   STANDIN_MEMORY      bytes of the GPU, 1 GiB otherwise
 *   STANDIN_DRIVER      1000 times the CUDA that the driver supports, 13000 otherwise
 *   STANDIN_GPUS        how many there are, one otherwise
 *   STANDIN_CAPABILITY  ten times the compute capability, 90 otherwise
 *   STANDIN_FAULT       number of the launch that touches what it must not
 *   STANDIN_NVRTC       "refuses" for a compiler that does
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
};

typedef unsigned long long address;

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static long number_of(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

/* A mistake of the program under test: on a GPU this would be undefined. */
#define MUST(truth, ...)                                                                                               \
    do {                                                                                                               \
        if (!(truth)) {                                                                                                \
            fprintf(stderr, "stand-in driver: %s: ", __func__);                                                       \
            fprintf(stderr, __VA_ARGS__);                                                                             \
            fputc('\n', stderr);                                                                                       \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static struct {
    long launches, products, waits, copies_in, copies_out, copies, clearings, allocations, frees;
    long held, most, contexts, streams, handles, modules;
} told;

/* ---- the context ---- */

static char the_context;
static __thread void *current;
static int sticky; /* What a launch did wrong; every later call says so. */

#define CURRENT                                                                                                        \
    if (current != &the_context || !told.contexts) return INVALID_CONTEXT;                                             \
    if (sticky) return sticky

int cuInit(unsigned flags) {
    (void)flags;
    return number_of("STANDIN_GPUS", 1) > 0 ? SUCCESS : NO_DEVICE;
}

int cuDriverGetVersion(int *version) {
    *version = (int)number_of("STANDIN_DRIVER", 13000);
    return SUCCESS;
}

int cuDeviceGetCount(int *count) {
    *count = (int)number_of("STANDIN_GPUS", 1);
    return SUCCESS;
}

int cuDeviceGet(int *device, int ordinal) {
    if (ordinal < 0 || ordinal >= number_of("STANDIN_GPUS", 1)) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

int cuDeviceGetName(char *name, int room, int device) {
    snprintf(name, (size_t)room, device ? "Stand-in GPU %d" : "Stand-in GPU", device);
    return SUCCESS;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    const int capability = (int)number_of("STANDIN_CAPABILITY", 90);
    (void)device;
    switch (attribute) {
    case 75: *value = capability / 10; return SUCCESS;
    case 76: *value = capability % 10; return SUCCESS;
    case 115: *value = 0; return SUCCESS; /* No memory pools. */
    default: return INVALID_VALUE;
    }
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    (void)device;
    told.contexts++;
    *context = &the_context;
    return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
    (void)device;
    MUST(told.contexts > 0, "a context that nobody has");
    told.contexts--;
    return SUCCESS;
}

int cuCtxGetCurrent(void **context) {
    *context = current;
    return SUCCESS;
}

int cuCtxSetCurrent(void *context) {
    current = context;
    return SUCCESS;
}

static const struct {
    int code;
    const char *name, *text;
} errors[] = {
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
};

int cuGetErrorName(int code, const char **name) {
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code) return *name = errors[i].name, SUCCESS;
    return INVALID_VALUE;
}

int cuGetErrorString(int code, const char **text) {
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code) return *text = errors[i].text, SUCCESS;
    return INVALID_VALUE;
}

/* ---- memory: each allocation ends where a page ends that is followed by one that nobody may touch ---- */

static struct memory {
    address begin;
    size_t bytes, mapped;
    void *map;
    struct memory *next;
} *memories;

static struct memory *memory_at(address at, size_t bytes) {
    for (struct memory *m = memories; m; m = m->next)
        if (at >= m->begin && at - m->begin <= m->bytes && bytes <= m->bytes - (at - m->begin)) return m;
    return NULL;
}

static long total(void) { return number_of("STANDIN_MEMORY", 1L << 30); }

int cuMemGetInfo_v2(size_t *free, size_t *all) {
    CURRENT;
    pthread_mutex_lock(&turn);
    *all = (size_t)total();
    *free = *all - (size_t)told.held;
    pthread_mutex_unlock(&turn);
    return SUCCESS;
}

int cuMemAlloc_v2(address *to, size_t bytes) {
    CURRENT;
    if (bytes == 0) return INVALID_VALUE;
    pthread_mutex_lock(&turn);
    told.allocations++;
    const size_t page = 4096, room = (bytes + 255) / 256 * 256;
    if ((size_t)told.held + room > (size_t)total()) {
        pthread_mutex_unlock(&turn);
        return OUT_OF_MEMORY;
    }
    struct memory *m = calloc(1, sizeof *m);
    m->mapped = (room + page - 1) / page * page + page;
    m->map = mmap(NULL, m->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(m->map != MAP_FAILED, "%zu bytes", bytes);
    mprotect((char *)m->map + m->mapped - page, page, PROT_NONE);
    m->bytes = room;
    m->begin = (address)(uintptr_t)m->map + m->mapped - page - room;
    memset((void *)(uintptr_t)m->begin, 0x7f, room); /* 3.4e38 as f32 and as bf16 */
    m->next = memories;
    memories = m;
    told.held += (long)room;
    if (told.held > told.most) told.most = told.held;
    *to = m->begin;
    pthread_mutex_unlock(&turn);
    return SUCCESS;
}

/* ---- streams ---- */

/* Parameters of a kernel, as they were packed for it. */
struct args {
    uint64_t bytes[64];
};

struct factor {
    address at;
    int wide, turned; /* f32, not bf16; row-major as cuBLAS sees it */
    int line;
    long long step;
};

struct work {
    enum { COPY_IN, COPY_OUT, COPY, CLEAR, LAUNCH, PRODUCT } what;
    address to, from;
    size_t bytes;
    void *host;
    struct function *function;
    int groups, threads;
    struct args args;
    int m, n, k, batch;
    float alpha, beta;
    struct factor a, b, c;
    struct work *next;
};

struct stream {
    struct work *first, **last;
    struct stream *next;
};

static struct stream *streams;

static struct stream *checked(void *stream) {
    for (struct stream *s = streams; s; s = s->next)
        if (s == stream) return s;
    /* The default stream is never used: what is done on it does not wait for the others. */
    MUST(0, "%p is no stream", stream);
    return NULL;
}

static int ask(void *on, struct work work) {
    struct stream *s = checked(on);
    struct work *w = malloc(sizeof *w);
    *w = work;
    w->next = NULL;
    *s->last = w;
    s->last = &w->next;
    return SUCCESS;
}

struct function {
    void *kernel;
    int (*emulate)(void *, int, int, const void *);
    size_t bytes; /* of its parameters, with what C puts behind the last */
    char name[64];
    struct function *next;
};

static float get(const struct factor *f, long long at) {
    if (f->wide) return ((const float *)(uintptr_t)f->at)[at];
    union {
        uint32_t u;
        float f;
    } bits = {.u = (uint32_t)((const uint16_t *)(uintptr_t)f->at)[at] << 16};
    return bits.f;
}

static void put(const struct factor *f, long long at, float value) {
    if (f->wide) {
        ((float *)(uintptr_t)f->at)[at] = value;
        return;
    }
    union {
        float f;
        uint32_t u;
    } bits = {.f = value};
    if (value != value) bits.u |= 0x400000;
    else bits.u += 0x7fff + (bits.u >> 16 & 1);
    ((uint16_t *)(uintptr_t)f->at)[at] = (uint16_t)(bits.u >> 16);
}

/* Columns first, as cuBLAS counts: c[row, column] is at row + column · line. */
static void multiply(const struct work *w) {
    const size_t m = (size_t)w->m, n = (size_t)w->n, k = (size_t)w->k;
    float *a = malloc(sizeof(float) * m * k + 1), *sums = malloc(sizeof(float) * m);
    for (int batch = 0; batch < w->batch; batch++) {
        const long long a0 = batch * w->a.step, b0 = batch * w->b.step, c0 = batch * w->c.step;
        for (size_t i = 0; i < k; i++)
            for (size_t row = 0; row < m; row++)
                a[i * m + row] = get(&w->a, a0 + (long long)(w->a.turned ? row * (size_t)w->a.line + i
                                                                          : i * (size_t)w->a.line + row));
        for (size_t column = 0; column < n; column++) {
            memset(sums, 0, sizeof(float) * m);
            for (size_t i = 0; i < k; i++) {
                const float b = get(&w->b, b0 + (long long)(w->b.turned ? i * (size_t)w->b.line + column
                                                                         : column * (size_t)w->b.line + i));
                for (size_t row = 0; row < m; row++) sums[row] += a[i * m + row] * b;
            }
            for (size_t row = 0; row < m; row++) {
                const long long at = c0 + (long long)(column * (size_t)w->c.line + row);
                put(&w->c, at, w->alpha * sums[row] + (w->beta == 0 ? 0 : w->beta * get(&w->c, at)));
            }
        }
    }
    free(a);
    free(sums);
}

static void drain(struct stream *s) {
    while (s->first) {
        struct work *w = s->first;
        s->first = w->next;
        if (!s->first) s->last = &s->first;
        void *to = (void *)(uintptr_t)w->to, *from = (void *)(uintptr_t)w->from;
        if (!sticky) switch (w->what) {
            case COPY_IN: memcpy(to, w->host, w->bytes); break;
            case COPY_OUT: memcpy(w->host, from, w->bytes); break;
            case COPY: memcpy(to, from, w->bytes); break;
            case CLEAR: memset(to, 0, w->bytes); break;
            case PRODUCT: multiply(w); break;
            case LAUNCH:
                if (++told.launches == number_of("STANDIN_FAULT", -1)) sticky = ILLEGAL_ADDRESS;
                else
                    MUST(w->function->emulate(w->function->kernel, w->groups, w->threads, w->args.bytes) == 0,
                         "%s: threads of a group do not meet at the same places", w->function->name);
        }
        if (w->what == COPY_IN) free(w->host);
        free(w);
    }
}

int cuStreamCreate(void **stream, unsigned flags) {
    (void)flags;
    CURRENT;
    pthread_mutex_lock(&turn);
    struct stream *s = calloc(1, sizeof *s);
    s->last = &s->first;
    s->next = streams;
    streams = s;
    told.streams++;
    *stream = s;
    pthread_mutex_unlock(&turn);
    return SUCCESS;
}

int cuStreamDestroy_v2(void *stream) {
    pthread_mutex_lock(&turn);
    struct stream *s = checked(stream);
    drain(s);
    for (struct stream **at = &streams; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    free(s);
    told.streams--;
    pthread_mutex_unlock(&turn);
    return SUCCESS;
}

int cuStreamSynchronize(void *stream) {
    CURRENT;
    pthread_mutex_lock(&turn);
    told.waits++;
    drain(checked(stream));
    const int result = sticky;
    pthread_mutex_unlock(&turn);
    return result;
}

int cuCtxSynchronize(void) {
    CURRENT;
    pthread_mutex_lock(&turn);
    told.waits++;
    for (struct stream *s = streams; s; s = s->next) drain(s);
    const int result = sticky;
    pthread_mutex_unlock(&turn);
    return result;
}

int cuMemFree_v2(address at) {
    CURRENT;
    pthread_mutex_lock(&turn);
    told.frees++;
    for (struct stream *s = streams; s; s = s->next) drain(s);
    struct memory **m = &memories;
    while (*m && (*m)->begin != at) m = &(*m)->next;
    MUST(*m, "%llx was not allocated", at);
    struct memory *gone = *m;
    *m = gone->next;
    told.held -= (long)gone->bytes;
    munmap(gone->map, gone->mapped);
    free(gone);
    pthread_mutex_unlock(&turn);
    return SUCCESS;
}

int cuMemcpyHtoDAsync_v2(address to, const void *from, size_t bytes, void *stream) {
    CURRENT;
    pthread_mutex_lock(&turn);
    MUST(memory_at(to, bytes), "%zu bytes to %llx", bytes, to);
    void *staged = malloc(bytes);
    memcpy(staged, from, bytes);
    told.copies_in++;
    if (bytes > 65536) {
        told.waits++;
        drain(checked(stream));
    }
    const int result = ask(stream, (struct work){.what = COPY_IN, .to = to, .host = staged, .bytes = bytes});
    pthread_mutex_unlock(&turn);
    return result;
}

int cuMemcpyDtoHAsync_v2(void *to, address from, size_t bytes, void *stream) {
    CURRENT;
    pthread_mutex_lock(&turn);
    MUST(memory_at(from, bytes), "%zu bytes from %llx", bytes, from);
    told.copies_out++;
    const int result = ask(stream, (struct work){.what = COPY_OUT, .from = from, .host = to, .bytes = bytes});
    pthread_mutex_unlock(&turn);
    return result;
}

int cuMemcpyDtoDAsync_v2(address to, address from, size_t bytes, void *stream) {
    CURRENT;
    pthread_mutex_lock(&turn);
    MUST(memory_at(from, bytes) && memory_at(to, bytes), "%zu bytes from %llx to %llx", bytes, from, to);
    MUST(to + bytes <= from || from + bytes <= to, "%zu bytes from %llx to %llx overlap", bytes, from, to);
    told.copies++;
    const int result = ask(stream, (struct work){.what = COPY, .to = to, .from = from, .bytes = bytes});
    pthread_mutex_unlock(&turn);
    return result;
}

int cuMemsetD8Async(address to, unsigned char value, size_t bytes, void *stream) {
    CURRENT;
    pthread_mutex_lock(&turn);
    MUST(value == 0 && memory_at(to, bytes), "%zu bytes at %llx become %d", bytes, to, value);
    told.clearings++;
    const int result = ask(stream, (struct work){.what = CLEAR, .to = to, .bytes = bytes});
    pthread_mutex_unlock(&turn);
    return result;
}

/* ---- modules ---- */

/* A name for mkstemp or mkdtemp. */
static void temporary(char *to, size_t room, const char *name) {
    const char *folder = getenv("TMPDIR");
    snprintf(to, room, "%s/%s-XXXXXX", folder ? folder : "/tmp", name);
}

struct module {
    void *library;
    struct function *functions;
};

/* Bytes of an ELF file: nothing stands behind its table of sections. */
static size_t length_of(const void *image) {
    const Elf64_Ehdr *head = image;
    if (memcmp(head->e_ident, ELFMAG, SELFMAG)) return 0;
    return head->e_shoff + (size_t)head->e_shnum * head->e_shentsize;
}

int cuModuleLoadData(void **module, const void *image) {
    CURRENT;
    const size_t length = length_of(image);
    if (!length) return INVALID_IMAGE;
    char path[512];
    temporary(path, sizeof path, "standin-module");
    const int file = mkstemp(path);
    MUST(file >= 0 && write(file, image, length) == (ssize_t)length, "an image of %zu bytes", length);
    close(file);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    unlink(path);
    if (!library) return INVALID_IMAGE;
    struct module *m = calloc(1, sizeof *m);
    m->library = library;
    told.modules++;
    *module = m;
    return SUCCESS;
}

int cuModuleUnload(void *module) {
    struct module *m = module;
    while (m->functions) {
        struct function *gone = m->functions;
        m->functions = gone->next;
        free(gone);
    }
    dlclose(m->library);
    free(m);
    told.modules--;
    return SUCCESS;
}

int cuModuleGetFunction(void **function, void *module, const char *name) {
    CURRENT;
    struct module *m = module;
    void *kernel = dlsym(m->library, name);
    if (!kernel) return NOT_FOUND;
    char bytes[80];
    snprintf(bytes, sizeof bytes, "%s_bytes", name);
    const size_t *size = dlsym(m->library, bytes);
    MUST(size && *size <= sizeof(struct args), "%s takes parameters of an unknown size", name);
    struct function *f = calloc(1, sizeof *f);
    f->kernel = kernel;
    f->bytes = *size;
    *(void **)&f->emulate = dlsym(m->library, "emulate");
    snprintf(f->name, sizeof f->name, "%s", name);
    f->next = m->functions;
    m->functions = f;
    *function = f;
    return SUCCESS;
}

int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    CURRENT;
    if (gx == 0 || gx > 0x7fffffffu || gy != 1 || gz != 1 || bx == 0 || bx > 256 || by != 1 || bz != 1 || shared ||
        !parameters == !extra)
        return INVALID_VALUE;
    /* Packed: CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE, CU_LAUNCH_PARAM_END. */
    MUST(extra && extra[0] == (void *)1 && extra[2] == (void *)2 && !extra[4], "parameters that are not packed");
    const struct function *f = function;
    const size_t bytes = *(const size_t *)extra[3];
    MUST(bytes <= f->bytes && bytes + 8 > f->bytes, "%s: %zu bytes of parameters, expected %zu", f->name, bytes, f->bytes);
    pthread_mutex_lock(&turn);
    struct work work = {.what = LAUNCH, .function = function, .groups = (int)gx, .threads = (int)bx};
    memcpy(&work.args, extra[1], bytes);
    const int result = ask(stream, work);
    pthread_mutex_unlock(&turn);
    return result;
}

/* ---- cuBLAS ---- */

enum { NOT_INITIALIZED = 1, BLAS_INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_16BF = 14, COMPUTE_32F = 68 };

struct handle {
    void *stream;
};

int cublasCreate_v2(void **handle) {
    if (!current) return NOT_INITIALIZED;
    told.handles++;
    *handle = calloc(1, sizeof(struct handle));
    return SUCCESS;
}

int cublasDestroy_v2(void *handle) {
    told.handles--;
    free(handle);
    return SUCCESS;
}

int cublasSetStream_v2(void *handle, void *stream) {
    ((struct handle *)handle)->stream = stream;
    return SUCCESS;
}

int cublasSetWorkspace_v2(void *handle, void *workspace, size_t bytes) {
    (void)handle;
    MUST(memory_at((address)(uintptr_t)workspace, bytes), "a workspace of %zu bytes", bytes);
    return (uintptr_t)workspace % 256 ? BLAS_INVALID_VALUE : SUCCESS;
}

/* Whether a matrix is within an allocation, with all that lies between its lines and the last value of its last line. */
static int inside(const struct factor *f, int rows, int columns, int batch) {
    const long long last = (batch - 1) * f->step + (long long)(columns - 1) * f->line + rows;
    return memory_at(f->at, (size_t)last * (f->wide ? 4 : 2)) && f->at % (f->wide ? 4 : 2) == 0;
}

int cublasGemmStridedBatchedEx(void *handle, int turn_a, int turn_b, int m, int n, int k, const void *alpha,
                               const void *a, int kind_a, int line_a, long long step_a, const void *b, int kind_b,
                               int line_b, long long step_b, const void *beta, void *c, int kind_c, int line_c,
                               long long step_c, int batch, int compute, int algorithm) {
    (void)algorithm;
    if (current != &the_context) return NOT_INITIALIZED;
    const int real = (kind_a == R_32F && kind_c == R_32F) || (kind_a == R_16BF && (kind_c == R_32F || kind_c == R_16BF));
    if (kind_a != kind_b || !real || compute != COMPUTE_32F) return NOT_SUPPORTED;
    const int wide_a = turn_a ? k : m, wide_b = turn_b ? n : k;
#define AT_LEAST_1(x) ((x) > 1 ? (x) : 1)
    if (m < 0 || n < 0 || k < 0 || batch < 0 || line_a < AT_LEAST_1(wide_a) || line_b < AT_LEAST_1(wide_b) ||
        line_c < AT_LEAST_1(m))
        return BLAS_INVALID_VALUE;
    if (m == 0 || n == 0 || batch == 0) return SUCCESS;
    struct work w = {.what = PRODUCT, .m = m, .n = n, .k = k, .batch = batch};
    w.alpha = *(const float *)alpha;
    w.beta = *(const float *)beta;
    w.a = (struct factor){(address)(uintptr_t)a, kind_a == R_32F, turn_a, line_a, step_a};
    w.b = (struct factor){(address)(uintptr_t)b, kind_b == R_32F, turn_b, line_b, step_b};
    w.c = (struct factor){(address)(uintptr_t)c, kind_c == R_32F, 0, line_c, step_c};
    pthread_mutex_lock(&turn);
    MUST(k == 0 || inside(&w.a, wide_a, turn_a ? m : k, batch), "a, %d × %d of %d", m, k, line_a);
    MUST(k == 0 || inside(&w.b, wide_b, turn_b ? k : n, batch), "b, %d × %d of %d", k, n, line_b);
    MUST(inside(&w.c, m, n, batch), "c, %d × %d of %d", m, n, line_c);
    MUST(batch == 1 || step_c >= (long long)(n - 1) * line_c + m, "results overlap");
    told.products++;
    ask(((struct handle *)handle)->stream, w);
    pthread_mutex_unlock(&turn);
    return SUCCESS;
}

int cublasGemmEx(void *handle, int turn_a, int turn_b, int m, int n, int k, const void *alpha, const void *a, int kind_a,
                 int line_a, const void *b, int kind_b, int line_b, const void *beta, void *c, int kind_c, int line_c,
                 int compute, int algorithm) {
    return cublasGemmStridedBatchedEx(handle, turn_a, turn_b, m, n, k, alpha, a, kind_a, line_a, 0, b, kind_b, line_b, 0,
                                      beta, c, kind_c, line_c, 0, 1, compute, algorithm);
}

/* ---- NVRTC ---- */

struct program {
    char *source, *image, *log;
    size_t length;
    int portable; /* Not machine code: the driver translates it. Here it is the same. */
};

enum { COMPILATION = 6, INVALID_OPTION = 5 };

static char *whole(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *length = (size_t)ftell(file);
    rewind(file);
    char *bytes = calloc(1, *length + 1);
    if (fread(bytes, 1, *length, file) != *length) *length = 0;
    fclose(file);
    return bytes;
}

int nvrtcVersion(int *major, int *minor) {
    *major = 13;
    *minor = 0;
    return SUCCESS;
}

static const int capabilities[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};

int nvrtcGetNumSupportedArchs(int *count) {
    *count = sizeof capabilities / sizeof *capabilities;
    return SUCCESS;
}

int nvrtcGetSupportedArchs(int *to) {
    memcpy(to, capabilities, sizeof capabilities);
    return SUCCESS;
}

int nvrtcCreateProgram(void **program, const char *source, const char *name, int headers, const char *const *header,
                       const char *const *names) {
    (void)name, (void)headers, (void)header, (void)names;
    struct program *p = calloc(1, sizeof *p);
    p->source = strdup(source);
    *program = p;
    return SUCCESS;
}

int nvrtcCompileProgram(void *program, int count, const char *const *options) {
    struct program *p = program;
    const char *refuses = getenv("STANDIN_NVRTC"), *folder = getenv("STANDIN_SOURCE");
    char defined[256] = "";
    const int capability = (int)number_of("STANDIN_CAPABILITY", 90);
    int asked = 0;
    for (int i = 0; i < count; i++) {
        int number = 0;
        if (!strncmp(options[i], "-D", 2)) snprintf(defined, sizeof defined, "%s", options[i]);
        else if (sscanf(options[i], "--gpu-architecture=sm_%d", &number) == 1) asked = number == capability;
        else if (sscanf(options[i], "--gpu-architecture=compute_%d", &number) == 1) asked = number < capability;
        else return INVALID_OPTION;
        int known = number == 0;
        for (size_t at = 0; at < sizeof capabilities / sizeof *capabilities; at++) known |= capabilities[at] == number;
        if (!known) return INVALID_OPTION;
        p->portable |= strstr(options[i], "compute_") != NULL;
    }
    if (!asked) return INVALID_OPTION;
    if (refuses) {
        p->log = strdup("kernels.cu(1): error: the stand-in was told to refuse");
        return COMPILATION;
    }
    char at[512], path[640], command[4096];
    temporary(at, sizeof at, "standin-nvrtc");
    MUST(folder && mkdtemp(at), "no folder to compile in");
    snprintf(path, sizeof path, "%s/kernels.cu", at);
    FILE *file = fopen(path, "wb");
    MUST(file && fwrite(p->source, 1, strlen(p->source), file) == strlen(p->source), "%s", path);
    fclose(file);
    /* A GPU faults where an address is no multiple of what is read there. */
    snprintf(command, sizeof command,
             "${CC:-cc} -std=c11 -O2 -U_FORTIFY_SOURCE -fsanitize=alignment -fsanitize-undefined-trap-on-error -shared -fPIC "
             "'-DKERNELS=\"%s/kernels.cu\"' %s -o %s/image '%s/emulate.c' -lm > %s/log 2>&1",
             at, defined, at, folder, at);
    const int status = system(command);
    size_t length;
    snprintf(path, sizeof path, "%s/log", at);
    p->log = whole(path, &length);
    snprintf(path, sizeof path, "%s/image", at);
    p->image = whole(path, &p->length);
    snprintf(command, sizeof command, "rm -rf %s", at);
    (void)!system(command);
    return status == 0 && p->image ? SUCCESS : COMPILATION;
}

static int give(struct program *p, int portable, size_t *length, char *image) {
    if (p->portable != portable || !p->image) return INVALID_VALUE;
    if (length) *length = p->length;
    if (image) memcpy(image, p->image, p->length);
    return SUCCESS;
}

int nvrtcGetCUBINSize(void *program, size_t *length) { return give(program, 0, length, NULL); }

int nvrtcGetCUBIN(void *program, char *image) { return give(program, 0, NULL, image); }

int nvrtcGetPTXSize(void *program, size_t *length) { return give(program, 1, length, NULL); }

int nvrtcGetPTX(void *program, char *image) { return give(program, 1, NULL, image); }

int nvrtcGetProgramLogSize(void *program, size_t *length) {
    const char *log = ((struct program *)program)->log;
    *length = (log ? strlen(log) : 0) + 1;
    return SUCCESS;
}

int nvrtcGetProgramLog(void *program, char *to) {
    const char *log = ((struct program *)program)->log;
    strcpy(to, log ? log : "");
    return SUCCESS;
}

int nvrtcDestroyProgram(void **program) {
    struct program *p = *program;
    free(p->source);
    free(p->image);
    free(p->log);
    free(p);
    *program = NULL;
    return SUCCESS;
}

/* ---- what happened ---- */

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("STANDIN_REPORT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file,
            "{\"launches\":%ld,\"products\":%ld,\"waits\":%ld,\"copies_in\":%ld,\"copies_out\":%ld,"
            "\"copies\":%ld,\"clearings\":%ld,\"allocations\":%ld,\"frees\":%ld,\"held\":%ld,\"most\":%ld,"
            "\"streams\":%ld,\"handles\":%ld,\"modules\":%ld,\"contexts\":%ld}\n",
            told.launches, told.products, told.waits, told.copies_in, told.copies_out, told.copies,
            told.clearings, told.allocations, told.frees, told.held, told.most, told.streams, told.handles, told.modules,
            told.contexts);
    fclose(file);
}
