/* The decoder's operations on a GPU, beside its matrix products: what src/model/ops does on the processor.
 *
 * The text is CUDA and C at once. NVRTC compiles it on the machine where it runs, once with BF16 and once without; the
 * tests compile the same text with a C compiler, where a group's threads take turns (tests/gpu/emulate.c). So: no
 * headers, no templates, no warps; threads of a group meet at SYNC, and their number is a power of two up to THREADS_MAX.
 *
 * `floatX` is what weights and activations are computed in, bf16 or f32. Every sum is taken in f32 (or f64 where said), in
 * an order that depends on the shapes alone: there are no atomics, and the same step gives the same bits.
 *
 * The parameters of every kernel, their types, and what they mean are described in src/model/gpu/kernels.rs: from there
 * come the declarations that stand before this text when it is compiled. A kernel may touch no more than is said there.
 */

#ifdef __CUDACC__
#define KERNEL(name) extern "C" __global__ void __launch_bounds__(THREADS_MAX) name(name##_PARAMETERS)
#define DEVICE static __device__ __forceinline__
#define SHARED __shared__
#define SYNC __syncthreads()
#define THREAD ((int)threadIdx.x)
#define THREADS ((int)blockDim.x)
#define GROUP ((int)blockIdx.x)
#define GROUPS ((int)gridDim.x)
#define RESTRICT __restrict__
#endif

typedef long long i64;
typedef unsigned int u32;

union bits {
    float f;
    u32 u;
};

DEVICE float of_bits(u32 u) {
    union bits b;
    b.u = u;
    return b.f;
}

/* Without headers there is neither INFINITY nor NAN. */
#define LEAST of_bits(0xff800000u)
#define NOT_A_NUMBER of_bits(0x7fc00000u)

#ifdef BF16
DEVICE float widen(floatX x) {
    union bits b;
    b.u = (u32)x << 16;
    return b.f;
}

/* To the nearest, ties to even; NaN stays NaN. */
DEVICE floatX narrow(float x) {
    union bits b;
    b.f = x;
    if ((b.u & 0x7fffffffu) > 0x7f800000u) return (floatX)((b.u >> 16) | 0x40u);
    return (floatX)((b.u + 0x7fffu + ((b.u >> 16) & 1u)) >> 16);
}
#else
DEVICE float widen(floatX x) { return x; }

DEVICE floatX narrow(float x) { return x; }
#endif

/* The sum over a group's threads, for each of them; `room` is the group's, of as many values as threads. */
DEVICE float total(float x, float *room) {
    SYNC;
    room[THREAD] = x;
    SYNC;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (THREAD < half) room[THREAD] += room[THREAD + half];
        SYNC;
    }
    return room[0];
}

/* The largest, likewise. */
DEVICE float largest(float x, float *room) {
    SYNC;
    room[THREAD] = x;
    SYNC;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (THREAD < half) room[THREAD] = fmaxf(room[THREAD], room[THREAD + half]);
        SYNC;
    }
    return room[0];
}

/* `total` in f64. */
DEVICE double total64(double x, double *room) {
    SYNC;
    room[THREAD] = x;
    SYNC;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (THREAD < half) room[THREAD] += room[THREAD + half];
        SYNC;
    }
    return room[0];
}

/* Every index below `count`, one thread each. */
#define EACH(at, count) for (i64 at = (i64)GROUP * THREADS + THREAD; at < (count); at += (i64)GROUPS * THREADS)

/* `at / by`. What is divided is rarely longer than 32 bits, and a GPU divides those several times as fast. */
DEVICE i64 divided(i64 at, int by) { return at <= 0xffffffffll ? (i64)((u32)at / (u32)by) : at / by; }

/* Row and column of number `at` of rows that are `width` wide. */
struct cell {
    i64 row;
    int column;
};

DEVICE struct cell cell_of(i64 at, int width) {
    struct cell cell;
    cell.row = divided(at, width);
    cell.column = (int)(at - cell.row * width);
    return cell;
}

/* Position of a token in its own row of data, from that in its sequence; within tables of `positions` rows, whatever is in
 * `starts`. */
DEVICE int position_of(int position, const int *starts, i64 token, int positions) {
    if (starts) position -= starts[token];
    return position < 0 ? 0 : position < positions ? position : positions - 1;
}

/* ---- weights ---- */

