/* Mixers with a state: what src/model/gpu/kernels_state.rs describes. Compiled behind kernels_rows.cu. */

KERNEL(multiply_columns) {
    EACH(at, (i64)rows * width) {
        const struct cell cell = cell_of(at, width);
        const float product = widen(a[cell.row * a_stride + cell.column]) * widen(b[cell.row * b_stride + cell.column]);
        to[cell.row * to_stride + cell.column] = narrow(product);
    }
}

/* ---- convolution ---- */

/* How many rows before a row belong to its row of data. */
DEVICE int rows_before(i64 row, int seq, const int *starts) {
    const int inside = (int)(row % seq);
    return starts ? inside - starts[row] : inside;
}

/* What goes into the nonlinearity, of one row and channel. */
DEVICE float conv_at(const floatX *x, const float *weight, const float *bias, const floatX *before, const int *starts,
                     i64 row, int channel, const struct conv_layout c) {
    const int many = rows_before(row, c.seq, starts);
    float pre = bias ? bias[channel] : 0.0f;
    for (int tap = 0; tap < c.kernel; tap++) {
        const int back = c.kernel - 1 - tap;
        float value = 0;
        if (back <= many) value = widen(x[(row - back) * c.stride + channel]);
        else if (before) value = widen(before[(i64)(c.kernel - 1 + many - back) * c.out_stride + channel]);
        pre += weight[channel * c.kernel + tap] * value;
    }
    return pre;
}

KERNEL(conv_forward) {
    EACH(at, (i64)conv.rows * conv.channels) {
        const struct cell cell = cell_of(at, conv.channels);
        const float pre = conv_at(x, weight, bias, before, starts, cell.row, cell.column, conv);
        out[cell.row * conv.out_stride + cell.column] = narrow(silu ? pre * sigmoid_of(pre) : pre);
    }
}

KERNEL(conv_slopes) {
    EACH(at, (i64)conv.rows * conv.channels) {
        const struct cell cell = cell_of(at, conv.channels);
        const float pre = conv_at(x, weight, bias, 0, starts, cell.row, cell.column, conv), s = sigmoid_of(pre);
        floatX *place = d + cell.row * conv.out_stride + cell.column;
        *place = narrow(widen(*place) * s * (1.0f + pre * (1.0f - s)));
    }
}

KERNEL(conv_backward) {
    EACH(at, (i64)conv.rows * conv.channels) {
        const struct cell cell = cell_of(at, conv.channels);
        const int inside = (int)(cell.row % conv.seq);
        float sum = 0;
        for (int tap = 0; tap < conv.kernel; tap++) {
            const int ahead = conv.kernel - 1 - tap;
            const i64 later = cell.row + ahead;
            if (inside + ahead >= conv.seq || later >= conv.rows) continue;
            if (starts && starts[later] != starts[cell.row]) continue;
            sum += weight[cell.column * conv.kernel + tap] * widen(d[later * conv.out_stride + cell.column]);
        }
        dx[cell.row * conv.stride + cell.column] = narrow(sum);
    }
}

KERNEL(conv_weights) {
    SHARED float room[THREADS_MAX];
    const int channel = GROUP / conv.kernel, back = conv.kernel - 1 - GROUP % conv.kernel;
    float sum = 0;
    for (i64 row = THREAD; row < conv.rows; row += THREADS)
        if (back <= rows_before(row, conv.seq, starts))
            sum += widen(d[row * conv.out_stride + channel]) * widen(x[(row - back) * conv.stride + channel]);
    sum = total(sum, room);
    if (THREAD == 0) dw[GROUP] += sum;
}

/* ---- what a recurrence decays and weighs by ---- */

DEVICE float softplus_of(float x) { return x > 20.0f ? x : logf(1.0f + expf(x)); }

KERNEL(scan_factors) {
    EACH(at, (i64)rows * heads) {
        const struct cell cell = cell_of(at, heads);
        const floatX *row = x + cell.row * stride;
        const float last = softplus_of(widen(row[stride - heads + cell.column]) + dt_bias[cell.column]);
        const float decay = -expf(a_log[cell.column]);
        float *to = factors + cell.row * 2 * heads + cell.column;
        if (delta) {
            to[0] = decay * last;
            to[heads] = beta * sigmoid_of(widen(row[stride - 2 * heads + cell.column]));
        } else {
            const float dt = fminf(fmaxf(last, least), most);
            to[0] = decay * dt;
            to[heads] = dt;
        }
    }
}

