// The kernels of kernels.cu for GPUs without CUDA, by the same descriptions (kernels.rs): what each computes stands there and
// in kernels.cu. This is no whole WGSL: `shader.rs` puts a module together for each kernel, from
//
//     //# name        the body of a kernel, or a helper; a helper goes where its name stands. Of two, the one `with subgroups`
//                     is taken where the adapter has them.
//
// and from what the descriptions say: `a` holds the kernel's numbers (of a record, `a.record_field`), `load_x(i)`,
// `store_x(i, value)`, `has_x()` are of its buffer x, whatever it is kept in and wherever it begins. EACH(i, count) is every
// index below count, one thread each; THREAD of THREADS in GROUP of GROUPS. Everything is computed in f32, sums in an order that
// depends on shapes alone. Compilers may take it that there is no NaN and no infinity: both are looked for by their bits.

//# room
var<workgroup> room: array<f32, THREADS>;

//# second_room
var<workgroup> second_room: array<f32, THREADS>;

//# total
fn total(x: f32) -> f32 {
    workgroupBarrier();
    room[THREAD] = x;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if THREAD < half { room[THREAD] += room[THREAD + half]; }
        workgroupBarrier();
    }
    return room[0];
}

//# largest
fn largest(x: f32) -> f32 {
    workgroupBarrier();
    room[THREAD] = x;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if THREAD < half { room[THREAD] = max(room[THREAD], room[THREAD + half]); }
        workgroupBarrier();
    }
    return room[0];
}

//# total with subgroups
fn total(x: f32) -> f32 {
    let part = subgroupAdd(x);
    workgroupBarrier();
    if SUBGROUP_THREAD == 0u { room[SUBGROUP] = part; }
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < SUBGROUPS; i++) { sum += room[i]; }
    return sum;
}

//# largest with subgroups
fn largest(x: f32) -> f32 {
    let part = subgroupMax(x);
    workgroupBarrier();
    if SUBGROUP_THREAD == 0u { room[SUBGROUP] = part; }
    workgroupBarrier();
    var most = room[0];
    for (var i = 1u; i < SUBGROUPS; i++) { most = max(most, room[i]); }
    return most;
}

//# two_sum
// A sum and what its rounding left out, where nobody reorders it; otherwise a sum.
fn two_sum(x: vec2<f32>, y: f32) -> vec2<f32> {
    let sum = x.x + y;
    let part = sum - x.x;
    let left = (x.x - (sum - part)) + (y - part);
    return vec2<f32>(sum, x.y + left);
}

//# joined
fn joined(x: vec2<f32>, y: vec2<f32>) -> vec2<f32> {
    let sum = two_sum(x, y.x);
    let low = sum.y + y.y;
    let high = sum.x + low;
    return vec2<f32>(high, low - (high - sum.x));
}

//# total_pair
// `total` of sums with what they left out.
fn total_pair(x: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();
    room[THREAD] = x.x;
    second_room[THREAD] = x.y;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if THREAD < half {
            let other = THREAD + half;
            let sum = joined(vec2<f32>(room[THREAD], second_room[THREAD]), vec2<f32>(room[other], second_room[other]));
            room[THREAD] = sum.x;
            second_room[THREAD] = sum.y;
        }
        workgroupBarrier();
    }
    return vec2<f32>(room[0], second_room[0]);
}

//# finite
fn finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

//# is_nan
fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

//# not_a_number
fn not_a_number() -> f32 {
    return bitcast<f32>(0x7fc00000u | (a.groups & 1u));
}

//# LEAST
const LEAST = -3.4028234e38;

//# exp_
// To about 1e-7 of itself, on every driver: WGSL's own is as exact as that driver likes. As ops/simd.rs.
fn exp_(x: f32) -> f32 {
    let n = floor(clamp(x, -87.0, 88.0) * 1.442695 + 0.5);
    let r = (clamp(x, -87.0, 88.0) - n * 0.6933594) + n * 2.1219444e-4;
    let p = ((((1.9875691e-4 * r + 1.3982e-3) * r + 8.333452e-3) * r + 4.1665796e-2) * r + 0.16666665) * r + 0.5;
    let y = p * r * r + r + 1.0;
    return y * bitcast<f32>(u32(i32(n) + 127) << 23u);
}