/* Scale of the block that value `at` is read with: a row's scales begin `by_row − 1` after the last row's, or with 0 run on. */
DEVICE float scale_of(u32 at, u32 in_features, u32 block, u32 by_row, const u8 *codes, const float *absmax, const float *map,
                      float offset) {
    const u32 number = by_row ? at / in_features * (by_row - 1) + at % in_features / block : at / block;
    return codes ? map[codes[number]] * absmax[number / NESTED_BLOCK] + offset : absmax[number];
}

/* 4-bit codes, the first in the high nibble, become values: level · scale. Eight a thread: `count` may be anything below
 * 2³², but the codes end with a whole byte. */
KERNEL(dequantize) {
    SHARED float level[16];
    for (int at = THREAD; at < 16; at += THREADS) level[at] = levels[at];
    SYNC;
    /* Eight values from a multiple of eight on have one scale. */
    const int even = block % 8 == 0 && (!by_row || in_features % 8 == 0);
    EACH(eighth, ((i64)count + 7) / 8) {
        const u32 first = (u32)eighth * 8, left = (u32)count - first;
        float scale = scale_of(first, in_features, block, by_row, scales, absmax, map, offset);
        if (even && left >= 8) {
            const u32 word = *(const u32 *)(codes + first / 2);
#ifdef BF16
            u32 pairs[4];
            for (int pair = 0; pair < 4; pair++) {
                const u32 byte = word >> (8 * pair) & 255u;
                pairs[pair] = narrow(level[byte >> 4] * scale) | (u32)narrow(level[byte & 15u] * scale) << 16;
            }
            u32 *to = (u32 *)(out + first);
            for (int pair = 0; pair < 4; pair++) to[pair] = pairs[pair];
#else
            for (int pair = 0; pair < 4; pair++) {
                const u32 byte = word >> (8 * pair) & 255u;
                out[first + 2 * pair] = level[byte >> 4] * scale;
                out[first + 2 * pair + 1] = level[byte & 15u] * scale;
            }
#endif
        } else {
            for (u32 i = 0; i < 8 && i < left; i++) {
                scale = scale_of(first + i, in_features, block, by_row, scales, absmax, map, offset);
                const int byte = codes[(first + i) / 2];
                out[first + i] = narrow(level[i % 2 ? byte & 15 : byte >> 4] * scale);
            }
        }
    }
}

/* f32 to floatX. */
KERNEL(convert) {
    EACH(at, (i64)count) to[at] = narrow(from[at]);
}

/* ---- rows ---- */

/* Rows of the embedding, scaled, with the positions' rows added where there are any. */
KERNEL(embed) {
    EACH(at, (i64)tokens * width) {
        const struct cell cell = cell_of(at, width);
        const int token = (int)cell.row, column = cell.column;
        float x = widen(table[(i64)ids[token] * width + column]) * scale;
        if (positions) {
            const i64 position = position_of(first + token % seq, starts, token, positions_rows);
            x += widen(positions[position * width + column]);
        }
        out[at] = narrow(x);
    }
}

/* Adds rows of gradient to the embedding's, or without ids to the positions', a thread a column: tokens come in order. */
KERNEL(embed_backward) {
    EACH(column, width) {
        for (int token = 0; token < tokens; token++) {
            const i64 row = ids ? ids[token] : position_of(token % seq, starts, token, rows);
            gradient[row * width + column] += widen(d[(i64)token * width + column]) * scale;
        }
    }
}

/* `out[n] = from[index[n]]`, row by row. */
KERNEL(gather) {
    EACH(at, (i64)rows * width) {
        const struct cell cell = cell_of(at, width);
        out[at] = from[(i64)index[cell.row] * width + cell.column];
    }
}

/* `out[index[n]] = from[n]`; no row stands twice in the index. */
KERNEL(scatter) {
    EACH(at, (i64)rows * width) {
        const struct cell cell = cell_of(at, width);
        out[(i64)index[cell.row] * width + cell.column] = from[at];
    }
}

KERNEL(add) {
    EACH(at, (i64)count) to[at] = narrow(widen(to[at]) + scale * widen(from[at]));
}

KERNEL(scale) {
    EACH(at, (i64)count) to[at] = narrow(factor * widen(to[at]));
}

KERNEL(add_bias) {
    EACH(at, (i64)rows * width) {
        const struct cell cell = cell_of(at, width);
        floatX *place = to + cell.row * stride + cell.column;
        *place = narrow(widen(*place) + (weights ? weights[cell.row] * bias[cell.column] : bias[cell.column]));
    }
}

