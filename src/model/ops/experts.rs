//! Routing: which experts a token goes through, with which weight, and the rows of tokens sorted by their expert.
//!
//! ```text
//! scores p = softmax(logits) or sigmoid(logits)       chosen: the k largest of p + bias, in the best groups
//! w = scale · p, or scale · p / max(Σ p, floor)       over the chosen ones
//! ```
//!
//! A token's choices become rows, expert after expert, so that each expert's are one piece: what is gone through for a token
//! is what it has chosen, forward and backward. The choice itself has no gradient, as in transformers.

use super::rows_of;
use super::simd::{exp, sigmoid, wide};
use super::{Buf, Pool};
use crate::spec::{Routing, Scores};
use rayon::prelude::*;
use std::ops::Range;

/// Where the tokens of a batch go.
#[derive(Debug)]
pub struct Routes {
    /// Scores `[tokens, experts]`; logits where they are masked anew for each choice.
    scores: Buf,
    /// Experts.
    count: usize,
    /// Choices of a token.
    chosen: usize,
    /// The token of each row, expert after expert.
    token: Vec<u32>,
    /// The row of each choice, token after token.
    row: Vec<u32>,
    /// The expert of each choice, token after token.
    expert: Vec<u32>,
    /// The weight of each row.
    weights: Buf,
    /// First row of each expert, and the end.
    begins: Vec<usize>,
}

/// Softmax of a row.
fn softmax(row: &mut [f32]) {
    let most = row.iter().fold(f32::NEG_INFINITY, |most, x| most.max(*x));
    let mut sum = 0.0;
    for x in row.iter_mut() {
        *x = exp(*x - most);
        sum += *x;
    }
    row.iter_mut().for_each(|x| *x /= sum);
}

/// The places of the `most` largest values, the first of equals first.
fn largest(values: &[f32], most: usize, found: &mut Vec<usize>) {
    found.clear();
    for _ in 0..most {
        let left = (0..values.len()).filter(|at| !found.contains(at));
        let best = left.reduce(|best, at| if values[at] > values[best] { at } else { best });
        found.extend(best);
    }
}

/// Phi-3.5-MoE's choice, one expert after the other: those whose logits are far below the best of what is left are masked, and the
/// weight is the softmax of the rest. `masked` becomes these probabilities; gives the expert.
fn mixer(logits: &[f32], without: Option<usize>, jitter: f32, masked: &mut Vec<f32>) -> usize {
    let left = |at: usize| Some(at) != without;
    let all = (0..logits.len()).filter(|&at| left(at));
    let best = all.reduce(|best, at| if logits[at] > logits[best] { at } else { best }).unwrap_or(0);
    let most = logits[best];
    let far = |x: f32| (most - x) / x.abs().max(most) > 2.0 * jitter;
    masked.clear();
    masked.extend((0..logits.len()).map(
        |at| {
            if left(at) && !far(logits[at]) { logits[at] } else { f32::NEG_INFINITY }
        },
    ));
    softmax(masked);
    best
}

/// One token's experts and weights; `scores` are its logits and become its scores.
fn choose(
    routing: &Routing,
    chosen: usize,
    bias: &[f32],
    scores: &mut [f32],
    experts: &mut [u32],
    weights: &mut [f32],
) {
    if let Scores::Mixer { jitter } = routing.scores {
        let (mut masked, mut first) = (Vec::new(), None);
        for (expert, weight) in experts.iter_mut().zip(weights) {
            let best = mixer(scores, first, jitter, &mut masked);
            (*expert, *weight) = (best as u32, masked[best]);
            first = Some(best);
        }
        return;
    }
    match routing.scores {
        Scores::Sigmoid => scores.iter_mut().for_each(|x| *x = sigmoid(*x)),
        _ => softmax(scores),
    }
    let mut order: Vec<f32> = scores.to_vec();
    order.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
    let mut found = Vec::with_capacity(chosen);
    if routing.groups > 1 {
        let size = order.len() / routing.groups;
        let mut best = Vec::new();
        let group = |values: &[f32], best: &mut Vec<usize>| {
            largest(values, routing.group_by.min(values.len()), best);
            best.iter().map(|&at| values[at]).sum::<f32>()
        };
        let groups: Vec<f32> = order.chunks(size.max(1)).map(|values| group(values, &mut best)).collect();
        largest(&groups, routing.chosen_groups, &mut best);
        for (number, values) in order.chunks_mut(size.max(1)).enumerate() {
            if !best.contains(&number) {
                values.fill(f32::NEG_INFINITY);
            }
        }
    }
    largest(&order, chosen, &mut found);
    let factor = factor(routing, found.iter().map(|&at| scores[at]).sum());
    for ((expert, weight), at) in experts.iter_mut().zip(weights).zip(found) {
        (*expert, *weight) = (at as u32, factor * scores[at]);
    }
}