//# tanh_
fn tanh_(x: f32) -> f32 {
    let square = x * x;
    let series = x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0)));
    let general = 1.0 - 2.0 / (exp_(2.0 * x) + 1.0);
    return select(general, series, square < 1e-3);
}

//# erf_
fn erf_(x: f32) -> f32 {
    let magnitude = abs(x);
    let t = 1.0 / (1.0 + 0.3275911 * magnitude);
    let p = ((((1.0614054 * t - 1.4531521) * t + 1.4214138) * t - 0.28449672) * t + 0.2548296) * t;
    let y = 1.0 - p * exp_(-x * x);
    return select(y, -y, x < 0.0);
}

//# capped
fn capped(x: f32) -> f32 {
    if a.cap > 0.0 { return a.cap * tanh_(x / a.cap); }
    return x;
}

//# position_of
fn position_of(position: u32, token: u32, positions: u32) -> u32 {
    var at = i32(position);
    if has_starts() { at -= load_starts(token); }
    return min(u32(max(at, 0)), positions - 1u);
}

//# scale_of
fn scale_of(at: u32) -> f32 {
    let number = select(at / a.block, at / a.in_features * (a.by_row - 1u) + at % a.in_features / a.block, a.by_row > 0u);
    if has_scales() {
        return load_map(load_scales(number)) * load_absmax(number / NESTED_BLOCK) + a.offset;
    }
    return load_absmax(number);
}

//# dequantize
    EACH(eighth, (a.count.x + 7u) / 8u) {
        let first = eighth * 8u;
        let even = a.block % 8u == 0u && (a.by_row == 0u || a.in_features % 8u == 0u);
        var scale = scale_of(first);
        for (var i = 0u; i < 8u && first + i < a.count.x; i++) {
            if !even { scale = scale_of(first + i); }
            let byte = load_codes((first + i) / 2u);
            store_out(first + i, load_levels(select(byte >> 4u, byte & 15u, i % 2u == 1u)) * scale);
        }
    }

//# convert
    EACH(at, a.count.x) { store_to(at, load_from(at)); }

//# embed
    EACH(at, a.tokens * a.width) {
        let token = at / a.width;
        let column = at % a.width;
        var x = load_table(u32(load_ids(token)) * a.width + column) * a.scale;
        if has_positions() {
            x += load_positions(position_of(a.first + token % a.seq, token, a.positions_rows) * a.width + column);
        }
        store_out(at, x);
    }

//# embed_backward
    EACH(column, a.width) {
        for (var token = 0u; token < a.tokens; token++) {
            var row = 0u;
            if has_ids() { row = u32(load_ids(token)); } else { row = position_of(token % a.seq, token, a.rows); }
            let at = row * a.width + column;
            store_gradient(at, load_gradient(at) + load_d(token * a.width + column) * a.scale);
        }
    }

//# gather
    EACH(at, a.rows * a.width) {
        store_out(at, load_from(u32(load_index(at / a.width)) * a.width + at % a.width));
    }

//# scatter
    EACH(at, a.rows * a.width) {
        store_out(u32(load_index(at / a.width)) * a.width + at % a.width, load_from(at));
    }

//# add
    EACH(at, a.count.x) { store_to(at, load_to(at) + a.scale * load_from(at)); }

//# scale
    EACH(at, a.count.x) { store_to(at, a.factor * load_to(at)); }

//# add_bias
    EACH(at, a.rows * a.width) {
        let column = at % a.width;
        let place = at / a.width * a.stride + column;
        var value = load_bias(column);
        if has_weights() { value *= load_weights(at / a.width); }
        store_to(place, load_to(place) + value);
    }

//# column_sums
    let columns = min(THREADS, COLUMNS);
    let lanes = THREADS / columns;
    let lane = THREAD / columns;
    for (var begin = GROUP * columns; begin < a.width; begin += GROUPS * columns) {
        let column = begin + THREAD % columns;
        var sum = 0.0;
        if column < a.width {
            for (var row = lane; row < a.rows; row += lanes) {
                var value = load_x(row * a.stride + column);
                if has_weights() { value *= load_weights(row); }
                if has_along() { value *= load_along(row * a.width + column); }
                sum += value;
            }
        }
        workgroupBarrier();
        room[THREAD] = sum;
        workgroupBarrier();
        if lane == 0u && column < a.width {
            for (var other = 1u; other < lanes; other++) { sum += room[other * columns + THREAD]; }
            if has_by() { sum /= load_by(column); }
            store_sums(column, load_sums(column) + sum);
        }
    }