/* Threads as columns of 32 and lanes of rows: `sums[column] += Σ over rows`. A group takes 32 columns. */
KERNEL(column_sums) {
    SHARED float room[THREADS_MAX];
    const int columns = THREADS < COLUMNS ? THREADS : COLUMNS;
    const int lanes = THREADS / columns, lane = THREAD / columns;
    for (int begin = GROUP * columns; begin < width; begin += GROUPS * columns) {
        const int column = begin + THREAD % columns;
        float sum = 0;
        if (column < width)
            for (i64 row = lane; row < rows; row += lanes) {
                const float value = widen(x[row * stride + column]);
                sum += value * (weights ? weights[row] : 1.0f) * (along ? widen(along[row * width + column]) : 1.0f);
            }
        SYNC;
        room[THREAD] = sum;
        SYNC;
        if (lane == 0 && column < width) {
            for (int other = 1; other < lanes; other++) sum += room[other * columns + THREAD];
            sums[column] += by ? sum / by[column] : sum;
        }
    }
}

/* ---- norms: a workgroup for each group of each row ---- */

/* Where group number `at` begins. */
DEVICE i64 group_at(i64 at, const struct group_layout l) {
    const i64 row = divided(at, l.many);
    return row * l.stride + (at - row * l.many) * l.step;
}

KERNEL(norm_forward) {
    SHARED float room[THREADS_MAX];
    const int width = groups.width;
    const i64 begin = group_at(GROUP, groups);
    const floatX *row = x + begin;
    floatX *out = y + begin;
    float mean = 0, squares = 0;
    if (centred) {
        for (int i = THREAD; i < width; i += THREADS) mean += widen(row[i]);
        mean = total(mean, room) / width;
    }
    for (int i = THREAD; i < width; i += THREADS) {
        const float x = widen(row[i]) - mean;
        squares += x * x;
    }
    const float scale = 1.0f / sqrtf(total(squares, room) / width + eps);
    for (int i = THREAD; i < width; i += THREADS) {
        const float y = (widen(row[i]) - mean) * scale * (weight[i] + plus);
        out[i] = narrow(bias ? y + bias[i] : y);
    }
}

/* `dx = keep · dx + …`, in dy's place where there is none; mean and scale of every group go to `stats` where that is given. */
KERNEL(norm_backward) {
    SHARED float room[THREADS_MAX];
    const int width = groups.width;
    const i64 begin = group_at(GROUP, groups);
    /* Each thread reads a value for the last time before it writes it. */
    const floatX *from = dy ? dy : dx;
    float mean = 0, squares = 0, along = 0, shift = 0;
    if (centred) {
        for (int i = THREAD; i < width; i += THREADS) mean += widen(x[begin + i]);
        mean = total(mean, room) / width;
    }
    for (int i = THREAD; i < width; i += THREADS) {
        const float centre = widen(x[begin + i]) - mean;
        const float g = widen(from[begin + i]) * (weight[i] + plus);
        squares += centre * centre;
        along += g * centre;
        shift += g;
    }
    const float scale = 1.0f / sqrtf(total(squares, room) / width + eps);
    along = total(along, room) * scale / width;
    shift = centred ? total(shift, room) / width : 0;
    for (int i = THREAD; i < width; i += THREADS) {
        const float g = widen(from[begin + i]) * (weight[i] + plus);
        const float value = scale * (g - shift - (widen(x[begin + i]) - mean) * scale * along);
        dx[begin + i] = narrow(keep ? widen(dx[begin + i]) + value : value);
    }
    if (stats && THREAD == 0) {
        stats[2 * GROUP] = mean;
        stats[2 * GROUP + 1] = scale;
    }
}

/* `dw += Σ dy · (x − mean) · scale` over groups. */
KERNEL(norm_weights) {
    SHARED float room[THREADS_MAX];
    const int width = groups.width;
    const i64 count = (i64)groups.rows * groups.many;
    const int columns = THREADS < COLUMNS ? THREADS : COLUMNS;
    const int lanes = THREADS / columns, lane = THREAD / columns;
    for (int begin = GROUP * columns; begin < width; begin += GROUPS * columns) {
        const int column = begin + THREAD % columns;
        float sum = 0;
        if (column < width)
            for (i64 row = lane; row < count; row += lanes) {
                const i64 at = group_at(row, groups) + column;
                sum += widen(dy[at]) * (widen(x[at]) - stats[2 * row]) * stats[2 * row + 1];
            }
        SYNC;
        room[THREAD] = sum;
        SYNC;
        if (lane == 0 && column < width) {
            for (int other = 1; other < lanes; other++) sum += room[other * columns + THREAD];
            dw[column] += sum;
        }
    }
}