/// What the scores of the chosen experts, which add up to `sum`, are multiplied by.
fn factor(routing: &Routing, sum: f32) -> f32 {
    routing.scale / routing.floor.map_or(1.0, |floor| sum.max(floor))
}

impl Routes {
    /// From the router's logits `[tokens, experts]`; `bias` is added to scores where experts are chosen by them.
    pub fn new(routing: &Routing, chosen: usize, bias: &[f32], mut logits: Buf, count: usize, pool: &Pool) -> Self {
        let tokens = logits.len() / count;
        let mut expert = vec![0u32; tokens * chosen];
        let mut by_token = vec![0f32; tokens * chosen];
        let rows = logits.par_chunks_mut(count).zip(expert.par_chunks_mut(chosen)).zip(by_token.par_chunks_mut(chosen));
        rows.for_each(|((scores, experts), weights)| choose(routing, chosen, bias, scores, experts, weights));
        let mut begins = vec![0usize; count + 1];
        expert.iter().for_each(|&expert| begins[expert as usize + 1] += 1);
        for at in 0..count {
            begins[at + 1] += begins[at];
        }
        let mut next = begins.clone();
        let (mut token, mut row) = (vec![0u32; expert.len()], vec![0u32; expert.len()]);
        let mut weights = pool.take(expert.len());
        for (at, &expert) in expert.iter().enumerate() {
            let to = next[expert as usize];
            next[expert as usize] += 1;
            (token[to], row[at]) = ((at / chosen) as u32, to as u32);
            weights[to] = by_token[at];
        }
        Self { scores: logits, count, chosen, token, row, expert, weights, begins }
    }

    /// Rows of all experts.
    pub fn rows(&self) -> usize {
        self.token.len()
    }

