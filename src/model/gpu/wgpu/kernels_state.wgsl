
//# multiply_columns
    EACH(at, a.rows * a.width) {
        let row = at / a.width;
        let column = at % a.width;
        store_to(row * a.to_stride + column, load_a(row * a.a_stride + column) * load_b(row * a.b_stride + column));
    }

//# rows_before
fn rows_before(row: u32, seq: u32) -> u32 {
    let inside = row % seq;
    if has_starts() { return inside - u32(load_starts(row)); }
    return inside;
}

//# conv_at
// What goes into the nonlinearity beside `value`, of the taps within a row of data.
fn conv_at(value: f32, row: u32, channel: u32) -> f32 {
    let many = rows_before(row, a.conv_seq);
    var sum = value;
    for (var tap = 0u; tap < a.conv_kernel; tap++) {
        let back = a.conv_kernel - 1u - tap;
        if back <= many {
            sum += load_weight(channel * a.conv_kernel + tap) * load_x((row - back) * a.conv_stride + channel);
        }
    }
    return sum;
}

//# bias_of
fn bias_of(channel: u32) -> f32 {
    if has_bias() { return load_bias(channel); }
    return 0.0;
}

//# conv_forward
    EACH(at, a.conv_rows * a.conv_channels) {
        let row = at / a.conv_channels;
        let channel = at % a.conv_channels;
        var value = bias_of(channel);
        let many = rows_before(row, a.conv_seq);
        // The first taps, of the rows before the first.
        for (var tap = 0u; has_before() && tap + 1u + many < a.conv_kernel; tap++) {
            value += load_weight(channel * a.conv_kernel + tap) * load_before((tap + many) * a.conv_out_stride + channel);
        }
        value = conv_at(value, row, channel);
        if a.silu != 0u { value *= sigmoid_of(value); }
        store_out(row * a.conv_out_stride + channel, value);
    }

//# conv_slopes
    EACH(at, a.conv_rows * a.conv_channels) {
        let row = at / a.conv_channels;
        let channel = at % a.conv_channels;
        let value = conv_at(bias_of(channel), row, channel);
        let s = sigmoid_of(value);
        let place = row * a.conv_out_stride + channel;
        store_d(place, load_d(place) * s * (1.0 + value * (1.0 - s)));
    }

//# conv_backward
    EACH(at, a.conv_rows * a.conv_channels) {
        let row = at / a.conv_channels;
        let channel = at % a.conv_channels;
        let inside = row % a.conv_seq;
        var sum = 0.0;
        for (var tap = 0u; tap < a.conv_kernel; tap++) {
            let ahead = a.conv_kernel - 1u - tap;
            let later = row + ahead;
            if inside + ahead < a.conv_seq && later < a.conv_rows {
                var same = true;
                if has_starts() { same = load_starts(later) == load_starts(row); }
                if same {
                    sum += load_weight(channel * a.conv_kernel + tap) * load_d(later * a.conv_out_stride + channel);
                }
            }
        }
        store_dx(row * a.conv_stride + channel, sum);
    }

//# conv_weights
    let channel = GROUP / a.conv_kernel;
    let back = a.conv_kernel - 1u - GROUP % a.conv_kernel;
    var sum = 0.0;
    for (var row = THREAD; row < a.conv_rows; row += THREADS) {
        if back <= rows_before(row, a.conv_seq) {
            sum += load_d(row * a.conv_out_stride + channel) * load_x((row - back) * a.conv_stride + channel);
        }
    }
    sum = total(sum);
    if THREAD == 0u { store_dw(GROUP, load_dw(GROUP) + sum); }

//# softplus_of
fn softplus_of(x: f32) -> f32 {
    if x > 20.0 { return x; }
    return log(1.0 + exp_(x));
}

//# scan_factors
    EACH(at, a.rows * a.heads) {
        let row = at / a.heads;
        let head = at % a.heads;
        let place = row * a.stride + a.stride - a.heads + head;
        let last = softplus_of(load_x(place) + load_dt_bias(head));
        let decay = -exp_(load_a_log(head));
        let to = row * 2u * a.heads + head;
        if a.delta != 0u {
            store_factors(to, decay * last);
            store_factors(to + a.heads, a.beta * sigmoid_of(load_x(place - a.heads)));
        } else {
            let dt = clamp(last, a.least, a.most);
            store_factors(to, decay * dt);
            store_factors(to + a.heads, dt);
        }
    }