/* ---- heads ----
 *
 * A token's row holds queries, keys and values: head h of the queries begins at q_offset + h · q_step, and so on. The
 * products want them as [sequence][kv head][row][query head of the group][head_dim]; keys and values without the group,
 * and with room for `capacity` rows. On the way they are normalized (where there are weights) and turned by position.
 */
struct head {
    int token, sequence, row, which, kv, in_group, offset;
    i64 place;
};

/* Group number → token and head: first the query heads, then keys, then values. */
DEVICE struct head head_of(int group, const struct head_layout l) {
    const int seq = l.seq, heads = l.heads, kv_heads = l.kv_heads;
    const int all = heads + 2 * kv_heads, of_group = heads / kv_heads;
    struct head h;
    int head = group % all;
    h.token = group / all;
    h.sequence = h.token / seq;
    h.row = h.token % seq;
    h.in_group = 0;
    if (head < heads) {
        h.which = 0;
        h.kv = head / of_group;
        h.in_group = head % of_group;
        h.offset = l.q_offset + h.kv * l.q_group + h.in_group * l.q_step;
        h.place = ((((i64)h.sequence * kv_heads + h.kv) * seq + h.row) * of_group + h.in_group) * l.head_dim;
    } else {
        head -= heads;
        h.which = 1 + head / kv_heads;
        h.kv = head % kv_heads;
        h.offset = h.which == 1 ? l.k_offset + h.kv * l.k_step : l.v_offset + h.kv * l.v_step;
        h.place = (((i64)h.sequence * kv_heads + h.kv) * l.capacity + l.first + h.row) * l.head_dim;
    }
    return h;
}

/* Value i of a head, turned by its position: `sign` is 1 on the way forward and −1 on the way back. */
DEVICE float turned(const float *x, int i, int half, int interleaved, const float *cosines, const float *sines,
                    float sign) {
    if (i >= 2 * half) return x[i];
    const int first = interleaved ? i % 2 == 0 : i < half;
    const int apart = interleaved ? 1 : half, other = first ? i + apart : i - apart;
    const int pair = interleaved ? i / 2 : first ? i : other;
    const float c = cosines[pair], s = sign * sines[pair];
    return first ? x[i] * c - x[other] * s : x[i] * c + x[other] * s;
}

KERNEL(heads_forward) {
    SHARED float room[THREADS_MAX];
    SHARED float values[HEAD_DIM_MAX];
    const struct head h = head_of(GROUP, layout);
    const int dim = layout.head_dim, half = layout.half;
    const floatX *from = x + (i64)h.token * layout.stride + h.offset;
    floatX *to = (h.which == 0 ? q : h.which == 1 ? k : v) + h.place;
    const float *weight = h.which == 0 ? q_weight : h.which == 1 ? k_weight : 0;
    const float plus = h.which == 0 ? q_plus : k_plus;
    for (int i = THREAD; i < dim; i += THREADS) values[i] = widen(from[i]);
    if (weight) {
        float squares = 0;
        for (int i = THREAD; i < dim; i += THREADS) squares += values[i] * values[i];
        const float scale = 1.0f / sqrtf(total(squares, room) / dim + eps);
        /* In bf16 the normalized value is rounded, as everything between two operations is. */
        for (int i = THREAD; i < dim; i += THREADS)
            values[i] = widen(narrow(values[i] * scale * (weight[i] + plus)));
    }
    SYNC;
    const i64 angle = (i64)position_of(layout.first + h.row, starts, h.token, layout.positions) * half;
    const int turn = h.which < 2 ? half : 0;
    for (int i = THREAD; i < dim; i += THREADS)
        to[i] = narrow(turned(values, i, turn, layout.interleaved, cosines + angle, sines + angle, 1.0f));
}

/* From gradients by what the products got, in f32, to the gradient by the rows. Scales of the norms go to `stats`,
 * [token][query and key heads], where that is given. */