    /// The rows of each expert.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        self.begins.windows(2).map(|ends| ends[0]..ends[1]).collect()
    }

    /// The token of each row.
    pub fn tokens(&self) -> &[u32] {
        &self.token
    }

    /// The row of each choice, token after token.
    pub fn rows_of_choices(&self) -> &[u32] {
        &self.row
    }

    /// The weight of each row.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The expert that each token's choices fell on, token after token: what a person can look at.
    pub fn experts(&self) -> &[u32] {
        &self.expert
    }

    /// Rows of `width` values, each its token's.
    pub fn dispatch(&self, x: &[f32], width: usize, to: &mut [f32]) {
        to.par_chunks_mut(width).zip(&self.token).for_each(|(to, &token)| {
            to.copy_from_slice(&x[token as usize * width..][..width]);
        });
    }

    /// Each token's sum over its rows: what [`dispatch`](Self::dispatch) is backward.
    pub fn combine(&self, from: &[f32], width: usize, to: &mut [f32], keep: bool) {
        to.par_chunks_mut(width).zip(self.row.par_chunks(self.chosen)).for_each(|(to, rows)| {
            if !keep {
                to.fill(0.0);
            }
            for &row in rows {
                to.iter_mut().zip(&from[row as usize * width..][..width]).for_each(|(to, x)| *to += x);
            }
        });
    }

    /// Multiplies rows by their weights.
    pub fn weigh(&self, rows: &mut [f32], width: usize) {
        rows.par_chunks_mut(width).zip(&self.weights[..]).for_each(|(row, weight)| {
            row.iter_mut().for_each(|x| *x *= weight);
        });
    }

    /// The way back of [`weigh`](Self::weigh), which had rows `x`: `d` becomes the gradient by them, and the one by the
    /// weights is added to `dw`.
    pub fn weigh_backward(&self, x: &[f32], d: &mut [f32], width: usize, dw: &mut [f32]) {
        wide! {
            fn row(x: &[f32], d: &mut [f32], weight: f32, dw: &mut f32) {
                let mut sum = 0.0;
                for (d, x) in d.iter_mut().zip(x) {
                    sum += *d * x;
                    *d *= weight;
                }
                *dw += sum;
            }
        }
        let rows = d.par_chunks_mut(width).zip(x.par_chunks(width)).zip(dw.par_iter_mut()).zip(&self.weights[..]);
        rows.for_each(|(((d, x), dw), &weight)| row(x, d, weight, dw));
    }

    /// Adds a bias to an expert's rows, times their weights.
    pub fn add_bias(&self, rows: Range<usize>, to: &mut [f32], bias: &[f32]) {
        let width = bias.len();
        let to = to[rows.start * width..rows.end * width].chunks_mut(width);
        for (to, weight) in to.zip(&self.weights[rows]) {
            to.iter_mut().zip(bias).for_each(|(to, bias)| *to += weight * bias);
        }
    }

    /// The way back of [`add_bias`](Self::add_bias): adds to the gradients of the weights and, where it is wanted, of the bias.
    pub fn bias_backward(
        &self,
        rows: Range<usize>,
        d: &[f32],
        bias: &[f32],
        dw: &mut [f32],
        mut db: Option<&mut [f32]>,
    ) {
        let width = bias.len();
        for row in rows {
            let d = &d[row * width..][..width];
            dw[row] += d.iter().zip(bias).map(|(d, bias)| d * bias).sum::<f32>();
            if let Some(db) = &mut db {
                db.iter_mut().zip(d).for_each(|(db, d)| *db += self.weights[row] * d);
            }
        }
    }

    /// Multiplies the weights of each expert's rows by a number of its own.
    pub fn scale(&mut self, scales: &[f32]) {
        for (ends, scale) in self.begins.windows(2).zip(scales) {
            self.weights[ends[0]..ends[1]].iter_mut().for_each(|weight| *weight *= scale);
        }
    }

    /// The way back of [`scale`](Self::scale): `dw` becomes the gradient by the weights before it, and those by the numbers are added
    /// to `ds` where they are wanted.
    pub fn scale_backward(&self, routing: &Routing, scales: &[f32], dw: &mut [f32], ds: Option<&mut [f32]>) {
        if let Some(ds) = ds {
            for (token, scores) in self.scores.chunks(self.count).enumerate() {
                let choices = token * self.chosen..(token + 1) * self.chosen;
                let expert = |at: usize| self.expert[at] as usize;
                let factor = factor(routing, choices.clone().map(|at| scores[expert(at)]).sum());
                for at in choices {
                    ds[expert(at)] += dw[self.row[at] as usize] * factor * scores[expert(at)];
                }
            }
        }
        for (ends, scale) in self.begins.windows(2).zip(scales) {
            dw[ends[0]..ends[1]].iter_mut().for_each(|dw| *dw *= scale);
        }
    }

    /// The gradient by the logits, in place of the scores, from the one by the weights of the rows.
    pub fn backward(self, routing: &Routing, dw: &[f32]) -> Buf {
        let Self { mut scores, count, chosen, row, expert, .. } = self;
        let some = rows_of(count);
        let parts = scores.par_chunks_mut(some * count).enumerate();
        parts.for_each(|(part, scores)| {
            let mut by_score = vec![0f32; count];
            let mut probabilities = Vec::new();
            for (scores, token) in scores.chunks_mut(count).zip(part * some..) {
                let choices = token * chosen..(token + 1) * chosen;
                let of = |at: usize| (expert[at] as usize, dw[row[at] as usize]);
                by_score.fill(0.0);
                if let Scores::Mixer { jitter } = routing.scores {
                    let mut without = None;
                    for at in choices {
                        let (_, dw) = of(at);
                        let best = mixer(scores, without, jitter, &mut probabilities);
                        let along = dw * probabilities[best];
                        by_score.iter_mut().zip(&probabilities).for_each(|(d, p)| *d -= along * p);
                        by_score[best] += along;
                        without = Some(best);
                    }
                    scores.copy_from_slice(&by_score);
                    continue;
                }
                let sum: f32 = choices.clone().map(|at| scores[of(at).0]).sum();
                let (factor, mean) = match routing.floor {
                    // w = scale · p / Σ p
                    Some(floor) if sum > floor => {
                        let along: f32 = choices.clone().map(of).map(|(expert, dw)| dw * scores[expert]).sum();
                        (routing.scale / sum, along / sum)
                    }
                    Some(floor) => (routing.scale / floor, 0.0),
                    None => (routing.scale, 0.0),
                };
                for (expert, dw) in choices.map(of) {
                    by_score[expert] = factor * (dw - mean);
                }
                if routing.scores == Scores::Sigmoid {
                    scores.iter_mut().zip(&by_score).for_each(|(s, d)| *s = d * *s * (1.0 - *s));
                } else {
                    let along: f32 = scores.iter().zip(&by_score).map(|(p, d)| p * d).sum();
                    scores.iter_mut().zip(&by_score).for_each(|(p, d)| *p *= d - along);
                }
            }
        });
        scores
    }
}

/// `out = x · sigmoid(gate)`, one gate for each row of `width` values.
pub fn gate_rows(x: &[f32], gate: &[f32], width: usize, out: &mut [f32]) {
    out.par_chunks_mut(width).zip(x.par_chunks(width)).zip(gate).for_each(|((out, x), &gate)| {
        let s = sigmoid(gate);
        out.iter_mut().zip(x).for_each(|(out, x)| *out = x * s);
    });
}