//# scan_factors_backward
    EACH(at, a.rows * a.heads) {
        let row = at / a.heads;
        let head = at % a.heads;
        let place = row * a.stride + a.stride - a.heads + head;
        let z = load_x(place) + load_dt_bias(head);
        let last = softplus_of(z);
        let slope = sigmoid_of(z);
        let decay = -exp_(load_a_log(head));
        let by = row * 2u * a.heads + head;
        let by_g = load_d(by);
        let by_f = load_d(by + a.heads);
        var by_a = 0.0;
        var by_z = 0.0;
        if a.delta != 0u {
            let s = sigmoid_of(load_x(place - a.heads));
            store_d_rows(place - a.heads, by_f * a.beta * s * (1.0 - s));
            by_a = by_g * decay * last;
            by_z = by_g * decay * slope;
        } else {
            by_a = by_g * decay * clamp(last, a.least, a.most);
            if last >= a.least && last <= a.most { by_z = (by_f + by_g * decay) * slope; }
        }
        store_d_rows(place, by_z);
        store_d(by, by_a);
        store_d(by + a.heads, by_z);
    }

//# sum_floats
    var sum = 0.0;
    for (var row = THREAD; row < a.rows; row += THREADS) { sum += load_x(row * a.stride + GROUP); }
    sum = total(sum);
    if THREAD == 0u { store_sums(GROUP, load_sums(GROUP) + sum); }

//# query
var<workgroup> query: array<f32, STATE_DIM_MAX>;

//# key
var<workgroup> key: array<f32, STATE_DIM_MAX>;

//# news
var<workgroup> news: array<f32, STATE_DIM_MAX>;

//# by_along
var<workgroup> by_along: array<f32, STATE_DIM_MAX>;

//# by_out
var<workgroup> by_out: array<f32, STATE_DIM_MAX>;

//# load_query_row
fn load_query_row(begin: u32) {
    var factor = 1.0;
    if a.scan_delta != 0u {
        var squares = 0.0;
        for (var i = THREAD; i < a.scan_key_dim; i += THREADS) { squares += load_x(begin + i) * load_x(begin + i); }
        factor = 1.0 / sqrt(f32(a.scan_key_dim)) / sqrt(total(squares) + 1e-6);
    }
    workgroupBarrier();
    for (var i = THREAD; i < a.scan_key_dim; i += THREADS) { query[i] = load_x(begin + i) * factor; }
    workgroupBarrier();
}

//# load_key_row
fn load_key_row(begin: u32) {
    var factor = 1.0;
    if a.scan_delta != 0u {
        var squares = 0.0;
        for (var i = THREAD; i < a.scan_key_dim; i += THREADS) { squares += load_x(begin + i) * load_x(begin + i); }
        factor = 1.0 / sqrt(total(squares) + 1e-6);
    }
    workgroupBarrier();
    for (var i = THREAD; i < a.scan_key_dim; i += THREADS) { key[i] = load_x(begin + i) * factor; }
    workgroupBarrier();
}

//# scan_forward
    let heads = a.scan_value_heads;
    let sequence = GROUP / heads;
    let head = GROUP % heads;
    let of_key = head / (heads / a.scan_key_heads);
    let dk = a.scan_key_dim;
    let dv = a.scan_value_dim;
    let s = GROUP * dk * dv;
    let chunks = (a.scan_seq + STATE_ROWS - 1u) / STATE_ROWS;
    for (var t = 0u; t < a.scan_seq; t++) {
        let row = sequence * a.scan_seq + t;
        var begins = t == 0u && a.resume == 0u;
        if has_starts() { begins = u32(load_starts(row)) == t; }
        load_query_row(row * a.scan_stride + a.scan_q + of_key * dk);
        load_key_row(row * a.scan_stride + a.scan_k + of_key * dk);
        let e = exp_(load_factors(row * 2u * heads + head));
        let f = load_factors(row * 2u * heads + heads + head);
        let keeps = has_kept() && t % STATE_ROWS == 0u;
        let at = (GROUP * chunks + t / STATE_ROWS) * dk * dv;
        for (var j = THREAD; j < dv; j += THREADS) {
            let v = load_x(row * a.scan_stride + a.scan_v + head * dv + j);
            var along = 0.0;
            for (var i = 0u; i < dk; i++) {
                var before = 0.0;
                if !begins { before = load_running(s + i * dv + j); }
                if keeps { store_kept(at + i * dv + j, before); }
                store_running(s + i * dv + j, before * e);
                along += key[i] * before * e;
            }
            var w = f * v;
            if a.scan_delta != 0u { w = f * (v - along); }
            var sum = 0.0;
            for (var i = 0u; i < dk; i++) {
                let state = load_running(s + i * dv + j) + key[i] * w;
                store_running(s + i * dv + j, state);
                sum += query[i] * state;
            }
            if has_skip() { sum += load_skip(head) * v; }
            store_y(row * heads * dv + head * dv + j, sum);
        }
    }

