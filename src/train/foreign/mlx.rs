//! mlx-lm's folder of adapters: `adapters.safetensors`, one more for every `save_every` steps, `adapter_config.json`; what it logs goes
//! to the terminal, and into a file where somebody keeps it.

use super::listing::Listing;
use super::points::{Field, Points};
use super::{Kind, Log, Saved, lines};
use crate::error::Result;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

pub(super) static KIND: Kind = Kind { is, made_by: |_| "mlx-lm", checkpoints, results: &[RESULT], logs };

const RESULT: &str = "adapters.safetensors";
/// Behind the number of the step: `0000100_adapters.safetensors`.
const NUMBERED: &str = "_adapters.safetensors";

fn is(listing: &Listing) -> bool {
    listing.has(RESULT) || listing.files.iter().any(|name| name.ends_with(NUMBERED))
}

fn checkpoints(listing: &Listing) -> Vec<Saved> {
    let saved = |name: &String| {
        let step = name.strip_suffix(NUMBERED)?.parse().ok()?;
        Some(Saved { step, path: listing.path(name) })
    };
    let mut all: Vec<Saved> = listing.files.iter().filter_map(saved).collect();
    all.sort_by_key(|saved| saved.step);
    all
}

/// Bytes at the beginning of a text in which the first step is looked for.
const BEGINNING: u64 = 1 << 16;

/// Texts in the folder that mlx-lm has written.
fn logs(listing: &Listing, _: &[Saved]) -> Vec<Log> {
    let text = |name: &&String| name.ends_with(".log") || name.ends_with(".txt") || name.ends_with(".out");
    let paths = listing.files.iter().filter(text).map(|name| listing.path(name));
    paths.filter(|path| says_steps(path)).map(|path| Log { path, read }).collect()
}

fn says_steps(path: &Path) -> bool {
    let Ok(file) = crate::guard::regular(path) else { return false };
    let beginning = BufReader::new(file.take(BEGINNING));
    beginning.split(b'\n').filter_map(std::result::Result::ok).any(|line| {
        let mut points = Points::default();
        step(&super::uncoloured(&String::from_utf8_lossy(&line)), &mut points);
        points.last() > 0
    })
}

fn read(path: &Path, at: u64, points: &mut Points) -> Result<u64> {
    lines(path, at, &mut |line| step(line, points))
}

/// A line of the terminal, of mlx-lm before 0.32: `Iter 10: Train loss 2.345, Learning Rate 1.000e-05, It/sec 1.2, Tokens/sec 300.1,
/// Trained Tokens 1234, …`, `Iter 1: Val loss 2.9, …`; and since: `10   2.345 ▼   300   1.2k`, `1   val 2.9   0.5s`.
fn step(line: &str, points: &mut Points) {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    if let Some((at, told)) = line.trim_start().strip_prefix("Iter ").and_then(|line| line.split_once(':')) {
        let Ok(at) = at.trim().parse() else { return };
        for part in told.split(',') {
            let Some((name, value)) = part.trim().rsplit_once(' ') else { continue };
            let field = match name {
                "Train loss" => Field::Loss,
                "Val loss" => Field::EvalLoss,
                "Learning Rate" => Field::Lr,
                "Tokens/sec" => Field::Speed,
                "Trained Tokens" => Field::Tokens,
                _ => continue,
            };
            if let Some(value) = number(value) {
                points.set(at, field, value);
            }
        }
        return;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some(Ok(at)) = words.first().map(|word| word.parse::<usize>()) else { return };
    match words[1..] {
        ["val", loss, time] if time.ends_with('s') => {
            if let Some(loss) = number(loss) {
                points.set(at, Field::EvalLoss, loss);
            }
        }
        [loss, "▼" | "▲", speed, tokens] => {
            let (times, tokens) = match tokens.char_indices().next_back() {
                Some((end, 'k')) => (1e3, &tokens[..end]),
                Some((end, 'M')) => (1e6, &tokens[..end]),
                _ => (1.0, tokens),
            };
            let tokens = number(tokens).map(|tokens| times * tokens);
            for (field, value) in [(Field::Loss, number(loss)), (Field::Speed, number(speed)), (Field::Tokens, tokens)]
            {
                if let Some(value) = value {
                    points.set(at, field, value);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_versions() {
        let mut points = Points::default();
        let old = "Iter 10: Train loss 2.345, Learning Rate 1.000e-05, It/sec 1.234, Tokens/sec 300.1, Trained Tokens 1234, Peak mem 3.2 GB";
        step(old, &mut points);
        step("Iter 10: Val loss 2.900, Val took 1.23s", &mut points);
        step("  20    2.1 ▼      1,5    4.5k", &mut points);
        step("Saved final weights to adapters/adapters.safetensors.", &mut points);
        let records = points.records();
        let first = records[0];
        assert_eq!((first.step.step, first.step.loss, first.step.lr, first.eval_loss), (10, 2.345, 1e-5, Some(2.9)));
        assert_eq!((first.step.tokens, first.tokens_per_s, records[1].step.tokens), (1234, 300.1, 3266));
    }
}
