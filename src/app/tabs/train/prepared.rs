//! [`Prepared`]: the plots of the run that is looked at, made when it tells something new and not in every frame; and the
//! cursor that goes through all of them.

use std::path::PathBuf;

use super::state::{Track, Training, smoothed};
use crate::figure::{Axis, Figure, Series, Style, Timeline};
use crate::train::film;

/// A curve is drawn with about so many points; what is stored and exported is not thinned.
const POINTS: usize = 1000;
/// So many spectra are drawn.
const FRAMES: usize = 160;
/// Steps that smoothing looks back at first.
const WINDOW: f64 = 10.0;
/// Plots that move together.
const GROUP: &str = "run";
/// Those singular values whose paths are drawn.
const PATHS: [usize; 12] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];

/// The plots.
pub struct Prepared {
    key: (PathBuf, u64, bool, u64),
    /// Across: seconds in place of steps.
    pub by_time: bool,
    /// Steps that smoothing looks back.
    pub window: f64,
    /// The step that is looked at; the newest where there is none.
    pub cursor: Option<usize>,
    /// The module whose spectra are shown.
    pub module: String,
    /// All modules that there are spectra of.
    pub modules: Vec<String>,
    /// The module chosen in the list when the film last followed it.
    followed: Option<String>,
    /// Loss as it is, smoothed, and on held-out rows.
    pub loss: Figure,
    /// Learning rate.
    pub lr: Figure,
    /// Norm of the gradient.
    pub grad: Figure,
    /// Tokens a second.
    pub speed: Figure,
    /// Bytes held, against the prediction.
    pub memory: Figure,
    /// Paths of singular values.
    pub film: Figure,
    /// Effective and energy ranks.
    pub ranks: Figure,
    /// Smoothed loss of each step.
    pub smooth: Vec<f64>,
}

impl Default for Prepared {
    fn default() -> Self {
        Self {
            key: (PathBuf::new(), u64::MAX, false, 0),
            by_time: false,
            window: WINDOW,
            cursor: None,
            module: String::new(),
            modules: Vec::new(),
            followed: None,
            loss: Figure::default(),
            lr: Figure::default(),
            grad: Figure::default(),
            speed: Figure::default(),
            memory: Figure::default(),
            film: Figure::default(),
            ranks: Figure::default(),
            smooth: Vec::new(),
        }
    }
}

impl Prepared {
    /// Follows the run that is looked at, and the module list.
    pub fn update(&mut self, training: &Training, selected: Option<&str>) {
        let Some(track) = training.shown() else { return };
        if self.key.0 != track.folder {
            self.cursor = None;
        }
        if self.followed.as_deref() != selected {
            self.followed = selected.map(str::to_owned);
            if let Some(name) = selected.filter(|&name| self.modules.iter().any(|module| module == name)) {
                self.module = name.to_owned();
                self.key.1 = u64::MAX;
            }
        }
        let key = (track.folder.clone(), track.version, self.by_time, self.window.to_bits());
        if key == self.key {
            return;
        }
        self.key = key;
        self.modules = track.frames.last().map(|frame| frame.modules.keys().cloned().collect()).unwrap_or_default();
        self.modules.sort_by(|a, b| natord::compare(a, b));
        if !self.modules.contains(&self.module) {
            let wanted = selected.filter(|&name| self.modules.iter().any(|module| module == name));
            self.module = wanted.map(str::to_owned).or_else(|| self.modules.first().cloned()).unwrap_or_default();
        }
        self.smooth = smoothed(track.records.iter().map(|record| record.step.loss), self.window);
        self.loss = thin(self.full_loss(track));
        self.lr = thin(self.full_curve(track, "Learning rate"));
        self.grad = thin(self.full_curve(track, "Gradient norm"));
        self.speed = thin(self.full_curve(track, "Speed"));
        self.memory = thin(self.full_memory(track));
        self.film = self.full_film(track, FRAMES);
        self.ranks = self.full_ranks(track, FRAMES);
    }

    /// Made anew at the next look: what it shows was changed by hand.
    pub fn stale(&mut self) {
        self.key.1 = u64::MAX;
    }

    /// Where a step is across the plots.
    pub fn x(&self, track: &Track, step: usize) -> f64 {
        if !self.by_time {
            return step as f64;
        }
        track.at(step).map_or(0.0, |at| track.seconds[at])
    }

    /// The step at a place across the plots.
    pub fn step_at(&self, track: &Track, x: f64) -> Option<usize> {
        let last = track.last()?.step.step;
        if !self.by_time {
            return Some((x.round().max(0.0) as usize).min(last));
        }
        let at = track.seconds.partition_point(|&seconds| seconds < x).min(track.records.len() - 1);
        Some(track.records[at].step.step)
    }