//# group_at
fn group_at(at: u32) -> u32 {
    return at / a.groups_many * a.groups_stride + at % a.groups_many * a.groups_step;
}

//# norm_forward
    let begin = group_at(GROUP);
    let width = f32(a.groups_width);
    var mean = 0.0;
    if a.centred != 0u {
        for (var i = THREAD; i < a.groups_width; i += THREADS) { mean += load_x(begin + i); }
        mean = total(mean) / width;
    }
    var squares = 0.0;
    for (var i = THREAD; i < a.groups_width; i += THREADS) {
        let x = load_x(begin + i) - mean;
        squares += x * x;
    }
    let scale = 1.0 / sqrt(total(squares) / width + a.eps);
    for (var i = THREAD; i < a.groups_width; i += THREADS) {
        var y = (load_x(begin + i) - mean) * scale * (load_weight(i) + a.plus);
        if has_bias() { y += load_bias(i); }
        store_y(begin + i, y);
    }

//# load_dy_or_dx
fn load_dy_or_dx(at: u32) -> f32 {
    if has_dy() { return load_dy(at); }
    return load_dx(at);
}

//# norm_backward
    let begin = group_at(GROUP);
    let width = f32(a.groups_width);
    var mean = 0.0;
    if a.centred != 0u {
        for (var i = THREAD; i < a.groups_width; i += THREADS) { mean += load_x(begin + i); }
        mean = total(mean) / width;
    }
    var squares = 0.0;
    var along = 0.0;
    var shift = 0.0;
    for (var i = THREAD; i < a.groups_width; i += THREADS) {
        let centre = load_x(begin + i) - mean;
        let g = load_dy_or_dx(begin + i) * (load_weight(i) + a.plus);
        squares += centre * centre;
        along += g * centre;
        shift += g;
    }
    let scale = 1.0 / sqrt(total(squares) / width + a.eps);
    along = total(along) * scale / width;
    if a.centred != 0u { shift = total(shift) / width; } else { shift = 0.0; }
    for (var i = THREAD; i < a.groups_width; i += THREADS) {
        let g = load_dy_or_dx(begin + i) * (load_weight(i) + a.plus);
        var value = scale * (g - shift - (load_x(begin + i) - mean) * scale * along);
        if a.keep != 0u { value += load_dx(begin + i); }
        store_dx(begin + i, value);
    }
    if has_stats() && THREAD == 0u {
        store_stats(2u * GROUP, mean);
        store_stats(2u * GROUP + 1u, scale);
    }

//# norm_weights
    let columns = min(THREADS, COLUMNS);
    let lanes = THREADS / columns;
    let lane = THREAD / columns;
    let count = a.groups_rows * a.groups_many;
    for (var begin = GROUP * columns; begin < a.groups_width; begin += GROUPS * columns) {
        let column = begin + THREAD % columns;
        var sum = 0.0;
        if column < a.groups_width {
            for (var row = lane; row < count; row += lanes) {
                let at = group_at(row) + column;
                sum += load_dy(at) * (load_x(at) - load_stats(2u * row)) * load_stats(2u * row + 1u);
            }
        }
        workgroupBarrier();
        room[THREAD] = sum;
        workgroupBarrier();
        if lane == 0u && column < a.groups_width {
            for (var other = 1u; other < lanes; other++) { sum += room[other * columns + THREAD]; }
            store_dw(column, load_dw(column) + sum);
        }
    }

//# head_of
struct Head { token: u32, sequence: u32, row: u32, which: u32, kv: u32, in_group: u32, offset: u32, place: u32 }

