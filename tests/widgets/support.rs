//! Matrices to look at, and an owner of heatmaps that runs its jobs at once.

use std::sync::Arc;

use eframe::egui;
use rankscope::app::widgets::heatmap::{Heatmaps, Options};
use rankscope::app::widgets::low_rank::{Factors, LowRank};
use rankscope::app::widgets::picture::{Difference, Picture, Reduction};
use rankscope::app::widgets::pyramid::Pyramid;
use rankscope::app::widgets::range::RangeControl;
use rankscope::app::widgets::tiles;
use rankscope::figure::ColorMap;
use rankscope::matrix::Matrix;

/// Deterministic noise, about normal with unit variance.
pub fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        (0..4)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1 << 24) as f32 - 0.5
            })
            .sum::<f32>()
            * 1.732
    }
}

/// Smooth factors, so that the product has something to see.
pub fn factors(rows: usize, cols: usize, rank: usize) -> (Matrix, Matrix) {
    let mut noise = noise(7);
    let wave = |at: usize, of: usize, i: usize, random: f32| {
        let x = at as f32 / of as f32 * std::f32::consts::TAU;
        ((x * (i as f32 * 0.7 + 0.8) + i as f32).sin() + 0.4 * random) / (1.0 + i as f32)
    };
    let left = Matrix::from_fn(rows, rank, |row, i| 0.02 * wave(row, rows, i, noise()));
    let right = Matrix::from_fn(rank, cols, |i, col| wave(col, cols, i, noise()));
    (left, right)
}

/// ΔW of a planted rank with noise, its approximation of a rank, and what is left.
pub fn pictures(rows: usize, cols: usize, rank: usize) -> [Arc<dyn Picture>; 3] {
    let (left, right) = factors(rows, cols, 8);
    let factors = Arc::new(Factors::new(left, right));
    let all = LowRank::new(factors.clone(), 8, Reduction::Mean);
    let mut noise = noise(3);
    let mut dense = all.cells(0..rows, 0..cols);
    dense.data_mut().iter_mut().for_each(|x| *x += 0.004 * noise());
    let delta: Arc<dyn Picture> = Arc::new(Pyramid::build(Arc::new(dense), Reduction::Mean, &()).unwrap());
    let approximation: Arc<dyn Picture> = Arc::new(LowRank::new(factors, rank, Reduction::Mean));
    let residual: Arc<dyn Picture> = Arc::new(Difference::new(delta.clone(), approximation.clone()).unwrap());
    [delta, approximation, residual]
}

/// What a panel that owns linked heatmaps keeps.
pub struct Owner {
    pub group: Heatmaps,
    pub range: RangeControl,
    pub map: ColorMap,
    /// Tiles that were made.
    pub made: usize,
}

impl Owner {
    pub fn new(pictures: &[Arc<dyn Picture>]) -> Self {
        let titles = ["ΔW", "rank 2", "residual"];
        let mut group = Heatmaps::new("demo", titles.into_iter().take(pictures.len()));
        for (i, picture) in pictures.iter().enumerate() {
            group.show(i, 1, 1, picture.clone());
        }
        Self { group, range: RangeControl::default(), map: ColorMap::Diverging, made: 0 }
    }

    pub fn ui(&mut self, ui: &mut egui::Ui) {
        let options = Options {
            map: self.map,
            range: self.range,
            axes: ["out", "in"],
            details: None,
            readout: false,
            blocks: None,
        };
        self.group.ui(ui, &options);
        // In the window this is a job.
        let jobs = self.group.required();
        if !jobs.is_empty() {
            self.made += jobs.iter().map(|j| j.tiles()).sum::<usize>();
            self.group.deliver(ui.ctx(), tiles::run(&jobs, &()).unwrap());
        }
    }
}