    /// The step that is looked at.
    pub fn step(&self, track: &Track) -> usize {
        let last = track.last().map_or(0, |record| record.step.step);
        self.cursor.unwrap_or(last).min(last)
    }

    fn axis(&self) -> Axis {
        Axis::linear(if self.by_time { "seconds of training" } else { "step" })
    }

    fn timeline(&self, track: &Track) -> Timeline {
        let last = track.last().map_or(1, |record| record.step.step);
        Timeline { group: GROUP, span: [0.0, self.x(track, last).max(1e-3)] }
    }

    fn points(&self, track: &Track, value: impl Fn(usize) -> f64) -> Vec<[f64; 2]> {
        let x = |i: usize| if self.by_time { track.seconds[i] } else { track.records[i].step.step as f64 };
        (0..track.records.len()).map(|i| [x(i), value(i)]).filter(|[_, y]| y.is_finite()).collect()
    }

    fn curve(&self, track: &Track, title: &str, y: Axis, value: impl Fn(usize) -> f64) -> Figure {
        let timeline = Some(self.timeline(track));
        let series = vec![Series::line(title, self.points(track, value))];
        Figure { title: title.into(), x: self.axis(), y, series, quiet: true, timeline, ..Figure::default() }
    }

    /// Learning rate, gradient norm or speed, every point.
    pub fn full_curve(&self, track: &Track, name: &str) -> Figure {
        match name {
            "Learning rate" => self.curve(track, name, Axis::linear("lr"), |i| track.records[i].step.lr),
            "Gradient norm" => self.curve(track, name, Axis::linear("norm"), |i| track.records[i].step.grad_norm),
            _ => {
                let speed = smoothed(track.records.iter().map(|record| record.tokens_per_s), self.window);
                let mut figure = self.curve(track, name, Axis::linear("tokens/s"), |i| track.records[i].tokens_per_s);
                figure.series[0] = Series { name: "each step".into(), ..figure.series[0].clone().color(6) };
                let smooth = self.points(track, |i| speed.get(i).copied().unwrap_or(f64::NAN));
                figure.series.push(Series::line("smoothed", smooth).color(0));
                figure
            }
        }
    }

    /// Every loss.
    pub fn full_loss(&self, track: &Track) -> Figure {
        let y = Axis::of_losses("loss", track.records.iter().map(|record| record.step.loss));
        let mut figure = self.curve(track, "Loss", y, |i| track.records[i].step.loss);
        figure.series[0] = Series { name: "train, each step".into(), ..figure.series[0].clone().color(6) };
        let smooth = self.points(track, |i| self.smooth.get(i).copied().unwrap_or(f64::NAN));
        figure.series.push(Series::line("train, smoothed", smooth).color(0));
        let held_out = self.points(track, |i| track.records[i].eval_loss.unwrap_or(f64::NAN));
        if !held_out.is_empty() {
            figure.series.push(Series::line("held out", held_out).style(Style::LinePoints).color(1));
        }
        Figure { quiet: false, ..figure }
    }

    /// Bytes held, in MB, and what was predicted.
    pub fn full_memory(&self, track: &Track) -> Figure {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        let held = |i: usize| Some(track.records[i].held).filter(|&held| held > 0).map_or(f64::NAN, mega);
        let mut figure = self.curve(track, "Memory", Axis::linear("MB"), held);
        figure.series[0].name = "held".into();
        if track.predicted > 0 && !track.records.is_empty() {
            let span = self.timeline(track).span;
            let line = span.map(|x| [x, mega(track.predicted)]).to_vec();
            figure.series.push(Series::line("predicted", line).style(Style::Dashed).color(1));
        }
        figure
    }