KERNEL(heads_backward) {
    SHARED float room[THREADS_MAX];
    SHARED float values[HEAD_DIM_MAX];
    const struct head h = head_of(GROUP, layout);
    const int dim = layout.head_dim, half = layout.half;
    const float *from = (h.which == 0 ? dq : h.which == 1 ? dk : dv) + h.place;
    const i64 begin = (i64)h.token * layout.stride + h.offset;
    const float *weight = h.which == 0 ? q_weight : h.which == 1 ? k_weight : 0;
    const float plus = h.which == 0 ? q_plus : k_plus;
    const i64 angle = (i64)position_of(layout.first + h.row, starts, h.token, layout.positions) * half;
    const int turn = h.which < 2 ? half : 0;
    for (int i = THREAD; i < dim; i += THREADS)
        values[i] = turned(from, i, turn, layout.interleaved, cosines + angle, sines + angle, -1.0f);
    SYNC;
    if (!weight) {
        for (int i = THREAD; i < dim; i += THREADS) dx[begin + i] = narrow(values[i]);
        return;
    }
    float squares = 0, along = 0;
    for (int i = THREAD; i < dim; i += THREADS) {
        const float value = widen(x[begin + i]);
        squares += value * value;
        along += value * values[i] * (weight[i] + plus);
    }
    const float scale = 1.0f / sqrtf(total(squares, room) / dim + eps);
    along = total(along, room) * scale / dim;
    for (int i = THREAD; i < dim; i += THREADS)
        dx[begin + i] = narrow(scale * (values[i] * (weight[i] + plus) - widen(x[begin + i]) * scale * along));
    if (stats && THREAD == 0) {
        const int head = h.which ? layout.heads + h.kv : h.kv * (layout.heads / layout.kv_heads) + h.in_group;
        stats[(i64)h.token * (layout.heads + layout.kv_heads) + head] = scale;
    }
}

/* Gradients of the norms' weights, `dw[i] += Σ over tokens and heads`: a group a column i. */
KERNEL(heads_weights) {
    SHARED float room[THREADS_MAX];
    const int heads = layout.heads, kv_heads = layout.kv_heads, half = layout.half;
    const int i = GROUP, many = of_keys ? kv_heads : heads, all = heads + 2 * kv_heads, from = of_keys ? heads : 0;
    const int tokens = layout.sequences * layout.seq;
    float sum = 0;
    for (int at = THREAD; at < tokens * many; at += THREADS) {
        const int token = at / many, head = from + at % many;
        const struct head h = head_of(token * all + head, layout);
        const i64 angle = (i64)position_of(layout.first + h.row, starts, token, layout.positions) * half;
        const float g = turned(gradient + h.place, i, half, layout.interleaved, cosines + angle, sines + angle, -1.0f);
        const float scale = stats[(i64)token * (heads + kv_heads) + head];
        sum += g * widen(x[(i64)token * layout.stride + h.offset + i]) * scale;
    }
    sum = total(sum, room);
    if (THREAD == 0) dw[i] += sum;
}

/* ---- attention: a group a row of scores ----
 *
 * Scores are [sequence and kv head][query row][query head of the group][key], of query rows from `first` on and keys from
 * `lo` on. Query row t is at position before + t and sees the keys from position + 1 − window to its own; where rows of
 * data share a sequence, none before its own row's start.
 */

struct sight {
    int begin, end;
    i64 along;
    /// Added to scores for each step towards later keys, counted from key `own`.
    float slope;
    int own, head;
    /// Where positions and biases are bf16: what biases are multiplied by, else 0; the place of the first key in its row of data, and
    /// the own place's bias.
    float alibi, mine;
    int first;
};

/* The nearest value that is bf16. */
DEVICE float as_bf16(float x) {
    union { float value; unsigned int bits; } it;
    it.value = x;
    it.bits += 0x7fffu + (it.bits >> 16 & 1u);
    it.bits &= 0xffff0000u;
    return it.value;
}

/* The bias of a place, as a tensor of bf16 has it. */
DEVICE float rounded_bias(float slope, int place) {
    return as_bf16(slope * as_bf16((float)place));
}

/* Slopes of heads, as alibi_slopes in src/spec. */
DEVICE float slope_of(int head, int heads) {
    int closest = 1;
    while (2 * closest <= heads) closest *= 2;
    return head < closest ? exp2f(-8.0f * (head + 1) / closest) : exp2f(-4.0f * (2 * (head - closest) + 1) / closest);
}

/* What a group's row of scores sees, counted from `lo`; and where its row's sum is kept. */
DEVICE struct sight sight_of(int group, const struct score_block b, float alibi, int rounded, const int *starts) {
    const int many = b.rows * b.group, number = group / many, inside = group % many;
    const int row = inside / b.group, position = b.position + row;
    int begin = position + 1 - b.window > b.lo ? position + 1 - b.window : b.lo;
    const int start = starts ? starts[(i64)(number / b.kv_heads) * b.seq + b.first + row] : 0;
    const int chunk = start + (position - start) / b.chunk * b.chunk;
    begin = chunk > begin ? chunk : begin;
    struct sight s;
    s.begin = begin - b.lo;
    s.end = position + 1 - b.lo;
    s.along = ((i64)number * b.seq + b.first) * b.group + inside;
    s.head = number % b.kv_heads * b.group + inside % b.group;
    s.slope = alibi != 0 ? alibi * slope_of(s.head, b.kv_heads * b.group) : 0.0f;
    s.own = position - b.lo;
    s.alibi = s.mine = 0;
    s.first = b.lo - start;
    if (rounded && alibi != 0) {
        s.slope = as_bf16(slope_of(s.head, b.kv_heads * b.group));
        s.alibi = alibi;
        s.mine = rounded_bias(s.slope, position - start);
    }
    return s;
}

