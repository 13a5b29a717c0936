
//# copy_columns
    EACH(at, a.rows * a.parts * a.width) {
        let row = at / (a.parts * a.width);
        let part = at / a.width % a.parts;
        let column = at % a.width;
        var x = load_from(row * a.stride + part * a.step + column);
        let place = row * a.to_stride + part * a.to_step + column;
        if a.add != 0u { x += load_to(place); }
        store_to(place, x);
    }

//# fold_columns
    EACH(at, a.rows * a.width) {
        let row = at / a.width;
        let column = at % a.width;
        var sum = 0.0;
        for (var part = 0u; part < a.parts; part++) { sum += load_from(row * a.stride + part * a.step + column); }
        store_to(row * a.to_stride + column, sum);
    }

//# reorder
    EACH(at, a.rows * a.width) {
        let other = at / a.width * a.width + u32(load_order(at % a.width));
        if a.back != 0u { store_to(other, load_from(at)); } else { store_to(at, load_from(other)); }
    }

//# copy_weight
    EACH(at, a.count.x) { store_to(at, load_from(at)); }

//# clip
    EACH(at, a.count.x) { store_to(at, clamp(load_to(at), -a.bound, a.bound)); }

//# clip_backward
    EACH(at, a.count.x) {
        if abs(load_raw(at)) > a.bound { store_d(at, 0.0); }
    }

//# turn
    EACH(at, a.rows * a.heads * a.half) {
        let row = at / (a.heads * a.half);
        let head = at / a.half % a.heads;
        let pair = at % a.half;
        let angle = position_of(a.first + row % a.seq, row, a.positions) * a.half + pair;
        let one = row * a.stride + head * a.step + select(pair, 2u * pair, a.interleaved != 0u);
        let other = one + select(a.half, 1u, a.interleaved != 0u);
        let c = load_cosines(angle);
        let s = a.sign * load_sines(angle);
        let x = load_x(one);
        let y = load_x(other);
        store_x(one, x * c - y * s);
        store_x(other, y * c + x * s);
    }

//# scale_queries
    EACH(at, a.rows * a.width) {
        let row = at / a.width;
        var position = i32(a.first + row % a.seq);
        if has_starts() { position -= load_starts(row); }
        let turns = f32((u32(max(position, 0)) + a.shift) / a.original);
        let place = row * a.stride + at % a.width;
        store_x(place, load_x(place) * (1.0 + a.beta * log(1.0 + turns)));
    }

//# sink_sums
    EACH(head, a.kv_heads * a.group) {
        var sum = 0.0;
        for (var sequence = 0u; sequence < a.sequences; sequence++) {
            for (var row = 0u; row < a.rows; row++) {
                sum += load_shares(((sequence * a.kv_heads + head / a.group) * a.rows + row) * a.group + head % a.group);
            }
        }
        store_sums(head, load_sums(head) - sum);
    }

//# sigmoid_of
fn sigmoid_of(x: f32) -> f32 { return 1.0 / (1.0 + exp_(-x)); }

//# gate_forward
    EACH(at, a.count) { store_out(at, load_x(at) * sigmoid_of(load_gate(at / a.width))); }

//# gate_backward
    EACH(at, a.count) {
        let s = sigmoid_of(load_gate(at));
        let g = load_d(at);
        store_gate(at, g * load_x(at) * s * (1.0 - s));
        store_d(at, g * s);
    }

//# gate_rows_backward
    let begin = GROUP * a.width;
    let s = sigmoid_of(load_gate(GROUP));
    var sum = 0.0;
    for (var i = THREAD; i < a.width; i += THREADS) {
        sum += load_d(begin + i) * load_x(begin + i);
        store_d(begin + i, load_d(begin + i) * s);
    }
    sum = total(sum);
    if THREAD == 0u { store_gate(GROUP, sum * s * (1.0 - s)); }

//# combine
    EACH(at, a.tokens * a.width) {
        let token = at / a.width;
        var sum = 0.0;
        if a.keep != 0u { sum = load_to(at); }
        for (var choice = 0u; choice < a.chosen; choice++) {
            sum += load_from(u32(load_index(token * a.chosen + choice)) * a.width + at % a.width);
        }
        store_to(at, sum);
    }

//# scale_rows
    EACH(at, a.rows * a.width) {
        let row = at / a.width;
        var factor = load_factors(row);
        if has_by() { factor /= load_by(row); }
        store_to(at, load_to(at) * factor);
    }

//# weigh_backward
    let begin = GROUP * a.width;
    let weight = load_weights(GROUP);
    var sum = 0.0;
    for (var i = THREAD; i < a.width; i += THREADS) {
        let g = load_d(begin + i);
        sum += g * load_x(begin + i);
        store_d(begin + i, g * weight);
    }
    sum = total(sum);
    if THREAD == 0u { store_dw(GROUP, load_dw(GROUP) + sum); }

//# bias_along
    var sum = 0.0;
    for (var i = THREAD; i < a.width; i += THREADS) { sum += load_d(GROUP * a.width + i) * load_bias(i); }
    sum = total(sum);
    if THREAD == 0u { store_dw(GROUP, load_dw(GROUP) + sum); }

//# row_norms
    var squares = 0.0;
    for (var i = THREAD; i < a.width; i += THREADS) {
        let value = load_x(GROUP * a.width + i);
        squares += value * value;
    }
    squares = total(squares);
    if THREAD == 0u { store_norms(GROUP, sqrt(squares)); }

//# scale_columns
    EACH(at, a.rows * a.width) {
        let column = at % a.width;
        var x = load_from(at / a.width * a.stride + column) * load_m(column);
        if has_norms() { x /= load_norms(column); }
        store_out(at, x);
    }