//# scan_backward
    let heads = a.scan_value_heads;
    let sequence = GROUP / heads;
    let head = GROUP % heads;
    let of_key = head / (heads / a.scan_key_heads);
    let dk = a.scan_key_dim;
    let dv = a.scan_value_dim;
    let size = dk * dv;
    let chunks = (a.scan_seq + STATE_ROWS - 1u) / STATE_ROWS;
    let own = GROUP * STATE_ROWS * size;
    let ds = GROUP * size;
    for (var i = THREAD; i < size; i += THREADS) { store_d_state(ds + i, 0.0); }
    for (var done = 0u; done < chunks; done++) {
        let chunk = chunks - 1u - done;
        let first = chunk * STATE_ROWS;
        let count = min(a.scan_seq - first, STATE_ROWS);
        storageBarrier();
        workgroupBarrier();
        for (var i = THREAD; i < size; i += THREADS) {
            store_states(own + i, load_kept((GROUP * chunks + chunk) * size + i));
        }
        storageBarrier();
        workgroupBarrier();
        for (var at = 0u; at + 1u < count; at++) {
            let row = sequence * a.scan_seq + first + at;
            load_key_row(row * a.scan_stride + a.scan_k + of_key * dk);
            let e = exp_(load_factors(row * 2u * heads + head));
            let f = load_factors(row * 2u * heads + heads + head);
            var ends = false;
            if has_starts() { ends = u32(load_starts(row + 1u)) == first + at + 1u; }
            let s = own + at * size;
            for (var j = THREAD; j < dv; j += THREADS) {
                var along = 0.0;
                for (var i = 0u; i < dk; i++) { along += key[i] * load_states(s + i * dv + j) * e; }
                let v = load_x(row * a.scan_stride + a.scan_v + head * dv + j);
                var w = f * v;
                if a.scan_delta != 0u { w = f * (v - along); }
                for (var i = 0u; i < dk; i++) {
                    var next = load_states(s + i * dv + j) * e + key[i] * w;
                    if ends { next = 0.0; }
                    store_states(s + size + i * dv + j, next);
                }
            }
        }
        storageBarrier();
        workgroupBarrier();
        for (var back = 0u; back < count; back++) {
            let at = count - 1u - back;
            let row = sequence * a.scan_seq + first + at;
            load_query_row(row * a.scan_stride + a.scan_q + of_key * dk);
            load_key_row(row * a.scan_stride + a.scan_k + of_key * dk);
            let e = exp_(load_factors(row * 2u * heads + head));
            let f = load_factors(row * 2u * heads + heads + head);
            var begins = false;
            if has_starts() { begins = u32(load_starts(row)) == first + at; }
            let s = own + at * size;
            var by_f = 0.0;
            for (var j = THREAD; j < dv; j += THREADS) {
                let v = load_x(row * a.scan_stride + a.scan_v + head * dv + j);
                let g = load_dy(row * heads * dv + head * dv + j);
                var along = 0.0;
                var by_w = 0.0;
                for (var i = 0u; i < dk; i++) {
                    let d = load_d_state(ds + i * dv + j) + query[i] * g;
                    store_d_state(ds + i * dv + j, d);
                    by_w += key[i] * d;
                    along += key[i] * load_states(s + i * dv + j) * e;
                }
                var less = v;
                by_along[j] = 0.0;
                if a.scan_delta != 0u {
                    less = v - along;
                    by_along[j] = -f * by_w;
                }
                news[j] = f * less;
                by_out[j] = g;
                by_f += by_w * less;
                var by_v = f * by_w;
                if has_skip() { by_v += load_skip(head) * g; }
                store_dx(row * a.scan_stride + a.scan_v + head * dv + j, by_v);
            }
            by_f = total(by_f);
            storageBarrier();
            workgroupBarrier();
            var by_g = 0.0;
            let to = (row * heads + head) * 2u * dk;
            for (var i = THREAD; i < dk; i += THREADS) {
                var by_query = 0.0;
                var by_key = 0.0;
                for (var j = 0u; j < dv; j++) {
                    let decayed = load_states(s + i * dv + j) * e;
                    let d = load_d_state(ds + i * dv + j);
                    let by_decayed = d + key[i] * by_along[j];
                    by_query += (decayed + key[i] * news[j]) * by_out[j];
                    by_key += d * news[j] + decayed * by_along[j];
                    by_g += by_decayed * decayed;
                    store_d_state(ds + i * dv + j, select(by_decayed * e, 0.0, begins));
                }
                store_d_keys(to + i, by_query);
                store_d_keys(to + dk + i, by_key);
            }
            by_g = total(by_g);
            storageBarrier();
            workgroupBarrier();
            if THREAD == 0u {
                store_d_factors(row * 2u * heads + head, by_g);
                store_d_factors(row * 2u * heads + heads + head, by_f);
            }
        }
    }