/* A score as it is compared with others. */
DEVICE float score_of(const float *s, int i, const struct sight sight, float cap) {
    const float bias = sight.alibi != 0 ? sight.alibi * (rounded_bias(sight.slope, i + sight.first) - sight.mine)
                                        : sight.slope * (float)(i - sight.own);
    const float score = s[i] + bias;
    return cap > 0 ? cap * tanhf(score / cap) : score;
}

/* Probabilities from scores. */
KERNEL(softmax) {
    SHARED float room[THREADS_MAX];
    const struct sight sight = sight_of(GROUP, block, alibi, rounded, starts);
    const int keys = block.keys, begin = sight.begin, end = sight.end;
    const float *s = scores + (i64)GROUP * keys;
    floatX *to = p + (i64)GROUP * keys;
    float most = LEAST, sum = 0;
    for (int i = begin + THREAD; i < end; i += THREADS) most = fmaxf(most, score_of(s, i, sight, cap));
    most = largest(most, room);
    /* A sink is a score that belongs to no key. */
    if (sinks) most = fmaxf(most, sinks[sight.head]);
    const float sunk = sinks ? expf(sinks[sight.head] - most) : 0.0f;
    for (int i = begin + THREAD; i < end; i += THREADS) sum += expf(score_of(s, i, sight, cap) - most);
    const float inverse = 1.0f / (total(sum, room) + sunk);
    for (int i = THREAD; i < keys; i += THREADS) {
        const int seen = i >= begin && i < end;
        to[i] = narrow(seen ? expf(score_of(s, i, sight, cap) - most) * inverse : 0.0f);
    }
}

/* Probabilities again, and the gradient by the scores before their scale: p (dp − along), times the cap's slope. */
KERNEL(softmax_backward) {
    SHARED float room[THREADS_MAX];
    const struct sight sight = sight_of(GROUP, block, alibi, rounded, starts);
    const int keys = block.keys, begin = sight.begin, end = sight.end;
    const float *s = scores + (i64)GROUP * keys;
    const float mean = along[sight.along];
    const i64 row = (i64)GROUP * keys;
    float most = LEAST, sum = 0;
    for (int i = begin + THREAD; i < end; i += THREADS) most = fmaxf(most, score_of(s, i, sight, cap));
    most = largest(most, room);
    /* A sink is a score that belongs to no key. */
    if (sinks) most = fmaxf(most, sinks[sight.head]);
    const float sunk = sinks ? expf(sinks[sight.head] - most) : 0.0f;
    for (int i = begin + THREAD; i < end; i += THREADS) sum += expf(score_of(s, i, sight, cap) - most);
    const float inverse = 1.0f / (total(sum, room) + sunk);
    for (int i = THREAD; i < keys; i += THREADS) {
        float probability = 0, gradient = 0;
        if (i >= begin && i < end) {
            const float score = score_of(s, i, sight, cap), t = cap > 0 ? score / cap : 0;
            probability = expf(score - most) * inverse;
            gradient = probability * (dp[row + i] - mean) * (1.0f - t * t);
        }
        p[row + i] = narrow(probability);
        ds[row + i] = narrow(gradient);
    }
    if (shares && THREAD == 0) shares[GROUP] = sunk * inverse * mean;
}

/* From [sequence][kv head][row][group][dim] to rows of tokens. */
KERNEL(join_heads) {
    const int width = heads * head_dim, of_group = heads / kv_heads;
    EACH(at, (i64)sequences * seq * width) {
        const struct cell cell = cell_of(at, width);
        const int token = (int)cell.row, column = cell.column;
        const int head = column / head_dim, kv = head / of_group;
        const i64 row = ((i64)(token / seq) * kv_heads + kv) * seq + token % seq;
        to[at] = from[(row * of_group + head % of_group) * head_dim + column % head_dim];
    }
}

