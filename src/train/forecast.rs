//! What can be said of a run before it begins: how fast it will be, as a range, and a learning rate for a model of its size.

use super::history::Past;
use super::{Method, Settings};
pub use crate::plan::advise::rate::learning_rate;
use std::time::Duration;

/// Tokens a second that a run can be expected to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// On a busy machine.
    pub low: f64,
    /// On a quiet one.
    pub high: f64,
    /// Earlier runs that say so; 0 where it is computed from operations.
    pub runs: usize,
}

/// Runs that are looked at, the newest first.
const RECENT: usize = 5;
/// Steps that a run needs to say something about its speed.
const SETTLED: usize = 3;

/// How far another moment of the same machine is from those seen.
const SAME_METHOD: f64 = 1.3;
/// The same for a run by another method: QLoRA reads its weights from 4 bits, which the count of operations leaves out.
const OTHER_METHOD: f64 = 2.0;

/// Products of a step for a token, in units of the model's size: forward, the gradient of the input, that of the weights where
/// they are trained, and forward once more under checkpointing.
fn work(settings: &Settings) -> f64 {
    let trained = if settings.method == Method::Full { 6.0 } else { 4.0 };
    trained + if settings.checkpointing { 2.0 } else { 0.0 }
}

impl Speed {
    /// From earlier runs of the same model on the same kind of device, of the same method where there are some.
    pub fn of_runs<'a>(
        runs: impl Iterator<Item = &'a Past> + Clone,
        settings: &Settings,
        device: &str,
    ) -> Option<Self> {
        let alike = runs.filter(|past| {
            let known = past.device.is_empty() || past.device == device;
            past.settings.model == settings.model && past.done > SETTLED && past.speed > 0.0 && known
        });
        let of = |past: &Past| past.speed * work(&past.settings) / work(settings);
        let same: Vec<f64> =
            alike.clone().filter(|past| past.settings.method == settings.method).take(RECENT).map(of).collect();
        let (speeds, around) =
            if same.is_empty() { (alike.take(RECENT).map(of).collect(), OTHER_METHOD) } else { (same, SAME_METHOD) };
        Self::around(&speeds, around)
    }

    /// From the operations of a token and the speed of products at several moments.
    pub fn of_moments(tokens_per_s: impl Fn(f64) -> f64, moments: &[f64]) -> Option<Self> {
        let speeds: Vec<f64> = moments.iter().map(|&speed| tokens_per_s(speed)).filter(|&speed| speed > 0.0).collect();
        Some(Self { runs: 0, ..Self::around(&speeds, OTHER_METHOD)? })
    }

    fn around(speeds: &[f64], factor: f64) -> Option<Self> {
        let low = speeds.iter().copied().reduce(f64::min)?;
        let high = speeds.iter().copied().reduce(f64::max)?;
        Some(Self { low: low / factor, high: high * factor, runs: speeds.len() })
    }

    /// The shortest and the longest time that so many tokens may take.
    pub fn times(&self, tokens: f64) -> [Duration; 2] {
        // A hundred years are as good as longer ones.
        const LONGEST: f64 = 3e9;
        let time = |speed: f64| Duration::from_secs_f64((tokens / speed.max(1e-9)).clamp(0.0, LONGEST));
        [time(self.high), time(self.low)]
    }
}

/// Steps whose mean is one moment of a run that goes on: single steps differ by their lengths and evaluations.
const MOMENT: usize = 10;
/// Moments that are looked at, the newest first.
const MOMENTS: usize = 10;

/// The least and the most time for `left` more steps, in a run whose steps ended so many seconds after its start, rising:
/// by the fastest and the slowest of its last moments, and by its mean speed.
///
/// `None` where nothing is left or nothing is known.
pub fn time_left(ended: &[f64], left: usize) -> Option<[Duration; 2]> {
    let (took, steps) = (*ended.last()?, ended.len());
    if left == 0 || took <= 0.0 || !took.is_finite() {
        return None;
    }
    let mean = took / steps as f64;
    let (mut fast, mut slow) = (mean, mean);
    if steps <= MOMENT {
        // Less than one moment: as uncertain as another moment of the same machine.
        (fast, slow) = (mean / SAME_METHOD, mean * SAME_METHOD);
    } else {
        for moment in 0..MOMENTS.min((steps - 1) / MOMENT) {
            let end = steps - 1 - moment * MOMENT;
            let step = (ended[end] - ended[end - MOMENT]) / MOMENT as f64;
            if step > 0.0 {
                (fast, slow) = (fast.min(step), slow.max(step));
            }
        }
    }
    let time = |step: f64| Duration::try_from_secs_f64(step * left as f64).ok();
    Some([time(fast)?, time(slow)?])
}