/* `d` becomes what the gradients of A_log and dt_bias are sums of. */
KERNEL(scan_factors_backward) {
    EACH(at, (i64)rows * heads) {
        const struct cell cell = cell_of(at, heads);
        const i64 begin = cell.row * stride + stride - heads + cell.column;
        const float z = widen(x[begin]) + dt_bias[cell.column];
        const float last = softplus_of(z), slope = sigmoid_of(z), decay = -expf(a_log[cell.column]);
        float *by = d + cell.row * 2 * heads + cell.column;
        const float by_g = by[0], by_f = by[heads];
        float by_a, by_z;
        if (delta) {
            const float s = sigmoid_of(widen(x[begin - heads]));
            d_rows[begin - heads] = narrow(by_f * beta * s * (1.0f - s));
            by_a = by_g * decay * last;
            by_z = by_g * decay * slope;
        } else {
            by_a = by_g * decay * fminf(fmaxf(last, least), most);
            by_z = last >= least && last <= most ? (by_f + by_g * decay) * slope : 0.0f;
        }
        d_rows[begin] = narrow(by_z);
        by[0] = by_a;
        by[heads] = by_z;
    }
}

KERNEL(sum_floats) {
    SHARED float room[THREADS_MAX];
    float sum = 0;
    for (i64 row = THREAD; row < rows; row += THREADS) sum += x[row * stride + GROUP];
    sum = total(sum, room);
    if (THREAD == 0) sums[GROUP] += sum;
}

/* ---- the recurrence: a group a sequence and value head; a thread has columns of the state ---- */

/* Reads a query or key into `to`; what it was multiplied by to be normalized, where the delta rule asks for that. */
DEVICE float key_of(const floatX *from, int dim, int delta, float scale, float *to, float *room) {
    float factor = 1.0f;
    if (delta) {
        float squares = 0;
        for (int i = THREAD; i < dim; i += THREADS) squares += widen(from[i]) * widen(from[i]);
        factor = scale / sqrtf(total(squares, room) + 1e-6f);
    }
    SYNC;
    for (int i = THREAD; i < dim; i += THREADS) to[i] = widen(from[i]) * factor;
    SYNC;
    return factor;
}

KERNEL(scan_forward) {
    SHARED float room[THREADS_MAX];
    SHARED float query[STATE_DIM_MAX];
    SHARED float key[STATE_DIM_MAX];
    const struct scan_layout l = scan;
    const int sequence = GROUP / l.value_heads, head = GROUP % l.value_heads;
    const int of_key = head / (l.value_heads / l.key_heads), dk = l.key_dim, dv = l.value_dim;
    const i64 size = (i64)dk * dv;
    float *s = running + GROUP * size;
    const int chunks = (l.seq + STATE_ROWS - 1) / STATE_ROWS;
    for (int t = 0; t < l.seq; t++) {
        const i64 row = (i64)sequence * l.seq + t;
        const int begins = starts ? starts[row] == t : t == 0 && !resume;
        const floatX *from = x + row * l.stride;
        key_of(from + l.q + of_key * dk, dk, l.delta, 1.0f / sqrtf((float)dk), query, room);
        key_of(from + l.k + of_key * dk, dk, l.delta, 1.0f, key, room);
        const float e = expf(factors[row * 2 * l.value_heads + head]);
        const float f = factors[row * 2 * l.value_heads + l.value_heads + head];
        float *at = kept && t % STATE_ROWS == 0 ? kept + ((i64)GROUP * chunks + t / STATE_ROWS) * size : 0;
        for (int j = THREAD; j < dv; j += THREADS) {
            const float v = widen(from[l.v + head * dv + j]);
            float along = 0, sum = 0;
            for (int i = 0; i < dk; i++) {
                const float before = begins ? 0.0f : s[(i64)i * dv + j];
                if (at) at[(i64)i * dv + j] = before;
                s[(i64)i * dv + j] = before * e;
                along += key[i] * before * e;
            }
            const float w = f * (l.delta ? v - along : v);
            for (int i = 0; i < dk; i++) {
                const float state = s[(i64)i * dv + j] + key[i] * w;
                s[(i64)i * dv + j] = state;
                sum += query[i] * state;
            }
            y[row * l.value_heads * dv + head * dv + j] = narrow(skip ? sum + skip[head] * v : sum);
        }
    }
}