fn head_of(group: u32) -> Head {
    let heads = a.layout_heads;
    let kv_heads = a.layout_kv_heads;
    let all = heads + 2u * kv_heads;
    let of_group = heads / kv_heads;
    var head = group % all;
    var h: Head;
    h.token = group / all;
    h.sequence = h.token / a.layout_seq;
    h.row = h.token % a.layout_seq;
    if head < heads {
        h.which = 0u;
        h.kv = head / of_group;
        h.in_group = head % of_group;
        h.offset = a.layout_q_offset + h.kv * a.layout_q_group + h.in_group * a.layout_q_step;
        h.place = (((h.sequence * kv_heads + h.kv) * a.layout_seq + h.row) * of_group + h.in_group) * a.layout_head_dim;
    } else {
        head -= heads;
        h.which = 1u + head / kv_heads;
        h.kv = head % kv_heads;
        if h.which == 1u {
            h.offset = a.layout_k_offset + h.kv * a.layout_k_step;
        } else {
            h.offset = a.layout_v_offset + h.kv * a.layout_v_step;
        }
        h.place = ((h.sequence * kv_heads + h.kv) * a.layout_capacity + a.layout_first + h.row) * a.layout_head_dim;
    }
    return h;
}

//# angle_of
fn angle_of(h: Head) -> u32 {
    return position_of(a.layout_first + h.row, h.token, a.layout_positions) * a.layout_half;
}

//# pair_of
// The other value of a pair, the pair's number, and whether value i is its first; of 2 · half values.
struct Pair { other: u32, number: u32, first: bool }

fn pair_of(i: u32, half: u32) -> Pair {
    var p: Pair;
    if a.layout_interleaved != 0u {
        p.first = i % 2u == 0u;
        p.other = i ^ 1u;
        p.number = i / 2u;
    } else {
        p.first = i < half;
        p.other = select(i - half, i + half, p.first);
        p.number = select(i - half, i, p.first);
    }
    return p;
}

//# values
var<workgroup> values: array<f32, HEAD_DIM_MAX>;

//# heads_forward
    let h = head_of(GROUP);
    let begin = h.token * a.layout_stride + h.offset;
    let width = a.layout_head_dim;
    for (var i = THREAD; i < width; i += THREADS) { values[i] = load_x(begin + i); }
    let normed = (h.which == 0u && has_q_weight()) || (h.which == 1u && has_k_weight());
    if normed {
        var squares = 0.0;
        for (var i = THREAD; i < width; i += THREADS) { squares += values[i] * values[i]; }
        let scale = 1.0 / sqrt(total(squares) / f32(width) + a.eps);
        for (var i = THREAD; i < width; i += THREADS) {
            if h.which == 0u {
                values[i] = values[i] * scale * (load_q_weight(i) + a.q_plus);
            } else {
                values[i] = values[i] * scale * (load_k_weight(i) + a.k_plus);
            }
        }
    }
    workgroupBarrier();
    let angle = angle_of(h);
    let half = select(0u, a.layout_half, h.which < 2u);
    for (var i = THREAD; i < width; i += THREADS) {
        var value = values[i];
        if i < 2u * half {
            let pair = pair_of(i, half);
            let c = load_cosines(angle + pair.number);
            let s = load_sines(angle + pair.number);
            value = value * c + select(1.0, -1.0, pair.first) * values[pair.other] * s;
        }
        if h.which == 0u { store_q(h.place + i, value); }
        else if h.which == 1u { store_k(h.place + i, value); }
        else { store_v(h.place + i, value); }
    }

//# load_gradient_of
fn load_gradient_of(which: u32, at: u32) -> f32 {
    if which == 0u { return load_dq(at); }
    if which == 1u { return load_dk(at); }
    return load_dv(at);
}