/// Beyond this factor a learning rate is far off.
pub const FAR_OFF: f64 = 10.0;

/// The least sequence that cuts no row: a multiple of 64, not more than the model allows.
pub fn sequence(longest: usize, most: usize) -> usize {
    longest.next_multiple_of(64).max(64).min(most.max(2))
}

/// A batch for so many rows: the largest that fits, but no more than leaves ten steps in an epoch.
pub fn batch(rows: usize, accumulate: usize, fits: usize) -> usize {
    (rows / accumulate.max(1) / 10).min(fits).max(1)
}

/// Time of the evaluations in that of the training: a row takes a third, as nothing goes backward.
pub fn evaluation_share(held_out: usize, every: usize, rows_of_a_step: usize) -> f64 {
    held_out as f64 / 3.0 / (every * rows_of_a_step).max(1) as f64
}

/// Steps between evaluations: ten in a run, fewer where they would take more than a tenth of its time.
pub fn evaluate_every(held_out: usize, rows_of_a_step: usize, steps: usize) -> usize {
    let least = evaluation_share(held_out, 1, rows_of_a_step) / 0.1;
    (steps / 10).max(least.ceil() as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_batches_for_the_data() {
        assert_eq!((sequence(100, 2048), sequence(3000, 2048), sequence(1, 32)), (128, 2048, 32));
        assert_eq!((batch(1000, 1, 16), batch(100, 2, 16), batch(5, 1, 16)), (16, 5, 1));
        // 300 held-out rows take as long as 100 rows of training: a step of 4 rows, 25 of them.
        assert_eq!(evaluation_share(300, 25, 4), 1.0);
        assert_eq!((evaluate_every(300, 4, 200), evaluate_every(12, 4, 200)), (250, 20));
    }

    #[test]
    fn the_time_left_is_a_range_of_what_was_seen() {
        let left = |ended: &[f64], left| time_left(ended, left).map(|range| range.map(|time| time.as_secs_f64()));
        assert_eq!((left(&[], 5), left(&[1.0], 0), left(&[0.0], 3), left(&[f64::NAN], 3)), (None, None, None, None));
        assert_eq!(time_left(&[2.0], 4), Some([8.0 / 1.3, 8.0 * 1.3].map(Duration::from_secs_f64)));
        // 21 steps: the first ten take 1 s each, the next ten 3 s, after a first one of 1 s.
        let mut ended = vec![1.0];
        ended.extend((1..=10).map(|step| 1.0 + f64::from(step)));
        ended.extend((1..=10).map(|step| 11.0 + 3.0 * f64::from(step)));
        assert_eq!(left(&ended, 10), Some([10.0, 30.0]));
        // Steps that are all alike: known well.
        let even: Vec<f64> = (1..=50).map(f64::from).collect();
        assert_eq!(left(&even, 7), Some([7.0, 7.0]));
    }

    #[test]
    fn earlier_runs_say_how_fast_it_will_be() {
        let settings = |method| Settings { model: "model".into(), method, ..Settings::default() };
        let past = |method, speed: f64, device: &str| Past {
            settings: settings(method),
            speed,
            done: 10,
            device: device.to_owned(),
            ..Past::unknown(std::path::Path::new(""), Settings::default())
        };
        let runs = [
            past(Method::Lora, 100.0, "cpu"),
            past(Method::Lora, 130.0, "cpu"),
            past(Method::Lora, 9000.0, "cuda"),
            past(Method::Full, 60.0, ""),
        ];
        let found = Speed::of_runs(runs.iter(), &settings(Method::Lora), "cpu").unwrap();
        assert_eq!((found.low, found.high, found.runs), (100.0 / 1.3, 130.0 * 1.3, 2));
        // By another method: two thirds of the products of a full step.
        let other = Speed::of_runs(runs[3..].iter(), &settings(Method::Qlora), "cpu").unwrap();
        assert_eq!((other.low, other.high), (45.0, 180.0));
        let elsewhere = Settings { model: "another".into(), ..Settings::default() };
        assert_eq!(Speed::of_runs(runs.iter(), &elsewhere, "cpu"), None);
        let [short, long] = found.times(1300.0);
        assert!(short < long && (long.as_secs_f64() - 16.9).abs() < 1e-6);
        assert_eq!(Speed::of_moments(|speed| speed / 2.0, &[40.0, 10.0]).unwrap().times(80.0)[1].as_secs_f64(), 32.0);
        assert_eq!(Speed::of_moments(|speed| speed, &[]), None);
    }
}