KERNEL(scan_backward) {
    SHARED float room[THREADS_MAX];
    SHARED float query[STATE_DIM_MAX];
    SHARED float key[STATE_DIM_MAX];
    SHARED float news[STATE_DIM_MAX];
    SHARED float by_along[STATE_DIM_MAX];
    SHARED float by_out[STATE_DIM_MAX];
    const struct scan_layout l = scan;
    const int sequence = GROUP / l.value_heads, head = GROUP % l.value_heads;
    const int of_key = head / (l.value_heads / l.key_heads), dk = l.key_dim, dv = l.value_dim;
    const i64 size = (i64)dk * dv;
    const int chunks = (l.seq + STATE_ROWS - 1) / STATE_ROWS;
    float *own = states + GROUP * STATE_ROWS * size, *ds = d_state + GROUP * size;
    for (i64 i = THREAD; i < size; i += THREADS) ds[i] = 0;
    for (int chunk = chunks - 1; chunk >= 0; chunk--) {
        const int first = chunk * STATE_ROWS, count = l.seq - first < STATE_ROWS ? l.seq - first : STATE_ROWS;
        SYNC;
        const float *from_kept = kept + ((i64)GROUP * chunks + chunk) * size;
        for (i64 i = THREAD; i < size; i += THREADS) own[i] = from_kept[i];
        /* States that rows begin with, row after row. */
        for (int at = 0; at + 1 < count; at++) {
            const i64 row = (i64)sequence * l.seq + first + at;
            const floatX *from = x + row * l.stride;
            key_of(from + l.k + of_key * dk, dk, l.delta, 1.0f, key, room);
            const float e = expf(factors[row * 2 * l.value_heads + head]);
            const float f = factors[row * 2 * l.value_heads + l.value_heads + head];
            const int ends = starts && starts[row + 1] == first + at + 1;
            const float *s = own + at * size;
            float *next = own + (at + 1) * size;
            for (int j = THREAD; j < dv; j += THREADS) {
                float along = 0;
                for (int i = 0; i < dk; i++) along += key[i] * s[(i64)i * dv + j] * e;
                const float v = widen(from[l.v + head * dv + j]), w = f * (l.delta ? v - along : v);
                for (int i = 0; i < dk; i++)
                    next[(i64)i * dv + j] = ends ? 0.0f : s[(i64)i * dv + j] * e + key[i] * w;
            }
        }
        for (int at = count - 1; at >= 0; at--) {
            const i64 row = (i64)sequence * l.seq + first + at;
            const floatX *from = x + row * l.stride;
            key_of(from + l.q + of_key * dk, dk, l.delta, 1.0f / sqrtf((float)dk), query, room);
            key_of(from + l.k + of_key * dk, dk, l.delta, 1.0f, key, room);
            const float e = expf(factors[row * 2 * l.value_heads + head]);
            const float f = factors[row * 2 * l.value_heads + l.value_heads + head];
            const int begins = starts && starts[row] == first + at;
            const float *s = own + at * size;
            float by_f = 0, by_g = 0;
            for (int j = THREAD; j < dv; j += THREADS) {
                const float v = widen(from[l.v + head * dv + j]);
                const float g = widen(dy[row * l.value_heads * dv + head * dv + j]);
                float along = 0, by_w = 0;
                for (int i = 0; i < dk; i++) {
                    const float d = ds[(i64)i * dv + j] + query[i] * g;
                    ds[(i64)i * dv + j] = d;
                    by_w += key[i] * d;
                    along += key[i] * s[(i64)i * dv + j] * e;
                }
                const float less = l.delta ? v - along : v;
                news[j] = f * less;
                by_along[j] = l.delta ? -f * by_w : 0.0f;
                by_out[j] = g;
                by_f += by_w * less;
                dx[row * l.stride + l.v + head * dv + j] = narrow(f * by_w + (skip ? skip[head] * g : 0.0f));
            }
            by_f = total(by_f, room);
            SYNC;
            float *to = d_keys + (row * l.value_heads + head) * 2 * dk;
            for (int i = THREAD; i < dk; i += THREADS) {
                float by_query = 0, by_key = 0;
                for (int j = 0; j < dv; j++) {
                    const float decayed = s[(i64)i * dv + j] * e, d = ds[(i64)i * dv + j];
                    const float by_decayed = d + key[i] * by_along[j];
                    by_query += (decayed + key[i] * news[j]) * by_out[j];
                    by_key += d * news[j] + decayed * by_along[j];
                    by_g += by_decayed * decayed;
                    ds[(i64)i * dv + j] = begins ? 0.0f : by_decayed * e;
                }
                to[i] = by_query;
                to[dk + i] = by_key;
            }
            by_g = total(by_g, room);
            SYNC;
            if (THREAD == 0) {
                d_factors[row * 2 * l.value_heads + head] = by_g;
                d_factors[row * 2 * l.value_heads + l.value_heads + head] = by_f;
            }
        }
    }
}