//# heads_backward
    let h = head_of(GROUP);
    let begin = h.token * a.layout_stride + h.offset;
    let width = a.layout_head_dim;
    let angle = angle_of(h);
    let half = select(0u, a.layout_half, h.which < 2u);
    for (var i = THREAD; i < width; i += THREADS) {
        var value = load_gradient_of(h.which, h.place + i);
        if i < 2u * half {
            let pair = pair_of(i, half);
            let c = load_cosines(angle + pair.number);
            let s = load_sines(angle + pair.number);
            value = value * c + select(-1.0, 1.0, pair.first) * load_gradient_of(h.which, h.place + pair.other) * s;
        }
        values[i] = value;
    }
    workgroupBarrier();
    let normed = (h.which == 0u && has_q_weight()) || (h.which == 1u && has_k_weight());
    if !normed {
        for (var i = THREAD; i < width; i += THREADS) { store_dx(begin + i, values[i]); }
        return;
    }
    var squares = 0.0;
    var along = 0.0;
    for (var i = THREAD; i < width; i += THREADS) {
        let value = load_x(begin + i);
        squares += value * value;
        along += value * values[i] * head_weight(h.which, i);
    }
    let scale = 1.0 / sqrt(total(squares) / f32(width) + a.eps);
    along = total(along) * scale / f32(width);
    for (var i = THREAD; i < width; i += THREADS) {
        store_dx(begin + i, scale * (values[i] * head_weight(h.which, i) - load_x(begin + i) * scale * along));
    }
    if has_stats() && THREAD == 0u {
        var head = h.kv * (a.layout_heads / a.layout_kv_heads) + h.in_group;
        if h.which != 0u { head = a.layout_heads + h.kv; }
        store_stats(h.token * (a.layout_heads + a.layout_kv_heads) + head, scale);
    }

//# head_weight
fn head_weight(which: u32, i: u32) -> f32 {
    if which == 0u { return load_q_weight(i) + a.q_plus; }
    return load_k_weight(i) + a.k_plus;
}

//# heads_weights
    let heads = a.layout_heads;
    let kv_heads = a.layout_kv_heads;
    let i = GROUP;
    let many = select(heads, kv_heads, a.of_keys != 0u);
    let first = select(0u, heads, a.of_keys != 0u);
    let tokens = a.layout_sequences * a.layout_seq;
    let half = a.layout_half;
    var sum = 0.0;
    for (var at = THREAD; at < tokens * many; at += THREADS) {
        let token = at / many;
        let head = first + at % many;
        let h = head_of(token * (heads + 2u * kv_heads) + head);
        var g = load_gradient(h.place + i);
        if i < 2u * half {
            let pair = pair_of(i, half);
            let angle = angle_of(h) + pair.number;
            let c = load_cosines(angle);
            let s = load_sines(angle);
            g = g * c + select(-1.0, 1.0, pair.first) * load_gradient(h.place + pair.other) * s;
        }
        sum += g * load_x(token * a.layout_stride + h.offset + i) * load_stats(token * (heads + kv_heads) + head);
    }
    sum = total(sum);
    if THREAD == 0u { store_dw(i, load_dw(i) + sum); }

//# sight_of
struct Sight { begin: u32, end: u32, along: u32, slope: f32, own: u32, head: u32, alibi: f32, mine: f32, start: u32 }

fn as_bf16(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
}

fn rounded_bias(slope: f32, place: u32) -> f32 {
    return as_bf16(slope * as_bf16(f32(place)));
}

fn slope_of(head: u32, heads: u32) -> f32 {
    var closest = 1u;
    while 2u * closest <= heads { closest *= 2u; }
    let steps = select(4.0 * f32(2u * (head - closest) + 1u), 8.0 * f32(head + 1u), head < closest);
    return exp_(-0.6931472 * steps / f32(closest));
}

fn sight_of(group: u32) -> Sight {
    let many = a.block_rows * a.block_group;
    let number = group / many;
    let inside = group % many;
    let row = inside / a.block_group;
    let position = a.block_position + row;
    var begin = a.block_lo;
    if position + 1u > a.block_window { begin = max(begin, position + 1u - a.block_window); }
    var start = 0u;
    if has_starts() {
        start = u32(max(load_starts(number / a.block_kv_heads * a.block_seq + a.block_first + row), 0));
    }
    begin = max(begin, start + (position - start) / a.block_chunk * a.block_chunk);
    var s: Sight;
    s.begin = begin - a.block_lo;
    s.end = position + 1u - a.block_lo;
    s.along = (number * a.block_seq + a.block_first) * a.block_group + inside;
    s.own = position - a.block_lo;
    s.head = number % a.block_kv_heads * a.block_group + inside % a.block_group;
    s.start = start;
    if a.alibi != 0.0 {
        let slope = slope_of(s.head, a.block_kv_heads * a.block_group);
        s.slope = a.alibi * slope;
        if a.rounded != 0u {
            s.slope = as_bf16(slope);
            s.alibi = a.alibi;
            s.mine = rounded_bias(s.slope, position - start);
        }
    }
    return s;
}