//# key_sums
var<workgroup> key_sums: array<f32, STATE_DIM_MAX>;

//# scan_keys_backward
    let which = GROUP % 2u;
    let of_key = GROUP / 2u % a.scan_key_heads;
    let dk = a.scan_key_dim;
    let heads = a.scan_value_heads;
    let group = heads / a.scan_key_heads;
    let row = GROUP / 2u / a.scan_key_heads;
    let begin = row * a.scan_stride + select(a.scan_q, a.scan_k, which == 1u) + of_key * dk;
    var squares = 0.0;
    var along = 0.0;
    for (var i = THREAD; i < dk; i += THREADS) {
        var sum = 0.0;
        for (var number = 0u; number < group; number++) {
            sum += load_d_keys((row * heads + of_key * group + number) * 2u * dk + which * dk + i);
        }
        key_sums[i] = sum;
        let value = load_x(begin + i);
        squares += value * value;
        along += value * sum;
    }
    squares = total(squares) + 1e-6;
    along = total(along) / squares;
    let factor = select(1.0 / sqrt(f32(dk)), 1.0, which == 1u) / sqrt(squares);
    for (var i = THREAD; i < dk; i += THREADS) {
        var d = key_sums[i];
        if a.scan_delta != 0u { d = factor * (d - load_x(begin + i) * along); }
        store_dx(begin + i, d);
    }

//# skip_sums
    let dv = a.scan_value_dim;
    let rows = a.scan_sequences * a.scan_seq;
    var sum = 0.0;
    for (var at = THREAD; at < rows * dv; at += THREADS) {
        let row = at / dv;
        let column = GROUP * dv + at % dv;
        sum += load_x(row * a.scan_stride + a.scan_v + column) * load_d(row * a.scan_value_heads * dv + column);
    }
    sum = total(sum);
    if THREAD == 0u { store_sums(GROUP, load_sums(GROUP) + sum); }

//# scale_at
fn scale_at(number: u32, i: u32) -> f32 {
    if !has_weight() { return 1.0; }
    return load_weight(select(number * a.group + i, i, a.scales == a.group));
}

//# gated_forward
    let many = a.width / a.group;
    let number = GROUP % many;
    let row = GROUP / many;
    let begin = row * a.width + number * a.group;
    let gate = row * a.stride + number * a.group;
    var squares = 0.0;
    for (var i = THREAD; i < a.group; i += THREADS) {
        let g = load_z(gate + i);
        var value = load_y(begin + i);
        if a.norm_first == 0u { value *= g * sigmoid_of(g); }
        squares += value * value;
    }
    var scale = 1.0;
    squares = total(squares);
    if has_weight() { scale = 1.0 / sqrt(squares / f32(a.group) + a.eps); }
    for (var i = THREAD; i < a.group; i += THREADS) {
        let g = load_z(gate + i);
        store_out(begin + i, load_y(begin + i) * g * sigmoid_of(g) * scale * scale_at(number, i));
    }

//# gated_backward
    let many = a.width / a.group;
    let number = GROUP % many;
    let row = GROUP / many;
    let begin = row * a.width + number * a.group;
    let gate = row * a.stride + number * a.group;
    let norm_first = a.norm_first != 0u;
    var squares = 0.0;
    var along = 0.0;
    for (var i = THREAD; i < a.group; i += THREADS) {
        let g = load_z(gate + i);
        let silu = g * sigmoid_of(g);
        let value = load_y(begin + i) * select(silu, 1.0, norm_first);
        squares += value * value;
        along += load_d(begin + i) * select(1.0, silu, norm_first) * scale_at(number, i) * value;
    }
    squares = total(squares);
    along = total(along);
    var scale = 1.0;
    if has_weight() {
        scale = 1.0 / sqrt(squares / f32(a.group) + a.eps);
        along = along * scale * scale / f32(a.group);
    } else {
        along = 0.0;
    }
    for (var i = THREAD; i < a.group; i += THREADS) {
        let g = load_z(gate + i);
        let s = sigmoid_of(g);
        let silu = g * s;
        let slope = s * (1.0 + g * (1.0 - s));
        let by = load_d(begin + i);
        let own = load_y(begin + i);
        let x = own * select(silu, 1.0, norm_first);
        let weight = scale_at(number, i);
        let by_x = scale * (by * select(1.0, silu, norm_first) * weight - x * along);
        if has_products() { store_products(begin + i, by * select(1.0, silu, norm_first) * x * scale); }
        if norm_first {
            store_dz(gate + i, by * x * scale * weight * slope);
            store_d(begin + i, by_x);
        } else {
            store_dz(gate + i, by_x * own * slope);
            store_d(begin + i, by_x * silu);
        }
    }