/* A group a row, key head, and query or key. */
KERNEL(scan_keys_backward) {
    SHARED float room[THREADS_MAX];
    SHARED float values[STATE_DIM_MAX];
    const struct scan_layout l = scan;
    const int which = GROUP % 2, of_key = GROUP / 2 % l.key_heads, dk = l.key_dim, group = l.value_heads / l.key_heads;
    const i64 row = GROUP / 2 / l.key_heads, begin = row * l.stride + (which ? l.k : l.q) + of_key * dk;
    float squares = 0, along = 0;
    for (int i = THREAD; i < dk; i += THREADS) {
        float sum = 0;
        for (int of = 0; of < group; of++)
            sum += d_keys[(row * l.value_heads + of_key * group + of) * 2 * dk + which * dk + i];
        values[i] = sum;
        const float value = widen(x[begin + i]);
        squares += value * value;
        along += value * sum;
    }
    squares = total(squares, room) + 1e-6f;
    along = total(along, room) / squares;
    const float factor = (which ? 1.0f : 1.0f / sqrtf((float)dk)) / sqrtf(squares);
    for (int i = THREAD; i < dk; i += THREADS)
        dx[begin + i] = narrow(l.delta ? factor * (values[i] - widen(x[begin + i]) * along) : values[i]);
}

KERNEL(skip_sums) {
    SHARED float room[THREADS_MAX];
    const int dv = scan.value_dim, rows = scan.sequences * scan.seq;
    float sum = 0;
    for (i64 at = THREAD; at < (i64)rows * dv; at += THREADS) {
        const struct cell cell = cell_of(at, dv);
        const i64 column = (i64)GROUP * dv + cell.column;
        sum += widen(x[cell.row * scan.stride + scan.v + column]) * widen(d[cell.row * scan.value_heads * dv + column]);
    }
    sum = total(sum, room);
    if (THREAD == 0) sums[GROUP] += sum;
}

/* ---- gate and norm: a group for each group of each row ---- */

KERNEL(gated_forward) {
    SHARED float room[THREADS_MAX];
    const int many = width / group, number = GROUP % many;
    const i64 row = GROUP / many, begin = row * width + (i64)number * group, gate = row * stride + (i64)number * group;
    float squares = 0;
    for (int i = THREAD; i < group; i += THREADS) {
        const float g = widen(z[gate + i]), value = widen(y[begin + i]) * (norm_first ? 1.0f : g * sigmoid_of(g));
        squares += value * value;
    }
    const float scale = weight ? 1.0f / sqrtf(total(squares, room) / group + eps) : 1.0f;
    const float *w = weight && scales != group ? weight + (i64)number * group : weight;
    for (int i = THREAD; i < group; i += THREADS) {
        const float g = widen(z[gate + i]);
        out[begin + i] = narrow(widen(y[begin + i]) * g * sigmoid_of(g) * scale * (w ? w[i] : 1.0f));
    }
}

KERNEL(gated_backward) {
    SHARED float room[THREADS_MAX];
    const int many = width / group, number = GROUP % many;
    const i64 row = GROUP / many, begin = row * width + (i64)number * group, gate = row * stride + (i64)number * group;
    const float *w = weight && scales != group ? weight + (i64)number * group : weight;
    float squares = 0, along = 0;
    for (int i = THREAD; i < group; i += THREADS) {
        const float g = widen(z[gate + i]), silu = g * sigmoid_of(g);
        const float value = widen(y[begin + i]) * (norm_first ? 1.0f : silu);
        squares += value * value;
        along += widen(d[begin + i]) * (norm_first ? silu : 1.0f) * (w ? w[i] : 1.0f) * value;
    }
    const float scale = weight ? 1.0f / sqrtf(total(squares, room) / group + eps) : 1.0f;
    along = weight ? total(along, room) * scale * scale / group : 0.0f;
    for (int i = THREAD; i < group; i += THREADS) {
        const float g = widen(z[gate + i]), s = sigmoid_of(g), silu = g * s, slope = s * (1.0f + g * (1.0f - s));
        const float by = widen(d[begin + i]), own = widen(y[begin + i]), x = own * (norm_first ? 1.0f : silu);
        const float of = w ? w[i] : 1.0f;
        const float by_x = scale * (by * (norm_first ? silu : 1.0f) * of - x * along);
        if (products) products[begin + i] = narrow(by * (norm_first ? silu : 1.0f) * x * scale);
        dz[gate + i] = narrow(norm_first ? by * x * scale * of * slope : by_x * own * slope);
        d[begin + i] = narrow(norm_first ? by_x : by_x * silu);
    }
}