/* The way back for a gradient, and `along = Σ out · d` of every row and head: a group a row and head. */
KERNEL(split_heads) {
    SHARED float room[THREADS_MAX];
    const int token = GROUP / heads, head = GROUP % heads;
    const int of_group = heads / kv_heads, kv = head / of_group;
    const i64 row = (((i64)(token / seq) * kv_heads + kv) * seq + token % seq) * of_group + head % of_group;
    const i64 begin = (i64)GROUP * head_dim;
    float sum = 0;
    for (int i = THREAD; i < head_dim; i += THREADS) {
        sum += widen(out[begin + i]) * widen(d[begin + i]);
        to[row * head_dim + i] = d[begin + i];
    }
    sum = total(sum, room);
    if (THREAD == 0) along[row] = sum;
}

/* ---- the MLP's nonlinearity ---- */

DEVICE float activate(enum activation function, float x, float positive, float negative, float *slope) {
    switch (function) {
    case SILU: {
        const float s = 1.0f / (1.0f + expf(-x));
        *slope = s * (1.0f + x * (1.0f - s));
        return x * s;
    }
    case GELU_TANH: {
        const float root = 0.7978846f, cube = 0.044715f;
        const float t = tanhf(root * (x + cube * x * x * x));
        *slope = 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * root * (1.0f + 3.0f * cube * x * x);
        return 0.5f * x * (1.0f + t);
    }
    case GELU: {
        const float half = 0.5f * (1.0f + erff(x * 0.70710678f));
        *slope = half + x * expf(-0.5f * x * x) * 0.3989423f;
        return x * half;
    }
    case RELU: *slope = x > 0 ? 1.0f : 0.0f; return x > 0 ? x : 0.0f;
    case RELU2: *slope = x > 0 ? 2.0f * x : 0.0f; return x > 0 ? x * x : 0.0f;
    case CLAMPED: break;
    case XIELU: {
        if (x > 0) {
            *slope = 2.0f * positive * x + 0.5f;
            return positive * x * x + 0.5f * x;
        }
        const float near = -1e-6f, e = expf(fminf(x, near));
        *slope = negative * ((x < near ? e : 0.0f) - 1.0f) + 0.5f;
        return negative * (e - 1.0f - x) + 0.5f * x;
    }
    }
    *slope = NOT_A_NUMBER;
    return NOT_A_NUMBER;
}

/* `g · sigmoid(α g)` of a gate held below a limit, its slope by the gate, and `up + 1` held within the limit. */
struct clamped {
    float value, slope, up, by_up;
};

DEVICE struct clamped clamped_of(float gate, float up, float alpha, float limit) {
    const float g = fminf(gate, limit), s = 1.0f / (1.0f + expf(-alpha * g));
    struct clamped c;
    c.value = g * s;
    c.slope = gate > limit ? 0.0f : s * (1.0f + alpha * g * (1.0f - s));
    c.up = fminf(fmaxf(up, -limit), limit) + 1.0f;
    c.by_up = fabsf(up) > limit ? 0.0f : 1.0f;
    return c;
}

KERNEL(activation_forward) {
    if (function == CLAMPED) {
        EACH(at, (i64)rows * width) {
            const struct clamped c = clamped_of(widen(up[2 * at]), widen(up[2 * at + 1]), positive, negative);
            out[at] = narrow(c.up * c.value);
        }
        return;
    }
    EACH(at, (i64)rows * width) {
        const struct cell cell = cell_of(at, width);
        const i64 begin = cell.row * (gated ? 2 * width : width);
        const int column = cell.column;
        float slope, value = activate(function, widen(up[begin + column]), positive, negative, &slope);
        if (gated) value *= widen(up[begin + width + column]);
        out[at] = narrow(value);
    }
}

/* What went in becomes the gradient by it. */
KERNEL(activation_backward) {
    if (function == CLAMPED) {
        EACH(at, (i64)rows * width) {
            const struct clamped c = clamped_of(widen(up[2 * at]), widen(up[2 * at + 1]), positive, negative);
            const float g = widen(d[at]);
            up[2 * at] = narrow(g * c.up * c.slope);
            up[2 * at + 1] = narrow(g * c.value * c.by_up);
        }
        return;
    }
    EACH(at, (i64)rows * width) {
        const struct cell cell = cell_of(at, width);
        const i64 begin = cell.row * (gated ? 2 * width : width);
        const int column = cell.column;
        float slope;
        const float value = activate(function, widen(up[begin + column]), positive, negative, &slope), g = widen(d[at]);
        if (gated) {
            const float other = widen(up[begin + width + column]);
            up[begin + width + column] = narrow(g * value);
            up[begin + column] = narrow(g * other * slope);
        } else {
            up[begin + column] = narrow(g * slope);
        }
    }
}