/// Gradients of [`gate_rows`]: `d`, the one by its output, becomes the one by `x`, and `gate` the one by itself.
pub fn gate_rows_backward(x: &[f32], gate: &mut [f32], width: usize, d: &mut [f32]) {
    d.par_chunks_mut(width).zip(x.par_chunks(width)).zip(gate).for_each(|((d, x), gate)| {
        let s = sigmoid(*gate);
        let along: f32 = d.iter().zip(x).map(|(d, x)| d * x).sum();
        *gate = along * s * (1.0 - s);
        d.iter_mut().for_each(|d| *d *= s);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Σ c · w` over all tokens and choices, for weights by these logits: c depends on the expert alone.
    fn value(routing: &Routing, bias: &[f32], logits: &[f32], count: usize) -> (f64, Vec<f32>, Vec<u32>) {
        let pool = Pool::default();
        let coefficient = |expert: u32| 0.7 - 0.45 * expert as f32;
        let mut routes = Routes::new(routing, 2, bias, pool.copy(logits), count, &pool);
        let scales: Vec<f32> = (0..count).map(|expert| 0.5 + 0.2 * expert as f32).collect();
        if routing.scales.is_some() {
            routes.scale(&scales);
        }
        let rows = routes.rows();
        let mut dw = vec![0.0; rows];
        let mut sum = 0.0;
        for (expert, range) in routes.ranges().into_iter().enumerate() {
            for row in range {
                dw[row] = coefficient(expert as u32);
                sum += f64::from(dw[row] * routes.weights[row]);
            }
        }
        if routing.scales.is_some() {
            let mut ds = vec![0.0; count];
            routes.scale_backward(routing, &scales, &mut dw, Some(&mut ds));
            // The sum is linear in them.
            let along: f64 = ds.iter().zip(&scales).map(|(d, scale)| f64::from(d * scale)).sum();
            assert!((along - sum).abs() < 1e-4, "{along} {sum}");
        }
        let experts = routes.experts().to_vec();
        (sum, routes.backward(routing, &dw).to_vec(), experts)
    }

    #[test]
    fn gradients_of_every_routing_are_slopes() {
        let plain = Routing {
            scores: Scores::Softmax,
            bias: None,
            scales: None,
            groups: 1,
            chosen_groups: 1,
            group_by: 1,
            floor: None,
            scale: 1.5,
            on_input: false,
        };
        let logits: Vec<f32> = (0..24).map(|at| ((at * 37 % 23) as f32 - 11.0) * 0.13).collect();
        let bias = [0.0, 0.3, -0.2, 0.0, 0.1, -0.1, 0.2, 0.0];
        for (routing, bias) in [
            (plain.clone(), &[][..]),
            (Routing { floor: Some(1e-20), ..plain.clone() }, &[][..]),
            (Routing { floor: Some(9.0), ..plain.clone() }, &[][..]),
            (Routing { floor: Some(1e-20), scales: Some("scales".to_owned()), ..plain.clone() }, &[][..]),
            (Routing { scores: Scores::Sigmoid, floor: Some(1e-20), ..plain.clone() }, &bias[..]),
            (Routing { scores: Scores::Sigmoid, groups: 4, chosen_groups: 2, group_by: 2, ..plain.clone() }, &bias[..]),
            (Routing { groups: 2, chosen_groups: 1, ..plain.clone() }, &[][..]),
            (Routing { scores: Scores::Mixer { jitter: 0.4 }, scale: 1.0, ..plain.clone() }, &[][..]),
        ] {
            let (_, gradient, experts) = value(&routing, bias, &logits, 8);
            for at in 0..logits.len() {
                let step = 2e-3;
                let moved = |by: f32| {
                    let mut logits = logits.clone();
                    logits[at] += by;
                    value(&routing, bias, &logits, 8)
                };
                let (up, down) = (moved(step), moved(-step));
                if up.2 != experts || down.2 != experts {
                    continue;
                }
                let slope = (up.0 - down.0) / f64::from(2.0 * step);
                assert!(
                    (slope - f64::from(gradient[at])).abs() < 2e-3,
                    "{routing:?}: {slope} at {at}, {}",
                    gradient[at]
                );
            }
        }
    }

    #[test]
    fn groups_shut_out_the_best_of_a_worse_group() {
        // The largest score is in the group whose two best are together smaller.
        let routing = Routing {
            scores: Scores::Sigmoid,
            bias: None,
            scales: None,
            groups: 2,
            chosen_groups: 1,
            group_by: 2,
            floor: Some(1e-20),
            scale: 2.0,
            on_input: false,
        };
        let pool = Pool::default();
        let routes = Routes::new(&routing, 2, &[], pool.copy(&[2.0, -9.0, 1.0, 1.5]), 4, &pool);
        assert_eq!(routes.experts(), [3, 2]);
        let sum: f32 = routes.weights.iter().sum();
        assert!((sum - 2.0).abs() < 1e-6);
        let mut out = vec![0.0; 2];
        routes.combine(&[1.0, 2.0, 10.0, 20.0], 2, &mut out, false);
        assert_eq!(out, [11.0, 22.0]);
    }
}