//# score_of
fn score_of(row: u32, i: u32, sight: Sight) -> f32 {
    var bias = sight.slope * (f32(i) - f32(sight.own));
    if sight.alibi != 0.0 {
        bias = sight.alibi * (rounded_bias(sight.slope, i + a.block_lo - sight.start) - sight.mine);
    }
    return capped(load_scores(row + i) + bias);
}

//# softmax
    let sight = sight_of(GROUP);
    let row = GROUP * a.block_keys;
    var most = LEAST;
    for (var i = sight.begin + THREAD; i < sight.end; i += THREADS) { most = max(most, score_of(row, i, sight)); }
    most = largest(most);
    var sunk = 0.0;
    if has_sinks() {
        most = max(most, load_sinks(sight.head));
        sunk = exp_(load_sinks(sight.head) - most);
    }
    var sum = 0.0;
    for (var i = sight.begin + THREAD; i < sight.end; i += THREADS) {
        sum += exp_(score_of(row, i, sight) - most);
    }
    let inverse = 1.0 / (total(sum) + sunk);
    for (var i = THREAD; i < a.block_keys; i += THREADS) {
        var probability = 0.0;
        if i >= sight.begin && i < sight.end { probability = exp_(score_of(row, i, sight) - most) * inverse; }
        store_p(row + i, probability);
    }

//# softmax_backward
    let sight = sight_of(GROUP);
    let row = GROUP * a.block_keys;
    let mean = load_along(sight.along);
    var most = LEAST;
    for (var i = sight.begin + THREAD; i < sight.end; i += THREADS) { most = max(most, score_of(row, i, sight)); }
    most = largest(most);
    var sunk = 0.0;
    if has_sinks() {
        most = max(most, load_sinks(sight.head));
        sunk = exp_(load_sinks(sight.head) - most);
    }
    var sum = 0.0;
    for (var i = sight.begin + THREAD; i < sight.end; i += THREADS) {
        sum += exp_(score_of(row, i, sight) - most);
    }
    let inverse = 1.0 / (total(sum) + sunk);
    for (var i = THREAD; i < a.block_keys; i += THREADS) {
        var probability = 0.0;
        var gradient = 0.0;
        if i >= sight.begin && i < sight.end {
            let score = score_of(row, i, sight);
            var t = 0.0;
            if a.cap > 0.0 { t = score / a.cap; }
            probability = exp_(score - most) * inverse;
            gradient = probability * (load_dp(row + i) - mean) * (1.0 - t * t);
        }
        store_p(row + i, probability);
        store_ds(row + i, gradient);
    }
    if has_shares() && THREAD == 0u { store_shares(GROUP, sunk * inverse * mean); }

//# join_heads
    let width = a.heads * a.head_dim;
    let of_group = a.heads / a.kv_heads;
    EACH(at, a.sequences * a.seq * width) {
        let token = at / width;
        let column = at % width;
        let head = column / a.head_dim;
        let row = (token / a.seq * a.kv_heads + head / of_group) * a.seq + token % a.seq;
        store_to(at, load_from((row * of_group + head % of_group) * a.head_dim + column % a.head_dim));
    }

//# split_heads
    let token = GROUP / a.heads;
    let head = GROUP % a.heads;
    let of_group = a.heads / a.kv_heads;
    let row = ((token / a.seq * a.kv_heads + head / of_group) * a.seq + token % a.seq) * of_group + head % of_group;
    let begin = GROUP * a.head_dim;
    var sum = 0.0;
    for (var i = THREAD; i < a.head_dim; i += THREADS) {
        sum += load_out(begin + i) * load_d(begin + i);
        store_to(row * a.head_dim + i, load_d(begin + i));
    }
    sum = total(sum);
    if THREAD == 0u { store_along(row, sum); }