/* ---- dropout: as src/model/dropout.rs, value by value ---- */

DEVICE u64 mixed(u64 x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ull;
    return x ^ (x >> 33);
}

/* `to = keep · to + dropped(from)`. */
KERNEL(dropout) {
    const u64 limit = (u64)((double)p * 4294967296.0);
    EACH(at, (i64)count) {
        const float value = mixed(key ^ (u64)at) >> 32 < limit ? 0.0f : widen(from[at]) * scale;
        to[at] = narrow(keep ? widen(to[at]) + value : value);
    }
}

/* ---- loss: a group a row of logits ---- */

/* `losses[row] = log Σ e^l − l[target]`, and the gradient times `scale` where it is wanted. */
KERNEL(cross_entropy) {
    SHARED float room[THREADS_MAX];
    const float *l = logits + (i64)GROUP * vocab;
    const int target = targets[GROUP];
    float most = LEAST, sum = 0, bad = 0;
    for (int i = THREAD; i < vocab; i += THREADS) {
        const float x = cap > 0 ? cap * tanhf(l[i] / cap) : l[i];
        /* fmaxf passes over NaN: it is looked for by itself. */
        bad += x != x;
        most = fmaxf(most, x);
    }
    most = largest(most, room);
    bad = total(bad, room);
    for (int i = THREAD; i < vocab; i += THREADS) sum += expf((cap > 0 ? cap * tanhf(l[i] / cap) : l[i]) - most);
    sum = total(sum, room);
    if (THREAD == 0) {
        const float x = cap > 0 ? cap * tanhf(l[target] / cap) : l[target];
        losses[GROUP] = bad > 0 ? NOT_A_NUMBER : logf(sum) + (most - x);
    }
    if (!d) return;
    const float factor = scale / sum;
    for (int i = THREAD; i < vocab; i += THREADS) {
        const float t = cap > 0 ? tanhf(l[i] / cap) : 0;
        const float g = expf((cap > 0 ? cap * t : l[i]) - most) * factor - (i == target ? scale : 0.0f);
        d[(i64)GROUP * vocab + i] = narrow(g * (1.0f - t * t));
    }
}

KERNEL(add_logit_bias) {
    EACH(at, (i64)rows * vocab) logits[at] += bias[cell_of(at, vocab).column];
}

/* `cap · tanh(l / cap)` in place. */
KERNEL(cap_logits) {
    EACH(at, (i64)count) logits[at] = cap * tanhf(logits[at] / cap);
}

/* ---- sums over everything, in f64 ---- */

/* `totals[which] += Σ values`; one group. */
KERNEL(sum) {
    SHARED double room[THREADS_MAX];
    double sum = 0;
    for (i64 at = THREAD; at < (i64)count; at += THREADS) sum += values[at];
    sum = total64(sum, room);
    if (THREAD == 0) totals[which] += sum;
}

/* Σ values² of a part each group. */
KERNEL(squares) {
    SHARED double room[THREADS_MAX];
    double sum = 0;
    EACH(at, (i64)count) sum += (double)values[at] * values[at];
    sum = total64(sum, room);
    if (THREAD == 0) parts[GROUP] = sum;
}

/* `totals[which] = Σ parts`; one group. */
KERNEL(sum_parts) {
    SHARED double room[THREADS_MAX];
    double sum = 0;
    for (int at = THREAD; at < count; at += THREADS) sum += parts[at];
    sum = total64(sum, room);
    if (THREAD == 0) totals[which] = sum;
}

/* ---- AdamW: as src/train/adamw.rs; the clipping is here, so that nobody waits for the norm ---- */

KERNEL(adamw) {
    /* A step that went wrong changes nothing; the host reads the same two numbers and stops. */
    if (!(totals[0] - totals[0] == 0 && totals[1] - totals[1] == 0)) return;
    const double norm = sqrt(totals[1]);
    const double clipped = max_norm > 0 ? (double)max_norm / (norm + 1e-6) : 1.0;
    const float factor = (float)(clipped < 1.0 ? clipped : 1.0);
    EACH(at, (i64)count) {
        const float gradient = g[at] * factor;
        const float mean = m[at] + (gradient - m[at]) * one_minus_beta1;
        const float square = v[at] * (1.0f - one_minus_beta2) + gradient * gradient * one_minus_beta2;
        m[at] = mean;
        v[at] = square;
        p[at] = p[at] * decay - step * mean / (sqrtf(square) / root2 + eps);
        if (working) working[at] = narrow(p[at]);
    }
}