    fn frames<'t>(&self, track: &'t Track, most: usize) -> Vec<(f64, &'t [f32])> {
        let all: Vec<_> =
            track.frames.iter().filter_map(|frame| Some((frame, frame.modules.get(&self.module)?))).collect();
        let every = all.len().div_ceil(most.max(1)).max(1);
        // The newest is always among them.
        let kept = |at: usize| (all.len() - 1 - at).is_multiple_of(every);
        let kept = all.iter().enumerate().filter(|(at, _)| kept(*at));
        kept.map(|(_, (frame, sigma))| (self.x(track, frame.step), sigma.as_slice())).collect()
    }

    /// Paths of the singular values of the module, of so many frames at most.
    pub fn full_film(&self, track: &Track, most: usize) -> Figure {
        let frames = self.frames(track, most);
        let count = frames.iter().map(|(_, sigma)| sigma.len()).max().unwrap_or(0);
        let shown: Vec<usize> = PATHS.into_iter().filter(|&i| i <= count).collect();
        let (title, timeline) = (format!("Singular values of ΔW of {}", self.module), Some(self.timeline(track)));
        let mut figure =
            Figure { title, x: self.axis(), y: Axis::log("strength σ"), quiet: true, timeline, ..Figure::default() };
        for (place, &i) in shown.iter().enumerate() {
            let path: Vec<[f64; 2]> =
                frames.iter().filter_map(|&(x, sigma)| Some([x, f64::from(*sigma.get(i - 1)?)])).collect();
            let shade = place as f32 / (shown.len().max(2) - 1) as f32;
            let path = path.into_iter().filter(|point| point[1] > 0.0).collect();
            figure.series.push(Series::line(format!("σ{}", subscript(i)), path).shade(shade));
        }
        figure
    }

    /// Ranks of the module over time.
    pub fn full_ranks(&self, track: &Track, most: usize) -> Figure {
        let frames = self.frames(track, most);
        let line = |name: &str, rank: &dyn Fn(&[f32]) -> f64| {
            Series::line(name, frames.iter().map(|&(x, sigma)| [x, rank(sigma)]).collect())
        };
        let series = vec![
            line("effective rank", &film::effective),
            line("energy 90 %", &|sigma| film::energy_rank(sigma, 0.90) as f64),
            line("energy 99 %", &|sigma| film::energy_rank(sigma, 0.99) as f64),
        ];
        let (title, timeline) = (format!("Ranks of ΔW of {}", self.module), Some(self.timeline(track)));
        Figure { title, x: self.axis(), y: Axis::linear("rank"), series, timeline, ..Figure::default() }
    }

    /// The spectrum of the module at the cursor, and at the end.
    pub fn spectrum(&self, track: &Track) -> Option<Figure> {
        let (frame, last) = (track.frame(self.step(track))?, track.frames.last()?);
        let of = |name: String, sigma: &[f32]| {
            let points = sigma.iter().enumerate().map(|(i, &s)| [(i + 1) as f64, f64::from(s)]);
            Series::line(name, points.filter(|point| point[1] > 0.0).collect()).style(Style::LinePoints)
        };
        let mut figure = Figure {
            title: format!("Spectrum of {} at step {}", self.module, frame.step),
            x: Axis::linear("index i"),
            y: Axis::log("strength σ"),
            quiet: true,
            ..Figure::default()
        };
        if frame.step != last.step
            && let Some(sigma) = last.modules.get(&self.module)
        {
            figure.series.push(of(format!("step {}", last.step), sigma).style(Style::Dashed).color(6));
        }
        figure.series.push(of(format!("step {}", frame.step), frame.modules.get(&self.module)?).color(0));
        Some(figure)
    }
}

/// `₁₂`.
pub fn subscript(number: usize) -> String {
    const DIGITS: [char; 10] = ['₀', '₁', '₂', '₃', '₄', '₅', '₆', '₇', '₈', '₉'];
    number.to_string().chars().filter_map(|c| Some(DIGITS[c.to_digit(10)? as usize])).collect()
}

/// A figure with fewer points: of every stretch its smallest and its largest value, so that no peak is lost.
pub fn thin(mut figure: Figure) -> Figure {
    for series in &mut figure.series {
        series.points = extremes(&series.points, POINTS);
    }
    figure
}

fn extremes(points: &[[f64; 2]], most: usize) -> Vec<[f64; 2]> {
    if points.len() <= most {
        return points.to_vec();
    }
    let each = points.len().div_ceil(most / 2);
    let mut kept = Vec::with_capacity(most + 2);
    for stretch in points.chunks(each) {
        let at = |pick: fn(f64, f64) -> bool| {
            (1..stretch.len()).fold(0, |best, i| if pick(stretch[i][1], stretch[best][1]) { i } else { best })
        };
        let (low, high) = (at(|a, b| a < b), at(|a, b| a > b));
        kept.push(stretch[low.min(high)]);
        if low != high {
            kept.push(stretch[low.max(high)]);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_peak_is_lost_when_curves_are_thinned() {
        let mut points: Vec<[f64; 2]> = (0..100_000).map(|i| [f64::from(i), (f64::from(i) * 0.01).sin()]).collect();
        points[54_321][1] = 9.0;
        points[77_777][1] = -9.0;
        let kept = extremes(&points, POINTS);
        assert!(kept.len() <= POINTS + 2);
        assert!(kept.contains(&[54_321.0, 9.0]) && kept.contains(&[77_777.0, -9.0]));
        assert!(kept.windows(2).all(|pair| pair[0][0] < pair[1][0]));
        assert_eq!(extremes(&points[..5], POINTS), points[..5]);
        assert_eq!(subscript(10), "₁₀");
    }
}
