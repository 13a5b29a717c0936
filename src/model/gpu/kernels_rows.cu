/* Rows of some families: what src/model/gpu/kernels_rows.rs describes. Compiled behind kernels.cu. */

KERNEL(copy_columns) {
    EACH(at, (i64)rows * parts * width) {
        const struct cell cell = cell_of(at, parts * width);
        const int part = cell.column / width, column = cell.column % width;
        const float x = widen(from[cell.row * stride + (i64)part * step + column]);
        floatX *place = to + cell.row * to_stride + (i64)part * to_step + column;
        *place = narrow(add ? widen(*place) + x : x);
    }
}

KERNEL(fold_columns) {
    EACH(at, (i64)rows * width) {
        const struct cell cell = cell_of(at, width);
        float sum = 0;
        for (int part = 0; part < parts; part++) sum += widen(from[cell.row * stride + (i64)part * step + cell.column]);
        to[cell.row * to_stride + cell.column] = narrow(sum);
    }
}

KERNEL(reorder) {
    EACH(at, (i64)rows * width) {
        const struct cell cell = cell_of(at, width);
        const i64 other = cell.row * width + order[cell.column];
        if (back) to[other] = from[at];
        else to[at] = from[other];
    }
}

KERNEL(copy_weight) {
    EACH(at, (i64)count) to[at] = from[at];
}

KERNEL(clip) {
    EACH(at, (i64)count) to[at] = narrow(fminf(fmaxf(widen(to[at]), -bound), bound));
}

KERNEL(clip_backward) {
    EACH(at, (i64)count)
        if (fabsf(widen(raw[at])) > bound) d[at] = narrow(0.0f);
}

KERNEL(turn) {
    EACH(at, (i64)rows * heads * half) {
        const struct cell cell = cell_of(at, heads * half);
        const int head = cell.column / half, pair = cell.column % half;
        const int position = position_of(first + (int)(cell.row % seq), starts, cell.row, positions);
        floatX *one = x + cell.row * stride + (i64)head * step + (interleaved ? 2 * pair : pair);
        floatX *other = one + (interleaved ? 1 : half);
        const float c = cosines[(i64)position * half + pair], s = sign * sines[(i64)position * half + pair];
        const float a = widen(*one), b = widen(*other);
        *one = narrow(a * c - b * s);
        *other = narrow(b * c + a * s);
    }
}

KERNEL(scale_queries) {
    EACH(at, (i64)rows * width) {
        const struct cell cell = cell_of(at, width);
        int position = first + (int)(cell.row % seq);
        if (starts) position -= starts[cell.row];
        position = position < 0 ? 0 : position;
        floatX *place = x + cell.row * stride + cell.column;
        *place = narrow(widen(*place) * (1.0f + beta * logf(1.0f + (float)((position + shift) / original))));
    }
}

KERNEL(sink_sums) {
    EACH(head, kv_heads * group) {
        const int kv = (int)head / group, in_group = (int)head % group;
        float sum = 0;
        for (int sequence = 0; sequence < sequences; sequence++)
            for (int row = 0; row < rows; row++)
                sum += shares[(((i64)sequence * kv_heads + kv) * rows + row) * group + in_group];
        sums[head] -= sum;
    }
}

DEVICE float sigmoid_of(float x) { return 1.0f / (1.0f + expf(-x)); }

KERNEL(gate_forward) {
    EACH(at, count) out[at] = narrow(widen(x[at]) * sigmoid_of(widen(gate[divided(at, width)])));
}

KERNEL(gate_backward) {
    EACH(at, count) {
        const float s = sigmoid_of(widen(gate[at])), g = widen(d[at]);
        gate[at] = narrow(g * widen(x[at]) * s * (1.0f - s));
        d[at] = narrow(g * s);
    }
}

KERNEL(gate_rows_backward) {
    SHARED float room[THREADS_MAX];
    const i64 begin = (i64)GROUP * width;
    const float s = sigmoid_of(widen(gate[GROUP]));
    float sum = 0;
    for (int i = THREAD; i < width; i += THREADS) {
        sum += widen(d[begin + i]) * widen(x[begin + i]);
        d[begin + i] = narrow(widen(d[begin + i]) * s);
    }
    sum = total(sum, room);
    if (THREAD == 0) gate[GROUP] = narrow(sum * s * (1.0f - s));
}

/* ---- experts ---- */

KERNEL(combine) {
    EACH(at, (i64)tokens * width) {
        const struct cell cell = cell_of(at, width);
        float sum = keep ? widen(to[at]) : 0.0f;
        for (int choice = 0; choice < chosen; choice++)
            sum += widen(from[(i64)index[cell.row * chosen + choice] * width + cell.column]);
        to[at] = narrow(sum);
    }
}

KERNEL(scale_rows) {
    EACH(at, (i64)rows * width) {
        const i64 row = divided(at, width);
        to[at] = narrow(widen(to[at]) * (by ? factors[row] / by[row] : factors[row]));
    }
}

KERNEL(weigh_backward) {
    SHARED float room[THREADS_MAX];
    const i64 begin = (i64)GROUP * width;
    const float weight = weights[GROUP];
    float sum = 0;
    for (int i = THREAD; i < width; i += THREADS) {
        const float g = widen(d[begin + i]);
        sum += g * widen(x[begin + i]);
        d[begin + i] = narrow(g * weight);
    }
    sum = total(sum, room);
    if (THREAD == 0) dw[GROUP] = narrow(widen(dw[GROUP]) + sum);
}

KERNEL(bias_along) {
    SHARED float room[THREADS_MAX];
    float sum = 0;
    for (int i = THREAD; i < width; i += THREADS) sum += widen(d[(i64)GROUP * width + i]) * bias[i];
    sum = total(sum, room);
    if (THREAD == 0) dw[GROUP] = narrow(widen(dw[GROUP]) + sum);
}

/* ---- magnitudes ---- */

KERNEL(row_norms) {
    SHARED float room[THREADS_MAX];
    float squares = 0;
    for (int i = THREAD; i < width; i += THREADS) {
        const float value = widen(x[(i64)GROUP * width + i]);
        squares += value * value;
    }
    squares = total(squares, room);
    if (THREAD == 0) norms[GROUP] = sqrtf(squares);
}

KERNEL(scale_columns) {
    EACH(at, (i64)rows * width) {
        const struct cell cell = cell_of(at, width);
        const float x = widen(from[cell.row * stride + cell.column]) * m[cell.column];
        out[at] = narrow(norms ? x / norms[cell.column] : x);
    }
}
