//! Against the recurrence itself, row by row in f64.

use super::*;

fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| (((i + seed) * 7919 + i * i * 31) % 1000) as f32 / 500.0 - 1.0).collect()
}

fn scan(delta: bool, chunk: usize) -> Scan {
    let (key_heads, value_heads, key_dim, value_dim) = (2, 6, 5, 3);
    let keys = key_heads * key_dim;
    let stride = 2 * keys + value_heads * value_dim + 1;
    Scan { key_heads, value_heads, key_dim, value_dim, delta, chunk, stride, at: [1, 1 + keys, 1 + 2 * keys] }
}

/// Row by row, in f64, as the recurrence says.
fn one_by_one(scan: &Scan, rows: &[f32], factors: &[f32], segments: &[Range<usize>]) -> Vec<f64> {
    let Scan { key_heads, value_heads, key_dim: dk, value_dim: dv, delta, .. } = *scan;
    let mut out = vec![0.0; rows.len() / scan.stride * scan.width()];
    for segment in segments {
        for head in 0..value_heads {
            let mut s = vec![0f64; dk * dv];
            for t in segment.clone() {
                let row = &rows[t * scan.stride..][..scan.stride];
                let part = |at: usize, width: usize| -> Vec<f64> {
                    row[at..at + width].iter().map(|&x| f64::from(x)).collect()
                };
                let normal = |x: Vec<f64>, scale: f64| -> Vec<f64> {
                    let norm = (x.iter().map(|x| x * x).sum::<f64>() + 1e-6).sqrt();
                    x.iter().map(|x| if delta { x / norm * scale } else { *x }).collect()
                };
                let key = head / (value_heads / key_heads) * dk;
                let q = normal(part(scan.at[0] + key, dk), (dk as f64).powf(-0.5));
                let k = normal(part(scan.at[1] + key, dk), 1.0);
                let v = part(scan.at[2] + head * dv, dv);
                let factor = |at: usize| f64::from(factors[t * 2 * value_heads + at]);
                let (g, f) = (factor(head).exp(), factor(value_heads + head));
                s.iter_mut().for_each(|s| *s *= g);
                for at in 0..dv {
                    let known: f64 = if delta { (0..dk).map(|i| k[i] * s[i * dv + at]).sum() } else { 0.0 };
                    let new = f * (v[at] - known);
                    (0..dk).for_each(|i| s[i * dv + at] += k[i] * new);
                    out[t * scan.width() + head * dv + at] = (0..dk).map(|i| q[i] * s[i * dv + at]).sum();
                }
            }
        }
    }
    out
}

fn factors(rows: usize, heads: usize) -> Vec<f32> {
    let all = values(rows * 2 * heads, 5);
    all.iter()
        .enumerate()
        .map(|(at, x)| if (at / heads).is_multiple_of(2) { -0.3 * (x + 1.1) } else { 0.8 * x })
        .collect()
}

#[test]
fn chunks_of_any_size_are_the_recurrence() {
    let (count, segments) = (40, [0..23, 23..24, 24..40]);
    for delta in [true, false] {
        let (rows, factors) = (values(count * scan(delta, 1).stride, 3), factors(count, 6));
        let expected = one_by_one(&scan(delta, 1), &rows, &factors, &segments);
        for chunk in [1, 4, 7, 16, 20, 64] {
            let scan = scan(delta, chunk);
            let mut out = vec![0.0; expected.len()];
            forward(&scan, &rows, &factors, &segments, None, &Pool::default(), &mut out);
            for (found, expected) in out.iter().zip(&expected) {
                assert!((f64::from(*found) - expected).abs() < 2e-5, "{delta} {chunk}: {found} against {expected}");
            }
            // In two parts, by the state in between.
            let single = [0..17, 0..23];
            let mut state = vec![0.0; scan.state()];
            let (mut begin, mut end) = (vec![0.0; 17 * scan.width()], vec![0.0; 23 * scan.width()]);
            let cut = 17 * scan.stride;
            let pool = Pool::default();
            forward(&scan, &rows[..cut], &factors[..17 * 12], &single[..1], Some(&mut state), &pool, &mut begin);
            forward(&scan, &rows[cut..], &factors[17 * 12..], &single[1..], Some(&mut state), &pool, &mut end);
            let whole = one_by_one(&scan, &rows, &factors, std::slice::from_ref(&(0..count)));
            for (found, expected) in begin.iter().chain(&end).zip(&whole) {
                assert!((f64::from(*found) - expected).abs() < 2e-5, "{delta} {chunk}: {found} against {expected}");
            }
        }
    }
}

/// Against differences of the recurrence in f64, for every value that goes in.
#[test]
fn gradients_are_slopes() {
    let (count, segments) = (19, [0..12, 12..19]);
    for (delta, chunk) in [(true, 5), (true, 64), (false, 5), (false, 64)] {
        let scan = scan(delta, chunk);
        let (rows, factors) = (values(count * scan.stride, 3), factors(count, 6));
        let weights = values(count * scan.width(), 9);
        let loss = |rows: &[f32], factors: &[f32]| -> f64 {
            let out = one_by_one(&scan, rows, factors, &segments);
            out.iter().zip(&weights).map(|(x, w)| x * f64::from(*w)).sum()
        };
        let pool = Pool::default();
        let mut out = vec![0.0; weights.len()];
        let states = forward(&scan, &rows, &factors, &segments, None, &pool, &mut out);
        let (mut d_rows, mut d_factors) = (vec![0.0; rows.len()], vec![0.0; factors.len()]);
        backward(&scan, &rows, &factors, &segments, &states, &weights, &pool, &mut d_rows, &mut d_factors);
        let moved = |of: &[f32], at: usize, h: f32| {
            let mut of = of.to_vec();
            of[at] += h;
            of
        };
        let h = 1.0 / 1024.0;
        for (at, &d) in d_rows.iter().enumerate() {
            let slope =
                (loss(&moved(&rows, at, h), &factors) - loss(&moved(&rows, at, -h), &factors)) / (2.0 * f64::from(h));
            assert!((slope - f64::from(d)).abs() < 2e-4, "{delta} {chunk}: {at}: {slope} against {d}");
        }
        for (at, &d) in d_factors.iter().enumerate() {
            let slope =
                (loss(&rows, &moved(&factors, at, h)) - loss(&rows, &moved(&factors, at, -h))) / (2.0 * f64::from(h));
            assert!((slope - f64::from(d)).abs() < 2e-4, "{delta} {chunk}: factor {at}: {slope} against {d}");
        }
    }
}