//# activate
// A value and its slope.
fn activate(x: f32) -> vec2<f32> {
    switch a.function {
        case SILU: {
            let s = 1.0 / (1.0 + exp_(-x));
            return vec2<f32>(x * s, s * (1.0 + x * (1.0 - s)));
        }
        case GELU_TANH: {
            let root = 0.7978846;
            let cube = 0.044715;
            let t = tanh_(root * (x + cube * x * x * x));
            let slope = 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * root * (1.0 + 3.0 * cube * x * x);
            return vec2<f32>(0.5 * x * (1.0 + t), slope);
        }
        case GELU: {
            let half = 0.5 * (1.0 + erf_(x * 0.70710678));
            return vec2<f32>(x * half, half + x * exp_(-0.5 * x * x) * 0.3989423);
        }
        case RELU: { return select(vec2<f32>(0.0, 0.0), vec2<f32>(x, 1.0), x > 0.0); }
        case RELU2: { return select(vec2<f32>(0.0, 0.0), vec2<f32>(x * x, 2.0 * x), x > 0.0); }
        case XIELU: {
            if x > 0.0 { return vec2<f32>(a.positive * x * x + 0.5 * x, 2.0 * a.positive * x + 0.5); }
            let near = -1e-6;
            let e = exp_(min(x, near));
            return vec2<f32>(a.negative * (e - 1.0 - x) + 0.5 * x, a.negative * (select(0.0, e, x < near) - 1.0) + 0.5);
        }
        default: { return vec2<f32>(not_a_number()); }
    }
}

//# clamped_of
struct Clamped { value: f32, slope: f32, up: f32, by_up: f32 }

fn clamped_of(gate: f32, up: f32, alpha: f32, limit: f32) -> Clamped {
    let g = min(gate, limit);
    let s = 1.0 / (1.0 + exp_(-alpha * g));
    var c: Clamped;
    c.value = g * s;
    c.slope = select(s * (1.0 + alpha * g * (1.0 - s)), 0.0, gate > limit);
    c.up = clamp(up, -limit, limit) + 1.0;
    c.by_up = select(1.0, 0.0, abs(up) > limit);
    return c;
}

//# activation_forward
    if a.function == CLAMPED {
        EACH(at, a.rows * a.width) {
            let c = clamped_of(load_up(2u * at), load_up(2u * at + 1u), a.positive, a.negative);
            store_out(at, c.up * c.value);
        }
        return;
    }
    EACH(at, a.rows * a.width) {
        let begin = at / a.width * select(a.width, 2u * a.width, a.gated != 0u) + at % a.width;
        var value = activate(load_up(begin)).x;
        if a.gated != 0u { value *= load_up(begin + a.width); }
        store_out(at, value);
    }

//# activation_backward
    if a.function == CLAMPED {
        EACH(at, a.rows * a.width) {
            let c = clamped_of(load_up(2u * at), load_up(2u * at + 1u), a.positive, a.negative);
            let g = load_d(at);
            store_up(2u * at, g * c.up * c.slope);
            store_up(2u * at + 1u, g * c.value * c.by_up);
        }
        return;
    }
    EACH(at, a.rows * a.width) {
        let begin = at / a.width * select(a.width, 2u * a.width, a.gated != 0u) + at % a.width;
        let value = activate(load_up(begin));
        let g = load_d(at);
        if a.gated != 0u {
            let other = load_up(begin + a.width);
            store_up(begin + a.width, g * value.x);
            store_up(begin, g * other * value.y);
        } else {
            store_up(begin, g * value.y);
        }
    }

//# times
// 64-bit numbers as two words, the low one first.
fn times(x: vec2<u32>, y: vec2<u32>) -> vec2<u32> {
    let x0 = x.x & 0xffffu;
    let x1 = x.x >> 16u;
    let y0 = y.x & 0xffffu;
    let y1 = y.x >> 16u;
    let low = x0 * y0;
    let cross = x1 * y0 + (low >> 16u);
    let carry = x0 * y1 + (cross & 0xffffu);
    let high = x1 * y1 + (cross >> 16u) + (carry >> 16u);
    return vec2<u32>((carry << 16u) | (low & 0xffffu), high + x.x * y.y + x.y * y.x);
}

//# mixed
fn mixed(x: vec2<u32>) -> vec2<u32> {
    var y = vec2<u32>(x.x ^ (x.y >> 1u), x.y);
    y = times(y, vec2<u32>(0xed558ccdu, 0xff51afd7u));
    y = vec2<u32>(y.x ^ (y.y >> 1u), y.y);
    y = times(y, vec2<u32>(0x1a85ec53u, 0xc4ceb9feu));
    return vec2<u32>(y.x ^ (y.y >> 1u), y.y);
}

//# dropout
    let limit = u32(a.p * 4294967296.0);
    EACH(at, a.count.x) {
        // Counted from the first value of the whole, where a long one goes in parts.
        let place = at + a.from_first;
        let random = mixed(vec2<u32>(a.key.x ^ place, a.key.y)).y;
        var value = 0.0;
        if random >= limit { value = load_from(at) * a.scale; }
        if a.keep != 0u { value += load_to(at); }
        store_to(at, value);
    }

//# cross_entropy
    let row = GROUP * a.vocab;
    let goal = u32(load_targets(GROUP));
    var most = LEAST;
    var bad = 0.0;
    for (var i = THREAD; i < a.vocab; i += THREADS) {
        let logit = load_logits(row + i);
        if !finite(logit) { bad += 1.0; }
        most = max(most, capped(logit));
    }
    most = largest(most);
    bad = total(bad);
    var sum = 0.0;
    for (var i = THREAD; i < a.vocab; i += THREADS) { sum += exp_(capped(load_logits(row + i)) - most); }
    sum = total(sum);
    if THREAD == 0u {
        let loss = log(sum) + (most - capped(load_logits(row + goal)));
        store_losses(GROUP, select(loss, not_a_number(), bad > 0.0));
    }
    if !has_d() { return; }
    let factor = a.scale / sum;
    for (var i = THREAD; i < a.vocab; i += THREADS) {
        let logit = load_logits(row + i);
        var t = 0.0;
        if a.cap > 0.0 { t = tanh_(logit / a.cap); }
        let g = exp_(capped(logit) - most) * factor - select(0.0, a.scale, i == goal);
        store_d(row + i, g * (1.0 - t * t));
    }

//# add_logit_bias
    EACH(at, a.rows * a.vocab) { store_logits(at, load_logits(at) + load_bias(at % a.vocab)); }

//# cap_logits
    EACH(at, a.count.x) { store_logits(at, capped(load_logits(at))); }

//# sum
    var sum = vec2<f32>(0.0, 0.0);
    for (var at = THREAD; at < a.count.x; at += THREADS) { sum = two_sum(sum, load_values(at)); }
    sum = total_pair(sum);
    if THREAD == 0u { store_totals(a.which, joined(load_totals(a.which), sum)); }

//# squares
    var sum = vec2<f32>(0.0, 0.0);
    EACH(at, a.count.x) {
        let value = load_values(at);
        sum = two_sum(sum, value * value);
    }
    sum = total_pair(sum);
    if THREAD == 0u {
        // A long piece goes in parts, of which all but the first find what the others came to.
        if a.from_first > 0u { sum = joined(load_parts(GROUP), sum); }
        store_parts(GROUP, sum);
    }

//# sum_parts
    var sum = vec2<f32>(0.0, 0.0);
    for (var at = THREAD; at < a.count; at += THREADS) { sum = joined(sum, load_parts(at)); }
    sum = total_pair(sum);
    if THREAD == 0u { store_totals(a.which, sum); }

//# adamw
    let loss = load_totals(0u);
    let square_sum = load_totals(1u);
    if !finite(loss.x) || !finite(square_sum.x) { return; }
    var factor = 1.0;
    if a.max_norm > 0.0 { factor = min(1.0, a.max_norm / (sqrt(square_sum.x + square_sum.y) + 1e-6)); }
    EACH(at, a.count.x) {
        let gradient = load_g(at) * factor;
        let mean = load_m(at) + (gradient - load_m(at)) * a.one_minus_beta1;
        let square = load_v(at) * (1.0 - a.one_minus_beta2) + gradient * gradient * a.one_minus_beta2;
        store_m(at, mean);
        store_v(at, square);
        let p = load_p(at) * a.decay - a.step * mean / (sqrt(square) / a.root2 + a.eps);
        store_p(at, p);
        if has_working() { store_working(at, p); }
    }
